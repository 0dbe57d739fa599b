"""Held time is written to the journal under the fence, at its beginning and at its end."""

import asyncio
from collections.abc import Awaitable, Callable

from aiokafka.structs import TopicPartition

from contracts.journal import HeldTime, HeldTimeKey, decode_entry
from service.delivery.held_time import HeldTimes
from service.errors import RefusedError, TransactorLostError
from service.journal.held_time import HeldTimeWriter
from service.kafka.offsets import CommittedOffset
from service.settling.settler import SettleHooks, SettlePolicy, Settler
from tests.support import fakes
from tests.support.fakes import START_WALL_MS as T
from tests.support.fakes import AfterCommit, FakeBroker, FakeTime, Source, eventually, settle_down
from tests.support.settling import documents_for

A0, A1 = TopicPartition("a", 0), TopicPartition("a", 1)


class Bench:
    """A lane's held time with its writer, and all that the lane is told."""

    def __init__(self, time: FakeTime) -> None:
        self.time, self.broker, self.held = time, FakeBroker(), HeldTimes(3_600_000)
        self.source = Source(A0, A1, committed={A0: CommittedOffset(7, "m"), A1: CommittedOffset(0, "")})
        for tp, state in self.source.assignment.partitions.items():
            state.last_commit = {A0: CommittedOffset(7, "m"), A1: CommittedOffset(0, "")}[tp]
        self.told: list[str] = []
        hooks = SettleHooks(
            settled=lambda items, seconds: None,
            fenced=lambda assignment: self.told.append("fenced"),
            refused=lambda error: self.told.append("refused"),
            lost=lambda why: self.told.append("lost"),
            recovered=lambda: self.told.append("recovered"),
        )
        settler = Settler(self.broker, documents_for(), SettlePolicy(), hooks, time, self.broker.read_offsets)
        self.writer = HeldTimeWriter(
            self.broker, settler, self.held, hooks, lambda: self.source.assignment, time, "journal"
        )
        self.held.own({0, 1}, T)
        self.held.read({}, T)

    def written(self) -> list[tuple[int, HeldTime]]:
        """Partition and entry, in order."""
        found: list[tuple[int, HeldTime]] = []
        for write in self.broker.written:
            assert write.topic == "journal"
            for _, key, value, _ in write.records:
                assert key == b"held-time"
                entry = decode_entry(HeldTimeKey(), value or b"")
                assert isinstance(entry, HeldTime)
                found.append((write.partition, entry))
        return found


def on_bench(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main(time: FakeTime) -> None:
        bench = Bench(time)
        running = asyncio.create_task(bench.writer.run())
        try:
            await test(bench)
        finally:
            running.cancel()

    fakes.run(main)


def test_each_partition_has_its_entry_with_its_offsets_unchanged() -> None:
    """The membership is proved by the offsets as they were committed last; nothing moves."""

    async def test(bench: Bench) -> None:
        bench.held.begin(T)
        bench.writer.changed()
        await eventually(lambda: len(bench.written()) == 2)
        assert dict(bench.written()) == dict.fromkeys((0, 1), HeldTime(((T, None),)))
        assert bench.broker.offsets == {A0: CommittedOffset(7, "m"), A1: CommittedOffset(0, "")}
        bench.held.end(T + 5)
        bench.writer.changed()
        await eventually(lambda: len(bench.written()) == 4)
        assert bench.written()[-1] == (1, HeldTime(((T, T + 5),)))
        bench.writer.changed()
        await settle_down()
        assert len(bench.broker.commits) == 2, "nothing had changed"

    on_bench(test)


def test_what_is_lost_is_written_again_until_it_is_proved() -> None:
    """Whether the first transaction happened or not."""

    async def test(bench: Bench) -> None:
        bench.broker.faults = [TransactorLostError("gone"), AfterCommit()]
        bench.held.begin(T)
        bench.writer.changed()
        await eventually(lambda: not bench.held.unwritten(T))
        assert len(bench.written()) == 4
        assert bench.told == ["lost", "recovered"] * 2

    on_bench(test)


def test_a_former_owner_writes_nothing() -> None:
    """Its entry would stand over the new owner's."""

    async def test(bench: Bench) -> None:
        bench.broker.generation = 2
        bench.held.begin(T)
        bench.writer.changed()
        await eventually(lambda: bench.told == ["fenced"])
        assert bench.written() == []

    on_bench(test)


def test_a_refusal_is_told() -> None:
    """The lane stops for it: its journal cannot be written."""

    async def test(bench: Bench) -> None:
        bench.broker.faults = [RefusedError("journal", "no")]
        bench.held.begin(T)
        bench.writer.changed()
        await eventually(lambda: bench.told == ["refused"])

    on_bench(test)


def test_while_the_lane_holds_for_lost_records_the_offsets_found_prove_it() -> None:
    """There is no partition that could be read yet; without any offset it stays in the process until there is."""

    async def test(bench: Bench) -> None:
        assignment = bench.source.assignment
        assignment.ready, assignment.partitions = False, {}
        bench.held.begin(T)
        bench.held.changed = False
        bench.writer.changed()
        await settle_down()
        assert (bench.written(), bench.held.changed) == ([], True)
        assignment.committed = {A1: CommittedOffset(3, "x")}
        bench.writer.changed()
        await eventually(lambda: len(bench.written()) == 2)
        assert bench.broker.offsets == {A1: CommittedOffset(3, "x")}

    on_bench(test)
