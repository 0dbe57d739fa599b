"""How a lane reads on while much that it has read is not settled."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from aiokafka.errors import NoOffsetForPartitionError
from aiokafka.structs import TopicPartition

from service.lane import Lane
from service.lane.taking import Taking
from tests.support import lane_world
from tests.support.fakes import FakeTime, eventually, record, run
from tests.support.lane_world import SOURCES, FakeConsumer, World

MIB = 1024 * 1024
READS = 12
# A record of half a MiB is held with what is made of it, as twice as much; a call hands out four.
PADDING = b" " * (MIB // 2)
READ_BYTES = 4 * 2 * len(PADDING)


class Spoonwise(FakeConsumer):
    """Hands out two records of each partition at a call, and notes when and how much was held then."""

    def __init__(self, world: World, held_bytes: Callable[[], int], **options: Any) -> None:
        super().__init__(world, **options)
        self._held_bytes = held_bytes
        self.handed_out_at: list[float] = []
        self.held: list[int] = []

    async def getmany(self, *, timeout_ms: int, max_records: int) -> Any:
        self.held.append(self._held_bytes())
        found = await super().getmany(timeout_ms=timeout_ms, max_records=2)
        if found:
            self.handed_out_at.append(self._world.time.monotonic())
        return found


async def _read(
    time: FakeTime, patch: pytest.MonkeyPatch, until: Callable[[World, Spoonwise], bool], buffer_bytes: int
) -> Spoonwise:
    """A lane reads records that are large until something holds."""
    world, right = World(time, "segments", lambda number, call: None), lane_world.lane_setup
    world.patches(patch)
    lanes: list[Lane] = []

    def consumer(**options: Any) -> Spoonwise:
        return Spoonwise(world, lambda: lanes[0].core.buffer.held_bytes, **options)

    patch.setattr("service.lane.group.AIOKafkaConsumer", consumer)
    patch.setattr(
        lane_world, "lane_setup", lambda *given, **more: _with(right(*given, **more), buffer_bytes=buffer_bytes)
    )
    world.publish(READS * 4)
    for tp in SOURCES:
        world.log[tp] = [
            record(tp, one.offset, b"%d" % one.offset, (one.value or b"") + PADDING) for one in world.log[tp]
        ]
    lane = world.lane()
    lanes.append(lane)
    running = asyncio.create_task(lane.run())
    await eventually(lambda: isinstance(world.consumer, Spoonwise) and until(world, world.consumer), every_s=0.01)
    await _stopped(lane, running)
    assert isinstance(world.consumer, Spoonwise)
    return world.consumer


_with = msgspec.structs.replace


class Unsought(FakeConsumer):
    """Has the client's answer for partitions of which nobody has said where to read."""

    def __init__(self, world: World, **options: Any) -> None:
        super().__init__(world, **options)
        self.asked_at: list[float] = []
        self.sought_at = self.found_at = 0.0

    def seek(self, tp: TopicPartition, offset: int) -> None:
        super().seek(tp, offset)
        self.sought_at = self._world.time.monotonic()

    async def getmany(self, *, timeout_ms: int, max_records: int) -> Any:
        if self.sought_at == 0.0:
            self.asked_at.append(self._world.time.monotonic())
            raise NoOffsetForPartitionError
        found = await super().getmany(timeout_ms=timeout_ms, max_records=max_records)
        self.found_at = self.found_at or self._world.time.monotonic()
        return found


def test_a_lane_whose_offsets_are_not_known_yet_does_not_press_for_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client would ask the coordinator each time: five times a second are enough. Once they are known, records are
    asked for as soon as before."""

    async def reads(time: FakeTime) -> Unsought:
        world = World(time, "segments", lambda number, call: None)
        world.patches(monkeypatch)
        monkeypatch.setattr("service.lane.group.AIOKafkaConsumer", lambda **options: Unsought(world, **options))
        journal = world._journal

        async def slow(*args: Any, **options: Any) -> Any:
            await asyncio.sleep(1.95)
            return await journal(*args, **options)

        monkeypatch.setattr("service.lane.preparing.read_journal", slow)
        world.publish(4)
        lane = world.lane()
        running = asyncio.create_task(lane.run())
        await world.finished()
        await _stopped(lane, running)
        assert isinstance(world.consumer, Unsought)
        return world.consumer

    consumer = run(reads)
    assert len(consumer.asked_at) <= 12
    assert consumer.sought_at - consumer.asked_at[-1] <= 0.25, "the group gives up a member that does not ask"
    assert 0 <= consumer.found_at - consumer.sought_at <= 0.03


async def _stopped(lane: Lane, running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert lane.died is None


def test_a_lane_that_holds_much_does_not_hurry_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading goes on at once until 16 MiB are held; behind that a moment is left to everybody else after each call,
    and never more than a moment."""

    def has_read_all(world: World, consumer: Spoonwise) -> bool:
        return len(consumer.handed_out_at) == READS

    times = run(lambda time: _read(time, monkeypatch, has_read_all, 1 << 30)).handed_out_at
    pauses = [round(later - earlier, 6) for earlier, later in pairwise(times)]
    at_once = 16 * MIB // READ_BYTES - 1
    assert pauses == [0.0] * at_once + [0.02] * (READS - 1 - at_once)


