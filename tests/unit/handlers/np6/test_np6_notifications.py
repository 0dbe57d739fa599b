"""NP6's notifications: rows out of bytes, and events out of rows."""

import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.envelope import decode
from contracts.events import Event, NotificationOccurred
from handlers.np6.notifications import (
    MAX_ROW_BYTES,
    AnswerError,
    Happening,
    Row,
    RowReader,
    Window,
    event_bytes,
    happenings,
    instant_ms,
)

EXAMPLE = Path(__file__).parents[3] / "golden" / "vendor" / "np6-notifications.json"
NOON = 1_772_366_400_000  # 2026-03-01T12:00:00Z
HEADERS = (("content-type", b"application/cloudevents+json"),)


def read_into(rows: list[Row], chunks: Iterable[bytes]) -> None:
    reader = RowReader()
    for chunk in chunks:
        for row in reader.feed(chunk):
            rows.append(row)  # noqa: PERF402 (what is given before an error is kept)
    reader.finish()


def read(*chunks: bytes) -> list[Row]:
    rows: list[Row] = []
    read_into(rows, chunks)
    return rows


def row(**fields: Any) -> Row:
    given = {"notification_key": 7, "target": "T", "libelle": None, **fields}
    (only,) = read(msgspec.json.encode([given]))
    return only


def bytewise(body: bytes) -> Iterable[bytes]:
    return (body[at : at + 1] for at in range(len(body)))


def test_the_vendors_example_is_read() -> None:
    """One row, four happenings at the same moment, in the order in which they come about."""
    (only,) = read(EXAMPLE.read_bytes())
    at = instant_ms("2019-08-24T14:15:22Z")
    assert only == Row(
        number=1,
        key=0,
        target="string",
        label="string",
        happened=((at, "impression"), (at, "activation"), (at, "redirection"), (at, "dismiss")),  # type: ignore[arg-type] # an instant is no None here
    )


def test_it_does_not_matter_where_the_answer_is_cut() -> None:
    """Byte by byte, within a letter of two bytes too, as in one piece."""
    rows = [{"notification_key": n, "target": f"T{n}", "libelle": 'été \\ "', "impression": None} for n in range(5)]
    body = b" \n" + msgspec.json.encode(rows) + b"\n"
    whole = read(body)
    assert [each.key for each in whole] == [0, 1, 2, 3, 4]
    assert whole[0].label == 'été \\ "'
    assert read(*bytewise(body)) == whole
    assert read(b"", body, b"") == whole


@pytest.mark.parametrize(
    ("body", "rows", "said"),
    [
        (b"", 0, "the answer is empty"),
        (b"  ", 0, "the answer is empty"),
        (b"{}", 0, "no list of notifications"),
        (b"<html>", 0, "no list of notifications"),
        (b"\x0b[]", 0, "no list of notifications"),
        (b"null", 0, "no list of notifications"),
        (b'\xef\xbb\xbf[{"notification_key":1}]', 0, "no list of notifications"),
        (b'[{"notification_key":1},{"notification_key":2}', 2, "cut off or no JSON after row 2"),
        (b'[{"notification_key":1},{"notif', 1, "cut off or no JSON after row 1"),
        (b'[{"notification_key":1}] []', 1, "no JSON after row 1"),
        (b'[{"notification_key":1},{"target":"\xff"}]', 1, "no JSON after row 1"),
        (b'[{"notification_key":1},{"x":' + b"1" * 5_000 + b"}]", 1, "no JSON after row 1"),
        (b'[{"notification_key":1},{"x":12345678901234567890}]', 1, "no JSON after row 1"),
        (b'[{"notification_key":1},{"x":1e999}]', 1, "no JSON after row 1"),
        (b'[{"notification_key":1} {"notification_key":2}]', 1, "no JSON after row 1"),
    ],
)
def test_what_is_no_list_of_rows(body: bytes, rows: int, said: str) -> None:
    """Is refused in words that hold nothing of it; the rows before it have been given."""
    for chunks in ([body], bytewise(body)):
        found: list[Row] = []
        with pytest.raises(AnswerError, match=said):
            read_into(found, chunks)
        assert len(found) == rows


