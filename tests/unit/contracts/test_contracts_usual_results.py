"""The usual results, written into templates, are what the exact way writes: to the byte."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.events import CONTACT_CHANGED, NOTIFICATION_OCCURRED, ContactChanged, Event
from contracts.outcomes import DEAD, PAIRS, Outcome, Reason
from contracts.results import Operation, ResultEncoder
from contracts.usual_results import UsualResults

ENCODER = ResultEncoder(lane="vip", handler="np6.workflows", platform="np6", account="np6-main", config="9f3c2a10")
DATA = ContactChanged("c", "created")
PLACE = ("b-1", "contacts.changed", 3, 1207, 1_795_341_600_123, 1_795_341_600_200, 1_795_341_601_000)


def exact(event: Event, operation: Operation, place: tuple[Any, ...] = PLACE) -> bytes:
    batch_id, topic, partition, offset, timestamp_ms, received_at_ms, completed_at_ms = place
    assert operation.outcome is not None
    return ENCODER.encode(
        "r-1",
        event,
        operation.outcome,
        operation.reason,
        None,
        [operation],
        operation.attempts,
        batch_id,
        None,
        topic,
        partition,
        offset,
        timestamp_ms,
        None,
        operation.outcome in DEAD,
        received_at_ms,
        completed_at_ms,
    )


def encoded(usual: UsualResults, result_id: str, event: Event, made: Operation, *place: Any) -> bytes | None:
    """The one result, as if it came alone."""
    *where, completed_at_ms = place
    (value,) = usual.encode_all([(result_id, event, made, *where)], completed_at_ms)
    return value


def operation(**changes: Any) -> Operation:
    made = Operation("workflow.execute", "000PKXK4", "42", Outcome.DELIVERED, None, None, 200, "x-1", 1)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


# With all that JSON escapes, and all that only looks as if.
TEXT = st.text(st.sampled_from('ab1-:/{}%é"\\\0\n\x7f\u2028𝄞'), min_size=1, max_size=12) | st.text(max_size=300)
NULLABLE = st.none() | TEXT
MS = st.integers(0, 2**41)


@settings(max_examples=300, deadline=None)
@given(
    st.builds(
        Event, TEXT, TEXT, st.sampled_from([CONTACT_CHANGED, NOTIFICATION_OCCURRED]), st.just(DATA), NULLABLE, NULLABLE
    ),
    NULLABLE,
    st.sampled_from([(outcome, reason) for outcome, reasons in PAIRS.items() for reason in reasons]),
    st.tuples(NULLABLE, NULLABLE, NULLABLE, NULLABLE, st.none() | st.integers(100, 599), st.integers(0, 99)),
    st.tuples(st.none() | st.just("b-2"), st.just("t"), st.integers(0, 99), st.integers(0, 2**63 - 1), MS, MS, MS),
)
def test_both_ways_write_the_same_bytes(
    event: Event,
    trace: str | None,
    pair: tuple[Outcome, Reason | None],
    parts: tuple[Any, ...],
    place: tuple[Any, ...],
) -> None:
    """Whatever the texts are; or it is not usual, and the exact way writes it."""
    event.traceparent = trace
    target, entity, reference, detail, status, attempts = parts
    made = Operation("segment.join", target, entity, *pair, detail, status, reference, attempts)
    usual = UsualResults(ENCODER)
    first = encoded(usual, "r-1", event, made, *place)
    assert first is None or first == exact(event, made, place)
    # From a template that other texts were written into before.
    other = Event("other", "s", event.type, DATA, tenant=event.tenant and "t", traceparent=event.traceparent and "w")
    encoded(usual, "r-2", other, operation(outcome=pair[0], reason=pair[1], status=status, attempts=attempts), *PLACE)
    assert encoded(usual, "r-1", event, made, *place) == first


@pytest.mark.parametrize(
    ("tenant", "trace", "reference"),
    [(None, None, None), ("acme", None, "x"), (None, "00-ab-cd-01", ""), ("", "", "x")],
)
def test_what_is_usual(tenant: str | None, trace: str | None, reference: str | None) -> None:
    """With and without a tenant, a trace and a reference, which are not null where they are empty."""
    event = Event("e-1", "/crm", CONTACT_CHANGED, DATA, None, tenant, trace)
    made = operation(reference=reference)
    value = encoded(UsualResults(ENCODER), "r-1", event, made, *PLACE)
    assert value is not None
    assert value == exact(event, made)


@pytest.mark.parametrize(
    "changes",
    [
        {"detail": "x"},
        {"target": None},
        {"entity": None},
        {"target": 'a"b'},
        {"target": "a\\b"},
        {"reference": "a\nb"},
        {"reference": "a\0b"},
        {"reference": "é"},
        {"reference": "\ud800"},
        {"target": "x" * 256},
    ],
)
def test_what_is_not_usual(changes: dict[str, Any]) -> None:
    """What JSON writes in another way, what is cut, and what a template has no place for."""
    event = Event("e-1", "/crm", CONTACT_CHANGED, DATA)
    assert encoded(UsualResults(ENCODER), "r-1", event, operation(**changes), *PLACE) is None


def test_templates_are_bounded() -> None:
    """However many different statuses come."""
    usual = UsualResults(ENCODER)
    event = Event("e-1", "/crm", CONTACT_CHANGED, DATA)
    for status in range(600):
        made = operation(status=status)
        assert encoded(usual, "r-1", event, made, *PLACE) == exact(event, made)
        assert 0 < len(usual._templates) <= 256


def test_one_that_is_not_usual_does_not_change_the_others() -> None:
    """What is looked at together is told apart: each is written, or not, as if it came alone."""
    event = Event("e-1", "/crm", CONTACT_CHANGED, DATA)
    made = [operation(reference=text) for text in ("x", "é", "y", "\ud800", "z", '"')]
    *where, completed_at_ms = PLACE
    values = UsualResults(ENCODER).encode_all([("r-1", event, one, *where) for one in made], completed_at_ms)  # type: ignore[misc] # a tuple of any
    alone = [encoded(UsualResults(ENCODER), "r-1", event, one, *PLACE) for one in made]
    assert values == alone
    assert [value is None for value in values] == [False, True, False, True, False, True]


def test_each_says_when_its_own_record_was_received() -> None:
    """Records of one transaction were received at different times, and one of them when it was completed."""
    event, made = Event("e-1", "/crm", CONTACT_CHANGED, DATA), operation()
    batch_id, topic, partition, offset, timestamp_ms, received_at_ms, completed_at_ms = PLACE
    received = [received_at_ms, received_at_ms, completed_at_ms, received_at_ms + 7]
    results = [("r-1", event, made, batch_id, topic, partition, offset, timestamp_ms, ms) for ms in received]
    values = UsualResults(ENCODER).encode_all(results, completed_at_ms)
    assert values == [exact(event, made, (*PLACE[:5], ms, completed_at_ms)) for ms in received]


def test_what_neighbours_have_in_common_is_not_that_of_others() -> None:
    """Whatever two results of one transaction differ in, each says its own; and some of them are not usual."""
    plain, made = Event("e-1", "/crm", CONTACT_CHANGED, DATA), operation()
    batch_id, topic, partition, offset, timestamp_ms, received_at_ms, completed_at_ms = PLACE
    where = (batch_id, topic, partition, offset, timestamp_ms, received_at_ms)
    others = [
        (Event("e-1", "/shop", CONTACT_CHANGED, DATA), made, where),
        (Event("e-1", "/caf\u00e9", CONTACT_CHANGED, DATA), made, where),
        (Event("e-1", "/crm", NOTIFICATION_OCCURRED, DATA), made, where),
        (Event("e-1", "/crm", CONTACT_CHANGED, DATA, tenant="acme"), made, where),
        (Event("e-1", "/crm", CONTACT_CHANGED, DATA, tenant='a"b'), made, where),
        (Event("e-1", "/crm", CONTACT_CHANGED, DATA, traceparent="00-ab-cd-01"), made, where),
        (plain, operation(entity="502"), where),
        (plain, operation(entity="x" * 256), where),
        (plain, operation(status=207), where),
        (plain, operation(reference=None), where),
        (plain, made, ("batch-2", *where[1:])),
        (plain, made, (None, *where[1:])),
        (plain, made, (batch_id, "replay", *where[2:])),
        (plain, made, (batch_id, topic, partition + 1, *where[3:])),
        (plain, made, (*where[:5], received_at_ms + 1)),
    ]
    results: list[Any] = [("r-1", *found[:2], *found[2]) for found in others]
    mixed = [one for other in results for one in (("r-1", plain, made, *where), other)]
    values = UsualResults(ENCODER).encode_all(mixed, completed_at_ms)
    alone = [UsualResults(ENCODER).encode_all([one], completed_at_ms)[0] for one in mixed]
    assert values == alone
    assert len({*alone[1::2]} - {None}) == len(others) - 4
    assert alone[0] == exact(plain, made)


def test_each_says_when_its_own_transaction_completed() -> None:
    """What results have in common is kept from one call to the next, and no longer than for one transaction."""
    event, made, usual = Event("e-1", "/crm", CONTACT_CHANGED, DATA), operation(), UsualResults(ENCODER)
    *where, completed_at_ms = PLACE
    for ms in (completed_at_ms, completed_at_ms, completed_at_ms + 1, completed_at_ms):
        assert encoded(usual, "r-1", event, made, *where, ms) == exact(event, made, (*where, ms))


def test_what_is_kept_of_neighbours_is_bounded() -> None:
    """However many different batches one transaction settles."""
    event, made, usual = Event("e-1", "/crm", CONTACT_CHANGED, DATA), operation(), UsualResults(ENCODER)
    for n in range(600):
        place: Any = (f"batch-{n}", *PLACE[1:])
        assert encoded(usual, "r-1", event, made, *place) == exact(event, made, place)
        assert 0 < len(usual._runs) <= 256


def test_none_stays_none_among_others() -> None:
    """Whoever knows that a result is not usual need not leave it out."""
    *where, completed_at_ms = PLACE
    event, made = Event("e-1", "/crm", CONTACT_CHANGED, DATA), operation()
    result: Any = ("r-1", event, made, *where)
    values = UsualResults(ENCODER).encode_all([None, result, None], completed_at_ms)
    assert values == [None, exact(event, made, PLACE), None]
