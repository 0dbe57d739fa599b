"""Directed scenes: one thing happens, at the moment at which it does the most harm. The verdict is that of every run.

Each begins with a short load that is settled, so that the moment is one in the middle of work.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer

from handlers.sandbox import Match, Prescription, Step
from handlers.sandbox.faults import Faults, FaultSource
from tests.chaos.entry import TRANSACTION_VARIABLE
from tests.chaos.events import LANES, Events
from tests.chaos.halting import FOLDER_VARIABLE, Point
from tests.chaos.plan import WIRED, Fault, Options, Plan
from tests.chaos.plan import Kind as FaultKind
from tests.chaos.replicas import Replica
from tests.chaos.run import Run
from tests.support.oracle import until

_EVENTS = 60
# What a frozen owner had begun is dropped, or does its harm, within so long after it thaws.
_HARM_WITHIN_S = 6.0
# Of a session of 30 s, with a heartbeat each 3 s: more than a lane believes in without looking, less than the group
# waits for.
_STANDS_STILL_S = 25.5


class Halts:
    """The points of one replica, as a scene sets and watches them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def set(self, point: Point) -> None:
        """From now on whoever comes there waits."""
        (self.folder / f"{point}.set").touch()

    async def reached(self, point: Point) -> None:
        """Wait until somebody waits there. Raises AssertionError."""
        mark = self.folder / f"{point}.reached"
        await until(mark.exists, within_s=20, what=f"the replica has come to the point '{point}'")

    def let_go(self, point: Point) -> None:
        """Nobody waits there any more."""
        (self.folder / f"{point}.set").unlink(missing_ok=True)


class Scene(Run):
    """A run whose plan is a function. The platform does nothing by chance."""

    def __init__(
        self, kind: "Kind", servers: str, prefix: str, directory: Path, *, bug: str | None = None, quiet_s: float = 60.0
    ) -> None:
        """``quiet_s``: as a run's."""
        self._kind = kind
        self._directory = directory
        options = Options(seed=1, minutes=1.0, events=_EVENTS, sessions_s=kind.session_s)
        members = frozenset({0}) if kind.static else frozenset[int]()
        super().__init__(Plan(options, (), members), servers, prefix, directory, bug=bug, quiet_s=quiet_s)
        self._audits = bug is None
        self._events = Events(1, self._contacts)

    def _environment(self, number: int) -> dict[str, str]:
        environment = super()._environment(number) | {FOLDER_VARIABLE: str(self._halts(number).folder)}
        if self._kind.transactions_s is not None:
            environment[TRANSACTION_VARIABLE] = f"{self._kind.transactions_s:g}"
        return environment

    def _halts(self, number: int) -> Halts:
        return Halts(self._directory / f"halts-{number}")

    async def _act(self) -> None:
        if not self._kind.stormy:
            self._sandbox.faults = FaultSource(Faults())
        await self._kind.act(self)

    # -- what scenes are made of

    async def begin(self, *numbers: int) -> list[Replica]:
        """Start replicas and wait until they have partitions."""
        found = [self._replicas[number] for number in numbers]
        for replica in found:
            replica.start()
        await self._all_at_work()
        return found

    async def publish(self, count: int, *lanes: str, unanswered: bool = False) -> int:
        """Events for some lanes, or all, at once; how many have been published now. ``unanswered``: their calls get no
        answer."""
        producer = AIOKafkaProducer(bootstrap_servers=self._servers, linger_ms=5)
        await producer.start()
        try:
            for _ in range(count):
                for lane in lanes or LANES:
                    _, key, value, partition = self._events.of(lane)
                    if unanswered:
                        hang = Prescription([Step(hang=True)], Match(target=key.decode()), repeat=True)
                        self._sandbox.prescriptions.add([hang])
                    await producer.send(self._stage.topic(LANES[lane]), value, key=key, partition=partition)
        finally:
            await producer.stop()
        return self._events.count

    async def settled(self, count: int) -> None:
        """Wait until so many events have results. Raises AssertionError."""
        await until(
            lambda: sum(map(len, self._watch.settled.values())) >= count, within_s=30, what=f"{count} results are there"
        )

    async def harm_or(self, word: str, replica: Replica) -> None:
        """Wait for a while until a replica's log says a word once more, or a result is there twice."""
        before = replica.process.tail(10_000).count(word)
        for _ in range(int(_HARM_WITHIN_S / 0.1)):
            if self._watch.again or replica.process.tail(10_000).count(word) > before:
                return
            await asyncio.sleep(0.1)


async def load(scene: Scene) -> None:
    """Nothing happens but work."""
    await scene.begin(0, 1)
    await scene.publish(300)


async def storm(scene: Scene) -> None:
    """The platform fails in all its ways."""
    await scene.begin(0, 1)
    scene._weather.storms += 1
    for _ in range(10):
        await scene.publish(60, "segments")
        await asyncio.sleep(0.5)
    scene._weather.storms -= 1


async def killed_before_its_results(scene: Scene) -> None:
    """A process is killed when its calls have been answered and their results are not written yet."""
    [replica] = await scene.begin(0)
    halts = scene._halts(0)
    await scene.settled(await scene.publish(_EVENTS))
    halts.set(Point.RESULTS)
    await scene.publish(_EVENTS, "workflows")
    await halts.reached(Point.RESULTS)
    replica.kill()
    halts.let_go(Point.RESULTS)
    await scene.begin(0)


