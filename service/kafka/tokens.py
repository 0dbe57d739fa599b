"""Bearer tokens for OAUTHBEARER: asked of ``kafka.security.token_url`` with our client credentials (RFC 6749, 4.4).

Kafka's client asks for a token at each new connection, several at once and, while the brokers are away, ten times a
second. A token is therefore used until shortly before its end, asked for once however many wait, and after a failure
there is a pause in which everybody is told of that failure instead of the token server being asked again.
"""

import asyncio
import re
import ssl
from base64 import b64encode
from urllib.parse import quote_plus, urlsplit

import msgspec
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from handlers.base import Answer, Failure, FailureKind, Reply, Request
from service.clock import Clock, SystemClock
from service.config.secrets import Secret, SecretError
from service.errors import FanlineError
from service.transport.http import HttpTransport, TransportPolicy

MAX_BODY_BYTES = 64 * 1024
CONNECT_S = 4.0
# Shorter than the Kafka client's request timeout: who waits for a token holds the lock on new connections.
TOTAL_S = 8.0
# A token without ``expires_in`` is used for so long.
UNSAID_LIFE_S = 60.0
# Renewed before its end by a fifth of its life, at most by a minute: clocks differ, and a connection should live.
_MARGIN, _MAX_MARGIN_S = 0.2, 60.0
_FIRST_PAUSE_S, _MAX_PAUSE_S = 1.0, 30.0
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750, 2.1: nothing that could end a SASL field
_FORM = (("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json"))
_WHERE = "kafka.security.token_url"
_WHO = "see kafka.security.client_id and client_secret"


class TokenError(FanlineError, KafkaConnectionError):
    """No token. An error of Kafka's client too: it goes on trying, as with a broker that is away. The message names
    the token server and what to do, never the secret or what the server said."""

    def __str__(self) -> str:
        return str(self.args[0])


class _Token(msgspec.Struct, frozen=True):
    """A token and its life, by the monotonic clock."""

    value: str
    renew_at: float
    ends_at: float


class _Granted(msgspec.Struct, frozen=True):
    """The token server's answer (RFC 6749, 5.1), as far as it matters. Some write the number as a text."""

    access_token: str
    expires_in: float | str | None = None


class ClientCredentials(AbstractTokenProvider):
    """Tokens for one client of one token server. It keeps no connection open between two renewals."""

    def __init__(
        self,
        token_url: str,
        client_id: Secret,
        client_secret: Secret,
        *,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        total_s: float = TOTAL_S,
    ) -> None:
        parts = urlsplit(token_url)
        self._path = parts.path or "/"
        self._policy = TransportPolicy(
            base_url=f"{parts.scheme}://{parts.netloc}",
            connect_s=CONNECT_S,
            total_s=total_s,
            max_connections=1,
            max_body_bytes=MAX_BODY_BYTES,
        )
        self.host = parts.netloc
        self._id, self._secret = client_id, client_secret
        self._tls, self._clock = tls, clock or SystemClock()
        self._lock = asyncio.Lock()
        self._token: _Token | None = None
        self._failure: TokenError | None = None
        self._again_at = 0.0
        self._pause_s = _FIRST_PAUSE_S

    async def token(self) -> str:
        """A token that is good for some time yet. Raises TokenError."""
        if (fresh := self._fresh()) is not None:
            return fresh
        async with self._lock:
            # Whoever held the lock before us has asked for all of us.
            if (fresh := self._fresh()) is not None:
                return fresh
            now = self._clock.monotonic()
            if self._failure is not None and now < self._again_at:
                return self._old_or_raise(self._failure)
            try:
                self._token = await self._renewed()
            except TokenError as error:
                return self._old_or_raise(self._failed(error))
            self._failure, self._pause_s = None, _FIRST_PAUSE_S
            return self._token.value

    def _fresh(self) -> str | None:
        token = self._token
        return token.value if token is not None and self._clock.monotonic() < token.renew_at else None

    def _failed(self, error: TokenError) -> TokenError:
        self._failure = error
        self._again_at = self._clock.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, _MAX_PAUSE_S)
        return error

    def _old_or_raise(self, error: TokenError) -> str:
        """A token that should have been renewed is still a token until its end."""
        token = self._token
        if token is not None and self._clock.monotonic() < token.ends_at:
            return token.value
        # A new object: an exception that is raised twice would gather the tracebacks of both.
        raise TokenError(str(error))

    async def _renewed(self) -> _Token:
        try:
            asked_at = self._clock.monotonic()
            reply = await self._ask()
            if isinstance(reply, Answer) and reply.status in (400, 401) and self._secret.changed():
                # The file was replaced while we asked.
                asked_at = self._clock.monotonic()
                reply = await self._ask()
        except SecretError as error:
            raise TokenError(f"no token from {self.host}: {error}") from None
        if problem := problem_of(reply):
            raise TokenError(f"no token from {self.host} ({_WHERE}): {problem}")
        assert isinstance(reply, Answer)
        return self._read(reply.body, asked_at)

    async def _ask(self) -> Reply:
        """One request, with the secret as it is now. Raises SecretError."""
        # Each part is form-encoded before the two are joined (RFC 6749, 2.3.1).
        pair = f"{quote_plus(self._id.read())}:{quote_plus(self._secret.read())}"
        credentials = {"authorization": f"Basic {b64encode(pair.encode()).decode()}"}
        request = Request("POST", self._path, _FORM, b"grant_type=client_credentials")
        async with HttpTransport(self._policy, self._tls) as transport:
            return await transport.send(request, credentials)

    def _read(self, body: bytes, asked_at: float) -> _Token:
        try:
            granted = msgspec.json.decode(body, type=_Granted)
            life_s = UNSAID_LIFE_S if granted.expires_in is None else float(granted.expires_in)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
            raise TokenError(
                f"no token from {self.host} ({_WHERE}): its answer is no token response; is that the token endpoint?"
            ) from None
        if not _TOKEN.fullmatch(granted.access_token) or not 0 < life_s < float("inf"):
            raise TokenError(f"no token from {self.host} ({_WHERE}): its token is empty, malformed or has expired")
        margin_s = min(life_s * _MARGIN, _MAX_MARGIN_S)
        return _Token(granted.access_token, asked_at + life_s - margin_s, asked_at + life_s)


def problem_of(reply: Reply) -> str | None:
    """Why a reply holds no token, and what to do; None if it should hold one."""
    if isinstance(reply, Failure):
        if reply.kind is FailureKind.BAD_CERTIFICATE:
            return f"{reply.detail}; kafka.security.ca_file must hold the authority that signed it"
        return f"{reply.detail}; is the address right, does a firewall let us out?"
    match reply.status:
        case 200 if reply.truncated:
            return f"its answer is longer than {MAX_BODY_BYTES} bytes; is that the token endpoint?"
        case 200:
            return None
        case 400 | 401 | 403:
            return f"it refuses our client ({reply.status}); {_WHO}"
        case status if 300 <= status < 400:
            return f"it redirects ({status}), which is not followed; write the address that it redirects to"
        case 404 | 405 | 410 | 415:
            return f"that is not its token endpoint ({reply.status})"
        case 429 | 503:
            return f"it asks for patience ({reply.status}); asked again soon"
        case status:
            return f"it fails ({status})"
