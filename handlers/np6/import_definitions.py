"""PURE: what a lane must know of an import that stands at the platform: its binding, and where its files go."""

from typing import Any

import msgspec

from handlers.base import Answer, Failure, Hold, HoldScope, Reply, Request, Retry, RetryCause
from handlers.imports.verdicts import judge_refused_poll
from handlers.np6 import client
from handlers.np6.wire import platform_text
from handlers.statuses import Row, row_of

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Source(msgspec.Struct, gc=False):
    type: Any = None
    folder: Any = None
    template_filename: Any = msgspec.field(default=None, name="templateFilename")


class _Definition(msgspec.Struct, gc=False):
    id: int
    binding: int
    name: Any = None
    source: _Source = msgspec.field(default_factory=_Source)


class Standing(msgspec.Struct, frozen=True, gc=False):
    """An import as it stands at the platform. ``folder`` and ``file_name`` are those of its FTP server's."""

    id: int
    binding: int
    source: str | None  # "ftp" or "file"
    folder: str | None = None
    file_name: str | None = None


class Definition(msgspec.Struct, frozen=True, gc=False):
    """A definition of the operator's: the platform's own JSON, and its name, by which it is found again."""

    name: str
    content: bytes

    @classmethod
    def of(cls, content: bytes) -> "Definition":
        """Raises ValueError for what is no definition."""
        try:
            read = msgspec.json.decode(content, type=dict[str, Any])
        except _UNREADABLE as error:
            raise ValueError(f"is no JSON object: {error}") from None
        for key, kind in (("name", str), ("binding", int), ("source", dict)):
            if not isinstance(read.get(key), kind) or not read[key]:
                raise ValueError(f"{key} is required")
        return cls(read["name"], content)


class Finding:
    """Finds the import: by its id, or by its definition's name, and makes it where there is none of that name.

    A create without an answer is not repeated: the next list tells whether the import is there.
    """

    def __init__(self, wanted: int | Definition) -> None:
        self._wanted = wanted
        self._creates = False
        self.found: Standing | None = None

    def request(self) -> Request | None:
        """What is to be asked; None: it is found."""
        if self.found is not None:
            return None
        if isinstance(self._wanted, int):
            return client.import_of(self._wanted)
        return client.create_import(self._wanted.content) if self._creates else client.imports()

    def learn(self, reply: Reply) -> Retry | Hold | None:
        """Take the answer in."""
        creates, self._creates = self._creates, False
        if isinstance(reply, Failure) or row_of(reply.status) is not Row.DONE:
            return _refused(reply, creates=creates)
        if isinstance(self._wanted, int) or creates:
            return self._learn_one(reply)
        return self._learn_list(reply, self._wanted)

    def _learn_one(self, answer: Answer) -> Retry | Hold | None:
        try:
            if answer.truncated:
                raise msgspec.ValidationError
            self.found = _standing(msgspec.json.decode(answer.body, type=_Definition))
        except _UNREADABLE:
            return Retry(RetryCause.SERVER_ERROR, "the import's definition is unreadable")
        return None

    def _learn_list(self, answer: Answer, wanted: Definition) -> Retry | Hold | None:
        try:
            if answer.truncated:
                return Hold(HoldScope.LANE, "the list of the account's imports is too long: `import: {id}` is needed")
            known = msgspec.json.decode(answer.body, type=list[_Definition])
        except _UNREADABLE:
            return Retry(RetryCause.SERVER_ERROR, "the list of the account's imports is unreadable")
        named = [one for one in known if one.name == wanted.name]
        if len(named) > 1:
            ids = ", ".join(str(one.id) for one in named[:5])
            return Hold(HoldScope.LANE, f"several imports have the definition's name (ids {ids}): `import: {{id}}`")
        if named:
            self.found = _standing(named[0])
        else:
            self._creates = True
        return None


def _standing(read: _Definition) -> Standing:
    source = read.source
    return Standing(
        read.id,
        read.binding,
        source.type if isinstance(source.type, str) else None,
        source.folder if isinstance(source.folder, str) else None,
        source.template_filename if isinstance(source.template_filename, str) else None,
    )


def _refused(reply: Reply, *, creates: bool) -> Retry | Hold:
    """Nothing is open, and asking again costs nothing: after a create the list is asked first."""
    if isinstance(reply, Answer) and row_of(reply.status) in (Row.NOT_FOUND, Row.GONE):
        return Hold(HoldScope.LANE, f"the platform does not know the import ({reply.status})")
    text = platform_text(reply.body) if isinstance(reply, Answer) else None
    if creates and isinstance(reply, Answer) and row_of(reply.status) in (Row.REFUSED, Row.TOO_LARGE):
        said = f": {text}" if text else ""
        return Hold(HoldScope.LANE, f"the platform refuses the import's definition ({reply.status}){said}")
    verdict = judge_refused_poll(reply, text)
    assert isinstance(verdict, Retry | Hold)
    return verdict


def place_problem(folder: str | None, name: str | None) -> str | None:
    """Why a file cannot be named so on a server; both come from the platform or the configuration."""
    if folder is None or not _is_plain(folder):
        return "the import's definition names no folder: `folder` is needed"
    if name is None or not _is_plain(name) or not {"/", "\\"}.isdisjoint(name) or name in (".", ".."):
        return "the import's definition names no file (templateFilename) that a server could have"
    if any(part == ".." for part in folder.replace("\\", "/").split("/")):
        return "the import's folder climbs the path"
    return None


def _is_plain(text: str) -> bool:
    return bool(text) and text.isprintable()
