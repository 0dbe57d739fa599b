"""What is not settled because the metadata would be too long: with bounds so small that a few hundred records do."""

import random

import pytest

from service.offsets import ledger as ledger_module
from service.offsets.ledger import PartitionLedger, SettlePlan
from service.offsets.metadata import decode

UNCALLED_MAX, MOST = 60, 100


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 characters for what had no call, 100 for all."""
    monkeypatch.setattr(ledger_module, "UNCALLED_MAX_BYTES", UNCALLED_MAX)
    monkeypatch.setattr(ledger_module, "MAX_BYTES", MOST)
    monkeypatch.setattr(ledger_module, "fits", lambda text: len(text) <= MOST)
    monkeypatch.setattr(ledger_module, "_DEFLATE_NOISE_BYTES", 4)


def scattered(count: int = 600) -> tuple[PartitionLedger, list[int]]:
    """A ledger with a stuck first record, and offsets that make irregular runs: 150 of them take 60 characters."""
    chance = random.Random(1)
    ledger = PartitionLedger(0)
    for offset in range(count):
        ledger.read(offset)
    return ledger, [offset for offset in range(1, count) if chance.random() < 0.5]


def kept(plan: SettlePlan) -> tuple[list[int], int]:
    assert not set(plan.kept_back) & set(plan.settled)
    return plan.kept_back, plan.called_kept_back


def test_up_to_the_bound_nothing_is_kept_back() -> None:
    """To the last character."""
    ledger, offsets = scattered()
    plan = ledger.prepare([], offsets[:150])
    assert len(plan.metadata) == UNCALLED_MAX
    assert kept(plan) == ([], 0)
    assert plan.settled == offsets[:150]


def test_no_more_than_needed_is_kept_back_from_the_highest_down() -> None:
    """With one more of them it would be too long; what had a call is settled whatever its place."""
    ledger, offsets = scattered()
    called, uncalled = offsets[-20:], offsets[:-20]
    plan = ledger.prepare(called, uncalled)
    left, called_left = kept(plan)
    assert called_left == 0
    assert left == uncalled[-len(left) :] != uncalled
    assert sorted([*plan.settled, *left]) == offsets
    assert len(plan.metadata) <= UNCALLED_MAX
    assert kept(ledger.prepare(called, uncalled[: -len(left)])) == ([], 0)
    assert kept(ledger.prepare(called, uncalled[: -len(left) + 1]))[0] != []


def test_what_had_a_call_may_have_all_of_the_metadata() -> None:
    """Beyond the share of the others these wait, all that would make it longer; it does not."""
    ledger, offsets = scattered()
    called, uncalled = offsets[:230], offsets[230:]
    alone = ledger.prepare(called)
    assert kept(alone) == ([], 0)
    assert UNCALLED_MAX < len(alone.metadata) < MOST
    plan = ledger.prepare(called, uncalled)
    assert kept(plan)[1] == 0
    assert set(called) <= set(plan.settled)
    assert len(alone.metadata) <= len(plan.metadata) <= len(alone.metadata) + 4


def test_beyond_the_hard_bound_what_had_a_call_waits_behind_all_that_had_none() -> None:
    """From the highest down too, no more than needed, and it is counted; the bound is used to its last character."""
    ledger, offsets = scattered(800)
    called, uncalled = offsets[5:], offsets[:5]
    plan = ledger.prepare(called, uncalled)
    left, called_left = kept(plan)
    assert len(plan.metadata) == MOST
    assert called_left == len(left) - 5 > 0
    assert left == sorted([*uncalled, *called[-called_left:]])
    assert kept(ledger.prepare(called[:-called_left])) == ([], 0)
    assert kept(ledger.prepare(called[: -called_left + 1]))[1] == 1
    assert kept(ledger.prepare(called)) == (called[-called_left:], called_left)


def test_the_oldest_goes_on_though_the_metadata_is_full() -> None:
    """It makes the metadata no longer; what was kept back is settled with it when that has room."""
    ledger, offsets = scattered(800)
    ledger.apply(ledger.prepare(offsets))
    assert len(ledger.prepare([]).metadata) > UNCALLED_MAX
    plan = ledger.prepare([], [0])
    assert kept(plan) == ([], 0)
    assert plan.commit_offset > 0
    ledger.apply(plan)
    rest = sorted(set(range(800)) - {offset for offset in range(800) if offset not in ledger._unfinished})
    final = ledger.prepare([], rest)
    assert (final.commit_offset, final.metadata, kept(final)) == (800, "", ([], 0))


def test_what_is_kept_back_is_unfinished_still() -> None:
    """It holds nothing else, is in no metadata, and is offered again."""
    ledger, offsets = scattered()
    plan = ledger.prepare([], offsets)
    ledger.apply(plan)
    assert ledger.unfinished == 600 - len(plan.settled)
    finished = {offset for first, end in decode(0, plan.metadata)[0] for offset in range(first, end)}
    assert finished == set(plan.settled)
    assert kept(ledger.prepare([plan.kept_back[0]])) == ([], 0)
