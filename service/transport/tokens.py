"""An account's token: asked for with the account's secrets, used until shortly before its end, renewed once when the
platform takes it for ended. Calls for tokens are few a minute: whoever waits for one waits for the same one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from handlers.base import Answer, Failure, Reply, Request
from handlers.statuses import Row, row_of
from handlers.tokens import Token, TokenGrant
from service.clock import Clock
from service.config.secrets import Secret
from service.delivery.retry import retry_after_s
from service.errors import FanlineError

# A token that says nothing of its end is used for so long.
_UNSAID_LIFE_S = 300.0
# Renewed before its end by a tenth of its life, at most by a minute: clocks differ.
_MARGIN, _MAX_MARGIN_S = 0.1, 60.0
# The least time between two calls for a token: ten a minute is the strictest bound that is known of a platform.
_LEAST_PAUSE_S, _MAX_PAUSE_S = 6.0, 300.0


class TokenRefusedError(FanlineError):
    """The platform gives no token for these secrets: only other ones can change that."""


class NoTokenError(FanlineError):
    """There is no token now; ``wait_s`` from now another call for one may be made."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class _Held(msgspec.Struct, frozen=True):
    headers: Mapping[str, str]
    renew_at: float  # monotonic
    ends_at: float


class AccountTokens:
    """The tokens of one account. Messages name the account and what to do, never a secret or the platform's body."""

    def __init__(
        self,
        account: str,
        grant: TokenGrant,
        secrets: Mapping[str, Secret],
        *,
        send: Callable[[Request], Awaitable[Reply]],
        clock: Clock,
        keep_secret: Callable[[str], None],
    ) -> None:
        """``secrets`` are by the names of their keys; ``send`` reaches the place where tokens are given;
        ``keep_secret`` is told of each value before anything can be said about it."""
        self._account = account
        self._grant = grant
        self._secrets = secrets
        self._send = send
        self._clock = clock
        self._keep_secret = keep_secret
        self._lock = asyncio.Lock()
        self._held: _Held | None = None
        # So many tokens in a row were given and not taken by the platform.
        self._refused = 0
        self._trouble: FanlineError | None = None
        self._again_at = float("-inf")
        self._pause_s = _LEAST_PAUSE_S

    async def headers(self) -> Mapping[str, str]:
        """What carries a token that is good for some time yet.

        Raises NoTokenError, TokenRefusedError, SecretError.
        """
        async with self._lock:
            now = self._clock.monotonic()
            if self._held is not None and now < self._held.renew_at:
                return self._held.headers
            if now < self._again_at and not self._secrets_changed():
                return self._old_or_raise(now)
            try:
                self._held = await self._renewed()
            except FanlineError as error:
                self._trouble = error
                now = self._clock.monotonic()
                self._again_at, self._pause_s = now + self._pause_s, min(self._pause_s * 2, _MAX_PAUSE_S)
                return self._old_or_raise(now)
            self._trouble, self._pause_s = None, _LEAST_PAUSE_S
            self._again_at = self._clock.monotonic() + _LEAST_PAUSE_S
            return self._held.headers

    def addressed(self, request: Request) -> Request:
        """As it is: a token travels in a header."""
        return request

    def has_ended(self, answer: Answer) -> bool:
        """Whether an answer can mean that the token has ended."""
        return self._grant.ended(answer)

    def dismiss(self, headers: Mapping[str, str]) -> None:
        """The platform takes the token of these headers for ended: the next call gets another one."""
        if self._held is not None and self._held.headers == headers:
            self._held = None
            self._refused += 1

    def taken(self) -> None:
        """The platform has taken the token."""
        self._refused = 0

    @property
    def is_refusal(self) -> bool:
        """Whether the token that was dismissed last had come in the place of another one that was not taken either:
        then the tokens are not at fault, and a third one would tell nothing. Matters where they were given so shortly
        before that there is no other yet: whoever is refused so would take it for an outage for ever."""
        return self._refused > 1

    def try_now(self) -> None:
        """The secrets may be others, or others' minds: the next call asks for a token whatever came of the last."""
        self._again_at = float("-inf")

    def _old_or_raise(self, now: float) -> Mapping[str, str]:
        """A token that should have been renewed is still one until its end."""
        if self._held is not None and now < self._held.ends_at:
            return self._held.headers
        trouble = self._trouble
        if isinstance(trouble, TokenRefusedError):
            raise TokenRefusedError(str(trouble))
        if trouble is not None and not isinstance(trouble, NoTokenError):
            raise trouble.with_traceback(None)
        told = "the last token was refused and a new one was asked for a moment ago" if trouble is None else trouble
        raise NoTokenError(str(told), max(self._again_at - now, 0.0))

    def _secrets_changed(self) -> bool:
        return self._trouble is not None and any(secret.changed() for secret in self._secrets.values())

    async def _renewed(self) -> _Held:
        secrets = {name: secret.read() for name, secret in self._secrets.items()}
        for value in secrets.values():
            self._keep_secret(value)
        try:
            request = self._grant.ask(secrets)
        except ValueError as error:
            raise TokenRefusedError(f"accounts.{self._account}: {error}") from None
        asked_at, wall_s = self._clock.monotonic(), self._clock.wall_ms() / 1000
        token = self._read(await self._send(request), wall_s)
        self._keep_secret(token.text)
        life_s = _UNSAID_LIFE_S
        if token.expires_at_s is not None:
            life_s = token.expires_at_s - wall_s
        elif token.expires_in_s is not None:
            life_s = token.expires_in_s
        margin_s = min(life_s * _MARGIN, _MAX_MARGIN_S)
        return _Held(self._grant.headers(token.text), asked_at + life_s - margin_s, asked_at + life_s)

    def _read(self, reply: Reply, wall_s: float) -> Token:
        where = f"account {self._account}: no token"
        if isinstance(reply, Failure):
            raise NoTokenError(f"{where}: {reply.detail}", _LEAST_PAUSE_S)
        row = row_of(reply.status)
        if row is Row.DONE:
            token = None if reply.truncated else self._grant.read(reply.body)
            if token is None:
                raise NoTokenError(f"{where}: the platform answered {reply.status} without one", _LEAST_PAUSE_S)
            return token
        if row in (Row.CREDENTIALS, Row.FORBIDDEN, Row.REFUSED):
            names = " and ".join(self._secrets)
            raise TokenRefusedError(f"{where}: the platform refuses our {names} ({reply.status})")
        if row is Row.THROTTLED:
            self._pause_s = max(self._pause_s, min(self._asked_pause_s(reply, wall_s), _MAX_PAUSE_S))
            raise NoTokenError(f"{where}: the platform asks for patience ({reply.status})", self._pause_s)
        raise NoTokenError(f"{where}: the platform answered {reply.status}", _LEAST_PAUSE_S)

    @staticmethod
    def _asked_pause_s(answer: Answer, wall_s: float) -> float:
        return retry_after_s(answer.headers, wall_s) or 60.0
