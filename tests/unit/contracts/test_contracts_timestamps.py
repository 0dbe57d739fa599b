"""Instants, read and written."""

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import timestamps
from contracts.timestamps import instant_text, is_strict_rfc3339, parse_rfc3339_ms, rfc3339_ms

END_MS = 253_402_300_800_000


@given(st.integers(0, END_MS - 1))
def test_what_is_written_is_read(ms: int) -> None:
    """Exactly, and as the standard library understands it."""
    text = rfc3339_ms(ms)
    assert parse_rfc3339_ms(text) == ms
    assert (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == ms


@given(st.text("0123456789:-.TZtz +,W4é", min_size=18, max_size=26), st.integers(0, END_MS - 1), st.data())
def test_the_quick_way_reads_what_the_slow_one_reads(noise: str, ms: int, data: st.DataObject) -> None:
    """The usual form is read by the standard library, which takes more than RFC 3339: nothing else gets through."""
    text = list(rfc3339_ms(ms) if data.draw(st.booleans()) else rfc3339_ms(ms)[:19] + "Z")
    for index in data.draw(st.lists(st.integers(0, len(text) - 1), max_size=2)):
        text[index] = data.draw(st.sampled_from("0123456789:-.TZ ,W4٣"))
    for candidate in (noise, "".join(text)):
        quick = timestamps._parse_usual(candidate)
        if quick is not None:
            match = timestamps._RFC3339.fullmatch(candidate)
            assert match is not None
            assert match.group(5) < "24"
            assert quick == (datetime.fromisoformat(candidate) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
                milliseconds=1
            )


@given(st.integers(0, END_MS - 1), st.data())
def test_a_day_that_was_seen_lets_no_other_form_through(ms: int, data: st.DataObject) -> None:
    """Whether a text is an instant is the same before and after others of its day were read."""
    rfc = rfc3339_ms(ms)
    assert is_strict_rfc3339(rfc)
    text = list(rfc if data.draw(st.booleans()) else rfc[:19] + "Z")
    for index in data.draw(st.lists(st.integers(0, len(text) - 1), max_size=2)):
        text[index] = data.draw(st.sampled_from("0123456789:-.tTZz ,W4٣"))
    changed = "".join(text) + data.draw(st.sampled_from(["", "", "Z", "0", "+01:00"]))
    said = is_strict_rfc3339(changed)
    timestamps._days.clear()
    assert said is is_strict_rfc3339(changed) is (changed[10] == "T" and parse_rfc3339_ms(changed) is not None)


@given(
    st.datetimes(
        min_value=datetime(2, 1, 1),
        max_value=datetime(9998, 1, 1),
        timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    )
)
def test_offsets_and_microseconds_are_read(moment: datetime) -> None:
    """As the standard library reads them; what is finer than a millisecond is cut off."""
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_rfc3339_ms(moment.isoformat()) == expected


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01t00:00:01z", 1000),
        ("1970-01-01 00:00:01.5Z", 1500),
        ("1970-01-01T00:00:01.123456789Z", 1123),
        ("1970-01-01T01:00:00-00:00", 3_600_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2017-01-01T00:59:60.5+01:00", 1_483_228_800_500),
    ],
)
def test_forms_of_rfc_3339(text: str, ms: int) -> None:
    """All that the grammar allows; read twice, for what is remembered must change nothing."""
    assert [parse_rfc3339_ms(text), parse_rfc3339_ms(text)] == [ms, ms]


def test_the_same_clock_in_two_zones() -> None:
    """What is remembered of the one is not taken for the other."""
    texts = ("2026-01-01T10:00:00+02:00", "2026-01-01T10:00:00Z", "2026-01-01T10:00:00-01:00")
    hours = [(parse_rfc3339_ms(text) or 0) // 3_600_000 % 24 for text in texts]
    assert hours == [8, 10, 11]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1970-01-01",
        "1970-01-01T00:00Z",
        "1970-01-01T00:00:01",
        "1970-01-01T00:00:01.Z",
        "1970-01-01T00:00:01,5Z",
        "1970-01-01T24:00:00Z",
        "1970-01-01T00:60:00Z",
        "1970-01-01T00:00:61Z",
        "1970-01-01T12:00:60Z",
        "1970-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "1970-01-01T00:00:01+24:00",
        "1970-01-01T00:00:01+0100",
        "1970-01-01T00:00:01+01:60",
        "1970-1-1T00:00:01Z",
        "19700101T000001Z",
        "1970-01-01T00:00:01Z ",
        " 1970-01-01T00:00:01Z",
        "1970-01-01T00:00:01Z\n",
        "1970-01-01_00:00:01Z",
        "１970-01-01T00:00:01Z",
        "1970-W01-1T00:00:01Z",
    ],
)
def test_what_is_no_instant(text: str) -> None:
    """None, not an error; also right after an instant of the same second was read."""
    parse_rfc3339_ms("1970-01-01T00:00:01Z")
    assert parse_rfc3339_ms(text) is None


@given(st.text())
def test_no_text_makes_reading_raise(text: str) -> None:
    """Whatever it is."""
    assert parse_rfc3339_ms(text) is None


