"""The sandbox's imports: what was asked for, which file came, and what became of the profiles."""

import csv
from collections.abc import Mapping
from io import StringIO
from typing import Any

import msgspec

_DELIMITERS = ",\t|;"


class BadImport(ValueError):
    """The import, or its file, cannot be carried out."""


class Import(msgspec.Struct):
    """One import. Times are wall time in seconds."""

    id: str
    section: str
    keyspaces: dict[str, str]  # discriminator -> column
    columns: dict[str, str]  # of attributes and consents: column -> what it is mapped to
    tags: list[str]
    clears: bool
    form: dict[str, str] = {}
    expires_at: float = 0.0
    file: bytes | None = None
    size: int = 0
    uploads: int = 0
    uploaded_at: float = 0.0
    polls: int = 0
    found: int = 0
    processed: int = 0
    failed: int = 0
    ended: str | None = None

    @classmethod
    def asked_for(cls, name: str, section: str, body: bytes, *, first: bool) -> "Import":
        """The import that a create asks for; ``first``: in version 1 of the API. Raises BadImport."""
        try:
            asked = msgspec.json.decode(body, type=dict[str, Any])
            mappings = asked["keyspace_mappings"] if first else [asked["keyspace_mapping"]]
            keyspaces = {one["keyspace_discriminator"]: one["field_selector"] for one in mappings}
            columns = {
                one["field_selector"]: one["attribute_version_id"] for one in asked.get("attribute_mappings", [])
            }
            for mapping in asked.get("consent_mappings", []):
                if "address_field_selector" in mapping:
                    columns.setdefault(mapping["address_field_selector"], "address")
                for consent in mapping["consents"]:
                    columns[consent["field_selector"]] = f"{consent['type']} {consent['topic_discriminator']}"
            tags = [one["tag_discriminator"] for one in asked.get("tag_mappings", [])]
            clears = bool(asked["options"]["clear_existing_attributes"])
        except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
            raise BadImport(f"The request is not of the documented shape: {type(error).__name__}") from error
        if not keyspaces:
            raise BadImport("No keyspace")
        return cls(name, section, keyspaces, columns, tags, clears)

    def is_open(self, waiting_counts: bool, now: float) -> bool:
        """Whether it takes one of the account's places."""
        if self.ended is not None:
            return False
        return self.file is not None or (waiting_counts and now < self.expires_at)

    def take(self, file: bytes, now: float) -> None:
        """The storage has got a file; a second one takes the first one's place, and is counted."""
        self.uploads += 1
        self.file, self.size, self.uploaded_at = file, len(file), now

    def state(self, polls: int) -> str:
        """The status as the platform words it."""
        if self.ended is not None:
            return self.ended
        if self.file is None:
            return "waiting_for_file"
        return "queued" if self.polls < min(polls, 2) else "in_progress"

    def end(self, how: str) -> None:
        """It has come to its end; the file is not kept."""
        self.ended = how
        if self.file is not None:
            self.file = b""


def rows_of(one: Import) -> list[dict[str, str]]:
    """The rows of an import's file by their columns. Raises BadImport for a file that is none."""
    assert one.file is not None
    try:
        text = one.file.decode("utf-8")
    except UnicodeDecodeError:
        raise BadImport("The file is not UTF-8") from None
    wanted = {*one.keyspaces.values(), *one.columns}
    head = text.split("\n", 1)[0].rstrip("\r")
    for delimiter in _DELIMITERS:
        columns = next(csv.reader([head], delimiter=delimiter), [])
        if set(columns) == wanted and len(columns) == len(wanted):
            break
    else:
        raise BadImport("The columns are not the field selectors")
    read = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    next(read)
    rows = []
    for cells in read:
        if len(cells) != len(columns):
            raise BadImport("A row has not as many cells as there are columns")
        rows.append(dict(zip(columns, cells, strict=True)))
    return rows


class Profiles:
    """An account's profiles by their key values."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, ...], dict[str, Any]] = {}

    def take(self, one: Import, row: Mapping[str, str]) -> None:
        """Changes the profile of a row: an empty cell changes nothing unless attributes are cleared."""
        key = tuple(row[column] for column in one.keyspaces.values())
        profile = self.held.setdefault(key, {"cells": {}, "tags": []})
        for column, mapped in one.columns.items():
            value = row[column]
            consent = mapped.startswith(("opt-", "confirmed-"))
            if (value and not (consent and value == "0")) or (not value and one.clears and not consent):
                profile["cells"][column] = value
        profile["tags"] = sorted({*profile["tags"], *one.tags})
