"""One customer account in this process: its connection, its pace, its breaker, its credentials.

Shared by the lanes on the account. A caller enters, and sends or abandons; whoever may not enter now waits in line, and
is woken with the permit in hand. The line is fair between lanes (``fair_line``).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from math import inf
from typing import Protocol

import msgspec

from handlers.base import Answer, Failure, FailureKind, Reply, Request
from service.clock import Clock
from service.config.secrets import SecretError
from service.delivery.breaker import Breaker, BreakerState
from service.delivery.limiter import AccountLimiter
from service.delivery.shares import AccountShares
from service.delivery.success import Successes
from service.transport.fair_line import FairLine, Flow

# So often the line is looked at whatever happens: those leave who are not wanted any more.
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


class Waiter:
    """One who waits for a permit, in the line of its lane."""

    __slots__ = ("permit", "wanted", "who")

    def __init__(self, permit: "asyncio.Future[Permit | None]", wanted: Callable[[], bool], who: object) -> None:
        self.permit = permit
        self.wanted = wanted
        self.who = who


LaneFlow = Flow[Waiter]


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
        weights: Mapping[str, float] | None = None,
        kept: Callable[[], Sequence[str]] = tuple,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``weights`` of all lanes of the file on the account; without them this process has all of its limits.
        ``kept``: what is secret of the account beside its headers. ``prepare``: gets what a request waits for else."""
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
        self._line: FairLine[Waiter] = FairLine()
        self._nobodys: LaneFlow = Flow()
        self._waiting = 0
        # Requests that have ended, by an answer or not: what waits in line goes on as long as this grows.
        self.ended = 0
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = inf
        self._tidied_at = -inf
        self._failed_last: object = None
        self._kept = kept
        self._prepare = prepare
        self._shares = AccountShares(weights, self._set_share) if weights else None

    def open(self) -> None:
        """Read the credentials. Raises SecretError."""
        self._headers = self._credentials.read()

    def enter_at_once(self) -> Permit | None:
        """A permit if nobody waits and nothing is in the way, as nearly always; else ``enter`` and wait."""
        if self._waiting or self.refused is not None or self.breaker.state is not BreakerState.CLOSED:
            return None
        return None if self.limiter.admit(self._clock.monotonic()) else Permit.NORMAL

    async def enter(
        self, wanted: Callable[[], bool], who: object = None, flow: LaneFlow | None = None
    ) -> Permit | None:
        """Wait for the right to send one request; None once ``wanted`` is False. ``who`` is the operation, ``flow``
        the lane's, made once per lane."""
        if not self._waiting:
            permit, _ = self._try()
            if permit is not None:
                return permit
        waiter = Waiter(asyncio.get_running_loop().create_future(), wanted, who)
        flow = flow or self._nobodys
        self._line.add(waiter, flow)
        self._waiting += 1
        if self._timer is None:
            self._serve()
        try:
            return await waiter.permit
        except asyncio.CancelledError:
            permit = None if waiter.permit.cancelled() or not waiter.permit.done() else waiter.permit.result()
            if permit is not None:  # it was served and cancelled at the same moment
                self.abandon(permit)
            elif waiter.permit.cancelled():
                self._leave(waiter, flow)
            raise

    async def send(
        self,
        request: Request,
        permit: Permit,
        observer: AccountObserver,
        who: object = None,
        through: Transport | None = None,
    ) -> Reply:
        """Send, give the permit back, and take what the reply tells of the account. ``through``: in another way than
        its other requests, as a file goes, whose time tells nothing of the platform's."""
        began = self._clock.monotonic()
        try:
            assert self._headers is not None, "the account is not open"
            reply = await (through or self._transport).send(request, self._headers)
        except BaseException:
            self.abandon(permit)
            raise
        now = self._clock.monotonic()
        self.limiter.release()
        self.ended += 1
        self._note(reply, permit, began if through is None else None, now, who)
        status = str(reply.status) if isinstance(reply, Answer) else reply.kind.value
        observer.request_ended(status, now - began)
        if self._waiting:
            self._serve()
        return reply

    async def prepare(self) -> None:
        """Get what the next request would wait for, as a token: where it has to start soon behind something else."""
        if self._prepare is not None:
            await self._prepare()

    def abandon(self, permit: Permit) -> None:
        """A permit that was not used, or whose request was cancelled, tells nothing: another may try at once."""
        now = self._clock.monotonic()
        self.limiter.release()
        if permit is Permit.PROBE:
            self.breaker.abandon_probe(now)
        elif permit is Permit.TRIAL and self.refused is not None:
            self.refused.trying = False
            self.refused.next_try = now
        if self._waiting:
            self._serve()

    def secrets(self) -> Sequence[str]:
        """What no answer of the platform's may carry into a result, should it repeat it."""
        return (*(self._headers.values() if self._headers is not None else ()), *self._kept())

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
            if self._waiting:
                self._serve()

    def take_share(self, lane: str, part: float) -> None:
        """This process now has ``part`` of the lane's partitions, 0 to 1, and so much of the account's limits."""
        if self._shares is not None:
            self._shares.take(lane, part)

    def _set_share(self, share: float) -> None:
        self.limiter.set_share(share)
        if self._waiting:
            self._serve()

    def holding(self) -> str | None:
        """Why nobody on the account may send now; None if somebody may."""
        if self.refused is not None:
            return self.refused.reason
        if self.breaker.state is not BreakerState.CLOSED:
            return f"breaker open: account {self.name} fails as a whole"
        if self.limiter.blocked_until(self._clock.monotonic()) is not None:
            return f"rate limit: account {self.name} asked us to wait"
        if self._waiting and self.limiter.used_up_until(self._clock.monotonic()) is not None:
            return f"rate limit: the requests of account {self.name} are used up until the platform's reset"
        return None

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits in line for the right to send."""
        return self._waiting > 0

    def has_in_line(self, who: object) -> bool:
        """Whether this one waits for the right to send."""
        return any(waiter.who is who for waiter, _ in self._line)

    # -- the line

    def _serve(self) -> None:
        """Hand out permits until nobody may send or nobody waits; look again in time."""
        now = self._clock.monotonic()
        if now - self._tidied_at >= _LONGEST_WAIT_S:
            self._tidied_at = now
            for waiter, flow in self._line:
                if not waiter.wanted():
                    self._dismiss(waiter, flow)
        while (found := self._next()) is not None:
            waiter, flow = found
            if waiter.permit.done():  # cancelled, and not yet told
                self._leave(waiter, flow)
            elif not waiter.wanted():
                self._dismiss(waiter, flow)
            else:
                permit, wait_s = self._try()
                if permit is None:
                    self._wake_in(min(wait_s, _LONGEST_WAIT_S))
                    return
                self._line.serve(waiter, flow)
                self._waiting -= 1
                waiter.permit.set_result(permit)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> tuple[Waiter, LaneFlow] | None:
        """Who is at the head. The breaker's probe is not the operation that failed last, if another waits."""
        found = self._line.first()
        if found is None or found[0].who is None or found[0].who is not self._failed_last or self.refused is not None:
            return found
        if self.breaker.state is not BreakerState.OPEN or not self.breaker.may_start(self._clock.monotonic()):
            return found
        others = (other for other in self._line if other[0].who is not self._failed_last and other[0].wanted())
        return next(others, found)

    def _dismiss(self, waiter: Waiter, flow: LaneFlow) -> None:
        self._leave(waiter, flow)
        if not waiter.permit.done():
            waiter.permit.set_result(None)

    def _leave(self, waiter: Waiter, flow: LaneFlow) -> None:
        # One that was cancelled leaves when it is told or when it is seen, whichever comes first.
        if waiter in flow.waiting:
            self._line.remove(waiter, flow)
            self._waiting -= 1

    def _wake_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._wakes_at <= loop.time() + seconds and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._wakes_at = loop.time() + seconds
        self._timer = loop.call_at(self._wakes_at, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._waiting:
            self._serve()

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

    def _note(self, reply: Reply, permit: Permit, began: float | None, now: float, who: object) -> None:
        failed = is_outage(reply)
        if failed:
            self._failed_last = who
        if isinstance(reply, Answer):
            self.limiter.observe(reply.headers, reply.status, now, self._clock.wall_ms() / 1000, began)
        elif reply.kind is FailureKind.TIMED_OUT:
            self.limiter.timed_out(now)
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