def test_strict_times_are_written_with_t() -> None:
    """Neither a space nor a small letter."""
    assert is_strict_rfc3339("1970-01-01T00:00:01Z")
    assert not is_strict_rfc3339("1970-01-01 00:00:01Z")
    assert not is_strict_rfc3339("1970-01-01t00:00:01Z")
    assert not is_strict_rfc3339("yesterdaT")


def test_what_is_no_instant_is_not_written() -> None:
    """Kafka's -1, and what a producer may put into a timestamp."""
    for ms in (-1, -(2**63), END_MS, 2**63 - 1):
        assert instant_text(ms) is None
        with pytest.raises(ValueError, match="1970"):
            rfc3339_ms(ms)
    assert instant_text(None) is None
    assert instant_text(0) == "1970-01-01T00:00:00.000Z"


def test_a_second_that_was_written_has_its_own_milliseconds_each_time() -> None:
    """Also where the one of another instant is remembered: of a thousand in one second, and at its two ends."""
    timestamps._written.clear()
    assert instant_text(1_772_366_400_000) == "2026-03-01T12:00:00.000Z"
    told = [instant_text(1_772_366_400_000 + ms) for ms in range(1_001)]
    assert told == [f"2026-03-01T12:00:00.{ms:03d}Z" for ms in range(1_000)] + ["2026-03-01T12:00:01.000Z"]
    assert instant_text(1_772_366_399_999) == "2026-03-01T11:59:59.999Z"


def test_memory_is_bounded() -> None:
    """However many different seconds and days come."""
    for second in range(5_000):
        assert parse_rfc3339_ms(rfc3339_ms(second * 1000)) == second * 1000
        assert is_strict_rfc3339(rfc3339_ms(second * 86_400_000))
        assert is_strict_rfc3339(rfc3339_ms(second * 1000))
        remembered = (timestamps._days, timestamps._strict, timestamps._read, timestamps._written)
        assert max(map(len, remembered)) <= 4096
    assert min(map(len, remembered)) > 0


def test_what_was_seen_is_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another instant of the same second is read and written from memory, one of the same day is known as strict."""
    seen, ms = "2026-11-22T02:03:04.567Z", 1_795_312_984_567
    monkeypatch.setattr(timestamps, "_strict", set())
    assert (parse_rfc3339_ms(seen), rfc3339_ms(ms)) == (ms, seen)
    assert is_strict_rfc3339(seen)
    monkeypatch.delattr(timestamps, "_parse_usual")
    monkeypatch.delattr(timestamps, "datetime")
    assert [parse_rfc3339_ms(seen[:19] + tail) for tail in ("Z", ".001Z", ".999Z")] == [ms - 567, ms - 566, ms + 432]
    assert [rfc3339_ms(ms - 567), rfc3339_ms(ms + 432)] == ["2026-11-22T02:03:04.000Z", "2026-11-22T02:03:04.999Z"]
    monkeypatch.delattr(timestamps, "parse_rfc3339_ms")
    assert is_strict_rfc3339("2026-11-22T23:59:59Z")
    assert is_strict_rfc3339("2026-11-22T00:00:00.999Z")


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-30T02:03:04Z",
        "2026-11-22T24:03:04Z",
        "2026-11-22T02:60:04Z",
        "2026-11-22T02:03:61Z",
        "2026-11-22T02:03:04.56",
        "2026-11-22t02:03:04Z",
        "2026-11-22T02:03:04.567ZZ",
        "2026-11-22",
    ],
)
def test_the_day_alone_makes_no_instant(text: str) -> None:
    """Where the day was seen before, the rest is looked at all the same; where only the rest is right, the day."""
    assert is_strict_rfc3339("2026-11-22T02:03:04.567Z")
    assert not is_strict_rfc3339(text)


@given(st.integers(-62_135_596_800_000, END_MS - 1))
def test_the_usual_form_takes_the_quick_way(ms: int) -> None:
    """With three digits of a second and with none, before 1970 too."""
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")[:23]
    for usual, read in ((text + "Z", ms), (text[:19] + "Z", ms - ms % 1000)):
        for answer in (timestamps._parse_usual(usual), timestamps._parse_any(usual)):
            assert (answer, type(answer)) == (read, int)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22 02:03:04Z",
        "2026-11-22t02:03:04Z",
        "2026-11-22_02:03:04.567Z",
        "2026-11-22T02:03:04,567Z",
        "2026-11-22T02:03:04,5678Z",
        "2026-11-22T02:03:04.5678",
        "2026-11-22T02:03:04.567+00",
        "2026-11-22T020304.56Z",
        "2026-W47-7T02:03:04Z",
        "20261122T020304.567Z",
        "20261122T020304.5678901Z",
        "2026-11-22T02:03Z",
        "2026-11-22T02:03:04.56Z",
        "2026-11-22T24:00:00Z",
        "٢026-11-22T02:03:04Z",
    ],
)
def test_the_quick_way_takes_nothing_but_the_usual_form(text: str) -> None:
    """Most of these the standard library reads, each version some others."""
    assert timestamps._parse_usual(text) is None


def test_the_zone_of_the_machine_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instants are written in UTC."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        timestamps._written.clear()
        assert rfc3339_ms(1_795_312_984_567) == "2026-11-22T02:03:04.567Z"
    finally:
        monkeypatch.undo()
        time.tzset()
