"""Prescribed answers are used up in order, by the calls that match and by no others."""

import msgspec
import pytest

from handlers.sandbox import Match, Prescription, Step, Subject
from handlers.sandbox.prescriptions import Prescriptions

T1 = Subject("join", "T1", "5")
T2 = Subject("join", "T2", "5")


def statuses(prescriptions: Prescriptions, subject: Subject, calls: int, **given: str) -> list[int | None]:
    steps = [
        prescriptions.take(
            given.get("platform", "np6"), given.get("account", "a"), given.get("method", "POST"), subject
        )
        for _ in range(calls)
    ]
    return [step.status if step is not None else None for step in steps]


def of(*prescribed: Prescription) -> Prescriptions:
    prescriptions = Prescriptions()
    prescriptions.add(prescribed)
    return prescriptions


def test_one_after_the_other_then_none() -> None:
    """500, 500, 204, then the platform answers by itself; nothing is left over."""
    prescriptions = of(Prescription([500, 500, 204], Match(target="T1")))
    assert statuses(prescriptions, T2, 1) == [None]
    assert prescriptions.left == 1
    assert statuses(prescriptions, T1, 4) == [500, 500, 204, None]
    assert prescriptions.left == 0


def test_skip_repeat_and_the_platforms_own() -> None:
    """The first calls may go by, answers may recur, and null stands for the platform's own answer."""
    prescriptions = of(Prescription([500, None], Match(target="T1"), skip=2, repeat=True))
    assert statuses(prescriptions, T1, 6) == [None, None, 500, None, 500, None]


@pytest.mark.parametrize(
    "match",
    [
        Match(target="T2"),
        Match(kind="leave"),
        Match(entity="6"),
        Match(account="b"),
        Match(platform="apsis"),
        Match(method="GET"),
    ],
)
def test_what_does_not_match_is_left_alone(match: Match) -> None:
    """Each part of a match keeps other calls out."""
    prescriptions = of(Prescription([500], match))
    assert statuses(prescriptions, T1, 1) == [None]
    assert prescriptions.left == 1


def test_of_several_the_first_that_was_added_for_the_target() -> None:
    """A target's own prescriptions go before those for every target, each in the order of adding."""
    prescriptions = of(
        Prescription([501]), Prescription([502], Match(target="T1")), Prescription([503], Match(target="T1"))
    )
    assert statuses(prescriptions, T1, 4) == [502, 503, 501, None]


def test_a_targets_own_that_does_not_match_leaves_the_call_to_the_others() -> None:
    """What is prescribed for a target's leaves does not keep its joins from what is prescribed for all."""
    prescriptions = of(Prescription([501]), Prescription([502], Match(target="T1", kind="leave")))
    assert statuses(prescriptions, T1, 2) == [501, None]


def test_an_empty_prescription_is_none() -> None:
    """No answers, nothing prescribed."""
    assert of(Prescription([])).left == 0


@pytest.mark.parametrize(
    ("step", "takes_effect"),
    [
        (Step(), True),
        (Step(status=204), True),
        (Step(status=500), False),
        (Step(status=302), False),
        (Step(status=500, effect=True), True),
        (Step(status=204, effect=False), False),
        (Step(reset="before"), False),
        (Step(reset="after"), True),
        (Step(hang=True), False),
        (Step(hang=True, effect=True), True),
        (Step(body="garbage"), True),
    ],
)
def test_what_takes_effect(step: Step, takes_effect: bool) -> None:
    """Success takes effect, failure does not, unless the step says otherwise."""
    assert step.takes_effect is takes_effect


def test_a_mistyped_step_is_refused() -> None:
    """An unknown field would be a prescription that does nothing."""
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"answers": [{"stauts": 500}]}', type=Prescription)