def test_what_breaks_off_being_json_is_refused_where_it_does() -> None:
    """Not at the answer's end: it may be long."""
    with pytest.raises(AnswerError, match="no JSON after row 1"):
        list(RowReader().feed(b'[{"notification_key":1},}'))


def test_a_long_answer_of_short_rows_is_read() -> None:
    """The bound is on a row, and what is left of the piece that it began in."""
    reader, rows = RowReader(), 0
    filling = b'{"x":"' + b"y" * 60_000 + b'"}'
    for start in (b"[", *[b","] * 24):
        rows += len(list(reader.feed(start + filling)))
    assert rows * len(filling) > MAX_ROW_BYTES


def test_an_empty_list_has_no_rows() -> None:
    """Which is how an unknown target may be answered."""
    assert read(b"[]") == read(b" [ ] ") == []


def test_unknown_fields_may_hold_anything() -> None:
    """Nested as deep as they like, with names of ours inside, before and behind them."""
    inner = b'{"notification_key":9,"target":[{"target":"X"}],"impression":"2026-03-01T12:00:00Z"}'
    deep = b"[" * 50_000 + b"]" * 50_000
    only = read(b'[{"a":' + inner + b',"notification_key":7,"b":' + deep + b',"target":"T","c":[1,"x",null,true]}]')
    assert only == [Row(1, 7, "T")]


@pytest.mark.parametrize("item", [b"1", b"null", b'"x"', b"[]", b'[{"notification_key":1}]', b"[[1]]"])
def test_an_item_that_is_no_object_is_a_fault(item: bytes) -> None:
    """Of its row; the others count."""
    rows = read(b'[{"notification_key":1},' + item + b',{"notification_key":3}]')
    assert [(each.number, each.key, each.faults) for each in rows] == [
        (1, 1, ()),
        (2, None, ("expected an object",)),
        (3, 3, ()),
    ]


@pytest.mark.parametrize("key", [None, "7", True, 7.5, 2**31, -(2**31) - 1, 1e300, [7], {"a": 7}])
def test_a_key_that_is_no_int32_is_a_fault(key: Any) -> None:
    """No event can be made of the row."""
    found = row(notification_key=key, impression="2026-03-01T12:00:00Z")
    assert (found.key, found.faults) == (None, ("notification_key: expected an int32",))
    assert list(happenings(found, "T", Window())) == []


@pytest.mark.parametrize("key", [-(2**31), 2**31 - 1, 0])
def test_a_key_at_the_bounds_of_int32(key: int) -> None:
    """The bounds themselves are keys; all that the row tells of its happening is told."""
    found = row(notification_key=key, libelle="Spring", dismiss="2026-03-01T12:00:00Z")
    assert list(happenings(found, "T", Window())) == [Happening(key, "T", "dismiss", NOON, "Spring")]


def test_a_key_may_be_written_with_a_point() -> None:
    """As any int of the contracts."""
    assert read(b'[{"notification_key":7.0}]')[0].key == 7


@pytest.mark.parametrize("target", [7, True, {"a": 1}, ["T"]])
def test_a_target_that_is_no_text_is_a_fault(target: Any) -> None:
    """And nobody guesses which it is."""
    found = row(target=target, impression="2026-03-01T12:00:00Z")
    assert found.faults == ("target: expected a text",)
    assert list(happenings(found, "T", Window())) == []


@pytest.mark.parametrize("target", [None, ""])
def test_a_row_without_target_is_of_the_one_that_was_asked_for(target: Any) -> None:
    """A row that names its own keeps it, as the platform writes it."""
    found = row(target=target, impression="2026-03-01T12:00:00Z")
    assert [each.target for each in happenings(found, "asked", Window())] == ["asked"]
    named = row(target="000PKXK4", impression="2026-03-01T12:00:00Z")
    assert [each.target for each in happenings(named, "000pkxk4", Window())] == ["000PKXK4"]