async def killed_behind_a_gap(scene: Scene) -> None:
    """A process is killed when all is settled but one call, the first, that gets no answer."""
    [replica] = await scene.begin(0)
    count = await scene.publish(_EVENTS)
    await scene.settled(count)
    await scene.publish(1, "segments", unanswered=True)
    await until(lambda: scene._sandbox.log.running >= 1, within_s=20, what="a call is under way")
    # Nearly all: events of the one contact wait behind the call.
    await scene.settled(await scene.publish(200, "segments") - 10)
    replica.kill()
    scene._sandbox.prescriptions.clear()
    await scene.begin(0)


async def given_back_in_the_middle(scene: Scene) -> None:
    """A process is stopped in good order while most of what it has read has not been called yet."""
    [replica] = await scene.begin(0)
    await scene.settled(await scene.publish(_EVENTS))
    scene._sandbox.prescriptions.add([Prescription([Step(delay_after_s=0.3)], Match(), repeat=True)])
    calls = scene._sandbox.log.count
    await scene.publish(400)
    await until(lambda: scene._sandbox.log.count > calls + 40, within_s=20, what="calls are under way")
    await scene._stopped(replica)
    scene._sandbox.prescriptions.clear()
    await scene.begin(0)


async def zombie(scene: Scene) -> None:
    """A process freezes before its transaction; another takes over; the first one thaws, and goes on with it."""
    [replica] = await scene.begin(0)
    halts = scene._halts(0)
    await scene.settled(await scene.publish(_EVENTS))
    halts.set(Point.RESULTS)
    count = await scene.publish(_EVENTS, "segments")
    await halts.reached(Point.RESULTS)
    replica.freeze()
    replica.wanted = False
    await scene.begin(1)
    await scene.settled(count)
    halts.let_go(Point.RESULTS)
    replica.thaw()
    replica.wanted = True
    await scene.harm_or("settlement_fenced", replica)


async def unfinished_transaction(scene: Scene) -> None:
    """A process freezes with a transaction that only lacks its end; another takes its partitions over; the first one
    thaws, and ends it."""
    replica, heir = await scene.begin(0, 1)
    halts = scene._halts(0)
    await scene.settled(await scene.publish(_EVENTS))
    halts.set(Point.ENDING)
    await scene.publish(_EVENTS, "segments")
    await halts.reached(Point.ENDING)
    replica.freeze()
    given = heir.process.tail(10_000).count('"partitions_assigned"')
    for _ in range(90):
        # Who waits for stable offsets is not given them before the transaction has ended.
        if heir.process.tail(10_000).count('"partitions_assigned"') > given + 1:
            break
        await asyncio.sleep(0.1)
    halts.let_go(Point.ENDING)
    replica.thaw()
    await scene.harm_or('"partitions_assigned"', replica)


async def stood_still(scene: Scene) -> None:
    """A process stands still for so long that it looks at all its partitions again, and still owns them; a transaction
    of before is under way."""
    [replica] = await scene.begin(0)
    halts = scene._halts(0)
    await scene.settled(await scene.publish(_EVENTS))
    halts.set(Point.RESULTS)
    await scene.publish(_EVENTS, "segments")
    await halts.reached(Point.RESULTS)
    replica.freeze()
    await asyncio.sleep(_STANDS_STILL_S)
    halts.set(Point.TAKEOVER)
    replica.thaw()
    await halts.reached(Point.TAKEOVER)
    halts.let_go(Point.RESULTS)
    halts.let_go(Point.TAKEOVER)


async def transaction_expired(scene: Scene) -> None:
    """A transaction lasts longer than it may, in a process that owns its partitions all the while."""
    await scene.begin(0)
    halts = scene._halts(0)
    await scene.settled(await scene.publish(_EVENTS))
    halts.set(Point.ENDING)
    await scene.publish(_EVENTS, "segments")
    await halts.reached(Point.ENDING)
    await asyncio.sleep(scene.options.transaction_s + 2)
    halts.let_go(Point.ENDING)


async def cut_off(scene: Scene) -> None:
    """A process loses the brokers, but not the platform, for longer than its session, with much that it has read and
    not called yet: another takes that over, and is faster."""
    await scene.begin(WIRED, 0)
    await scene.settled(await scene.publish(_EVENTS))
    slow = Prescription([Step(delay_after_s=1.5)], Match(account=f"segments-r{WIRED}"), repeat=True)
    scene._sandbox.prescriptions.add([slow])
    count = await scene.publish(800, "segments")
    await until(lambda: scene._sandbox.log.running >= 8, within_s=20, what="calls are under way")
    fault = Fault(0.0, FaultKind.KAFKA_WIRE, scene.options.session_s + 10, WIRED, "stalled")
    await scene._fall(fault)
    scene._sandbox.prescriptions.clear()
    await scene.settled(count)


class Kind(NamedTuple):
    """A scene. ``static``: the process that is started again is the same member. ``transactions_s``: how long
    transactions live in truth, where that is not as the configuration says."""

    act: Callable[[Any], Awaitable[None]]
    static: bool = False
    stormy: bool = False
    session_s: float | None = None
    transactions_s: float | None = None


SCENES: dict[str, Kind] = {
    "load": Kind(load),
    "storm": Kind(storm, stormy=True),
    "killed before its results": Kind(killed_before_its_results, static=True),
    "killed behind a gap": Kind(killed_behind_a_gap, static=True),
    "given back in the middle": Kind(given_back_in_the_middle),
    "zombie": Kind(zombie),
    "unfinished transaction": Kind(unfinished_transaction, transactions_s=25.0),
    "stood still": Kind(stood_still, session_s=30.0),
    "transaction expired": Kind(transaction_expired),
    "cut off": Kind(cut_off),
}
