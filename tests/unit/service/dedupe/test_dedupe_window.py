"""The rule of the dedupe window, and what it remembers."""

from sys import getsizeof

import pytest

from contracts.envelope import Undecodable, UndecodableKind, decode
from service.dedupe import window as module
from service.dedupe.events import repeats
from service.dedupe.window import ENTRY_BYTES, DedupeWindow, identity

MINUTE = 60_000
T = 1_767_225_600_000
A, B = identity("crm", "a"), identity("crm", "b")


def window(window_ms: int = 10 * MINUTE) -> DedupeWindow:
    return DedupeWindow(window_ms, begin=0, disorder_ms=MINUTE)


@pytest.mark.parametrize("window_ms", [1, 2, 3, 10 * MINUTE, 10 * MINUTE + 1])
@pytest.mark.parametrize("start_ms", [0, 1, T, T + 299_999, T + 300_001])
def test_at_most_the_window_apart_to_the_millisecond(window_ms: int, start_ms: int) -> None:
    """In both directions: timestamps may run backwards."""
    for apart_ms, expected in [(0, True), (window_ms - 1, True), (window_ms, True), (window_ms + 1, False)]:
        for begin, offset in ((0, 0), (7, 7), (7, 8)):
            later = DedupeWindow(window_ms, begin=begin, disorder_ms=MINUTE)
            back = DedupeWindow(window_ms, begin=begin, disorder_ms=MINUTE)
            assert not later.repeats(A, start_ms, offset)
            assert later.repeats(A, start_ms + apart_ms, offset + 1) is expected
            assert not back.repeats(A, start_ms + apart_ms, offset)
            assert back.repeats(A, start_ms, offset + 1) is expected


def test_another_source_or_id_is_another_event() -> None:
    """Also where source and id run together to the same text."""
    keys = {identity("crm", "ab"), identity("crma", "b"), identity("crm", "ba"), identity("", "crmab")}
    assert len(keys) == 4
    assert identity("crm", "ab") in keys
    assert identity("\ud800", "\udfff") != identity("\udfff", "\ud800")
    seen = window()
    assert not seen.repeats(A, T, 0)
    assert not seen.repeats(B, T, 1)


def test_what_repeats_counts_itself_for_those_behind_it() -> None:
    """An event that comes again every nine minutes never gets through again: each is near an earlier one."""
    seen = window()
    told = [seen.repeats(A, T + n * 9 * MINUTE, n) for n in range(20)]
    assert told == [False] + [True] * 19


def test_a_record_read_again_does_not_repeat_itself_or_those_behind_it() -> None:
    """After a restart of the reading the first is the first, and the second repeats it."""
    seen = window()
    for _ in range(3):
        assert [seen.repeats(A, T, 5), seen.repeats(B, T, 6), seen.repeats(A, T + 1, 7)] == [False, False, True]
    assert len(seen) == 2
    assert seen.end == 8


def test_without_a_timestamp_nobody_knows_how_far_it_is() -> None:
    """Such a record neither repeats nor is repeated."""
    seen = window()
    assert not any(seen.repeats(A, -1, n) for n in range(3))
    assert seen.end == 3
    assert not seen.repeats(A, T, 3)
    assert seen.end == 4


