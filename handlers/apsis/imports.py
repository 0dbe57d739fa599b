"""``apsis.imports``: each contact's state as a row of a profile import."""

from collections.abc import Hashable, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from contracts.events import Event
from contracts.results import Operation
from handlers.apsis import client
from handlers.apsis.discovery import looks_of
from handlers.apsis.verdicts import judge_create, judge_poll, judge_upload
from handlers.base import Refusal, Reply, Request
from handlers.deletions import DELETED, Deleted, is_deletion
from handlers.expressions import Condition, Expr
from handlers.faults import unresolved, wrong_value
from handlers.imports.cells import CellError, flag_cell, phone_cell, text_cell
from handlers.imports.columns import Column, Columns
from handlers.imports.csv_rows import row_writer
from handlers.imports.rows import (
    IMPORT_ROW,
    PartialFailures,
    Poll,
    Row,
    Slots,
    SplitBudget,
    beyond_the_contract,
    distinct,
)
from handlers.imports.verdicts import CreateVerdict, PollVerdict, UploadVerdict
from handlers.looks import Look
from handlers.templates import Compile

MAX_TEXT_CHARACTERS = 1_000
MAX_FILE_BYTES = 50_000_000  # as the platform's documentation has it; the upload's policy allows more

Name = Annotated[str, Meta(min_length=1, max_length=500)]
_encode = msgspec.json.Encoder().encode


class KeyspaceConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A keyspace, and the value by which a profile is known there."""

    discriminator: Annotated[Name, Meta(description="The platform's name of the keyspace.")]
    column: Annotated[Name, Meta(description="The file's column; the import's `field_selector`.")]
    value: Annotated[Expr, Meta(description="The profile's key. Null and an empty text are invalid/unresolved.")]
    merge_profiles: Annotated[
        bool, Meta(description="Whether profiles with this key become one. With `api_version: 1` alone.")
    ] = False


class OptionsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What the platform does with profiles that exist already."""

    update_existing_profiles: Annotated[bool, Meta(description="Whether profiles that exist are changed.")] = True
    clear_existing_attributes: Annotated[
        bool,
        Meta(
            description="Whether an empty cell empties the attribute.",
            extra={"hurts": "An attribute that an event does not tell of is lost at the platform."},
        ),
    ] = False


class AttributeConfig(Struct, frozen=True, forbid_unknown_fields=True, rename={"form": "as"}):
    """An attribute of a profile."""

    version_id: Annotated[Name, Meta(description="The platform's id of the attribute's version in use.")]
    column: Annotated[Name, Meta(description="The file's column.")]
    value: Annotated[Expr, Meta(description="The cell; null is an empty one. Texts have 1000 characters at most.")]
    form: Annotated[
        Literal["text", "phone"], Meta(description="`phone`: digits only, without `+`, as the platform wants them.")
    ] = "text"


class AddressConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a consent reaches its contact."""

    column: Annotated[Name, Meta(description="The file's column.")]
    value: Annotated[Expr, Meta(description="The address; null is an empty cell.")]


class ConsentConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A consent of a profile to one topic on one channel."""

    channel: Annotated[Name, Meta(description="The platform's name of the channel.")]
    topic: Annotated[Name, Meta(description="The platform's name of the topic (subscription).")]
    column: Annotated[Name, Meta(description="The file's column; its cells are 1 and 0.")]
    value: Annotated[
        Condition,
        Meta(description="Whether the consent of this type is given. A 0 in a column of opt-ins is no opt-out."),
    ]
    type: Annotated[
        Literal["opt-in", "opt-out", "confirmed-opt-in"], Meta(description="What a 1 in the column says.")
    ] = "opt-in"
    folder: Annotated[
        Name | None, Meta(description="The platform's name of the topic's folder. With `api_version: 1` alone.")
    ] = None
    address: Annotated[AddressConfig | None, Meta(description="The address that the consent is for.")] = None
    resubscribe_if_opted_out: Annotated[
        bool,
        Meta(
            description="Whether an opt-in also counts for who has opted out.",
            extra={"hurts": "People who have opted out get messages again."},
        ),
    ] = False


class TagConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A tag that profiles are given; imports only add tags."""

    discriminator: Annotated[Name, Meta(description="The platform's name of the tag.")]
    when: Annotated[Condition, Meta(description="Which events give it. Batches are formed per set of tags.")]


class ApsisImportsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of a lane that are this handler's own."""

    section: Annotated[Name, Meta(description="The platform's name of the section.")]
    keyspaces: Annotated[
        tuple[KeyspaceConfig, ...],
        Meta(min_length=1, max_length=10, description="By what profiles are known; `api_version: 2` takes one."),
    ]
    api_version: Annotated[
        Literal[1, 2], Meta(description="1 (deprecated by the vendor): several keyspaces, merging and folders.")
    ] = 2
    options: Annotated[OptionsConfig, Meta(description="What becomes of profiles that exist.")] = OptionsConfig()
    attributes: Annotated[tuple[AttributeConfig, ...], Meta(description="The profiles' attributes.")] = ()
    consents: Annotated[tuple[ConsentConfig, ...], Meta(description="The profiles' consents.")] = ()
    tags: Annotated[tuple[TagConfig, ...], Meta(max_length=30, description="The tags that profiles are given.")] = ()
    delimiter: Annotated[Literal[",", ";", "\t", "|"], Meta(description="What stands between two cells.")] = ","
    poll: Annotated[Poll, Meta(description="When an import's status is asked for.")] = Poll()
    slots: Slots = None
    partial_failures: PartialFailures = "report"
    split_budget: SplitBudget = 100
    deleted: Deleted = "skip"

    def __post_init__(self) -> None:
        if self.api_version == 2:
            if len(self.keyspaces) > 1:
                raise ValueError("keyspaces: api_version 2 takes one; 1 takes several")
            if self.keyspaces[0].merge_profiles:
                raise ValueError("keyspaces[0].merge_profiles: has a meaning with api_version 1 alone")
            if any(consent.folder is not None for consent in self.consents):
                raise ValueError("consents: folder has a meaning with api_version 1 alone")
        distinct(_column_names(self), "column")
        distinct([tag.discriminator for tag in self.tags], "tag")


class ApsisImportsHandler:
    """One row per event, in files per set of tags. Implements ``handlers.imports.rows.ImportHandler``.

    An event is checked in this order: deleted → skipped/nothing_to_do, unless the lane delivers it; a keyspace's value
    null or empty → invalid/unresolved; a cell that the platform would not take → invalid/contract.
    """

    name: ClassVar[str] = "apsis.imports"
    platform: ClassVar[str] = "apsis"
    max_file_bytes = MAX_FILE_BYTES
    creates_per_minute: ClassVar[int | None] = 10
    carries_rows = False
    repeatable = True

    def __init__(self, options: ApsisImportsConfig, compile_: Compile) -> None:
        self._options = options
        self._skips_deleted = options.deleted != "deliver"
        self.poll_settings = options.poll
        self.split_budget = options.split_budget if options.partial_failures == "split" else None
        self._keys = [
            (compile_(one.value, f"keyspaces[{n}].value"), f"keyspaces[{n}].value")
            for n, one in enumerate(options.keyspaces)
        ]
        self._columns = Columns(_columns(options, compile_))
        self._tags = [((n,), compile_(tag.when, f"tags[{n}].when", "bool")) for n, tag in enumerate(options.tags)]
        self._line = row_writer(options.delimiter)
        self._head = self._line(_column_names(options))
        self._entity = ",".join(keyspace.discriminator for keyspace in options.keyspaces)

    def looks(self) -> Sequence[Look]:
        """Whether what the lane names is the account's."""
        return list(looks_of(self._options))

    def plan(self, event: Event, key: bytes | None) -> Sequence[Row] | Refusal:
        """The row of an event, or why there is none. Raises ExpressionError, also for a wrong type."""
        if self._skips_deleted and is_deletion(event):
            return DELETED
        cells: list[str] = []
        for expression, place in self._keys:
            value = expression(event, key)
            if type(value) is str and 0 < len(value) <= MAX_TEXT_CHARACTERS:
                cells.append(value)
                continue
            if value is None or value == "":
                return unresolved(expression, place, "gives null" if value is None else "gives an empty string")
            if isinstance(value, list | dict | bool):
                raise wrong_value(expression, place, "must give a text, a number or null")
            try:
                cells.append(_text(value))
            except CellError as error:
                return beyond_the_contract(expression, place, error)
        keyed = cells[0] if len(cells) == 1 else tuple(cells)
        refusal = self._columns.add_to(cells, event, key)
        if refusal is not None:
            return refusal
        tags: tuple[int, ...] = ()
        for own, when in self._tags:
            if when(event, key) is True:
                tags += own  # the first makes no new one
        operation = Operation(IMPORT_ROW, event.data.contact_id, self._entity)
        return (Row(operation, keyed, self._line(cells), tags),)

    def head(self, group: Hashable) -> bytes:
        """The columns' names, equal to the import's field selectors."""
        return self._head

    def between(self) -> bytes:
        """Nothing: each line has its end."""
        return b""

    def tail(self) -> bytes:
        """Nothing."""
        return b""

    def create(self, group: Hashable, file: bytes) -> Request:
        """Opens an import for rows with the tags of ``group``."""
        assert isinstance(group, tuple)
        body = _mappings(self._options, [self._options.tags[n].discriminator for n in group])
        return client.create_import(self._options.section, _encode(body), api_version=self._options.api_version)

    def judge_create(self, reply: Reply) -> CreateVerdict:
        """Whose fault the answer to the create is, and what now."""
        return judge_create(reply)

    def judge_upload(self, reply: Reply, *, expired: bool) -> UploadVerdict:
        """The same of the upload."""
        return judge_upload(reply, expired=expired)

    def poll(self, import_id: str) -> Request:
        """The request that tells how far an import is."""
        return client.import_status(self._options.section, import_id)

    def judge_poll(self, reply: Reply, rows: int) -> PollVerdict:
        """What its answer says; the platform tells the counts itself."""
        return judge_poll(reply)


