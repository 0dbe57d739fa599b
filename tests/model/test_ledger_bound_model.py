"""The ledger with windows near the bound of its metadata: the commit says what is finished, and all is settled."""

from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from service.offsets.ledger import PartitionLedger
from service.offsets.metadata import MAX_BYTES, decode
from tests.support.fuzzing import interleavings

MOST = 500


@given(
    seed=st.integers(0, 2**32),
    hole=st.sampled_from((0, 0, 2, 40)),
    called=st.sampled_from((0.0, 0.5, 1.0)),
    stuck=st.integers(0, 3),
    filling=st.sampled_from((0.0, 0.02, 0.3)),
    share=st.sampled_from((0.02, 0.3, 0.5, 0.9)),
)
# A full window half of which finishes: more than the share of the metadata that is for what had no call.
@example(seed=1, hole=0, called=0.0, stuck=1, filling=0.0, share=0.5)
@example(seed=2, hole=0, called=0.5, stuck=3, filling=0.0, share=0.5)
@interleavings(6)
def test_long_windows_are_settled_in_the_end(
    seed: int, hole: int, called: float, stuck: int, filling: float, share: float
) -> None:
    """Reading whenever there is room, settling at random behind records that are stuck, ``filling`` of them while there
    is room and ``share`` when there is none; restarted in between. The lowest are never kept back for higher ones."""
    chance, start = Random(seed), 10**9
    ledger, position = PartitionLedger(start), start
    committed, metadata = start, ""
    unfinished: dict[int, bool] = {}
    finished: set[int] = set()
    back: list[int] = []
    kept = 0
    for turn in range(60):
        reads = turn < 45 and ledger.room(MOST)
        settles = filling if reads else share
        if reads:
            for _ in range(MOST):
                position += chance.randrange(hole + 1)
                assert ledger.read(position)
                unfinished[position] = chance.random() < called
                position += 1
        offered = [offset for offset in list(unfinished)[stuck if turn < 50 else 0 :] if chance.random() < settles]
        offered = sorted({*offered, *(offset for offset in back if offset in unfinished)})
        if turn >= 55:
            offered = sorted(unfinished)
        chance.shuffle(offered)
        plan = ledger.prepare([o for o in offered if unfinished[o]], [o for o in offered if not unfinished[o]])
        assert sorted([*plan.settled, *plan.kept_back]) == sorted(offered)
        assert not plan.called_kept_back, "what was called would be called again after a crash"
        assert not any(unfinished[offset] for offset in plan.kept_back)
        kept += len(plan.kept_back)
        uncalled = [offset for offset in plan.settled if not unfinished[offset]]
        assert not (plan.kept_back and uncalled) or max(uncalled) < min(plan.kept_back), "the lowest shorten the window"
        assert len(plan.metadata) <= MAX_BYTES
        ledger.apply(plan)
        back = plan.kept_back
        for offset in plan.settled:
            del unfinished[offset]
            finished.add(offset)
        committed, metadata = plan.commit_offset, plan.metadata
        ranges, fault = decode(committed, metadata)
        assert fault is None
        edges = iter(ranges)
        begin, end = next(edges, (2**63, 2**63))
        for offset in sorted([*unfinished, *(o for o in finished if o >= committed)]):
            while offset >= end:
                begin, end = next(edges, (2**63, 2**63))
            assert (begin <= offset < end) == (offset not in unfinished), "said to be finished, or forgotten"
        assert all(offset >= committed for offset in unfinished)
    assert not unfinished
    assert committed == position
    full = not hole and stuck and not filling and share == 0.5 and called < 1
    assert kept or not full, "never near the bound"
