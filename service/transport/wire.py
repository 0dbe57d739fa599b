"""Requests as bytes: HTTP/1.1 (RFC 9112), written in one piece.

What can be known before is made once: the lines of the host, of the credentials and of a handler's own headers, which
are the same for most of its requests.
"""

import re
from collections.abc import Mapping, Sequence

from yarl import URL

from handlers.base import Request

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(r"/[!-~]*")
# A value in a header: no control characters, by which one request could be made two.
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_DEFAULTS = (("Accept", "*/*"), ("Accept-Encoding", "gzip, deflate"), ("User-Agent", "fanline"))
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_MOST_BLOCKS = 64


class RequestWriter:
    """Writes the requests of one account. ``proxied``: through a plain proxy, which is told the whole address."""

    def __init__(self, base: URL, *, proxied: bool = False) -> None:
        self._prefix = base.raw_path.rstrip("/")
        self._host = base.host_subcomponent or ""
        if base.explicit_port is not None and not base.is_default_port():
            self._host = f"{self._host}:{base.explicit_port}"
        if proxied:
            self._prefix = f"{base.origin()}{self._prefix}"
        self._credentials: Mapping[str, str] = {}
        self._blocks: dict[Sequence[tuple[str, str]], tuple[bytes, bool]] = {}

    def write(self, request: Request, credentials: Mapping[str, str]) -> bytes:
        """The bytes of a request. Raises ValueError for what cannot stand in one, without quoting it."""
        lines, has_length = self._lines(request, credentials)
        body = request.body
        if body is None:
            if has_length or request.method not in _WITH_BODY:
                return lines + b"\r\n"
            return lines + b"Content-Length: 0\r\n\r\n"
        return b"%bContent-Length: %d\r\n\r\n%b" % (lines, len(body), body)

    def head(self, request: Request, credentials: Mapping[str, str], length: int) -> bytes:
        """What comes before a body of so many bytes that is sent apart. Raises ValueError like :meth:`write`."""
        lines, has_length = self._lines(request, credentials)
        if has_length or request.body is not None:
            raise ValueError("the body and its length come from elsewhere")
        return b"%bContent-Length: %d\r\n\r\n" % (lines, length)

    def _lines(self, request: Request, credentials: Mapping[str, str]) -> tuple[bytes, bool]:
        """The request's line and its headers, and whether the length is among them."""
        if credentials is not self._credentials:
            self._credentials = credentials
            self._blocks.clear()
        block = self._blocks.get(request.headers)
        if block is None:
            block = self._block(request.headers)
        lines, has_length = block
        if not _TARGET.fullmatch(request.path) or not _TOKEN.fullmatch(request.method):
            raise ValueError("a path is percent-encoded ASCII and begins with a slash; a method is a token")
        return f"{request.method} {self._prefix}{request.path} HTTP/1.1\r\n".encode("ascii") + lines, has_length

    def _block(self, headers: tuple[tuple[str, str], ...]) -> tuple[bytes, bool]:
        """The lines of all headers, each name once: the credentials' last word, then the handler's, then ours."""
        named: dict[str, tuple[str, str]] = {name.lower(): (name, value) for name, value in _DEFAULTS}
        for name, value in (*headers, *self._credentials.items()):
            named[name.lower()] = (name, value)
        named.pop("host", None)
        for name, value in named.values():
            if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError("a header's name is a token, and its value holds no control characters")
        length = named.get("content-length")
        if length is not None and length[1] != "0":
            raise ValueError("the length of a body is counted here: a handler may name only that of none")
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.values())
        block = (f"Host: {self._host}\r\n{lines}".encode(), length is not None)
        if len(self._blocks) >= _MOST_BLOCKS:
            self._blocks.clear()
        self._blocks[headers] = block
        return block
