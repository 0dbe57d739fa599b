"""Results: built once, read by anybody, bounded."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.envelope import Undecodable, UndecodableKind
from contracts.events import ContactChanged, Event
from contracts.outcomes import PAIRS, Outcome, Reason
from contracts.reader import ResultReader
from contracts.results import (
    RESULT_HEADERS,
    Operation,
    Origin,
    Replay,
    ResultEncoder,
    ResultError,
    decode_result,
)
from contracts.timestamps import parse_rfc3339_ms
from tests.unit.contracts.cases import TEXT

ENCODER = ResultEncoder(
    lane="vip", handler="np6.segments", platform="np6", account="np6-main", config="9f3c2a10", dry_run=True
)
EVENT = Event("e-1", "/crm", "contact.changed.v1", ContactChanged("c", "created"), "s", "acme", "trace")
DEFAULTS: dict[str, Any] = {
    "result_id": "r-1",
    "event": EVENT,
    "outcome": Outcome.DELIVERED,
    "reason": None,
    "detail": None,
    "operations": [],
    "attempts": 1,
    "batch_id": "b-1",
    "coalesced_into": None,
    "topic": "contacts.changed",
    "partition": 3,
    "offset": 1207,
    "timestamp_ms": 1000,
    "replay": None,
    "dead_letter": False,
    "received_at_ms": 2000,
    "completed_at_ms": 3000,
}


def encoded(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(ENCODER.encode(**(DEFAULTS | changes)))
    return document


def test_every_field_is_where_the_contract_says() -> None:
    """One result, field by field, in the contract's order."""
    operation = Operation("segment.join", "000PKXK4", "501", Outcome.DELIVERED, None, None, 204, None, 1)
    document = encoded(operations=[operation])
    assert document == {
        "specversion": "1.0",
        "id": "r-1",
        "source": "fanline/vip",
        "subject": "e-1",
        "type": "sync.result.v1",
        "time": "1970-01-01T00:00:03.000Z",
        "datacontenttype": "application/json",
        "traceparent": "trace",
        "data": {
            "event": {"id": "e-1", "source": "/crm", "type": "contact.changed.v1", "tenant": "acme"},
            "lane": "vip",
            "handler": "np6.segments",
            "platform": "np6",
            "account": "np6-main",
            "config": "9f3c2a10",
            "outcome": "delivered",
            "reason": None,
            "detail": None,
            "operations": [
                {
                    "kind": "segment.join",
                    "target": "000PKXK4",
                    "entity": "501",
                    "outcome": "delivered",
                    "reason": None,
                    "detail": None,
                    "status": 204,
                    "reference": None,
                    "attempts": 1,
                }
            ],
            "attempts": 1,
            "batch_id": "b-1",
            "coalesced_into": None,
            "origin": {
                "topic": "contacts.changed",
                "partition": 3,
                "offset": 1207,
                "timestamp": "1970-01-01T00:00:01.000Z",
            },
            "replay": None,
            "dead_letter": False,
            "dry_run": True,
            "received_at": "1970-01-01T00:00:02.000Z",
            "completed_at": "1970-01-01T00:00:03.000Z",
        },
    }
    assert list(document["data"]["operations"][0])[:3] == ["kind", "target", "entity"]
    assert dict(RESULT_HEADERS) == {"content-type": b"application/cloudevents+json; charset=UTF-8"}


_OPERATION = st.builds(
    Operation,
    TEXT,
    st.none() | TEXT,
    st.none() | TEXT,
    st.none() | st.sampled_from(Outcome),
    st.none() | st.sampled_from(Reason),
    st.none() | TEXT,
    st.none() | st.integers(100, 599),
    st.none() | TEXT,
    st.integers(0, 99),
)
_PAIR = st.sampled_from([(outcome, reason) for outcome, reasons in PAIRS.items() for reason in reasons])
_MS = st.integers(0, 2**41)