def _columns(options: ApsisImportsConfig, compile_: Compile) -> Sequence[Column]:
    """The columns behind those of the keyspaces, in the order of :func:`_column_names`."""
    columns: list[Column] = []
    for n, attribute in enumerate(options.attributes):
        place = f"attributes[{n}].value"
        is_phone = attribute.form == "phone"
        cell, text_up_to = (phone_cell, 0) if is_phone else (_text, MAX_TEXT_CHARACTERS)
        columns.append(Column(compile_(attribute.value, place), place, cell, text_up_to))
    for n, consent in enumerate(options.consents):
        place = f"consents[{n}].value"
        columns.append(Column(compile_(consent.value, place, "bool"), place, flag_cell))
    for value, place in _addresses(options).values():
        columns.append(Column(compile_(value, place), place, _text, MAX_TEXT_CHARACTERS))
    return columns


def _column_names(options: ApsisImportsConfig) -> list[str]:
    return [
        *(keyspace.column for keyspace in options.keyspaces),
        *(attribute.column for attribute in options.attributes),
        *(consent.column for consent in options.consents),
        *_addresses(options),
    ]


def _addresses(options: ApsisImportsConfig) -> dict[str, tuple[str, str]]:
    """The addresses' columns, each once: several consents may have one address. Value and its place."""
    found: dict[str, tuple[str, str]] = {}
    for n, consent in enumerate(options.consents):
        if consent.address is not None:
            found.setdefault(consent.address.column, (consent.address.value, f"consents[{n}].address.value"))
    return found


def _text(value: Any) -> str:
    if type(value) is str and len(value) <= MAX_TEXT_CHARACTERS:
        return value
    return text_cell(value, max_characters=MAX_TEXT_CHARACTERS)


def _mappings(options: ApsisImportsConfig, tags: Sequence[str]) -> dict[str, Any]:
    """The body of a create, as each version of the API has it. A list of mappings that would be empty is left out."""
    body: dict[str, Any] = {}
    if options.api_version == 1:
        body["keyspace_mappings"] = [
            {
                "keyspace_discriminator": one.discriminator,
                "field_selector": one.column,
                "merge_profiles": one.merge_profiles,
            }
            for one in options.keyspaces
        ]
    else:
        [only] = options.keyspaces
        body["keyspace_mapping"] = {"keyspace_discriminator": only.discriminator, "field_selector": only.column}
    body["options"] = msgspec.to_builtins(options.options)
    if options.consents:
        body["consent_mappings"] = [_consent_mapping(consent) for consent in options.consents]
    if tags:
        body["tag_mappings"] = [{"tag_discriminator": tag} for tag in tags]
    if options.attributes:
        body["attribute_mappings"] = [
            {"field_selector": one.column, "attribute_version_id": one.version_id} for one in options.attributes
        ]
    return body


def _consent_mapping(consent: ConsentConfig) -> dict[str, Any]:
    one: dict[str, Any] = {
        "resubscribe_if_opted_out": consent.resubscribe_if_opted_out,
        "field_selector": consent.column,
        "channel_discriminator": consent.channel,
        "topic_discriminator": consent.topic,
        "type": consent.type,
    }
    if consent.folder is not None:
        one["consent_list_discriminator"] = consent.folder
    address = {} if consent.address is None else {"address_field_selector": consent.address.column}
    return {**address, "consents": [one]}
