"""The record of calls: two entries each, nothing lost, nothing secret."""

from typing import Any

import msgspec

from handlers.sandbox import Call, CallLog, KeyState
from handlers.sandbox.calls import merge


def begin(log: CallLog, target: str | None = "T", **given: Any) -> Call | None:
    fields: dict[str, Any] = {
        "platform": "np6",
        "account": "a",
        "method": "POST",
        "kind": "join",
        "entity": "5",
        "key": KeyState.RIGHT,
        "headers": {"X-Key": "secret-key", "Content-Length": "0", "Authorization": "secret"},
        "path": "/raw",
    }
    return log.begin(target=target, **{**fields, **given})


def test_a_call_is_recorded_when_it_starts_and_when_it_ends() -> None:
    """A call that runs is there already, without an end; entries are in the order of what happened."""
    log = CallLog()
    first, second = begin(log, "T1"), begin(log, "T2")
    log.end(second, status=204, effect=True)
    assert [(entry["seq"], entry["phase"], entry["call"]) for entry in log.entries()] == [
        (1, "start", 1),
        (2, "start", 2),
        (3, "end", 2),
    ]
    assert (log.count, log.running, log.last_seq) == (2, 1, 3)
    running, ended = log.calls()
    assert running.ended_s is None
    assert ended.ended_s is not None
    assert ended.started_s <= ended.ended_s
    log.end(first, status=None, effect=True, deviation="prescribed", client_gone=True)
    assert [entry["call"] for entry in log.entries(after=3)] == [1]


def test_entries_give_the_calls_back() -> None:
    """Read in two halves and over JSON, the record is the same as in the process."""
    log = CallLog()
    calls = [begin(log, f"T{n}") for n in range(3)]
    half = list(log.entries())
    for call in calls[:2]:
        log.end(call, status=409, effect=False, deviation="outage")
    merged: dict[int, Call] = {}
    for entry in [*half, *log.entries(after=len(half))]:
        merge(merged, msgspec.json.decode(msgspec.json.encode(entry)))
    assert list(merged.values()) == log.calls()


def test_no_credentials_are_kept() -> None:
    """Of the headers only harmless ones are recorded, of the key only whether it was right."""
    log = CallLog()
    begin(log)
    text = msgspec.json.encode(list(log.entries()))
    assert b"secret" not in text
    assert b'"key":"right"' in text
    assert b'"Content-Length":"0"' in text


def test_a_path_is_kept_where_no_target_was_read() -> None:
    """A request that is nothing known can be looked at as it came."""
    log = CallLog()
    begin(log)
    begin(log, None, kind="other", path="/targets/%2E%2E/segments/1")
    assert [call.path for call in log.calls()] == [None, "/targets/%2E%2E/segments/1"]


def test_without_recording_calls_are_counted_only() -> None:
    """Benchmarks keep nothing."""
    log = CallLog(record=False)
    log.end(begin(log), status=204, effect=True)
    assert (log.count, log.running, log.calls(), log.last_seq) == (1, 0, [], 0)


def test_a_call_that_ends_after_a_reset_leaves_no_trace() -> None:
    """Numbers begin anew, and an old call does not end a new one."""
    log = CallLog()
    old = begin(log, "old")
    log.clear()
    begin(log, "new")
    log.end(old, status=204, effect=True)
    assert [(entry["phase"], entry["call"]) for entry in log.entries()] == [("start", 1)]
    assert log.calls()[0].ended_s is None
    assert log.running == 1


def test_entries_that_come_while_reading_are_read() -> None:
    """Reading goes on to the end that there is when it gets there."""
    log = CallLog()
    begin(log)
    entries = log.entries()
    next(entries)
    begin(log)
    assert [entry["seq"] for entry in entries] == [2]