@settings(max_examples=200, deadline=None)
@given(
    st.builds(Event, TEXT, TEXT, TEXT, st.just(EVENT.data), st.none(), st.none() | TEXT, st.none() | TEXT),
    _PAIR,
    st.none() | TEXT,
    st.lists(_OPERATION, max_size=3),
    st.tuples(TEXT, st.integers(0, 99), st.integers(0, 2**63 - 1), st.integers(-1, 2**63 - 1)),
    st.tuples(_MS, _MS),
)
def test_what_is_encoded_is_decoded(
    event: Event,
    pair: tuple[Outcome, Reason | None],
    detail: str | None,
    operations: list[Operation],
    place: tuple[str, int, int, int],
    times: tuple[int, int],
) -> None:
    """Valid JSON, whatever the texts are, and each value comes back."""
    changes: dict[str, Any] = dict(zip(("topic", "partition", "offset", "timestamp_ms"), place, strict=True))
    changes |= dict(zip(("received_at_ms", "completed_at_ms"), times, strict=True))
    changes |= {"event": event, "outcome": pair[0], "reason": pair[1]}
    changes |= {"detail": detail, "operations": operations}
    value = ENCODER.encode(**(DEFAULTS | changes))
    result = decode_result(value)
    assert msgspec.json.encode(result) == value
    assert (result.subject, result.data.outcome, result.data.reason) == (event.id, *pair)
    assert result.data.operations == operations
    assert result.data.detail == detail
    assert result.data.origin.offset == place[2]
    assert [parse_rfc3339_ms(text) for text in (result.data.received_at, result.time)] == list(times)
    assert result.data.completed_at == result.time


def test_results_of_records_that_are_no_events() -> None:
    """What could be read of the envelope; nothing is invented."""
    whole = Undecodable(UndecodableKind.CONTRACT, "x", "e-1", "/crm", "t", None, "acme", "trace")
    assert encoded(event=whole)["data"]["event"]["id"] == "e-1"
    part = encoded(event=Undecodable(UndecodableKind.MALFORMED, "x", id="e-1"))
    assert (part["subject"], part["data"]["event"]) == ("e-1", None)
    nothing = encoded(event=None, timestamp_ms=-1)
    assert "subject" not in nothing
    assert "traceparent" not in nothing
    assert nothing["data"]["event"] is None
    assert nothing["data"]["origin"]["timestamp"] is None


@pytest.mark.parametrize("missing", ["id", "source", "type"])
def test_without_one_of_its_names_an_event_is_not_described(missing: str) -> None:
    """All of it or nothing; the id alone is the subject, and the trace goes on whatever else is broken."""
    read = {"id": "e-1", "source": "/crm", "type": "t", "tenant": "acme", "traceparent": "trace"}
    document = encoded(event=Undecodable(UndecodableKind.MALFORMED, "x", **read))
    assert document["data"]["event"] == {"id": "e-1", "source": "/crm", "type": "t", "tenant": "acme"}
    assert (document["subject"], document["traceparent"]) == ("e-1", "trace")
    document = encoded(event=Undecodable(UndecodableKind.MALFORMED, "x", **read | {missing: None}))
    assert document["data"]["event"] is None
    assert document.get("subject") == (None if missing == "id" else "e-1")
    assert document["traceparent"] == "trace"


def test_a_timestamp_that_is_no_instant() -> None:
    """A producer may write any 64 bits there."""
    assert encoded(timestamp_ms=2**63 - 1)["data"]["origin"]["timestamp"] is None


def test_the_replay_names_the_run_and_the_first_source_record() -> None:
    """As its headers told."""
    replay = Replay("run-1", Origin("contacts.changed", 3, 7, None))
    assert encoded(replay=replay)["data"]["replay"] == {
        "id": "run-1",
        "origin": {"topic": "contacts.changed", "partition": 3, "offset": 7, "timestamp": None},
    }


