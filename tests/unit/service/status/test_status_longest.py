"""Which events are told of one by one, and what of them."""

import asyncio

from aiokafka.structs import TopicPartition

from contracts.timestamps import instant_text
from service.status.longest import longest_waiting
from tests.support.dispatching import running
from tests.support.fakes import FakeTime, Source, answer, eventually, join, run, settle_down
from tests.unit.service.status.test_status_waiting import Stage

A, B = TopicPartition("contacts", 0), TopicPartition("contacts", 1)


def test_the_oldest_of_each_partition_come_first_and_what_is_tried_again_next() -> None:
    """With the attempt and when it is due; what has not been called yet has neither."""

    async def main(time: FakeTime) -> None:
        source = Source(A, B)
        stage = Stage(time, concurrency=1)
        stage.lane.assignment = source.assignment
        first, retried = source.item(b"a", join("T1"), tp=A), source.item(b"b", join("T2"), tp=A)
        others = [source.item(b"k%d" % n, join(f"K{n}"), tp=B) for n in range(5)]
        async with asyncio.TaskGroup() as group:
            working = group.create_task(stage.bench.dispatcher.run())
            stage.reply = answer(503)
            stage.deliver(retried)
            stage.answers.set()
            await settle_down()
            await asyncio.sleep(0.1)
            stage.answers.clear()
            for item in (first, *others):
                stage.batcher.add(item, None, time.monotonic())
            told = longest_waiting(stage.lane, time.monotonic(), time.wall_ms(), most=4)
            working.cancel()
        assert [(one.partition, one.offset) for one in told] == [
            (0, first.offset),
            (1, others[0].offset),
            (0, retried.offset),
            (1, others[1].offset),
        ]
        assert told[2].waits_for.startswith("retrying (HTTP 503), attempt 2 in ")
        assert told[2].attempt == 2
        assert told[2].next_at is not None
        assert (told[0].attempt, told[0].next_at) == (None, None)
        assert told[0].waits_for.startswith("in a batch that closes in ")

    run(main)


def test_what_is_tried_again_and_what_is_under_way_goes_before_older_ones() -> None:
    """Each with its partition; when it is tried again is told to the millisecond, and never as past."""

    async def main(time: FakeTime) -> None:
        source, stage = Source(A), Stage(time, concurrency=2)
        stage.lane.assignment = source.assignment
        oldest, older, retried, flying = (source.item(b"k%d" % n, join(f"K{n}")) for n in range(4))
        async with running(stage.bench):
            stage.reply = answer(500)
            stage.answers.set()
            stage.deliver(retried)
            await eventually(lambda: stage.bench.dispatcher.retrying == 1, every_s=0.001)
            stage.answers.clear()
            stage.deliver(flying)
            await settle_down()
            for item in (oldest, older):
                stage.batcher.add(item, None, time.monotonic())
            [(due, _)] = stage.bench.dispatcher.parked_loads()
            told = longest_waiting(stage.lane, time.monotonic(), time.wall_ms(), most=3)
            assert [(one.topic, one.partition, one.offset) for one in told] == [
                ("contacts", 0, oldest.offset),
                ("contacts", 0, retried.offset),
                ("contacts", 0, flying.offset),
            ]
            assert told[1].next_at == instant_text(time.wall_ms() + round((due - time.monotonic()) * 1000))
            time.advance(due - time.monotonic() + 5)
            told = longest_waiting(stage.lane, time.monotonic(), time.wall_ms())
            assert [one.next_at for one in told] == [None, instant_text(time.wall_ms()), None, None]

    run(main)


def test_as_many_as_were_asked_for_and_none_of_an_assignment_that_has_ended() -> None:
    """The report stays small whatever the backlog; nothing is told of what is another's."""

    async def main(time: FakeTime) -> None:
        source, stage = Source(A), Stage(time)
        stage.lane.assignment = source.assignment
        for n in range(500):
            stage.batcher.add(source.item(b"k%d" % n, join(f"K{n}")), None, time.monotonic())
        assert len(longest_waiting(stage.lane, time.monotonic(), time.wall_ms())) == 200
        source.assignment.end()
        assert longest_waiting(stage.lane, time.monotonic(), time.wall_ms()) == []
        stage.lane.assignment = None
        assert longest_waiting(stage.lane, time.monotonic(), time.wall_ms()) == []

    run(main)
