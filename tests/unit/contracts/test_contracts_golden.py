"""The bytes of each contract: a changed byte is a reviewed change.

``FANLINE_WRITE_GOLDEN=1 pytest tests/unit/contracts/test_contracts_golden.py`` writes the files anew.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts import control, ids, journal
from contracts.deadletters import Position, dead_letter_headers
from contracts.envelope import Undecodable, UndecodableKind, decode
from contracts.events import Event
from contracts.export import asyncapi, json_schemas
from contracts.outcomes import Outcome, Reason
from contracts.results import Operation, Origin, Replay, ResultEncoder
from tests.unit.contracts.cases import BINARY, STRUCTURED, contact_event, dumped, notification_event

GOLDEN = Path(__file__).parents[2] / "golden" / "contracts"
AT_MS = 1_795_312_800_123
BATCH = ids.batch_id("vip-segment", [("contacts.changed", 3, 1207)])
JOIN = Operation("segment.join", "000PKXK4", "501", Outcome.DELIVERED, None, None, 204, None, 1)


def result(outcome: Outcome, reason: Reason | None = None, **changes: Any) -> str:
    event = decode(dumped(contact_event()), STRUCTURED)
    place = ("contacts.changed", 3, 1207, AT_MS)
    values: dict[str, Any] = {
        "result_id": ids.result_id("vip-segment", *place),
        "event": event,
        "detail": None,
        "operations": [],
        "attempts": 0,
        "batch_id": None,
        "coalesced_into": None,
        "replay": None,
        "dead_letter": False,
        "received_at_ms": AT_MS + 10,
        "completed_at_ms": AT_MS + 300,
    }
    values |= dict(zip(("topic", "partition", "offset", "timestamp_ms"), place, strict=True)) | changes
    encoder = ResultEncoder(
        lane="vip-segment", handler="np6.segments", platform="np6", account="np6-main", config="9f3c2a10"
    )
    return encoder.encode(outcome=outcome, reason=reason, **values).decode()


def results() -> dict[str, str]:
    refused = Operation(
        "segment.leave", "000PKXK4", "502", Outcome.REJECTED, Reason.REFUSED, "No: •••", 422, "req-1", 2
    )
    origin = Origin("contacts.changed", 3, 7, None)
    unreadable = {"event": None, "timestamp_ms": -1, "dead_letter": True}
    return {
        "delivered": result(Outcome.DELIVERED, operations=[JOIN], attempts=1, batch_id=BATCH),
        "skipped": result(Outcome.SKIPPED, Reason.WHERE),
        "rejected": result(
            Outcome.REJECTED,
            Reason.REFUSED,
            detail="No: •••",
            operations=[refused, JOIN],
            attempts=2,
            batch_id=BATCH,
            dead_letter=True,
        ),
        "replayed": result(Outcome.DELIVERED, operations=[JOIN], replay=Replay("run-1", origin)),
        "coalesced": result(Outcome.DELIVERED, coalesced_into=ids.result_id("vip-segment", "t", 0, 1, 2)),
        "contract": result(
            Outcome.INVALID,
            Reason.CONTRACT,
            event=Undecodable(UndecodableKind.CONTRACT, "", "e-1", "/crm", "contact.changed.v1"),
            detail="data.contact_id: missing",
            dead_letter=True,
        ),
        "unreadable": result(Outcome.INVALID, Reason.MALFORMED, **unreadable),
    }


def headers() -> dict[str, list[list[str | None]]]:
    read = Position("contacts.changed", 3, 1207, AT_MS)
    first = dead_letter_headers(
        [("content-type", b"application/json"), ("fanline-lane", b"forged")],
        lane="vip-segment",
        outcome=Outcome.REJECTED,
        reason=Reason.REFUSED,
        detail="No: •••",
        result_id=ids.result_id("vip-segment", "contacts.changed", 3, 1207, AT_MS),
        read=read,
        attempts=2,
        failed_at_ms=AT_MS + 300,
        status=422,
    )
    again = dead_letter_headers(
        [*first, ("fanline-replays", b"1"), ("fanline-replay-id", b"run-1")],
        lane="vip-segment",
        outcome=Outcome.EXPIRED,
        reason=Reason.DEADLINE,
        detail=None,
        result_id=ids.result_id("vip-segment", "fanline.vip-segment.replay", 3, 0, AT_MS),
        read=Position("fanline.vip-segment.replay", 3, 0, AT_MS),
        attempts=0,
        failed_at_ms=AT_MS + 400,
        is_replay=True,
    )
    return {
        name: [[header, None if value is None else value.decode()] for header, value in written]
        for name, written in (("first", first), ("replayed", again))
    }


def journal_records() -> dict[str, str]:
    entries: list[tuple[journal.Key, journal.Entry]] = [
        (
            journal.StartKey("contacts.changed"),
            journal.Start("earliest", AT_MS, 6, 0, (journal.Lost(5, 9, "ops", AT_MS),)),
        ),
        (journal.SettledKey("contacts.changed"), journal.Settled(1208, "fl1rAAAA")),
        (journal.HeldTimeKey(), journal.HeldTime(((AT_MS, AT_MS + 5), (AT_MS + 9, None)))),
        (
            journal.DeliveryKey("d-1"),
            journal.Delivery("import", journal.DeliveryState.BEGUN, {"contacts.changed": ((3, 7, 9),)}, AT_MS),
        ),
        (
            journal.DeliveryKey("i-1"),
            journal.Delivery(
                "apsis.imports",
                journal.DeliveryState.CREATED,
                {"contacts.changed": ((3, 7, 9), (6, 1, 2))},
                AT_MS,
                "import-1",
                journal.ImportEntry(0, 3, "ab" * 32, "https://files.example/", (("key", "k"),), AT_MS + 3_600_000),
            ),
        ),
        (journal.ContactKey(b"contact-1"), journal.Contact((journal.Open("contacts.changed", 3, 7, AT_MS),))),
    ]
    return {journal.encode_key(key).decode(): journal.encode_entry(entry).decode() for key, entry in entries}


def control_records() -> dict[str, str]:
    by = ("ops@host", "the platform is being mended", AT_MS)
    records: list[tuple[control.Key, control.Order]] = [
        (control.LaneKey("vip-segment"), control.Switch(control.Action.PAUSE, *by)),
        (control.AccountKey("np6-main"), control.Switch(control.Action.RESUME, *by)),
        (control.GuardKey("vip-segment"), control.Release(*by)),
        (control.LossKey("vip-segment", "contacts.changed-v1", 3), control.Loss(100, 250, *by)),
        (control.LossKey("vip-segment", "contacts.changed-v1", 4), control.Loss(7, 7, *by, offsets_lost=True)),
    ]
    return {control.encode_key(key).decode(): control.encode_order(order).decode() for key, order in records}


def known_ids() -> dict[str, str]:
    result_id = ids.result_id("vip-segment", "contacts.changed", 3, 1207, AT_MS)
    return {
        "result": result_id,
        "result without timestamp": ids.result_id("vip-segment", "contacts.changed", 3, 1207, -1),
        "batch": BATCH,
        "execution": ids.execution_id(result_id),
        "stamp": ids.stamp_id(result_id),
        "thread": ids.thread_id("/crm", "e-1"),
        "notification": ids.notification_id("np6-main", 12, "000PKXK4", "dismiss", "2026-11-22T02:03:04Z"),
        "hashed key": ids.hashed_key(b"contact-1").decode(),
    }


def events() -> dict[str, Any]:
    """What is read of one event of each type, in each mode."""
    read = {
        "contact, structured": decode(dumped(contact_event()), STRUCTURED),
        "contact, binary": decode(dumped(contact_event()["data"]), BINARY),
        "notification, structured": decode(dumped(notification_event()), STRUCTURED),
    }
    assert all(isinstance(event, Event) for event in read.values())
    return {name: msgspec.to_builtins(event) for name, event in read.items()}


CONTRACTS: dict[str, Callable[[], Any]] = {
    "results": results,
    "dead-letter-headers": headers,
    "journal": journal_records,
    "control": control_records,
    "ids": known_ids,
    "events": events,
    "schemas": json_schemas,
    "asyncapi": asyncapi,
}


@pytest.mark.parametrize("name", sorted(CONTRACTS))
def test_bytes_of_the_contracts(name: str) -> None:
    """What is written today is, byte for byte, what was reviewed."""
    written = (json.dumps(CONTRACTS[name](), ensure_ascii=False, indent=2) + "\n").encode()
    path = GOLDEN / f"{name}.json"
    if os.environ.get("FANLINE_WRITE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(written)
    assert path.read_bytes() == written


def test_no_golden_file_is_left_over() -> None:
    """Each file belongs to a contract."""
    assert {path.stem for path in GOLDEN.iterdir()} == set(CONTRACTS)
