"""How an account proves to its platform who calls: by a key, or by tokens that are given for its secrets."""

from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import urlencode

from msgspec.structs import replace

from handlers.base import Failure, Reply, Request
from handlers.platforms import Platform
from service.clock import Clock
from service.config import Account
from service.config.secrets import Secret, SecretError
from service.transport.http import HttpTransport
from service.transport.reaching import policy_of, tls_of
from service.transport.tokens import AccountTokens


class Access(Protocol):
    """What a call needs."""

    async def headers(self) -> Mapping[str, str]:
        """The headers that prove who calls. Raises SecretError, NoTokenError, TokenRefusedError."""

    def addressed(self, request: Request) -> Request:
        """The request with what its address must hold; nobody may print it."""

    def dismiss(self, headers: Mapping[str, str]) -> None:
        """The platform did not take these headers."""


class Sends(Protocol):
    """Sends one request."""

    async def send(self, request: Request, credentials: Mapping[str, str]) -> Reply: ...


class KeyAccess:
    """An account's secrets as its platform's headers, the same for every call."""

    def __init__(self, secrets: Mapping[str, Secret], platform: Platform, keep_secret: Callable[[str], None]) -> None:
        self._secrets = secrets
        self._platform = platform
        self._keep_secret = keep_secret

    def read(self) -> Mapping[str, str]:
        """The headers, from the secrets as they are now. Raises SecretError."""
        assert self._platform.credentials is not None, "the platform gives tokens"
        values = {key: secret.read() for key, secret in self._secrets.items()}
        for value in values.values():
            # Before anything can be said about it: whatever is logged from here on is searched for it.
            self._keep_secret(value)
        try:
            return self._platform.credentials(values)
        except ValueError as error:
            where = " and ".join(secret.source for secret in self._secrets.values())
            raise SecretError(f"{where}: {error}") from None

    def changed(self) -> bool:
        """Whether a secret's file holds something new."""
        return any(secret.changed() for secret in self._secrets.values())

    async def headers(self) -> Mapping[str, str]:
        """As :meth:`read`."""
        return self.read()

    def addressed(self, request: Request) -> Request:
        """As it is."""
        return request

    def dismiss(self, headers: Mapping[str, str]) -> None:
        """A key stays what it is."""


class ParameterAccess:
    """An account's one secret in the address of each request, as an old API wants it."""

    def __init__(self, name: str, secret: Secret, keep_secret: Callable[[str], None]) -> None:
        self._name = name
        self._secret = secret
        self._keep_secret = keep_secret
        self._value: str | None = None

    async def headers(self) -> Mapping[str, str]:
        """None; the secret is read. Raises SecretError."""
        self._value = self._secret.read()
        self._keep_secret(self._value)
        return {}

    def addressed(self, request: Request) -> Request:
        """The request with the secret as a parameter, encoded."""
        assert self._value is not None, "headers() comes first"
        joint = "&" if "?" in request.path else "?"
        return replace(request, path=f"{request.path}{joint}{urlencode({self._name: self._value})}")

    def dismiss(self, headers: Mapping[str, str]) -> None:
        """The secret stays what it is."""


def secrets_of(account: Account, platform: Platform) -> dict[str, Secret]:
    """The account's secrets by their keys."""
    return {key: getattr(account, key) for key in platform.secrets}


def access_to(account: Account, platform: Platform, *, clock: Clock, keep_secret: Callable[[str], None]) -> Access:
    """How calls to the account prove who makes them. Raises StartError for certificates that cannot be read."""
    secrets = secrets_of(account, platform)
    if platform.parameter is not None and version_of(account) == 3:
        [secret] = secrets.values()
        return ParameterAccess(platform.parameter, secret, keep_secret)
    if platform.tokens is None:
        return KeyAccess(secrets, platform, keep_secret)
    policy, tls = policy_of(account, max_connections=1, base_url=token_url(account)), tls_of(account)

    async def send(request: Request) -> Reply:
        async with HttpTransport(policy, tls) as transport:
            return await transport.send(request, {})

    return AccountTokens(account.name, platform.tokens, secrets, send=send, clock=clock, keep_secret=keep_secret)


def version_of(account: Account) -> int:
    """The version of the platform's API; 0 where there is one alone."""
    version: int = getattr(account, "api_version", 0)
    return version


def token_url(account: Account) -> str:
    """Where the account's tokens are given."""
    named: str | None = getattr(account, "token_url", None)
    return named or account.base_url


async def send_once(transport: Sends, access: Access, request: Request) -> Reply:
    """Send, and once more where what proves who calls had ended meanwhile: a renewed token tells a real refusal.

    Raises what :meth:`Access.headers` does.
    """
    headers = await access.headers()
    reply = await transport.send(access.addressed(request), headers)
    if not isinstance(access, AccountTokens) or not _ended(access, reply):
        return reply
    access.dismiss(headers)
    if access.is_refusal:
        return reply
    reply = await transport.send(request, await access.headers())
    _ended(access, reply)
    return reply


def _ended(tokens: AccountTokens, reply: Reply) -> bool:
    """Whether a token had ended when it was used; one that was good is noted."""
    if isinstance(reply, Failure):
        return False
    if tokens.has_ended(reply):
        return True
    tokens.taken()
    return False