def test_a_lane_holds_no_more_than_its_buffer_and_what_one_call_hands_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much waits in Kafka; and it reads on as there is room, to the end."""

    def has_settled_all(world: World, consumer: Spoonwise) -> bool:
        return all(world._is_finished(tp) for tp in SOURCES)

    buffer_bytes = 2 * READ_BYTES
    consumer = run(lambda time: _read(time, monkeypatch, has_settled_all, buffer_bytes))
    assert buffer_bytes <= max(consumer.held) <= buffer_bytes + READ_BYTES
    assert len(consumer.handed_out_at) >= READS


class Waited(FakeConsumer):
    """Notes how long each call for records may wait, and whether something was unfinished then."""

    def __init__(self, world: World, unfinished: Callable[[], bool], **options: Any) -> None:
        super().__init__(world, **options)
        self._unfinished = unfinished
        self.waits: list[tuple[bool, int]] = []

    async def getmany(self, *, timeout_ms: int, max_records: int) -> Any:
        self.waits.append((self._unfinished(), timeout_ms))
        return await super().getmany(timeout_ms=timeout_ms, max_records=max_records)


def test_a_lane_with_nothing_to_do_wakes_up_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that come wake it. While something is unfinished it looks as often as ever what is due, and may be read
    again."""

    async def idles(time: FakeTime) -> Waited:
        world = World(time, "segments", lambda number, call: None)
        world.patches(monkeypatch)
        lanes: list[Lane] = []

        def unfinished() -> bool:
            assignment = lanes[0].assignment
            return assignment is None or not assignment.ready or any(s.items for s in assignment.partitions.values())

        monkeypatch.setattr("service.lane.group.AIOKafkaConsumer", lambda **more: Waited(world, unfinished, **more))
        lane = world.lane()
        lanes.append(lane)
        running = asyncio.create_task(lane.run())
        world.publish(20)
        await world.finished()
        await asyncio.sleep(10)
        await _stopped(lane, running)
        assert isinstance(world.consumer, Waited)
        return world.consumer

    waits = run(idles).waits
    assert [timeout_ms for _, timeout_ms in waits[-8:]] == [1000] * 8
    assert len(waits) > 8
    assert all(timeout_ms <= 200 for unfinished, timeout_ms in waits if unfinished)


def test_others_go_on_between_large_records_being_handed_out_and_being_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """To check and to cut out records of six partitions takes 10 ms at a MiB each, and to decode the first as much."""
    turned: list[bool] = []

    async def getmany(self: Spoonwise, *, timeout_ms: int, max_records: int) -> Any:
        found = await handed_out(self, timeout_ms=timeout_ms, max_records=max_records)
        if found:
            place = len(turned)
            turned.append(False)
            asyncio.get_running_loop().call_soon(lambda: turned.__setitem__(place, True))
        return found

    def take(self: Taking, state: Any, records: Any) -> None:
        assert turned[-1]
        taken(self, state, records)

    handed_out, taken = Spoonwise.getmany, Taking.take
    monkeypatch.setattr(Spoonwise, "getmany", getmany)
    monkeypatch.setattr(Taking, "take", take)
    run(lambda time: _read(time, monkeypatch, lambda _, consumer: len(consumer.handed_out_at) == READS, 1 << 30))
    assert len(turned) >= READS


def test_of_records_that_take_long_to_plan_few_are_planned_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """An expression may take half a millisecond: 64 of them at a time would be a turn of 32."""
    sizes: list[int] = []

    async def reads(time: FakeTime) -> None:
        world, take = World(time, "segments", lambda number, call: None), Taking.take

        def slow(self: Taking, state: Any, records: Any) -> None:
            sizes.append(len(records))
            time.advance(len(records) * 0.000_5)
            take(self, state, records)

        world.patches(monkeypatch)
        monkeypatch.setattr(Taking, "take", slow)
        world.publish(400)
        lane = world.lane()
        running = asyncio.create_task(lane.run())
        await eventually(lambda: sum(sizes) >= 400, every_s=0.01)
        await _stopped(lane, running)

    run(reads)
    assert sizes[0] == 64
    assert max(sizes[1:]) <= 10
