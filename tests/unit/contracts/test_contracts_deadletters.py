"""The headers of dead letters: a fixed set, believed only where we wrote them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.deadletters import (
    DEAD_LETTER_HEADERS,
    PREFIX,
    REPLAY_ID,
    DeadLetter,
    Headers,
    Position,
    ReplayRecord,
    dead_letter_headers,
    read_dead_letter,
    read_replay,
)
from contracts.outcomes import Outcome, Reason
from contracts.results import Origin, Replay

READ = Position("contacts.changed", 3, 1207, 1000)
DEFAULTS: dict[str, Any] = {
    "lane": "vip",
    "outcome": Outcome.REJECTED,
    "reason": Reason.REFUSED,
    "detail": "no: •••",
    "result_id": "r-1",
    "read": READ,
    "attempts": 2,
    "failed_at_ms": 2000,
    "status": 422,
}


def headers_of(original: Headers, **changes: Any) -> list[tuple[str, bytes | None]]:
    return dead_letter_headers(original, **(DEFAULTS | changes))


def replayed(letter: Headers, replays: int, run: str) -> list[tuple[str, bytes | None]]:
    """As the replay command sends it."""
    kept = [header for header in letter if header[0] != "fanline-replays"]
    return [*kept, ("fanline-replays", str(replays).encode()), ("fanline-replay-id", run.encode())]


def test_the_headers_of_a_dead_letter() -> None:
    """Behind the original ones, which stay as they are: repeated, null and not UTF-8."""
    original: Headers = [("a", b"\xff"), ("a", None), ("ce_id", b"1")]
    assert headers_of(original) == [
        *original,
        ("fanline-lane", b"vip"),
        ("fanline-outcome", b"rejected"),
        ("fanline-reason", b"refused"),
        ("fanline-detail", "no: •••".encode()),
        ("fanline-result-id", b"r-1"),
        ("fanline-origin-topic", b"contacts.changed"),
        ("fanline-origin-partition", b"3"),
        ("fanline-origin-offset", b"1207"),
        ("fanline-origin-timestamp", b"1970-01-01T00:00:01.000Z"),
        ("fanline-attempts", b"2"),
        ("fanline-failed-at", b"1970-01-01T00:00:02.000Z"),
        ("fanline-status", b"422"),
        ("fanline-replays", b"0"),
    ]


def test_what_is_unknown_is_left_out() -> None:
    """No empty header, no "None"."""
    names = [
        name
        for name, _ in headers_of([], detail=None, status=None, read=Position("t", 0, 1, -1), reason=None, attempts=0)
    ]
    missing = {"fanline-detail", "fanline-status", "fanline-origin-timestamp", "fanline-reason"}
    assert names == [name for name in DEAD_LETTER_HEADERS if name not in missing]


def test_headers_of_ours_on_a_source_record_are_not_believed() -> None:
    """They are left out, the only exception to byte for byte."""
    forged: Headers = [
        ("fanline-origin-topic", b"elsewhere"),
        ("fanline-origin-partition", b"9"),
        ("fanline-origin-offset", b"9"),
        ("fanline-replays", b"4"),
        ("fanline-anything", b"x"),
        ("kept", b"1"),
    ]
    assert headers_of(forged) == headers_of([("kept", b"1")])


def test_a_replay_carries_the_first_source_record_on() -> None:
    """Hop after hop each header stands there once, with its newest value."""
    letter = headers_of([("kept", b"1")])
    for hop in range(1, 4):
        record = replayed(letter, hop, f"run-{hop}")
        letter = headers_of(
            record, is_replay=True, read=Position("fanline.vip.replay", 3, hop, 5000), result_id=f"r-{hop}"
        )
        read = read_dead_letter(letter)
        assert read is not None
        assert (read.origin, read.replays, read.result_id) == (READ, hop, f"r-{hop}")
        assert [name for name, _ in letter] == ["kept", *DEAD_LETTER_HEADERS]


def test_a_replay_without_a_readable_origin() -> None:
    """Then the record that was read is the origin: something true rather than nothing."""
    place = Position("fanline.vip.replay", 3, 1, 5000)
    letter = headers_of([("fanline-origin-topic", b"t")], is_replay=True, read=place)
    read = read_dead_letter(letter)
    assert read is not None
    assert read.origin == place


def test_what_a_replay_tells() -> None:
    """And how a result writes it."""
    record = replayed(headers_of([]), 2, "run-1")
    replay = read_replay(record)
    assert replay == ReplayRecord(READ, 2, "run-1")
    assert replay.result_replay() == Replay("run-1", Origin("contacts.changed", 3, 1207, "1970-01-01T00:00:01.000Z"))
    assert read_replay([("a", b"1")]) is None
    lost = read_replay([("fanline-replays", b"1")])
    assert lost is not None
    assert lost.result_replay() == Replay(None, None)


def test_what_a_dead_letter_tells() -> None:
    """All that was written."""
    assert read_dead_letter(headers_of([])) == DeadLetter(
        lane="vip",
        outcome=Outcome.REJECTED,
        reason=Reason.REFUSED,
        detail="no: •••",
        result_id="r-1",
        origin=READ,
        attempts=2,
        failed_at_ms=2000,
        status=422,
        replays=0,
    )


def test_a_dead_letter_that_tells_the_least() -> None:
    """What was unknown, or is unreadable, is None again; counts are 0 then."""
    kept = {PREFIX + name for name in ("lane", "outcome", "result-id", "origin-topic")}
    numbers = [(PREFIX + "origin-partition", b"0"), (PREFIX + "origin-offset", str(2**63 - 1).encode())]
    least = [header for header in headers_of([]) if header[0] in kept] + numbers
    place = Position("contacts.changed", 0, 2**63 - 1)
    expected = DeadLetter("vip", Outcome.REJECTED, None, None, "r-1", place, 0, None, None, 0)
    assert read_dead_letter(least) == expected
    unreadable = [("attempts", b"many"), ("failed-at", b"late"), ("status", b"-1"), ("replays", b"1" * 20)]
    assert read_dead_letter([*least, *((PREFIX + name, value) for name, value in unreadable)]) == expected
    assert read_replay([(REPLAY_ID, b"run-1")]) == ReplayRecord(None, 0, "run-1")


def test_of_a_repeated_header_the_last_counts() -> None:
    """Also where it is unreadable: then the header is none. A null one is no header."""
    letter = headers_of([])
    for last, detail in [(b"new", "new"), (b"\xff", None), (None, "no: •••")]:
        read = read_dead_letter([*letter, (PREFIX + "detail", last)])
        assert read is not None
        assert read.detail == detail


def test_half_a_surrogate_pair_makes_no_dead_letter_fail() -> None:
    """A platform's text may hold one; headers are UTF-8."""
    assert (PREFIX + "detail", b"a?") in headers_of([], detail="a\ud800")


@pytest.mark.parametrize("name", ["lane", "outcome", "result-id", "origin-topic", "origin-partition", "origin-offset"])
@pytest.mark.parametrize("value", [b"\xff", b""])
def test_what_is_no_dead_letter(name: str, value: bytes) -> None:
    """Without these it cannot be told where it came from."""
    damaged = [header for header in headers_of([]) if header[0] != PREFIX + name]
    assert read_dead_letter(damaged) is None
    assert read_dead_letter([*damaged, (PREFIX + name, value)]) is None


@given(
    st.lists(st.tuples(st.sampled_from(DEAD_LETTER_HEADERS) | st.text(max_size=9), st.none() | st.binary(max_size=9)))
)
def test_no_headers_make_reading_raise(headers: list[tuple[str, bytes | None]]) -> None:
    """Whatever stands in them; and ours stand once behind them."""
    read_dead_letter(headers)
    read_replay(headers)
    for is_replay in (False, True):
        written = [name for name, _ in headers_of(headers, is_replay=is_replay) if name.startswith(PREFIX)]
        assert sorted(set(written)) == sorted(written)
