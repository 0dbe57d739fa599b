"""The demo's recount finds what is missing, what is there twice, and what does not belong."""

import pytest

from contracts.outcomes import Outcome, Reason
from contracts.results import Origin, ResultData, SyncResult
from service.demo.recount import LaneCount, count_lane

NOW = "2026-03-02T08:00:00.000Z"
EVENTS = {("contacts", 0, 0), ("contacts", 0, 1), ("contacts", 1, 0)}


def result(partition: int, offset: int, *, dead: bool = False) -> SyncResult:
    return SyncResult(
        id=f"r-{partition}-{offset}",
        source="fanline/vip",
        time=NOW,
        data=ResultData(
            event=None,
            lane="vip",
            handler="np6.segments",
            platform="np6",
            account="main",
            config="00000000",
            outcome=Outcome.INVALID if dead else Outcome.DELIVERED,
            reason=Reason.MALFORMED if dead else None,
            detail=None,
            operations=[],
            attempts=1,
            batch_id=None,
            coalesced_into=None,
            origin=Origin("contacts", partition, offset, NOW),
            replay=None,
            dead_letter=dead,
            dry_run=False,
            received_at=NOW,
            completed_at=NOW,
        ),
    )


def dead_letter(partition: int, offset: int) -> dict[str, str]:
    return {
        "fanline-result-id": f"r-{partition}-{offset}",
        "fanline-outcome": "invalid",
        "fanline-reason": "malformed",
    }


def count(results: list[SyncResult], *dead: dict[str, str]) -> LaneCount:
    return count_lane(set(EVENTS), results, dead)


def test_one_result_for_each_event_is_proof() -> None:
    """Outcomes and dead letters are counted."""
    found = count([result(0, 0), result(0, 1, dead=True), result(1, 0)], dead_letter(0, 1))
    assert found.proven
    assert found.events == 3
    assert found.outcomes == {"delivered": 2, "invalid": 1}
    assert found.dead_letters == {("invalid", "malformed"): 1}
    assert found.examples() == []


def test_an_event_without_result_is_missing() -> None:
    """It is named by its place."""
    found = count([result(0, 0), result(1, 0)])
    assert not found.proven
    assert found.missing == [("contacts", 0, 1)]
    assert found.examples() == ["missing: contacts-0 offset 1"]


def test_two_results_of_an_event_are_a_duplicate() -> None:
    """Also where both have the same id."""
    found = count([result(0, 0), result(0, 1), result(0, 1), result(1, 0)])
    assert not found.proven
    assert found.duplicate == [("contacts", 0, 1)]
    assert found.missing == []


@pytest.mark.parametrize(
    ("results", "dead"),
    [
        ([result(0, 0), result(0, 1, dead=True), result(1, 0)], []),
        ([result(0, 0), result(0, 1), result(1, 0)], [dead_letter(0, 1)]),
        ([result(0, 0), result(0, 1, dead=True), result(1, 0)], [dead_letter(0, 1), dead_letter(0, 1)]),
        ([result(0, 0), result(0, 1), result(1, 0), result(7, 7)], []),
    ],
    ids=["dead letter absent", "dead letter of nobody", "dead letter twice", "result of no event"],
)
def test_what_does_not_match_is_no_proof(results: list[SyncResult], dead: list[dict[str, str]]) -> None:
    """Dead letters belong to results one by one, results to events."""
    found = count(results, *dead)
    assert not found.proven
    assert found.misplaced == 1