@pytest.fixture
def forgets_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket is forgotten after a hundredth of the records that may pass without coming near it."""
    monkeypatch.setattr(module, "_FORGOTTEN_AFTER", 100)
    monkeypatch.setattr(module, "_BLOCK", 4)


@pytest.mark.usefixtures("forgets_soon")
def test_a_clock_that_went_wrong_once_empties_nothing() -> None:
    """One record of next year, one of 1970, and a duplicate behind them."""
    seen = window()
    for n in range(300):
        seen.repeats(identity("crm", str(n)), T + n * 1000, n)
    assert not seen.repeats(A, T + 365 * 24 * 60 * MINUTE, 300)
    assert not seen.repeats(B, 0, 301)
    assert seen.repeats(identity("crm", "290"), T + 300_000, 302)
    assert seen.repeats(identity("crm", "1"), T + 300_001, 303)


@pytest.mark.usefixtures("forgets_soon")
def test_it_remembers_about_two_windows_however_long_it_reads() -> None:
    """Ten events a minute for an hour: what is older is forgotten, and it says from when on it is complete."""
    seen = window()
    for n in range(600):
        assert not seen.repeats(n, T + n * 6_000, n)
    assert 100 <= len(seen) <= 300
    newest_ms = T + 60 * MINUTE
    assert newest_ms - 30 * MINUTE <= seen.complete_from_ms <= newest_ms - 10 * MINUTE
    assert seen.lowest_ms_from(595) == pytest.approx(newest_ms - MINUTE / 2, abs=MINUTE)
    assert seen.lowest_ms_from(600) is None


def test_a_key_that_floods_takes_no_more_than_a_few_entries() -> None:
    """The same event thousands of times."""
    seen = window()
    assert not seen.repeats(A, T, 0)
    assert all(seen.repeats(A, T + n // 10, n) for n in range(1, 500))
    assert len(seen) == 1
    assert all(getsizeof(entry) < 1_000 for bucket in seen._buckets.values() for entry in bucket.values())


def entries(seen: DedupeWindow) -> list[object]:
    return [entry for bucket in seen._buckets.values() for entry in bucket.values()]


def test_of_a_key_that_floods_those_are_kept_that_reach_furthest() -> None:
    """Only they can be near enough to what comes; those between them, or of the same moment, take no room."""
    seen = DedupeWindow(100, begin=40)  # buckets of 50 ms
    for n, at_ms in enumerate([1_010, 1_020, 1_005, 1_015, 1_020, 1_005, 1_010]):
        assert seen.repeats(A, at_ms, 40 + n) is (n > 0)
    [entry] = entries(seen)
    assert getsizeof(entry) == getsizeof((1, 2, 3))
    assert [seen.repeats(A, at_ms, 40) for at_ms in (905, 1_120)] == [False, False]  # the first is the first
    assert [seen.repeats(A, at_ms, 43) for at_ms in (904, 905, 1_120, 1_121)] == [False, True, True, False]


def test_a_key_whose_time_runs_on_takes_no_more_than_sixteen_entries() -> None:
    """Each reaches further than all before it; the first, the newest, and some between them are kept."""
    seen = window()
    assert [seen.repeats(A, 6 * MINUTE + n, n) for n in range(500)] == [False] + [True] * 499
    [entry] = entries(seen)
    assert getsizeof(entry) == getsizeof(tuple(range(16)))
    assert not seen.repeats(A, 6 * MINUTE, 0)
    assert seen.repeats(A, 6 * MINUTE, 1)
    assert seen.repeats(A, 16 * MINUTE + 499, 500)


def test_a_bucket_that_records_come_back_to_has_what_it_had() -> None:
    """Timestamps of two publishers, one of which is behind, take turns."""
    seen = window()
    told = [seen.repeats(n // 2, T + (n % 2) * 60 * MINUTE, n) for n in range(8)]
    assert told == [False] * 8
    assert [seen.repeats(n // 2, T + (n % 2) * 60 * MINUTE, 8 + n) for n in range(8)] == [True] * 8


@pytest.fixture
def forgets_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as one record has passed without coming near a bucket."""
    monkeypatch.setattr(module, "_FORGOTTEN_AFTER", 0)
    monkeypatch.setattr(module, "_FORGOTTEN_SHARE", 1_000_000)


@pytest.mark.usefixtures("forgets_at_once")
@pytest.mark.parametrize(("disorder_ms", "kept"), [(None, 2), (0, 2), (1, 3), (49, 3), (50, 3), (51, 4), (100, 4)])
def test_what_timestamps_may_run_back_to_is_never_forgotten(disorder_ms: int | None, kept: int) -> None:
    """The window and the disorder are kept whole, in buckets of 50 ms around a thousandth, and not one more."""
    for sign in (-1, 1):
        told = {} if disorder_ms is None else {"disorder_ms": disorder_ms}
        seen = DedupeWindow(100, begin=0, **told)
        for offset, bucket in enumerate([0, kept, kept - 1, kept]):
            assert not seen.repeats(offset, (1_000 + sign * bucket) * 50, offset)
        assert seen.complete_from_ms == 0
        assert seen.repeats(0, 1_000 * 50, 4)
        seen.repeats(5, (1_000 + sign * (kept + 1)) * 50, 5)  # nothing has passed yet
        assert seen.complete_from_ms == 0
        seen.repeats(6, (1_000 + sign * kept) * 50, 6)
        seen.repeats(7, (1_000 + sign * (kept + 1)) * 50, 7)
        assert seen.complete_from_ms == 1_001 * 50
        assert not seen.repeats(0, 1_000 * 50, 8)