@pytest.mark.parametrize("label", [None, 7, ["x"]])
def test_a_label_that_is_no_text_is_absent(label: Any) -> None:
    """It is optional."""
    found = row(libelle=label)
    assert (found.label, found.faults) == (None, ())


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-03-01T12:00:00Z", NOON),
        ("2026-03-01T12:00:00", NOON),
        ("2026-03-01 12:00:00", NOON),
        ("2026-03-01T12:00:00.25", NOON + 250),
        ("2026-03-01T12:00:00.2519999Z", NOON + 251),
        ("2026-03-01T13:00:00+01:00", NOON),
    ],
)
def test_date_times_with_and_without_a_zone(text: str, ms: int) -> None:
    """Without one they are UTC."""
    assert row(dismiss=text).happened == ((ms, "dismiss"),)


def test_the_first_moments_that_there_are() -> None:
    """From 1970 on; a moment is in a window, nothing else is."""
    assert [instant_ms("1970-01-01T00:00:00" + tail) for tail in ("Z", "", ".001", "+00:01")] == [0, 0, 1, None]
    assert 0 in Window()
    assert "0" not in Window()


@pytest.mark.parametrize("nothing", [None, "", "0001-01-01T00:00:00", "0001-01-01T00:00:00Z"])
def test_what_has_not_happened(nothing: Any) -> None:
    """Null, empty, and what .NET writes for a date without a value."""
    found = row(dismiss=nothing)
    assert (found.happened, found.faults) == ((), ())


@pytest.mark.parametrize("wrong", ["yesterday", "2026-13-01T00:00:00Z", 1_772_366_400, "1969-12-31T23:59:59Z", {}, [1]])
def test_a_date_time_that_is_none_is_a_fault_of_its_own(wrong: Any) -> None:
    """What else the row tells counts; the fault names the place and not the value."""
    found = row(dismiss=wrong, impression="2026-03-01T12:00:00Z")
    assert found.faults == ("dismiss: expected a date-time",)
    assert [each.action for each in happenings(found, "T", Window())] == ["impression"]


def test_happenings_come_in_the_order_of_time() -> None:
    """Or latest first, where that was asked for."""
    found = row(dismiss="2026-03-01T10:00:00Z", impression="2026-03-01T12:00:00Z", activation="2026-03-01T11:00:00Z")
    actions = ["dismiss", "activation", "impression"]
    assert [each.action for each in happenings(found, "T", Window())] == actions
    assert [each.action for each in happenings(found, "T", Window(), latest_first=True)] == actions[::-1]


def test_the_window_takes_its_start_and_not_its_end() -> None:
    """Happenings outside it are left out, also those of a row that has others inside."""
    found = row(
        impression="2026-03-01T11:59:59.999Z", activation="2026-03-01T12:00:00Z", dismiss="2026-03-01T12:00:01Z"
    )

    def within(**bounds: int) -> list[str]:
        return [each.action for each in happenings(found, "T", Window(**bounds))]

    assert within(start_ms=NOON) == ["activation", "dismiss"]
    assert within(end_ms=NOON) == ["impression"]
    assert within(start_ms=NOON, end_ms=NOON + 1_000) == ["activation"]
    assert within() == ["impression", "activation", "dismiss"]


def test_an_event_holds_to_its_contract_and_is_the_same_each_time() -> None:
    """Id and bytes are made of the happening alone."""
    happening = Happening(7, "000PKXK4", "dismiss", NOON, "Spring")
    value = event_bytes(happening, "main")
    assert value == event_bytes(Happening(7, "000PKXK4", "dismiss", NOON, "Spring"), "main")
    event = decode(value, HEADERS)
    assert isinstance(event, Event)
    assert (event.source, event.type, event.time) == (
        "np6/main",
        "notification.occurred.v1",
        "2026-03-01T12:00:00.000Z",
    )
    assert event.data == NotificationOccurred(7, "000PKXK4", "dismiss", "2026-03-01T12:00:00.000Z", "Spring")
    assert event.id == "302e4026-63f4-5946-80a9-2e230cb83d6c"


