"""One customer account in this process: its connection, its pace, its breaker, its credentials.

Shared by the lanes on the account. A caller enters, and sends or abandons; whoever may not enter now waits in line, one
at the head, so that a pace of so many requests a second wakes one waiter and not all.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from math import inf
from typing import Protocol

import msgspec

from handlers.base import Answer, Failure, FailureKind, Reply, Request
from service.clock import Clock
from service.config.secrets import SecretError
from service.delivery.breaker import Breaker, BreakerState
from service.delivery.limiter import AccountLimiter
from service.delivery.success import Successes

_LONGEST_WAIT_S = 1.0


class Permit(Enum):
    """The right to send one request."""

    NORMAL = "normal"
    PROBE = "probe"  # of the breaker
    TRIAL = "trial"  # of credentials that were refused


class CredentialPolicy(msgspec.Struct, frozen=True):
    """When refused credentials are tried again; seconds."""

    reread_every_s: float = 30.0
    try_every_s: float = 300.0


class Credentials(Protocol):
    """The account's secret as headers."""

    def read(self) -> Mapping[str, str]:
        """The headers, from the secret as it is now. Raises SecretError."""

    def changed(self) -> bool:
        """Whether the secret's file holds something new."""


class Transport(Protocol):
    """Sends one request; ``HttpTransport`` and the tests' fake."""

    async def send(self, request: Request, credentials: Mapping[str, str]) -> Reply: ...


class Refused:
    """The platform refused our credentials; from then on one request at a time finds out whether that has ended."""

    __slots__ = ("next_look", "next_try", "reason", "trying")

    def __init__(self, reason: str, now: float, policy: CredentialPolicy) -> None:
        self.reason = reason
        self.trying = False
        self.next_look = now + policy.reread_every_s
        self.next_try = now + policy.try_every_s


class AccountObserver(Protocol):
    """What is counted of one lane's requests to an account."""

    def request_ended(self, status: str, seconds: float) -> None: ...


