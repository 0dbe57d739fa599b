"""What a settling transaction writes of a chunk: the same whichever pieces it is written in."""

from contracts.outcomes import Outcome, Reason
from service.clock import SystemClock
from service.settling.batches import PackedWrite
from service.settling.writing import written
from service.turns import Turns
from tests.support.fakes import START_WALL_MS, Source, unpacked
from tests.support.settling import DEAD_LETTERS, RESULTS, documents_for

NOW_MS = START_WALL_MS + 1_500


async def test_a_chunk_is_written_in_pieces_as_if_at_once() -> None:
    """1,000 items, every third one skipped and every seventh dead: each partition once, its records in the order of
    the items, results packed and dead letters not."""
    for publish in (True, False):
        source, documents = Source(), documents_for(publish_skipped=publish)
        items = [
            source.ended(b"c-%d" % n, outcome=Outcome.SKIPPED if n % 3 == 0 else Outcome.DELIVERED)
            for n in range(1_000)
        ]
        for item in items[::7]:
            item.outcome, item.reason = Outcome.REJECTED, Reason.REFUSED
        writes = await written(documents, items, NOW_MS, Turns(SystemClock()))
        expected = {(write.topic, write.partition): write for write in documents.writes(items, NOW_MS)}
        assert len(writes) == len(expected) > 4
        assert {(write.topic, write.partition): unpacked(write) for write in writes} == expected
        assert {(write.topic, isinstance(write, PackedWrite)) for write in writes} == {
            (RESULTS, True),
            (DEAD_LETTERS, False),
        }


async def test_nothing_that_is_published_is_nothing_written() -> None:
    """Skipped events that are not published."""
    items = [Source().ended(outcome=Outcome.SKIPPED) for _ in range(3)]
    assert await written(documents_for(publish_skipped=False), items, NOW_MS, Turns(SystemClock())) == []
