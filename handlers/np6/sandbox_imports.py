"""The sandbox's imports: definitions, the file that was put, and the state of the last execution alone."""

from typing import Any

import msgspec

MEDIA_TYPE = "application/vnd.mperf.v8.import.v1+json"

_definition = msgspec.json.Decoder(dict[str, Any])
_WRITTEN_AT = "2026-01-01T08:00:00Z"
_FIRST_ID = 23
# By method and what follows ``/imports``.
KINDS = {
    ("GET", ""): "imports",
    ("POST", ""): "create_import",
    ("GET", "id"): "import",
    ("PUT", "source"): "put_source",
    ("POST", "executions"): "execute_import",
    ("GET", "executions"): "import_state",
}
_PLACES = ("", "id", "source", "executions")


def kind_of(method: str, parts: list[str]) -> tuple[str | None, str | None]:
    """What a request is about and the import's id as it stands in the path; a kind of None: another method there.

    ``parts`` are those behind ``imports``. Raises KeyError for a place that does not exist.
    """
    place = ("", "id")[len(parts)] if len(parts) < 2 else parts[1]
    if len(parts) > 2 or place not in _PLACES or (len(parts) == 2 and place == "id"):
        raise KeyError(place)
    return KINDS.get((method, place)), parts[0] if parts else None


class BadDefinition(ValueError):
    """The definition, or what was sent in its place, is refused."""


class Imported(msgspec.Struct, frozen=True):
    """An execution: what it was given, and at how many looks it has ended."""

    import_id: int
    file: bytes
    binding: Any


class Imports:
    """The imports of one account."""

    def __init__(self) -> None:
        self.definitions: dict[int, dict[str, Any]] = {}
        self.executed: list[Imported] = []
        self._sources: dict[int, bytes] = {}
        self._looks: dict[int, int] = {}

    def create(self, body: bytes) -> dict[str, Any]:
        """The definition with what the server sets. Raises BadDefinition."""
        try:
            asked = _definition.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise BadDefinition("The definition is no JSON object") from None
        if not isinstance(asked.get("name"), str) or not isinstance(asked.get("binding"), int):
            raise BadDefinition("name and binding are required")
        source = asked.get("source")
        if not isinstance(source, dict) or source.get("type") not in ("ftp", "file"):
            raise BadDefinition("source is required")
        number = _FIRST_ID + len(self.definitions)
        scheduler = {"id": 79 + number} if asked.get("scheduler") is not None else None
        if source["type"] == "ftp":
            source = {**source, "folder": f"{number} - {asked['name']}"}
        stored = {**asked, "id": number, "creationDate": _WRITTEN_AT, "source": source, "scheduler": scheduler}
        self.definitions[number] = stored
        return stored

    def put(self, number: int, file: bytes) -> None:
        """A file for the next execution."""
        self._sources[number] = file

    def execute(self, number: int, body: bytes) -> None:
        """Begins an execution with the file that was put. Raises BadDefinition."""
        try:
            binding = _definition.decode(body).get("binding")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise BadDefinition("The execution is no JSON object") from None
        if number not in self._sources:
            raise BadDefinition("There is no source")
        self.executed.append(Imported(number, self._sources.pop(number), binding))
        self._looks[number] = 0

    def state(self, number: int, looks: int, *, fails: bool) -> int | None:
        """The state of the last execution: 0 processing, 1 completed, 2 error; None: there was none."""
        if number not in self._looks:
            return None
        self._looks[number] += 1
        if self._looks[number] < looks:
            return 0
        return 2 if fails else 1
