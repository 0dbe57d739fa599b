"""Looks at every lane of a process, and carries out what the rule says of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import structlog
from aiokafka.structs import TopicPartition

from service.app import Application
from service.lane import Lane
from service.status.reading import Reading
from service.status.snapshot import Status
from service.status.waiting import Wait, Waits
from service.telemetry import LogEvent
from service.watching.sights import Seen, look_at
from service.watching.stacks import task_stacks
from service.watching.stalls import StallPolicy, Stalls, Verdict

_EVERY_S = 5.0
# A lane that is abandoned closes its connections, each within seconds.
_ENDS_WITHIN_S = 30.0
_READING = "to be read: the position does not move"


@asynccontextmanager
async def watching(app: Application, policy: StallPolicy | None = None) -> AsyncIterator[None]:
    """Watch for as long as the block lasts."""
    watchdog = Watchdog(app, policy or _policy_of(app), Status(app).readings)
    task = asyncio.create_task(watchdog.run(), name="watchdog")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _policy_of(app: Application) -> StallPolicy:
    """No call takes longer than its account allows: the time of a stall lies well beyond."""
    policy = StallPolicy()
    longest_s = max((account.timeouts.total_s for account in app.config.accounts.values()), default=0.0)
    return StallPolicy(stall_s=max(policy.stall_s, 3 * longest_s))


class Watchdog:
    """One process's. ``look`` is one look at all of its lanes."""

    def __init__(
        self, app: Application, policy: StallPolicy, read: Callable[[], Awaitable[Mapping[str, Sequence[Reading]]]]
    ) -> None:
        """``read`` tells where each lane stands."""
        self._app = app
        self._policy = policy
        self._read = read
        self._stalls = {name: Stalls(policy) for name in app.lanes}
        self._abandoned_at: dict[str, float] = {}
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Look every few seconds until cancelled."""
        while True:
            await asyncio.sleep(min(_EVERY_S, self._policy.stall_s / 5))
            await self.look()

    async def look(self) -> None:
        """Look at each lane once."""
        readings = await self._read()
        now = self._app.clock.monotonic()
        for name, lane in list(self._app.lanes.items()):
            if lane.abandoned:
                self._look_at_ending(name, now)
            elif not lane.stopping:
                seen = look_at(lane, readings.get(name, ()), now)
                verdict, stalled = self._stalls[name].look({tp: one.sight for tp, one in seen.items()}, now)
                self._carry_out(name, lane, verdict, {tp: seen[tp] for tp in stalled}, now)

    def _carry_out(
        self, name: str, lane: Lane, verdict: Verdict, stalled: dict[TopicPartition, Seen], now: float
    ) -> None:
        failed_before = name in self._app.stalled
        if verdict is Verdict.FINE:
            self._app.stalled.pop(name, None)
            return
        tp, seen = next(iter(stalled.items()))
        item = seen.item
        wait = Wait(_READING) if item is None else Waits(lane, now).of(item)
        if verdict is Verdict.FAIL:
            where = f"{tp.topic}-{tp.partition}" if item is None else f"{tp.topic}-{tp.partition} offset {item.offset}"
            self._app.stalled[name] = f"stands still again after its restart: {where}: {wait.words}"
            if failed_before:
                return
        self._log.error(
            LogEvent.STALLED,
            lane=name,
            then="restart" if verdict is Verdict.RESTART else "livez fails",
            cause=wait.words,
            topic=tp.topic,
            partition=tp.partition,
            offset=None if item is None else item.offset,
            attempt=wait.attempt,
            stalled_partitions=len(stalled),
            stall_s=self._policy.stall_s,
            state=lane.board.state,
            stacks=task_stacks(),
        )
        if verdict is Verdict.RESTART:
            self._abandoned_at[name] = now
            lane.abandon()

    def _look_at_ending(self, name: str, now: float) -> None:
        """A lane whose tasks cannot be cancelled gives no room to a new one."""
        if now - self._abandoned_at.get(name, now) > _ENDS_WITHIN_S and name not in self._app.stalled:
            self._app.stalled[name] = "stood still, and does not end either"
            self._log.error(
                LogEvent.STALLED,
                lane=name,
                then="livez fails",
                cause=self._app.stalled[name],
                stacks=task_stacks(),
            )
