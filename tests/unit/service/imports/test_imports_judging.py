"""What the end of an import means for its events."""

import pytest

from contracts.outcomes import Outcome, Reason
from handlers.imports.verdicts import Completed, Failed
from service.imports.judging import Divided, had_file, judge_end
from service.imports.runs import Ends


@pytest.mark.parametrize(
    "verdict", [Completed(), Completed(found=4), Completed(found=9), Completed(failed=0), Completed(4, 0)]
)
@pytest.mark.parametrize("divides", [True, False])
def test_an_import_without_a_failure_is_delivered(verdict: Completed, divides: bool) -> None:
    """Also where the platform tells no counts, or more rows than were sent."""
    assert judge_end(verdict, 4, divides=divides) == Ends(Outcome.DELIVERED)


@pytest.mark.parametrize(
    ("verdict", "detail"),
    [
        (Completed(found=3), "of 4 rows the platform reports 0 failed and 1 not found"),
        (Completed(found=4, failed=2), "of 4 rows the platform reports 2 failed and 0 not found"),
        (Completed(found=1, failed=1), "of 4 rows the platform reports 1 failed and 3 not found"),
        (Completed(failed=1), "of 4 rows the platform reports 1 failed and 0 not found"),
        (Failed("given up"), "of 4 rows the platform tells no counts; given up"),
        (Failed("given up", 4, 3), "of 4 rows the platform has found 4 and processed 3; given up"),
        (Failed("given up", 4), "of 4 rows the platform has found 4 and processed ?; given up"),
    ],
)
def test_a_failure_of_nobody_knows_whom(verdict: Completed | Failed, detail: str) -> None:
    """All events are unattributed; where an import may be divided, one that is alone with it is refused."""
    unattributed = Ends(Outcome.UNATTRIBUTED, Reason.UNATTRIBUTED, detail)
    assert judge_end(verdict, 4, divides=False) == unattributed
    refused = Ends(Outcome.REJECTED, Reason.REFUSED, detail)
    assert judge_end(verdict, 4, divides=True) == Divided(alone=refused, otherwise=unattributed)


def test_what_the_platform_has_forgotten_is_not_divided() -> None:
    """No half of it could tell more: it may all have been carried out."""
    forgotten = Failed("not known any more", divides=False)
    ends = judge_end(forgotten, 0, divides=True)
    assert ends == Ends(Outcome.UNATTRIBUTED, Reason.UNATTRIBUTED, "not known any more")


@pytest.mark.parametrize(
    ("verdict", "expired", "had"),
    [
        (Failed("gone"), True, False),
        (Failed("gone", 0, 0), True, False),
        (Failed("gone"), False, True),
        (Failed("gone", 1), True, True),
        (Failed("gone", 0, 1), True, True),
        (Failed("not known any more", divides=False), True, True),
    ],
)
def test_a_failed_import_had_its_file_unless_it_can_have_had_none(verdict: Failed, expired: bool, had: bool) -> None:
    """Its address has ended, the platform knows the import still and has counted nothing of it: only then are its
    events sent again."""
    assert had_file(verdict, expired=expired) is had
