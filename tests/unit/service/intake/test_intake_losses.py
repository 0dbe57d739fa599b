"""What is lost holds the lane until an operator, or the configuration, lets it go on: then exactly that is passed."""

from aiokafka.structs import TopicPartition

from contracts.control import Loss
from contracts.journal import Lost, Start
from service.intake.losses import BY_CONFIGURATION, Judged, judge
from service.intake.starts import Begin

A0, A1 = TopicPartition("a", 0), TopicPartition("a", 1)
NOW = 5_000
RETENTION = {A0: Begin(150, "", lost=(100, 150), first=150), A1: Begin(7, "m", first=0)}
FORGOTTEN = {A0: Begin(0, "", fresh=True, offsets_lost=True, first=150)}


def judged(
    found: dict[TopicPartition, Begin],
    *losses: Loss,
    hold: bool = True,
    starts: dict[tuple[str, int], Start] | None = None,
) -> Judged:
    given = dict.fromkeys([A0], losses[0]) if losses else {}
    return judge(found, given.get, starts or {}, hold=hold, now_ms=NOW)


def loss(first: int, end: int, at_ms: int = 9, *, offsets_lost: bool = False) -> Loss:
    return Loss(first, end, "ops@host", "seen", at_ms, offsets_lost=offsets_lost)


def test_the_lane_holds_with_the_exact_offsets() -> None:
    """The last one that is gone is named, not the one behind it; partitions that lost nothing are not."""
    assert judged(RETENTION) == Judged(RETENTION, {}, "lost: a-0 offsets 100 to 149")


def test_what_was_given_up_is_passed() -> None:
    """With who did it and when; the rest begins as it would."""
    assert judged(RETENTION, loss(100, 150)) == Judged(RETENTION, {A0: Lost(100, 150, "ops@host", 9)}, None)


def test_more_than_was_given_up_holds_again() -> None:
    """Retention went on while the operator looked: these offsets nobody has seen."""
    assert judged(RETENTION, loss(100, 149)).gap == "lost: a-0 offsets 100 to 149"
    assert judged(RETENTION, loss(101, 150)).gap is not None


def test_a_part_of_what_was_given_up_is_given_up() -> None:
    """The lane had got further before it held."""
    assert judged(RETENTION, loss(90, 200)).passed == {A0: Lost(100, 150, "ops@host", 9)}


def test_lost_offsets_are_not_lost_records() -> None:
    """An order for the one is none for the other."""
    assert judged(RETENTION, loss(100, 150, offsets_lost=True)).gap is not None
    assert judged(FORGOTTEN, loss(0, 150)).gap == "lost: offsets of a-0"


def test_forgotten_offsets_go_on_from_the_first_record_that_exists() -> None:
    """Where the operator saw it; it is no fresh beginning."""
    result = judged(FORGOTTEN, loss(20, 150, offsets_lost=True))
    assert result.begins[A0] == Begin(150, "", first=150)
    assert result.passed == {A0: Lost(20, 150, "ops@host", 9)}


def test_an_order_for_forgotten_offsets_is_used_once() -> None:
    """The journal has it already: the offsets have been forgotten again."""
    used = Start("earliest", 1, 2, 20, (Lost(20, 150, "ops@host", 9),))
    order = loss(20, 150, offsets_lost=True)
    assert judged(FORGOTTEN, order, starts={("a", 0): used}).gap == "lost: offsets of a-0"


def test_forgotten_offsets_whose_first_record_has_gone_meanwhile_hold_again() -> None:
    """More is missing than the operator saw."""
    assert judged(FORGOTTEN, loss(20, 149, offsets_lost=True)).gap is not None


def test_the_configuration_may_let_it_go_on() -> None:
    """`on_gap: continue`: behind lost records, with a record of it; forgotten offsets begin as `start` says."""
    assert judged(RETENTION, hold=False).passed == {A0: Lost(100, 150, BY_CONFIGURATION, NOW)}
    assert judged(FORGOTTEN, hold=False) == Judged(FORGOTTEN, {}, None)


def test_both_kinds_are_told_together() -> None:
    """One reason names all that has to be looked at."""
    found = {A0: FORGOTTEN[A0], A1: Begin(3, "", lost=(1, 3), first=3)}
    assert judged(found).gap == "lost: offsets of a-0; a-1 offsets 1 to 2"


def test_an_offset_behind_the_end_holds_whatever_is_configured() -> None:
    """Reading from the first record could repeat everything, from the end lose it: somebody has to look."""
    anew = {A0: Begin(120, "m", first=0, behind_end=40)}
    for hold in (True, False):
        gap = judged(anew, hold=hold).gap
        assert gap is not None
        assert gap.startswith("lost: a-0 ends at 40, before the committed offset 120 (was the topic made anew?")