def test_an_event_says_what_it_is_made_of() -> None:
    """Its data is JSON, and its source is an address, whatever the account is called."""
    event = msgspec.json.decode(event_bytes(Happening(7, "T", "dismiss", NOON, None), "a/b c"))
    assert event["source"] == "np6/a%2Fb%20c"
    assert event["datacontenttype"] == "application/json"


def test_each_part_of_a_happening_makes_another_event() -> None:
    """Account, notification, target, action and time; not the label, which may be mended later."""
    happening = Happening(7, "T", "dismiss", NOON, "Spring")

    def id_of(account: str = "main", **changed: Any) -> str:
        event: dict[str, Any] = msgspec.json.decode(event_bytes(msgspec.structs.replace(happening, **changed), account))
        found: str = event["id"]
        return found

    changes = [{"key": 8}, {"target": "U"}, {"action": "impression"}, {"at_ms": NOON + 1}]
    ids = [id_of(), id_of("other"), *(id_of(**changed) for changed in changes)]
    assert len(set(ids)) == len(ids)
    assert id_of(label=None) == id_of()


def test_the_same_moment_written_otherwise_is_the_same_event() -> None:
    """An id does not hang on whether the platform writes the zone."""
    ids = set()
    for text in (
        "2026-03-01T12:00:00Z",
        "2026-03-01T12:00:00",
        "2026-03-01T12:00:00.000+00:00",
        "2026-03-01T13:00:00+01:00",
    ):
        (found,) = happenings(row(dismiss=text), "T", Window())
        ids.add(msgspec.json.decode(event_bytes(found, "main"))["id"])
    assert len(ids) == 1


def test_an_event_without_a_label_has_none() -> None:
    """An absent field is left out, not null."""
    assert b"label" not in event_bytes(Happening(7, "T", "dismiss", NOON, None), "main")


def made(count: int) -> Iterable[bytes]:
    """An answer of so many rows, in pieces."""
    yield b"["
    for number in range(count):
        yield b'%s{"notification_key":%d,"target":"T","libelle":"%s","impression":"2026-03-01T12:00:00Z"}' % (
            b"," if number else b"",
            number,
            b"x" * 100,
        )
    yield b"]"


def peak_bytes(count: int) -> int:
    tracemalloc.start()
    reader, rows = RowReader(), 0
    for chunk in made(count):
        rows += sum(1 for _ in reader.feed(chunk))
    reader.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == count
    return peak


def test_memory_does_not_grow_with_the_answer() -> None:
    """Fifty times as many rows take no more."""
    peak_bytes(10)  # what is imported and compiled once
    assert peak_bytes(20_000) < peak_bytes(400) + 100_000


def endless(begin: bytes, filling: bytes) -> Iterable[bytes]:
    """A second row that does not end, in pieces of 50 kB, ten times as long as is read on."""
    yield b'[{"notification_key":1},{"libelle":' + begin
    for _ in range(10 * MAX_ROW_BYTES // 50_000):
        yield filling * (50_000 // len(filling))


@pytest.mark.parametrize(
    ("begin", "filling"),
    [(b"", b" "), (b'"', b"x"), (b"[", b"["), (b"[", b"1,")],
    ids=["blanks", "a text", "nesting", "a list"],
)
def test_a_row_without_end_is_not_read_on(begin: bytes, filling: bytes) -> None:
    """Whatever it is made of; the row before it has been given."""
    rows: list[Row] = []
    with pytest.raises(AnswerError, match=f"row 2 is longer than {MAX_ROW_BYTES} bytes"):
        read_into(rows, endless(begin, filling))
    assert [each.key for each in rows] == [1]


def test_a_row_of_many_megabytes_in_one_piece_is_not_built() -> None:
    """The piece is parsed bit by bit, so that the bound is noticed in between."""
    reader = RowReader()
    with pytest.raises(AnswerError, match="row 1 is longer"):
        list(reader.feed(b'[{"libelle":[' + b"1," * 5_000_000))
