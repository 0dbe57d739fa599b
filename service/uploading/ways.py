"""How the calls of an import whose file is put first are sent: over the account, or to an FTP server."""

from collections.abc import Callable, Mapping

from yarl import URL

from handlers.base import Failure, FailureKind, Reply, Request
from service.config.secrets import Secret, SecretError
from service.imports.seams import Spooled
from service.transport.account import Transport
from service.uploading.ftp import FtpTransport
from service.uploading.sending import AccountFile, Body, FileSender


class AccountWay:
    """Files go as bodies to the account's platform, all else as its other requests. Implements
    ``service.imports.seams.FileWay``."""

    def __init__(
        self, sender: FileSender, base_url: str, proven: Callable[[Transport], Transport] = lambda plain: plain
    ) -> None:
        """``proven`` adds to what sends requests how the account proves who calls, where headers are not all."""
        self._proven = proven
        self._sender = sender
        self._base = URL(base_url.rstrip("/"), encoded=True)

    def transport(self, file: Spooled | None, before: bytes = b"", behind: bytes = b"") -> Transport | None:
        """What sends a request with the file."""
        return None if file is None else self._proven(AccountFile(self._sender, self._base, Body(file, before, behind)))


class FtpWay:
    """Everything goes to an FTP server. Its secrets are read for each request, so that a changed file counts at once.
    Implements ``service.imports.seams.FileWay``."""

    def __init__(
        self, server: FtpTransport, username: Secret, password: Secret, keep_secret: Callable[[str], None]
    ) -> None:
        self._server = server
        self._username = username
        self._password = password
        self._keep_secret = keep_secret

    def transport(self, file: Spooled | None, before: bytes = b"", behind: bytes = b"") -> Transport:
        """What sends a request, with the file where there is one."""
        assert not before, "a file lies alone on a server"
        assert not behind
        return _Login(self._server if file is None else self._server.with_file(file), self._login)

    def _login(self) -> Mapping[str, str]:
        """Raises SecretError."""
        login = {"username": self._username.read(), "password": self._password.read()}
        self._keep_secret(login["password"])
        return login


class _Login:
    """A server with the login of now (``service.transport.account.Transport``)."""

    def __init__(self, server: FtpTransport, login: Callable[[], Mapping[str, str]]) -> None:
        self._server = server
        self._login = login

    async def send(self, request: Request, credentials: Mapping[str, str]) -> Reply:
        """Send; a secret that cannot be read is nothing sent. Raises SpoolError."""
        try:
            login = self._login()
        except SecretError as error:
            return Failure(FailureKind.NOT_SENT, str(error))
        return await self._server.send(request, login)
