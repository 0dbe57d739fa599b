"""What lanes and accounts tell."""

import time
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition
from structlog.testing import capture_logs

from contracts.outcomes import DEAD, PAIRS, Outcome, Reason
from contracts.results import Operation
from service.batching.batcher import Cause
from service.delivery.chain import Unit
from service.intake.item import Item, item_of
from service.lane.observer import BatchLine, LaneObserver
from service.lifecycle import LaneState
from service.telemetry import AccountTelemetry, LaneTelemetry, Telemetry
from service.transport.account import AccountObserver
from tests.support.clock import FakeClock

NOW_MS = 1_767_225_600_000


class Told:
    """A lane's telemetry and what a scrape of it shows."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.telemetry = Telemetry(clock=self.clock)
        self.lane = LaneTelemetry(self.telemetry, "vip")

    def shown(self, name: str, **labels: str) -> float | None:
        return self.telemetry.metrics.registry.get_sample_value(f"fanline_{name}", {"lane": "vip", **labels})


def item(outcome: Outcome | None, reason: Reason | None = None, *, age_s: float = 1.0, replay: bool = False) -> Item:
    record: Any = ConsumerRecord(
        topic="contacts.changed",
        partition=0,
        offset=0,
        timestamp=int(NOW_MS - age_s * 1000),
        timestamp_type=0,
        key=b"k",
        value=b"v",
        checksum=None,
        serialized_key_size=1,
        serialized_value_size=1,
        headers=(),
    )
    partition: Any = TopicPartition("contacts.changed", 0)
    made = item_of(partition, record, 0, NOW_MS)
    made.outcome, made.reason = outcome, reason
    if replay:
        anything: Any = object()
        made.replay = anything
    return made


def test_they_are_the_observers_that_lanes_and_accounts_want() -> None:
    """Checked by mypy too: each method of the protocols is there."""
    telemetry = Telemetry()
    lane: LaneObserver = LaneTelemetry(telemetry, "vip")
    account: AccountObserver = AccountTelemetry(telemetry, "np6-main")
    for protocol, told in ((LaneObserver, lane), (AccountObserver, account)):
        for name in vars(protocol):
            if not name.startswith("_"):
                assert callable(getattr(told, name))


def test_settled_events_are_counted_by_outcome() -> None:
    """Delivered, skipped and dead ones each by themselves; dead ones by reason too."""
    told = Told()
    told.lane.settled(
        [
            item(Outcome.DELIVERED),
            item(Outcome.DELIVERED, age_s=100),
            item(Outcome.SKIPPED, Reason.WHERE),
            item(Outcome.REJECTED, Reason.NOT_FOUND),
            item(Outcome.INVALID, Reason.MALFORMED, age_s=NOW_MS / 1000 + 0.001),
            item(Outcome.INVALID, Reason.CONTRACT, replay=True),
        ],
        0.004,
        NOW_MS,
    )
    assert told.shown("events_total", outcome="delivered") == 2
    assert told.shown("events_total", outcome="skipped") == 1
    assert told.shown("events_total", outcome="invalid") == 2
    assert told.shown("dead_letters_total", reason="not_found") == 1
    assert told.shown("dead_letters_total", reason="malformed") == 1
    assert told.shown("dead_letters_total", reason="exhausted") == 0
    assert told.shown("replays_total") == 1
    assert told.shown("settle_seconds_count") == 1
    assert told.shown("end_to_end_seconds_count") == 5  # the unparsable one has no timestamp
    assert told.shown("end_to_end_seconds_sum") == pytest.approx(104.0)


def test_what_has_not_happened_is_shown_as_zero() -> None:
    """Each outcome and reason has its series from the start: an alert on a rate needs the zero before."""
    told = Told()
    for outcome in Outcome:
        assert told.shown("events_total", outcome=outcome.value) == 0
    for outcome in DEAD:
        for reason in PAIRS[outcome]:
            assert reason is not None
            assert told.shown("dead_letters_total", reason=reason.value) == 0


def test_operations_are_counted_each() -> None:
    """A call that served three equal operations counts three."""
    told = Told()
    operation = Operation("segment.join", "T", "5", outcome=Outcome.DELIVERED)
    unit = Unit(item(None), operation)
    unit.members *= 3
    told.lane.unit_ended(unit)
    told.lane.unit_ended(Unit(item(None), operation))
    assert told.shown("operations_total", kind="segment.join", outcome="delivered") == 4


def test_a_batch_is_one_line() -> None:
    """The canonical line, with what it was and how it ended."""
    told = Told()
    batch = BatchLine("b-1", Cause.LINGER, 3, 4, 0.0)
    batch.outcomes = {Outcome.DELIVERED: 2, Outcome.REJECTED: 1}
    with capture_logs() as lines:
        told.lane.batch_dispatched(Cause.LINGER, 3)
        told.lane.batch_ended(batch, 0.123456)
    assert lines == [
        {
            "event": "batch",
            "log_level": "info",
            "lane": "vip",
            "batch_id": "b-1",
            "cause": "linger",
            "events": 3,
            "operations": 4,
            "outcomes": {"delivered": 2, "rejected": 1},
            "seconds": 0.1235,
        }
    ]
    assert told.shown("batch_events_count", cause="linger") == 1
    assert told.shown("batch_events_sum", cause="linger") == 3


def test_events_and_operations_are_never_logged_one_by_one() -> None:
    """Settling, ending and retrying are counted in silence."""
    told = Told()
    with capture_logs() as lines:
        told.lane.settled([item(Outcome.REJECTED, Reason.REFUSED)], 0.1, NOW_MS)
        told.lane.unit_ended(Unit(item(None), Operation("segment.join", "T", "5", outcome=Outcome.REJECTED)))
        told.lane.retried("throttled")
    assert lines == []
    assert told.shown("retries_total", cause="throttled") == 1


def test_the_state_is_shown_as_one_of_all() -> None:
    """Exactly one state is 1; a hold is a warning that says why, but for imports that wait for each other."""
    told = Told()
    assert told.shown("lane_state", state="standby") == 1
    with capture_logs() as lines:
        told.lane.state_changed(LaneState.RUNNING, None)
        told.lane.state_changed(LaneState.HOLDING, "waiting for a slot")
        told.lane.state_changed(LaneState.HOLDING, "breaker open")
    assert [told.shown("lane_state", state=state.value) for state in LaneState].count(1.0) == 1
    assert told.shown("lane_state", state="holding") == 1
    assert [(line["log_level"], line["state"], line["reason"]) for line in lines] == [
        ("info", LaneState.RUNNING, None),
        ("info", LaneState.HOLDING, "waiting for a slot"),
        ("warning", LaneState.HOLDING, "breaker open"),
    ]


def test_lost_records_are_counted_and_told() -> None:
    """As many as offsets are gone."""
    told = Told()
    with capture_logs() as lines:
        told.lane.records_lost("contacts.changed", 3, 100, 150)
    assert told.shown("lost_records_total") == 50
    assert lines[0]["event"] == "records_lost"
    assert (lines[0]["first"], lines[0]["end"], lines[0]["log_level"]) == (100, 150, "error")


def test_a_thousand_equal_faults_are_one_line() -> None:
    """Each fault on its own record would be a line per event; the next line says how many were held back."""
    told = Told()
    stack = ["a.py:1 f", "b.py:2 g"]
    with capture_logs() as lines:
        for offset in range(1000):
            told.lane.handler_fault("KeyError", stack, Reason.HANDLER_ERROR)
            told.lane.unparsable("contacts.changed", 0, offset)
            told.lane.kafka_error("KafkaTimeoutError")
            told.lane.transaction_lost("timed out")
        told.clock.advance(10.0)
        told.lane.handler_fault("KeyError", stack, Reason.HANDLER_ERROR)
    assert len(lines) == 5
    assert lines[0]["stack"] == stack
    assert lines[4]["held_back"] == 999


def test_all_other_changes_are_told() -> None:
    """Assignment, revocation, fencing and unreadable metadata are a line each."""
    told = Told()
    with capture_logs() as lines:
        told.lane.assigned(6, 2, 1.25, {"journal_s": 1.0})
        told.lane.read_back(3, 0.5)
        told.lane.revoked(10, 0.5)
        told.lane.fenced()
        told.lane.metadata_ignored("contacts.changed", 1, "damaged")
    assert [line["event"] for line in lines] == [
        "partitions_assigned",
        "dedupe_read_back",
        "partitions_revoked",
        "settlement_fenced",
        "commit_metadata_ignored",
    ]
    assert all(line["lane"] == "vip" for line in lines)
    assert (lines[0]["seconds"], lines[0]["journal_s"]) == (1.25, 1.0)


def test_requests_are_counted_by_status() -> None:
    """Statuses, and the kind of failure where there is no answer."""
    telemetry = Telemetry()
    account = AccountTelemetry(telemetry, "np6-main", "vip")
    for status in ("204", "204", "timed_out"):
        account.request_ended(status, 0.02)
    value = telemetry.metrics.registry.get_sample_value
    labels = {"lane": "vip", "account": "np6-main"}
    assert value("fanline_requests_total", {**labels, "status": "204"}) == 2
    assert value("fanline_requests_total", {**labels, "status": "timed_out"}) == 1
    assert value("fanline_request_seconds_count", labels) == 3


def test_an_accounts_gauges() -> None:
    """Breaker, what the platform says is left, what may be in flight; unknown is not zero."""
    telemetry = Telemetry()
    account = AccountTelemetry(telemetry, "np6-main", "vip")
    value = telemetry.metrics.registry.get_sample_value
    labels = {"lane": "vip", "account": "np6-main"}
    account.show(breaker_open=True, remaining=None, concurrency_limit=16.0)
    assert value("fanline_breaker_open", labels) == 1
    assert value("fanline_rate_limit_remaining", labels) is None
    assert value("fanline_concurrency_limit", labels) == 16
    account.show(breaker_open=False, remaining=7, concurrency_limit=None)
    assert value("fanline_breaker_open", labels) == 0
    assert value("fanline_rate_limit_remaining", labels) == 7


def test_counting_is_cheap() -> None:
    """The whole of it costs well under two microseconds per event (0.2 s per 100,000, with much to spare)."""
    told = Told()
    items = [item(Outcome.DELIVERED) for _ in range(500)]
    unit = Unit(items[0], Operation("segment.join", "T", "5", outcome=Outcome.DELIVERED))
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        for _ in range(20):
            told.lane.settled(items, 0.01, NOW_MS)
            for _ in range(500):
                told.lane.unit_ended(unit)
        best = min(best, time.process_time() - began)
    assert best / 10_000 < 2e-6
