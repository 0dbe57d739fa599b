"""The settler under random interleavings: each record settled exactly once, whatever fails and whoever goes away."""

import asyncio
from collections import Counter
from random import Random

import pytest
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.outcomes import Outcome
from service.errors import FencedError, TransactorLostError
from service.intake.item import Item
from service.settling.settler import SettlePolicy
from tests.support.fakes import AfterCommit, FakeBroker, FakeTime, Source, run
from tests.support.settling import SettlingBench

TPS = (TopicPartition("contacts", 0), TopicPartition("contacts", 1))
RECORDS = 60
LOST = TransactorLostError("no answer")

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["end some", "end one", "wait", "rebalance", "restart", "fault", "fault", "open fault", "fence"]
        ),
        st.integers(0, 10**6),
    ),
    max_size=30,
)


class World:
    """A broker with a log of records, and the process that settles them: it can be replaced."""

    def __init__(self, time: FakeTime) -> None:
        self.time = time
        self.broker = FakeBroker(takes_s=0.01)
        self.broker.generation = 0
        self.running: asyncio.Task[None] | None = None
        self.start()

    def start(self) -> None:
        policy = SettlePolicy(max_events=7, pause_s=0.005, recovery_pause_s=0.02, recovery_pause_max_s=0.1)
        self.bench = SettlingBench(self.time, self.broker, policy)
        self.running = asyncio.create_task(self.bench.settler.run())
        self.assign()

    def assign(self) -> None:
        """A new generation reads on behind what is committed."""
        assert self.broker.generation is not None
        self.broker.generation += 1
        self.source = Source(*TPS, generation=self.broker.generation, committed=self.broker.offsets)
        self.unended = [item for tp in TPS for item in self.source.read_up_to(RECORDS, tp)]

    async def rebalance(self) -> None:
        self.source.assignment.end()
        self.bench.settler.forget()
        # As the lane does: whatever has the committer comes to its end first, then the offsets are read.
        self.broker.generation = (self.broker.generation or 0) + 1
        async with self.bench.settler.lock:
            await self.bench.settler.reopen(lambda: True)
        self.assign()

    async def restart(self) -> None:
        """A kill: the settler is cancelled wherever it stands, and another process begins."""
        assert self.running is not None
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        self.source.assignment.end()
        self.broker.busy = False
        await self.broker_opens()
        self.start()

    async def broker_opens(self) -> None:
        self.broker.open_faults.clear()
        await self.broker.open()

    def end(self, items: list[Item], chance: Random) -> None:
        for item in items:
            self.unended.remove(item)
            item.outcome = chance.choice((Outcome.DELIVERED, Outcome.REJECTED))
            item.called = chance.random() < 0.7
            self.bench.add(item)


@given(steps=STEPS)
@settings(max_examples=80, deadline=None)
def test_nothing_is_settled_twice_or_forgotten(steps: list[tuple[str, int]]) -> None:
    """Ends in any order, lost and fenced transactions, rebalances and kills at any moment."""

    async def main(time: FakeTime) -> None:
        world = World(time)
        for step, seed in steps:
            chance = Random(seed)
            match step:
                case "end some":
                    world.end(chance.sample(world.unended, min(len(world.unended), chance.randrange(20))), chance)
                case "end one":
                    world.end(world.unended[:1], chance)
                case "wait":
                    await asyncio.sleep(chance.choice((0, 0.004, 0.01, 0.013, 0.02, 0.1, 1)))
                case "rebalance":
                    await world.rebalance()
                case "restart":
                    await world.restart()
                case "fault":
                    world.broker.faults.append(chance.choice((None, LOST, AfterCommit())))
                case "open fault":
                    world.broker.open_faults.append(chance.choice((None, LOST)))
                case "fence":
                    world.broker.faults.append(FencedError("REBALANCE_IN_PROGRESS (27)"))
        world.broker.faults.clear()
        await world.rebalance()
        world.end(list(world.unended), Random(1))
        await world.bench.settler.drained()
        for tp in TPS:
            assert world.broker.offsets[tp].offset == RECORDS
            assert world.source.state(tp).ledger.unfinished == 0
            assert world.source.state(tp).items == {}
        published = Counter(world.bench.published())
        assert published == Counter({(tp.topic, tp.partition, n): 1 for tp in TPS for n in range(RECORDS)})
        assert world.running is not None
        assert not world.running.done()
        world.running.cancel()

    run(main)


@pytest.mark.parametrize("moment", range(40))
def test_a_settler_that_is_cancelled_at_any_turn(moment: int) -> None:
    """The transaction is committed or it is not: who reads on behind it settles exactly the rest."""

    async def main(time: FakeTime) -> None:
        world = World(time)
        chance = Random(moment)
        world.broker.faults = [None, LOST, AfterCommit(), None]
        world.end(chance.sample(world.unended, 40), chance)
        await asyncio.sleep(moment * 0.003)
        await world.restart()
        world.broker.faults.clear()
        world.end(list(world.unended), chance)
        await world.bench.settler.drained()
        assert set(Counter(world.bench.published()).values()) == {1}
        assert len(world.bench.published()) == 2 * RECORDS
        assert world.running is not None
        world.running.cancel()

    run(main)