@pytest.mark.parametrize(("bucket", "kept"), [(-3, False), (-2, True), (-1, True), (1, True), (2, True), (3, False)])
def test_what_is_near_is_in_use(bucket: int, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that may lie within the window of what a bucket holds keeps it, for as long as a bucket is kept."""
    monkeypatch.setattr(module, "_FORGOTTEN_AFTER", 3)
    seen = DedupeWindow(100, begin=0)
    for offset, number in enumerate([0, 10, 10, 10, bucket, 10]):
        assert not seen.repeats(offset, (1_000 + number) * 50, offset)
    assert seen.repeats(0, 1_000 * 50, 6) is kept


@pytest.mark.usefixtures("forgets_at_once")
def test_what_is_read_again_and_was_forgotten_is_not_brought_back() -> None:
    """Memory was asked back in between: the record is not known, and nothing is made of it that is to be forgotten."""
    seen = DedupeWindow(100, begin=0)
    seen.repeats(A, 1_000, 0)
    seen.repeats(B, 5_000, 1)
    seen.forget_oldest()
    for offset, (key, at_ms) in enumerate([(A, 1_000), (B, 5_000), (1, 5_000), (2, 9_000), (3, 5_000)]):
        assert not seen.repeats(key, at_ms, offset)
    assert len(seen) == 4


def test_how_far_back_one_has_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowest timestamp behind an offset, by stretches of four records, for three stretches back."""
    monkeypatch.setattr(module, "_BLOCK", 4)
    monkeypatch.setattr(module, "_BLOCKS", 3)
    seen = DedupeWindow(100, begin=0)
    assert seen.lowest_ms_from(0) is None
    times_ms = [500, 600, 400, 700, 800, 810, 820, 790, 900, 901, 902, 903, 300, 990, 991, 992, 950]
    told: list[list[int | None]] = []
    for offset, at_ms in enumerate(times_ms):
        seen.repeats(offset, at_ms, offset)
        told.append([seen.lowest_ms_from(n) for n in range(offset + 2)])
    assert told[0] == [500, None]
    assert told[3] == [400, 400, 400, 400, None]
    assert told[7] == [400] * 4 + [790] * 4 + [None]
    assert told[11] == [400] * 4 + [790] * 4 + [900] * 4 + [None]
    assert told[12] == [None] * 4 + [300] * 9 + [None]
    assert told[16] == [None] * 8 + [300] * 8 + [950, None]


def test_memory_that_is_asked_back_comes_from_the_oldest() -> None:
    """What comes in now is kept, whatever happens."""
    seen = window()
    for n in range(4):
        seen.repeats(n, T + n * 5 * MINUTE, n)
    before = seen.complete_from_ms
    seen.forget_oldest()
    assert len(seen) == 3
    assert before < T < seen.complete_from_ms <= T + 5 * MINUTE
    for _ in range(5):
        seen.forget_oldest()
    assert len(seen) == 1
    assert seen.repeats(3, T + 15 * MINUTE, 4)


def test_an_entry_costs_what_is_said() -> None:
    """Key, entry and their place in the dict, whose size is the same for each of 200,000 as for each of these."""
    seen = DedupeWindow(10 * MINUTE, begin=5_000_000)
    for n in range(6_250):
        seen.repeats(identity("crm", str(n)), T + n, 5_000_000 + n)
    taken = sum(
        getsizeof(bucket) + sum(_allocated(key) + _allocated(entry) for key, entry in bucket.items())
        for bucket in seen._buckets.values()
    )
    assert taken / 6_250 <= ENTRY_BYTES


def _allocated(value: object) -> int:
    return -(-getsizeof(value) // 16) * 16


def structured(event_type: str = "contact.changed.v1", data: bytes = b'{"contact_id":"1","change":"created"}') -> bytes:
    return b'{"specversion":"1.0","id":"e","source":"crm","type":"%s","data":%s}' % (event_type.encode(), data)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (structured(), structured(), True),
        (structured("other.v1"), structured("other.v1"), True),
        (structured(), structured("other.v1"), True),
        (structured(data=b"{}"), structured(), True),
        (structured()[:-1], structured(), False),
        (b"", structured(), False),
        (None, structured(), False),
        (structured(), structured()[:-1], False),
        (structured(), None, False),
    ],
)
def test_events_count_whatever_became_of_them_and_what_is_none_does_not(
    first: bytes | None, second: bytes | None, expected: bool
) -> None:
    """A well-formed event of another type, or with data that break the contract, has its source and id; a tombstone
    and what cannot be read have none."""
    seen = window()
    headers = [("ce_id", b"e"), ("ce_source", b"crm"), ("ce_type", b"contact.changed.v1")]
    assert not repeats(seen, decode(first, headers), T, 0)
    assert repeats(seen, decode(second, headers), T, 1) is expected


def test_events_of_other_sources_or_ids_repeat_nothing() -> None:
    """Nor does what lacks one of the two, however often it comes."""
    seen = window()
    events = [structured(), structured().replace(b'"e"', b'"f"'), structured().replace(b'"crm"', b'"shop"')]
    assert [repeats(seen, decode(event, []), T, n) for n, event in enumerate(events)] == [False] * 3
    for lacking in ({"id": "e"}, {"source": "crm"}, {}):
        event = Undecodable(UndecodableKind.CONTRACT, "x", **lacking)
        assert [repeats(seen, event, T, 3 + n) for n in range(2)] == [False, False]
