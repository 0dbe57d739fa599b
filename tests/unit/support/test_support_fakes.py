"""The fakes on which other tests stand."""

import asyncio

import pytest
from aiokafka.structs import TopicPartition

from handlers.base import Request
from service.errors import FencedError, TransactorLostError
from service.kafka.offsets import CommittedOffset
from service.kafka.private import Membership
from service.settling.batches import PartitionWrite
from service.settling.transactor import Committed
from tests.support.fakes import (
    DONE,
    START_WALL_MS,
    AfterCommit,
    FakeBroker,
    FakePlatform,
    FakeTime,
    Source,
    Stuck,
    answer,
    eventually,
    run,
)

TP = TopicPartition("contacts", 0)


def test_time_jumps_to_the_next_timer_and_both_clocks_go_together() -> None:
    """A day takes no time, in the order of the timers."""

    async def main(time: FakeTime) -> list[str]:
        order: list[str] = []

        async def after(seconds: float, name: str) -> None:
            await asyncio.sleep(seconds)
            order.append(name)

        await asyncio.gather(after(86_400, "day"), after(60, "minute"), after(3600, "hour"))
        assert time.monotonic() == pytest.approx(1000 + 86_400)
        assert time.wall_ms() == START_WALL_MS + 86_400_000
        return order

    assert run(main, within_s=100_000) == ["minute", "hour", "day"]


def test_a_loop_in_which_nothing_can_happen_says_so() -> None:
    """Where a real one would hang; as a rule its time is bounded anyway."""

    async def main(time: FakeTime) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        run(main)
    with pytest.raises(Stuck):
        run(main, within_s=None)


def test_what_never_comes_true_ends() -> None:
    """With a time-out."""

    async def main(time: FakeTime) -> None:
        await eventually(lambda: False, within_s=10)

    with pytest.raises(TimeoutError):
        run(main)


def test_the_platform_answers_by_its_script_and_remembers() -> None:
    """First the script of the target, then what is decided for all, then 204; errors are raised."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, takes_s=2)
        platform.scripts["T"] = [answer(500, x_a="b"), ValueError("ours")]
        request = Request("POST", "/targets/T/segments/1")
        reply = await platform.send(request, {"X-Key": "k"})
        assert reply == answer(500, x_a="b")
        assert dict(reply.headers) == {"x-a": "b"}  # type: ignore[union-attr] # it is an answer
        with pytest.raises(ValueError, match="ours"):
            await platform.send(request, {})
        replies = await asyncio.gather(*(platform.send(request, {}) for _ in range(3)))
        assert replies == [DONE] * 3
        assert (platform.in_flight, platform.most_in_flight) == (0, 3)
        assert [(call.target, call.ended_at) for call in platform.calls[:1]] == [("T", 1002.0)]

    run(main)


def broker_after(*faults: BaseException | None) -> FakeBroker:
    broker = FakeBroker()
    broker.faults = list(faults)
    return broker


async def commit(broker: FakeBroker, generation: int = 1) -> None:
    write = PartitionWrite("results", 0, [(1, None, b"v", [])])
    await broker.commit([write], {TP: Committed(5, "m")}, Membership("group", generation, "m", None))


@pytest.mark.parametrize(
    ("fault", "happens", "raises"),
    [
        (None, True, None),
        (TransactorLostError("x"), False, TransactorLostError),
        (AfterCommit(), True, TransactorLostError),
        (FencedError("x"), False, FencedError),
    ],
)
def test_a_transaction_happens_as_a_whole_or_not_at_all(
    fault: BaseException | None, happens: bool, raises: type[Exception] | None
) -> None:
    """With its answer or without; a failed committer is not used before it is opened again."""

    async def main(time: FakeTime) -> None:
        broker = broker_after(fault)
        if raises is None:
            await commit(broker)
        else:
            with pytest.raises(raises):
                await commit(broker)
            with pytest.raises(TransactorLostError, match="not open"):
                await commit(broker)
            await broker.open()
        found = await broker.read_offsets(Source(TP).assignment)
        assert found == ({TP: CommittedOffset(5, "m")} if happens else {})
        assert len(broker.written) == happens

    run(main)


def test_a_former_generation_is_fenced() -> None:
    """Once the broker knows of a newer one."""

    async def main(time: FakeTime) -> None:
        broker = FakeBroker()
        broker.generation = 2
        with pytest.raises(FencedError):
            await commit(broker, generation=1)
        assert broker.written == []

    run(main)


def test_a_source_reads_on_behind_what_was_committed() -> None:
    """What the metadata say has finished is not read again."""
    source = Source(TP)
    items = [source.ended() for _ in range(4)]
    plan = source.state().ledger.prepare([items[0].offset, items[2].offset])
    committed = {TP: CommittedOffset(plan.commit_offset, plan.metadata)}
    again = Source(TP, committed=committed, generation=2)
    assert [item.offset for item in again.read_up_to(6, TP)] == [1, 3, 4, 5]
    assert again.assignment.membership.generation == 2
