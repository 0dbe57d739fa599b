"""An account's connection where what proves who calls is not the same for each request: tokens, or a secret in the
address. It stands in front of the account's transport, so that everybody else sees an account as any other."""

import contextlib
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from handlers.base import Answer, Failure, FailureKind, Reply, Request
from service.config.secrets import Secret, SecretError
from service.transport.access import Access, Sends, send_once
from service.transport.tokens import AccountTokens, NoTokenError, TokenRefusedError

# What refused secrets look like to whoever judges answers.
_REFUSED = Answer(401, {}, b"")


class ProvingTransport:
    """Implements ``service.transport.account.Transport``."""

    def __init__(self, transport: Sends, access: Access, refuses: Callable[[Answer], bool]) -> None:
        """``refuses``: whether an answer refuses our credentials, whatever its status is."""
        self._transport = transport
        self._access = access
        self._refuses = refuses

    async def prepare(self) -> None:
        """Get a token if none is held; without one the next request says why."""
        with contextlib.suppress(NoTokenError, TokenRefusedError, SecretError):
            await self._access.headers()

    async def send(self, request: Request, credentials: Mapping[str, str]) -> Reply:
        """Send once, and once more with a new token where the platform takes the old one for ended. Without a token
        nothing is sent. Refused credentials are a 401 from here on: the account counts and waits by statuses."""
        try:
            reply = await send_once(self._transport, self._access, request)
        except NoTokenError as error:
            return Failure(FailureKind.NOT_SENT, str(error))
        except (TokenRefusedError, SecretError):
            return _REFUSED
        refused = isinstance(reply, Answer) and self._refuses(reply)
        return replace(reply, status=_REFUSED.status) if refused else reply


class ProvenSecrets:
    """Implements ``service.transport.account.Credentials``: the account's secrets, which no request carries as they
    are."""

    def __init__(self, secrets: Sequence[Secret], access: Access) -> None:
        self._secrets = secrets
        self._access = access

    def read(self) -> Mapping[str, str]:
        """No headers; the secrets can be read, and are tried by the next request. Raises SecretError."""
        for secret in self._secrets:
            secret.read()
        if isinstance(self._access, AccountTokens):
            self._access.try_now()
        return {}

    def changed(self) -> bool:
        """Whether a secret's file holds something new."""
        return any(secret.changed() for secret in self._secrets)


class Kept:
    """Every secret that was told, tokens included: no answer of the platform's may carry one into a result."""

    def __init__(self, keep_secret: Callable[[str], None], most: int = 20) -> None:
        self._keep_secret = keep_secret
        self._most = most
        self._values: dict[str, None] = {}

    def keep(self, value: str) -> None:
        """A secret, before anything can be said about it."""
        self._keep_secret(value)
        self._values[value] = None
        while len(self._values) > self._most:
            del self._values[next(iter(self._values))]

    def values(self) -> Sequence[str]:
        """The newest."""
        return tuple(self._values)
