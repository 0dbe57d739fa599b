"""Reads the notifications of one target after the other: at the account's pace, each answer as it comes.

A read may be repeated: what the platform could not answer is asked again, a few times, as long as nothing of that
answer has been handed on.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Self

from msgspec import Struct

from handlers.base import Answer, FailureKind, Reply
from handlers.np6 import client
from handlers.np6.notifications import AnswerError, Happening, RowReader, Window, happenings
from handlers.statuses import Row, row_of
from service.cli.called import Called
from service.clock import SystemClock
from service.delivery.limiter import AccountLimiter, LimiterPolicy
from service.delivery.retry import RetryPolicy
from service.errors import FanlineError
from service.transport.reaching import policy_of, tls_of
from service.transport.streaming import BrokenOffError, Stream, StreamingTransport

RETRY = RetryPolicy(first_delay_s=1.0, max_delay_s=8.0, max_attempts=4)
# What takes longer is told to whoever waits.
_SILENT_WAIT_S = 2.0
# So many targets in a row that cannot be read are no accident of these targets.
_FAILED_IN_A_ROW = 10


class TargetError(FanlineError):
    """The notifications of this target cannot be read; those of others may be."""


class StoppedError(FanlineError):
    """Nothing more can be read from this account now."""


class Asked(Struct, frozen=True):
    """What is asked for of every target."""

    window: Window
    start: str | None
    end: str | None
    sort: str | None


class Tally(Struct):
    """What was read."""

    targets: int = 0
    without: int = 0  # targets that have none, or are unknown
    rows: int = 0
    events: int = 0
    outside: int = 0  # happenings that the window does not take


class NotificationReading:
    """An async context manager. ``fault`` is told what is wrong with a row, ``notice`` of a long wait."""

    def __init__(
        self,
        called: Called,
        asked: Asked,
        fault: Callable[[str], None],
        notice: Callable[[str], None],
    ) -> None:
        limits = called.account.limits
        self.tally = Tally()
        self._called = called
        self._asked = asked
        self._fault = fault
        self._notice = notice
        self._retry = RETRY
        self._limiter = AccountLimiter(
            LimiterPolicy(max_in_flight=1, requests_per_second=limits.requests_per_second, adaptive=False)
        )
        self._transport = StreamingTransport(policy_of(called.account, max_connections=1), tls_of(called.account))
        self._clock = SystemClock()
        self._failed_in_a_row = 0

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    async def of(self, target: str) -> AsyncGenerator[Happening, None]:
        """What happened to what the target was shown. Raises TargetError, StoppedError."""
        self.tally.targets += 1
        try:
            async for happening in self._tried(target):
                yield happening
        except TargetError as error:
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= _FAILED_IN_A_ROW:
                raise StoppedError(f"{error}. So it went with {self._failed_in_a_row} targets in a row") from error
            raise
        self._failed_in_a_row = 0

    async def _tried(self, target: str) -> AsyncGenerator[Happening, None]:
        request = client.notifications_of(target, start=self._asked.start, end=self._asked.end, sort=self._asked.sort)
        attempt = 0
        while True:
            attempt += 1
            await self._may_send()
            async with self._transport.opened(request, await self._called.access.headers()) as reply:
                self._limiter.release()
                if isinstance(reply, Stream):
                    now = self._clock.monotonic()
                    self._limiter.observe(reply.headers, reply.status, now, self._clock.wall_ms() / 1000)
                    if row_of(reply.status) is Row.DONE:
                        async for happening in self._read(target, reply):
                            yield happening
                        return
                    ended: Reply = await _whole(reply)
                else:
                    ended = reply
            if not self._goes_on(target, ended, attempt):
                return
            await asyncio.sleep(self._delay_s(ended, attempt))

    async def _read(self, target: str, stream: Stream) -> AsyncGenerator[Happening, None]:
        reader, rows = RowReader(), 0
        latest_first = self._asked.sort == "desc"
        try:
            async for part in stream.parts():
                for row in reader.feed(part):
                    rows += 1
                    self.tally.rows += 1
                    for fault in row.faults:
                        self._fault(f"target {target}, row {row.number}: {fault}")
                    outside = len(row.happened)
                    for happening in happenings(row, target, self._asked.window, latest_first=latest_first):
                        outside -= 1
                        self.tally.events += 1
                        yield happening
                    self.tally.outside += outside if row.key is not None else 0
            reader.finish()
        except BrokenOffError as error:
            raise TargetError(f"target {target}: {error.failure.detail}, after row {rows}") from error
        except AnswerError as error:
            raise TargetError(f"target {target}: {error}") from error
        self.tally.without += not rows

    def _goes_on(self, target: str, reply: Reply, attempt: int) -> bool:
        """Whether to ask again; False: the target has no notifications. Raises TargetError, StoppedError."""
        if not isinstance(reply, Answer):
            if reply.kind is FailureKind.BAD_CERTIFICATE or self._retry.exhausted(attempt):
                raise StoppedError(self._called.trouble(reply))
            return True
        match row_of(reply.status):
            case Row.NOT_FOUND | Row.GONE:
                self.tally.without += 1
                return False
            case Row.THROTTLED | Row.BROKEN if not self._retry.exhausted(attempt):
                return True
            case Row.THROTTLED | Row.BROKEN | Row.CREDENTIALS | Row.FORBIDDEN | Row.MISDIRECTED:
                raise StoppedError(self._called.trouble(reply))
            case _:
                raise TargetError(f"target {target}: {self._called.trouble(reply)}")

    def _delay_s(self, reply: Reply, attempt: int) -> float:
        """How long to wait by ourselves; where the platform asks for patience the limiter waits as long as it asks."""
        if isinstance(reply, Answer) and row_of(reply.status) is Row.THROTTLED:
            return 0.0
        return self._retry.delay_s(attempt, random.random)

    async def _may_send(self) -> None:
        while wait_s := self._limiter.admit(self._clock.monotonic()):
            if wait_s > _SILENT_WAIT_S:
                self._notice(f"account {self._called.name}: the platform asks for patience; going on in {wait_s:.0f} s")
            await asyncio.sleep(wait_s)


async def _whole(stream: Stream) -> Reply:
    try:
        return await stream.whole()
    except BrokenOffError as error:
        return error.failure