class Account:
    """The account's shared state. ``enter`` gives a permit; ``send`` uses it, ``abandon`` gives it back unused."""

    def __init__(
        self,
        name: str,
        *,
        transport: Transport,
        limiter: AccountLimiter,
        credentials: Credentials,
        clock: Clock,
        breaker: Breaker | None = None,
        policy: CredentialPolicy | None = None,
    ) -> None:
        self.name = name
        self.limiter = limiter
        self.breaker = breaker or Breaker()
        self.successes = Successes()
        self.refused: Refused | None = None
        self._transport = transport
        self._credentials = credentials
        self._headers: Mapping[str, str] | None = None
        self._clock = clock
        self._policy = policy or CredentialPolicy()
        self._line = asyncio.Lock()
        self._changed = asyncio.Event()
        self._waiting = 0
        self._failed_last: object = None

    def open(self) -> None:
        """Read the credentials. Raises SecretError."""
        self._headers = self._credentials.read()

    def enter_at_once(self) -> Permit | None:
        """A permit if nobody waits and nothing is in the way, as nearly always; else ``enter`` and wait."""
        if self._waiting or self.refused is not None or self.breaker.state is not BreakerState.CLOSED:
            return None
        return None if self.limiter.admit(self._clock.monotonic()) else Permit.NORMAL

    async def enter(self, wanted: Callable[[], bool], who: object = None) -> Permit | None:
        """Wait for the right to send one request; None once ``wanted`` is False. ``who`` is the operation."""
        if not self._waiting:
            permit, _ = self._try()
            if permit is not None:
                return permit
        self._waiting += 1
        try:
            while wanted():
                async with self._line:
                    while wanted() and not self._steps_back(who):
                        permit, wait_s = self._try()
                        if permit is not None:
                            return permit
                        self._changed.clear()
                        try:
                            async with asyncio.timeout(min(wait_s, _LONGEST_WAIT_S)):
                                await self._changed.wait()
                        except TimeoutError:
                            continue
        finally:
            self._waiting -= 1
        return None

    async def send(self, request: Request, permit: Permit, observer: AccountObserver, who: object = None) -> Reply:
        """Send, give the permit back, and take what the reply tells of the account."""
        began = self._clock.monotonic()
        try:
            assert self._headers is not None, "the account is not open"
            reply = await self._transport.send(request, self._headers)
        except BaseException:
            self.abandon(permit)
            raise
        now = self._clock.monotonic()
        self.limiter.release()
        self._note(reply, permit, now, who)
        status = str(reply.status) if isinstance(reply, Answer) else reply.kind.value
        observer.request_ended(status, now - began)
        if self._waiting:
            self._changed.set()
        return reply

    def abandon(self, permit: Permit) -> None:
        """A permit that was not used, or whose request was cancelled, tells nothing: another may try at once."""
        now = self._clock.monotonic()
        self.limiter.release()
        if permit is Permit.PROBE:
            self.breaker.abandon_probe(now)
        elif permit is Permit.TRIAL and self.refused is not None:
            self.refused.trying = False
            self.refused.next_try = now
        self._changed.set()

    def secrets(self) -> Sequence[str]:
        """What no answer of the platform's may carry into a result, should it repeat it."""
        return tuple(self._headers.values()) if self._headers is not None else ()

    def refuse(self, reason: str) -> None:
        """The platform refused our credentials: all lanes of the account hold."""
        now = self._clock.monotonic()
        if self.refused is None:
            self.refused = Refused(reason, now, self._policy)
        self.refused.reason = reason

    def resume(self) -> None:
        """An operator wants the credentials tried now."""
        if self.refused is not None:
            self.refused.next_try = self.refused.next_look = -inf
            self._changed.set()

    def holding(self) -> str | None:
        """Why nobody on the account may send now; None if somebody may."""
        if self.refused is not None:
            return self.refused.reason
        if self.breaker.state is not BreakerState.CLOSED:
            return f"breaker open: account {self.name} fails as a whole"
        if self.limiter.blocked_until(self._clock.monotonic()) is not None:
            return f"rate limit: account {self.name} asked us to wait"
        return None

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits in line for the right to send."""
        return self._waiting > 0

    def _steps_back(self, who: object) -> bool:
        """The breaker's probe is not the operation that failed last, if another waits: that one goes first."""
        if who is None or who is not self._failed_last or self._waiting < 2 or self.refused is not None:
            return False
        return self.breaker.state is BreakerState.OPEN and self.breaker.may_start(self._clock.monotonic())

    def _try(self) -> tuple[Permit | None, float]:
        """A permit, or how long to wait before asking again."""
        now = self._clock.monotonic()
        if self.refused is not None:
            return self._try_refused(self.refused, now)
        if not self.breaker.may_start(now):
            until = self.breaker.until
            return None, _LONGEST_WAIT_S if until is None else until - now
        wait_s = self.limiter.admit(now)
        if wait_s:
            return None, wait_s
        return (Permit.PROBE if self.breaker.start(now) else Permit.NORMAL), 0.0

    def _try_refused(self, refused: Refused, now: float) -> tuple[Permit | None, float]:
        if refused.trying:
            return None, _LONGEST_WAIT_S
        if now >= refused.next_look:
            refused.next_look = now + self._policy.reread_every_s
            if self._credentials.changed():
                refused.next_try = now
        if now < refused.next_try:
            return None, min(refused.next_look, refused.next_try) - now
        refused.next_try = now + self._policy.try_every_s
        try:
            self._headers = self._credentials.read()
        except SecretError as error:
            refused.reason = str(error)
            return None, _LONGEST_WAIT_S
        wait_s = self.limiter.admit(now)
        if wait_s:
            refused.next_try = now
            return None, wait_s
        refused.trying = True
        return Permit.TRIAL, 0.0

    def _note(self, reply: Reply, permit: Permit, now: float, who: object) -> None:
        failed = is_outage(reply)
        if failed:
            self._failed_last = who
        if isinstance(reply, Answer):
            self.limiter.observe(reply.headers, reply.status, now, self._clock.wall_ms() / 1000)
        if permit is Permit.TRIAL:
            self._note_trial(reply, now)
        else:
            self.breaker.record(now, failed=failed, probe=permit is Permit.PROBE)

    def _note_trial(self, reply: Reply, now: float) -> None:
        refused = self.refused
        if refused is None:
            return
        refused.trying = False
        if isinstance(reply, Answer) and (reply.status == 403 or is_success(reply)):
            self.refused = None
        elif not isinstance(reply, Answer) or reply.status != 401:
            # An outage or a rate limit says nothing of the credentials.
            refused.next_try = now + self._policy.reread_every_s


def is_outage(reply: Reply) -> bool:
    """Whether the reply counts against the platform as a whole: not sent, time-out, reset, 5xx but 503."""
    if isinstance(reply, Failure):
        return reply.kind is not FailureKind.BAD_CERTIFICATE
    return reply.status >= 500 and reply.status != 503


def is_success(reply: Reply) -> bool:
    """Whether the platform did its work, be it that it refused the item."""
    return isinstance(reply, Answer) and reply.status < 500 and reply.status not in (401, 403, 408, 429)
