"""FTP and explicit FTPS (RFC 959, RFC 4217), by the standard library's ``ftplib`` in a thread, one connection for each
request.

A transport of the same shape as that of HTTP: the requests of an FTP lane are ``PUT`` (a file; with a header ``Clears``
what else lies there under names that begin so is taken away behind it), ``MOVE`` (with a header ``Destination``),
``HEAD`` (is it there) and ``DELETE``. A path is a slash and, percent-encoded, folder and name
as the server takes them: relative to where one arrives, or behind a second slash from its root. The answers' statuses
are HTTP's, the body is the server's own line. So pace, breaker, credentials and the table of faults are the same.

The data connections of FTPS resume the session of the control connection, as many servers demand; the library does not
do that by itself.
"""

import asyncio
import contextlib
import ftplib
import socket
import ssl
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec

from handlers.base import Answer, Failure, FailureKind, Reply, Request
from service.uploading.spool import SpoolError

BLOCK_BYTES = 256 * 1024
_MAX_LINE = 300
_MAX_LIST_BYTES = 16 * 1024 * 1024
# What a server's reply says, as a status of HTTP: see ``handlers.statuses``.
_TRY_LATER, _WRONG_REQUEST, _FORBIDDEN, _UNKNOWN, _UNAUTHORIZED = 503, 405, 403, 404, 401
_STATUSES = {
    "500": _WRONG_REQUEST,
    "501": _WRONG_REQUEST,
    "502": _WRONG_REQUEST,
    "503": _WRONG_REQUEST,
    "504": _WRONG_REQUEST,
    "530": _UNAUTHORIZED,
    "532": _UNAUTHORIZED,
    "550": _UNKNOWN,
}


class FtpPolicy(msgspec.Struct, frozen=True):
    """How a server is reached; seconds. Without ``tls`` everything goes in the open."""

    host: str
    port: int
    tls: bool
    connect_s: float
    step_s: float  # for each answer and each block


class ReadableAt(Protocol):
    """A file that can be read from anywhere, in any thread; ``service.uploading.spool.Spool``."""

    @property
    def size(self) -> int: ...

    def read_at(self, at: int) -> bytes:
        """A block; empty at the end. Raises SpoolError."""


