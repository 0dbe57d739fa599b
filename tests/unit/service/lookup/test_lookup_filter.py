"""Which results `fanline results` shows."""

import msgspec
import pytest

from contracts.ids import hashed_key
from contracts.outcomes import Outcome, Reason
from contracts.results import Origin, ResultData, ResultEvent, SyncResult
from service.lookup.results import ResultFilter, event_id_of

AT = "2026-03-02T08:00:00.000Z"


def result(
    event_id: str | None = "e-1", *, lane: str = "vip", outcome: Outcome = Outcome.DELIVERED, readable: bool = True
) -> SyncResult:
    return SyncResult(
        id="r-1",
        source=f"fanline/{lane}",
        subject=msgspec.UNSET if event_id is None else event_id,
        time=AT,
        data=ResultData(
            event=ResultEvent(event_id, "crm", "contact.changed.v1", None) if readable and event_id else None,
            lane=lane,
            handler="np6.segments",
            platform="np6",
            account="main",
            config="00000000",
            outcome=outcome,
            reason=None if outcome is Outcome.DELIVERED else Reason.REFUSED,
            detail=None,
            operations=[],
            attempts=1,
            batch_id=None,
            coalesced_into=None,
            origin=Origin("contacts", 0, 7, AT),
            replay=None,
            dead_letter=False,
            dry_run=False,
            received_at=AT,
            completed_at=AT,
        ),
    )


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (ResultFilter(), True),
        (ResultFilter(event_id="e-1"), True),
        (ResultFilter(event_id="e-10"), False),
        (ResultFilter(lane="vip"), True),
        (ResultFilter(lane="news"), False),
        (ResultFilter(outcome=Outcome.DELIVERED), True),
        (ResultFilter(outcome=Outcome.REJECTED), False),
        (ResultFilter(event_id="e-1", lane="vip", outcome=Outcome.REJECTED), False),
    ],
)
def test_every_condition_must_hold(wanted: ResultFilter, taken: bool) -> None:
    """One that is not given does not matter."""
    assert wanted.takes(result()) is taken


def test_the_id_is_known_also_where_the_event_could_not_be_read_whole() -> None:
    """The subject is the id wherever that could be read."""
    assert event_id_of(result(readable=False)) == "e-1"
    assert event_id_of(result(None)) is None
    assert not ResultFilter(event_id="e-1").takes(result(None))


def test_a_long_id_is_found_as_results_write_it() -> None:
    """Results cut ids at 1,024 characters."""
    assert ResultFilter(event_id="x" * 2_000).takes(result("x" * 1_024))


def test_keys_are_compared_as_the_results_carry_them() -> None:
    """As published, or hashed; a null key is no key."""
    plain, hashed = ResultFilter(key=b"c-1"), ResultFilter(key=b"c-1", hashed_keys=True)
    assert plain.takes_key(b"c-1")
    assert not plain.takes_key(hashed_key(b"c-1"))
    assert hashed.takes_key(hashed_key(b"c-1"))
    assert not hashed.takes_key(b"c-1")
    assert not plain.takes_key(None)
    assert ResultFilter().takes_key(None)
