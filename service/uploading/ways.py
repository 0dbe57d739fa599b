"""How the calls of an import whose file is put first are sent: over the account, or to an FTP server."""

from collections.abc import Callable, Mapping

from yarl import URL

from handlers.base import Failure, FailureKind, Reply, Request
from service.config.secrets import Secret, SecretError
from service.imports.seams import Spooled
from service.uploading.ftp import FtpTransport
from service.uploading.sending import AccountFile, Body, FileSender


class AccountWay:
    """Files go as bodies to the account's platform, all else as its other requests. Implements
    ``service.imports.seams.FileWay``."""

    def __init__(self, sender: FileSender, base_url: str) -> None:
        self._sender = sender
        self._base = URL(base_url.rstrip("/"), encoded=True)

    def transport(self, file: Spooled | None) -> AccountFile | None:
        """What sends a request with the file."""
        return None if file is None else AccountFile(self._sender, self._base, Body(file))


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

    def transport(self, file: Spooled | None) -> "_Login":
        """What sends a request, with the file where there is one."""
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