class FtpTransport:
    """Requests to one server (``service.transport.account.Transport``). ``PUT`` needs :meth:`with_file`."""

    def __init__(self, policy: FtpPolicy, tls: ssl.SSLContext | None, file: ReadableAt | None = None) -> None:
        """``tls`` says what the server's certificate is checked against; None: the system's authorities."""
        self._policy = policy
        self._tls = tls
        self._file = file

    def with_file(self, file: ReadableAt) -> "FtpTransport":
        """The same, and what a ``PUT`` sends."""
        return FtpTransport(self._policy, self._tls, file)

    async def send(self, request: Request, credentials: Mapping[str, str]) -> Reply:
        """Carry one request out. ``credentials`` are ``username`` and ``password``. Raises SpoolError."""
        visit = _Visit(self._policy, self._tls)
        work = partial(visit.carry_out, request, credentials, self._file)
        running = asyncio.get_running_loop().run_in_executor(None, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            visit.break_off()
            running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise


class _Visit:
    """One connection, in a thread of its own."""

    def __init__(self, policy: FtpPolicy, tls: ssl.SSLContext | None) -> None:
        self._policy = policy
        self._ftp: ftplib.FTP = _Secured(tls or ssl.create_default_context()) if policy.tls else ftplib.FTP()
        self._data: socket.socket | None = None
        self._unwanted = False
        self._begun = False

    def break_off(self) -> None:
        """From another thread: nobody waits any more. Whatever goes on fails soon."""
        self._unwanted = True
        for sock in (self._data, self._ftp.sock):
            if sock is not None:
                with contextlib.suppress(OSError):
                    # Not the method of an SSL socket: that would leave the thread with one without encryption.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def carry_out(self, request: Request, credentials: Mapping[str, str], file: ReadableAt | None) -> Reply:
        """Connect, log in, do what is asked, say goodbye. Raises SpoolError."""
        try:
            self._connect(credentials)
            return self._act(request, file)
        except ftplib.Error as error:
            return _answer_of(str(error))
        except SpoolError:
            raise
        except (OSError, EOFError) as error:
            return _failure_of(error, begun=self._begun)
        finally:
            self._leave()

    def _connect(self, credentials: Mapping[str, str]) -> None:
        policy = self._policy
        self._ftp.connect(policy.host, policy.port, timeout=policy.connect_s)
        assert self._ftp.sock is not None
        self._ftp.sock.settimeout(policy.step_s)
        self._ftp.timeout = policy.step_s
        # With TLS the name and the password are sent once it is there (AUTH comes first), and never without it.
        self._ftp.login(credentials["username"], credentials["password"])
        if isinstance(self._ftp, ftplib.FTP_TLS):
            self._ftp.prot_p()
        self._ftp.voidcmd("TYPE I")

    def _act(self, request: Request, file: ReadableAt | None) -> Reply:
        folder, name = _place(request.path)
        if folder:
            try:
                self._ftp.cwd(folder)
            except ftplib.error_perm as error:
                # Not as of a file: one in a folder that cannot be entered has not been taken away.
                return Answer(_FORBIDDEN, {}, _line_of(str(error)))
        match request.method:
            case "HEAD":
                return _DONE if self._is_there(name) else Answer(_UNKNOWN, {}, b"")
            case "PUT":
                assert file is not None, "with_file() comes first"
                reply = self._put(name, file)
                clears = dict(request.headers).get("Clears")
                if reply is _DONE and clears:
                    self._clear(clears.encode(), name.encode())
                return reply
            case "MOVE":
                _, destination = _place(dict(request.headers)["Destination"])
                if self._is_there(destination):
                    return Answer(409, {}, b"a file of that name lies in the folder")
                self._begun = True
                self._ftp.rename(name, destination)
                return _DONE
            case "DELETE":
                self._begun = True
                self._ftp.delete(name)
                return _DONE
        raise ValueError("a method that FTP has nothing for")

    def _is_there(self, name: str) -> bool:
        """Whether the folder has such a file. A server that knows no SIZE, or says that there is none, is asked for
        its list too: who takes a file for gone that is there takes it for delivered."""
        try:
            self._ftp.size(name)
        except ftplib.error_perm as error:
            if _code(str(error)) not in ("550", "500", "502", "504"):
                raise
        else:
            return True
        try:
            names = self._listed("NLST")
        except ftplib.error_perm as error:
            if _code(str(error)) == "550":  # how some servers say that a folder is empty
                return False
            raise
        return name.encode() in names

    def _listed(self, command: str) -> list[bytes]:
        """The names that the server lists. As bytes: others' files may be named in any encoding."""
        self._ftp.voidcmd("TYPE A")
        content = bytearray()
        with self._ftp.transfercmd(command) as data:
            self._data = data
            while len(content) < _MAX_LIST_BYTES and (block := data.recv(BLOCK_BYTES)):
                content += block
            _say_end(data)
        self._ftp.voidresp()
        self._ftp.voidcmd("TYPE I")
        lines = bytes(content).splitlines()
        if command == "MLSD":
            lines = [line.partition(b" ")[2] for line in lines]
        return [line.replace(b"\\", b"/").rpartition(b"/")[2] for line in lines]

    def _clear(self, beginning: bytes, but: bytes) -> None:
        """Take away what earlier puts left, as far as the server shows it; whatever happens, the file has been put.

        Hidden files are shown by a server that knows MLSD, or ``-a`` as programs for lists do; by others not always.
        """
        with contextlib.suppress(OSError, EOFError, ftplib.Error):
            for name in self._all_names():
                if name.startswith(beginning) and name != but:
                    with contextlib.suppress(ftplib.error_perm, UnicodeDecodeError):
                        self._ftp.delete(name.decode())

    def _all_names(self) -> list[bytes]:
        for command in ("MLSD", "NLST -a", "NLST"):
            with contextlib.suppress(ftplib.error_perm, ftplib.error_temp):
                if names := self._listed(command):
                    return names
        return []

    def _put(self, name: str, file: ReadableAt) -> Reply:
        self._begun = True
        with self._ftp.transfercmd(f"STOR {name}") as data:
            self._data = data
            at = 0
            while at < file.size and not self._unwanted:
                block = file.read_at(at)
                data.sendall(block)
                at += len(block)
            _say_end(data)
        self._ftp.voidresp()
        if self._unwanted:
            raise ConnectionAbortedError
        held = self._held(name)
        if held is not None and held != file.size:
            return Answer(500, {}, f"the server has {held} bytes of {file.size}".encode())
        return _DONE

    def _held(self, name: str) -> int | None:
        """How long the server says that a file is; None: it does not say."""
        try:
            return self._ftp.size(name)
        except ftplib.Error:
            return None

    def _leave(self) -> None:
        with contextlib.suppress(OSError, EOFError, ftplib.Error):
            if self._ftp.sock is not None and not self._unwanted:
                self._ftp.sock.settimeout(1.0)
                self._ftp.quit()
        self._ftp.close()


class _Secured(ftplib.FTP_TLS):
    """FTPS whose data connections resume the control connection's session (RFC 4217, 7: how a server knows that both
    are the same client's)."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        """As it is, with the session."""
        data, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            secured = self.context.wrap_socket(data, server_hostname=self.host, session=self.sock.session)
        except BaseException:
            data.close()
            raise
        return secured, size


def _say_end(data: socket.socket) -> None:
    """Says that a transfer has ended and was not cut; whether the server answers that is its affair."""
    if isinstance(data, ssl.SSLSocket):
        with contextlib.suppress(OSError):
            data.unwrap()


_DONE = Answer(204, {}, b"")


def _answer_of(line: str) -> Answer:
    """A server's refusal as an answer; its line is cut, and of several lines the last."""
    code = _code(line)
    status = _STATUSES.get(code) or {"4": _TRY_LATER, "5": _FORBIDDEN}.get(code[:1], _WRONG_REQUEST)
    return Answer(status, {}, _line_of(line))


def _line_of(line: str) -> bytes:
    return " ".join(line.split())[:_MAX_LINE].encode()


def _code(line: str) -> str:
    return line[:3]


def _failure_of(error: Exception, *, begun: bool) -> Failure:
    """``begun``: what changes something had been begun."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure(FailureKind.BAD_CERTIFICATE, "the certificate is not trusted")
    if not begun:
        return Failure(FailureKind.NOT_SENT, _WORDS.get(type(error), "no connection"))
    if isinstance(error, TimeoutError):
        return Failure(FailureKind.TIMED_OUT, "no answer in time")
    return Failure(FailureKind.RESET, "the connection broke")


_WORDS: dict[type[Any], str] = {
    socket.gaierror: "the name was not found",
    TimeoutError: "no connection in time",
    ssl.SSLError: "TLS failed",
}


def _place(path: str) -> tuple[str, str]:
    """Folder and name of a request's path; a folder of "" is where one arrives."""
    folder, _, name = unquote(path.removeprefix("/")).rpartition("/")
    if not name or name in (".", "..") or any(ord(letter) < 32 or ord(letter) == 127 for letter in folder + name):
        raise ValueError("a name that no file of a server may have")
    return folder, name
