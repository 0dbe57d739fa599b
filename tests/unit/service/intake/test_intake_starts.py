"""Where reading begins, and what of it is lost."""

from typing import Any

import pytest
from aiokafka.structs import OffsetAndTimestamp, TopicPartition

from contracts.journal import Start as Entry
from service.config import Start
from service.intake.starts import Begin, begins
from service.journal.reading import Starts
from service.kafka.offsets import CommittedOffset
from service.offsets.metadata import encode

A0, A1, R0 = TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("replay", 0)
FIRST, END = 100, 500


class Consumer:
    """Partitions from 100 to 500; records at 300 and later are of the asked time."""

    def __init__(self, none_later: frozenset[TopicPartition] = frozenset()) -> None:
        self._none_later = none_later

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, FIRST)

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, END)

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        assert set(times.values()) <= {777}
        return {tp: None if tp in self._none_later else OffsetAndTimestamp(300, 777) for tp in times}


async def found(
    start: Start,
    committed: dict[TopicPartition, CommittedOffset] | None = None,
    consumer: Consumer | None = None,
    begun: Starts | None = None,
) -> dict[TopicPartition, Begin]:
    tps = frozenset({A0, A1, R0})
    return await begins(consumer or Consumer(), tps, committed or {}, start, "replay", begun or {})  # type: ignore[arg-type] # a fake


@pytest.mark.parametrize(
    ("start", "offset"),
    [(Start("earliest"), FIRST), (Start("latest"), END), (Start("time", 777), 300)],
    ids=lambda value: getattr(value, "policy", None),
)
async def test_a_fresh_partition_begins_where_the_lane_says(start: Start, offset: int) -> None:
    """The replay topic at its beginning, whatever the lane says: it is the lane's own."""
    expected = {tp: Begin(offset, "", fresh=True, first=FIRST) for tp in (A0, A1)} | {
        R0: Begin(FIRST, "", fresh=True, first=FIRST)
    }
    assert await found(start) == expected


async def test_a_time_behind_the_last_record_is_the_end() -> None:
    """Only of the partition that has nothing later."""
    begin = await found(Start("time", 777), consumer=Consumer(frozenset({A1})))
    assert (begin[A0].offset, begin[A1].offset) == (300, END)


async def test_a_committed_offset_counts_with_its_metadata() -> None:
    """Also the first one itself, and the end."""
    for offset in (FIRST, 250, END):
        begin = await found(Start("latest"), {A0: CommittedOffset(offset, "m")})
        assert begin[A0] == Begin(offset, "m", first=FIRST)
        assert begin[A1].fresh


async def test_what_retention_removed_is_said_exactly() -> None:
    """From the committed offset to before the first that is left; its metadata say nothing any more."""
    begin = await found(Start("latest"), {A0: CommittedOffset(FIRST - 1, "m"), R0: CommittedOffset(3, "")})
    assert begin[A0] == Begin(FIRST, "", lost=(99, 100), first=FIRST)
    assert begin[R0] == Begin(FIRST, "", lost=(3, 100), first=FIRST)


@pytest.mark.parametrize(
    ("finished", "offset", "lost", "left"),
    [
        ([(60, 70)], FIRST, (50, FIRST), []),  # some of the gap
        ([(60, 120)], 120, (50, 60), []),  # from the gap on, past what is left
        ([(60, 70), (80, 120), (150, 160)], 120, (50, 80), [(150, 160)]),
        ([(90, FIRST)], FIRST, (50, 90), []),  # up to what is left
        ([(FIRST, 130)], 130, (50, FIRST), []),  # what is left begins with it
    ],
)
async def test_what_had_finished_is_neither_lost_nor_read_again(
    finished: list[tuple[int, int]], offset: int, lost: tuple[int, int], left: list[tuple[int, int]]
) -> None:
    """The commit's metadata outlives the records that it waited for."""
    begin = await found(Start(), {A0: CommittedOffset(50, encode(50, finished))})
    assert begin[A0] == Begin(offset, encode(offset, left), lost=lost, first=FIRST)


async def test_what_had_finished_among_deferred_keys_is_not_read_again() -> None:
    """Their own records are, from the first that is left: the ranges say nothing of them."""
    hot, cold = b"h" * 8, b"c" * 8
    metadata = encode(50, [(50, 130), (140, 160)], {hot: 50, cold: 150})
    begin = await found(Start(), {A0: CommittedOffset(50, metadata)})
    left = encode(FIRST, [(FIRST, 130), (140, 160)], {hot: FIRST, cold: 150})
    assert begin[A0] == Begin(FIRST, left, lost=(50, FIRST), first=FIRST)


@pytest.mark.parametrize("start", [Start("latest"), Start("time", 777)], ids=lambda start: start.policy)
async def test_a_partition_that_was_added_later_starts_at_its_beginning(start: Start) -> None:
    """What was published to it before the lane saw it is not lost, whatever the lane says of its own beginning."""
    begun = {("a", 0): Entry("latest", 5, partitions=1, first_offset=7)}
    begin = await found(start, {A0: CommittedOffset(250, "")}, begun=begun)
    assert begin[A1] == Begin(FIRST, "", fresh=True, first=FIRST)


async def test_a_partition_of_the_beginning_follows_the_policy_though_another_was_first() -> None:
    """Two members start at once: the second must not take the first one's partition for an older topic."""
    begun = {("a", 0): Entry("latest", 5, partitions=2, first_offset=7)}
    assert (await found(Start("latest"), begun=begun))[A1] == Begin(END, "", fresh=True, first=FIRST)


async def test_the_first_beginning_counts_and_not_a_later_one() -> None:
    """The record of an added partition knows the larger count."""
    begun = {("a", 0): Entry("latest", 5, partitions=1), ("a", 7): Entry("latest", 9, partitions=8)}
    assert (await found(Start("latest"), begun=begun))[A1].offset == FIRST


async def test_a_begun_partition_without_an_offset_is_said() -> None:
    """The group's offsets expired or were deleted: nobody knows what was delivered."""
    begun = {("a", 1): Entry("earliest", 5, partitions=2, first_offset=0)}
    begin = await found(Start("earliest"), {A0: CommittedOffset(250, "")}, begun=begun)
    assert begin[A1].offsets_lost
    assert not begin[A0].offsets_lost


async def test_a_committed_offset_behind_the_end_is_said() -> None:
    """The topic was made anew: neither its beginning nor its end is taken for what the lane had not read."""
    begin = await found(Start("latest"), {A0: CommittedOffset(END + 1, "m"), A1: CommittedOffset(END, "m")})
    assert begin[A0] == Begin(END + 1, "m", first=FIRST, behind_end=END)
    assert begin[A1].behind_end is None
