"""Secrets: named in the configuration by where they are kept, read when needed, never printable.

A :class:`Secret` knows its source alone. The value exists only in what :meth:`Secret.read` returns; of the last
value read a digest is kept, so that a changed file is noticed.
"""

import hashlib
import os
from pathlib import Path
from typing import Literal

from service.errors import FanlineError

MAX_BYTES = 64 * 1024


class SecretError(FanlineError):
    """A secret cannot be read. The message names the environment variable or the file, never the content."""


class Secret:
    """A value kept in an environment variable or in a file, or (user names only) written in the configuration."""

    __slots__ = ("_digest", "_kind", "_source")

    def __init__(self, *, env: str | None = None, file: str | Path | None = None, text: str | None = None) -> None:
        given = [(kind, source) for kind, source in _kinds(env, file, text) if source is not None]
        if len(given) != 1:
            raise ValueError("a secret has exactly one source")
        self._kind, self._source = given[0]
        self._digest: bytes | None = None

    @property
    def kind(self) -> Literal["env", "file", "text"]:
        """Where the value is kept. Only a file can change while the process runs."""
        return self._kind

    @property
    def source(self) -> str:
        """Where the value is kept, in words: it may be shown to anybody."""
        if self._kind == "env":
            return f"environment variable {self._source}"
        return f"file {self._source}" if self._kind == "file" else "the configuration"

    def read(self) -> str:
        """The value as it is now, without one line break at its end. Raises SecretError."""
        value = self._checked(self._load())
        self._digest = _digest(value)
        return value

    def changed(self) -> bool:
        """Whether a file now holds another value than the last one read; False for what cannot change, and while
        the file is unreadable (it may be about to be replaced)."""
        if self._kind != "file":
            return False
        try:
            return _digest(self._checked(self._load())) != self._digest
        except SecretError:
            return False

    def _load(self) -> str:
        if self._kind == "text":
            return self._source
        if self._kind == "env":
            value = os.environ.get(self._source)
            if value is None:
                raise SecretError(f"{self.source} is not set")
            return value
        try:
            with open(self._source, "rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise SecretError(f"{self.source} cannot be read: {error.strerror}") from None
        if len(content) > MAX_BYTES:
            raise SecretError(f"{self.source} is longer than {MAX_BYTES} bytes")
        try:
            return content.decode()
        except UnicodeDecodeError:
            # Without "from None" the traceback's exception would hold the bytes.
            raise SecretError(f"{self.source} is not UTF-8") from None

    def _checked(self, value: str) -> str:
        value = value.removesuffix("\n").removesuffix("\r")
        if not value:
            raise SecretError(f"{self.source} is empty")
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            # It would end up in a header or in a SASL exchange.
            raise SecretError(f"{self.source} holds a line break or another control character")
        return value

    def __repr__(self) -> str:
        return f"Secret({self.source})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self._kind, self._source) == (other._kind, other._source)

    def __hash__(self) -> int:
        return hash((self._kind, self._source))


def _kinds(
    env: str | None, file: str | Path | None, text: str | None
) -> tuple[tuple[Literal["env", "file", "text"], str | None], ...]:
    return (("env", env), ("file", None if file is None else str(file)), ("text", text))


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).digest()