def test_texts_of_others_are_cut() -> None:
    """A result stays small, whatever the event and the platform wrote; the operations given stay as they are."""
    long = "é" * 5000
    operation = Operation("segment.join", long, long, detail=long, reference=long)
    event = Event(long, long, long, EVENT.data)
    document = encoded(event=event, detail=long, operations=[operation])
    assert {name: len(document["data"]["event"][name]) for name in ("id", "source", "type")} == {
        "id": 1024,
        "source": 1024,
        "type": 1024,
    }
    assert len(document["subject"]) == 1024
    assert len(document["data"]["detail"]) == 500
    written = document["data"]["operations"][0]
    assert [len(written[name]) for name in ("target", "entity", "reference", "detail")] == [255, 255, 255, 500]
    assert operation.target == long
    partial = encoded(event=Undecodable(UndecodableKind.MALFORMED, "x", id=long))
    assert len(partial["subject"]) == 1024


@pytest.mark.parametrize("name", ["id", "source", "type"])
def test_each_name_of_an_event_is_cut_by_itself(name: str) -> None:
    """Also where all others are short; tenant and trace stay."""
    read = {"id": "i", "source": "s", "type": "t"} | {name: "x" * 1025}
    document = encoded(event=Event(**read, data=EVENT.data, tenant="acme", traceparent="trace"))
    assert document["data"]["event"] == read | {name: "x" * 1024, "tenant": "acme"}
    assert (document["subject"], document["traceparent"]) == (read["id"][:1024], "trace")


@pytest.mark.parametrize("at_ms", [0, 1])
def test_the_first_result_has_its_own_times(at_ms: int) -> None:
    """What a lane's encoder remembers of times is that of its last result, and of none at first."""
    encoder = ResultEncoder(lane="vip", handler="h", platform="p", account="a", config="c")
    document = json.loads(encoder.encode(**DEFAULTS | {"received_at_ms": at_ms, "completed_at_ms": at_ms}))
    times = {document["time"], document["data"]["received_at"], document["data"]["completed_at"]}
    assert times == {f"1970-01-01T00:00:00.00{at_ms}Z"}


@pytest.mark.parametrize("name", ["target", "entity", "reference", "detail"])
def test_each_text_of_an_operation_is_cut_by_itself(name: str) -> None:
    """Also where all others are short."""
    operation = Operation("segment.join", "t", "e")
    setattr(operation, name, "x" * 501)
    assert len(encoded(operations=[operation])["data"]["operations"][0][name]) in (255, 500)


def test_half_a_surrogate_pair_is_replaced() -> None:
    """A text of a platform may hold one; the result is valid JSON in UTF-8 nevertheless."""
    operation = Operation("segment.join", "a\ud800", "501", Outcome.REJECTED, Reason.REFUSED)
    data = encoded(detail="x\udc00y", operations=[operation], event=None)["data"]
    assert (data["detail"], data["operations"][0]["target"]) == ("x?y", "a?")
    assert (data["operations"][0]["outcome"], data["event"]) == ("rejected", None)


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"specversion":"0.3"}'])
def test_what_is_no_result(value: bytes) -> None:
    """One error, which quotes nothing."""
    with pytest.raises(ResultError):
        decode_result(value)


def test_readers_ignore_unknown_fields() -> None:
    """So that later versions can add some."""
    document = encoded()
    document["more"] = document["data"]["more"] = 1
    assert decode_result(json.dumps(document).encode()).data.lane == "vip"


def test_the_reader_drops_repeats_within_its_window() -> None:
    """The first counts; beyond the window an id is forgotten, and memory stays bounded."""
    reader = ResultReader(window=2)
    values = {name: ENCODER.encode(**(DEFAULTS | {"result_id": name})) for name in "abc"}
    read = [reader.read(values[name]) for name in "aabacab"]
    assert [result and result.id for result in read] == ["a", None, "b", None, "c", None, "b"]
    assert len(reader._seen) == 2
    of_one = ResultReader(window=1)
    assert [result and result.id for result in map(of_one.read, map(values.get, "aaba"))] == ["a", None, "b", "a"]
    with pytest.raises(ValueError, match=r"^window must be at least 1$"):
        ResultReader(window=0)


def test_the_reader_remembers_a_hundred_thousand_results() -> None:
    """As its text promises, without being told how many."""
    assert ResultReader()._window == 100_000
