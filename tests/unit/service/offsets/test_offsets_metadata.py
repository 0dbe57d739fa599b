"""The codec of finished ranges in a commit's metadata."""

import base64
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.offsets import metadata
from service.offsets.metadata import MAX_BITMAP_OFFSETS, MAX_BYTES, MetadataFault, decode, encode, fits

Ranges = list[tuple[int, int]]


@st.composite
def based_ranges(draw: st.DrawFn, most: int = 60, widest: int = 3000) -> tuple[int, Ranges]:
    base = draw(st.integers(0, 2**62))
    steps = draw(st.lists(st.tuples(st.integers(1, widest), st.integers(1, widest)), max_size=most))
    ranges: Ranges = []
    end = base
    for gap, length in steps:
        start = end + gap
        end = start + length
        ranges.append((start, end))
    return base, ranges


@given(based_ranges())
def test_what_is_written_is_read(case: tuple[int, Ranges]) -> None:
    """Any ranges come back as they were."""
    base, ranges = case
    text = encode(base, ranges)
    assert text.isascii()
    assert decode(base, text) == (ranges, None)


@given(based_ranges(most=400, widest=3))
def test_dense_windows_are_read_back(case: tuple[int, Ranges]) -> None:
    """Windows that are written as bitmaps come back as they were."""
    base, ranges = case
    assert decode(base, encode(base, ranges)) == (ranges, None)


def test_nothing_finished_is_nothing_written() -> None:
    """A commit without finished offsets beyond it has no metadata, and none is no fault."""
    assert encode(5, []) == ""
    assert decode(5, "") == ([], None)


@pytest.mark.parametrize("seed", range(3))
def test_any_pattern_of_the_largest_bitmap_fits(seed: int) -> None:
    """A window of the promised size fits whatever is finished in it, also what cannot be compressed."""
    chance = random.Random(seed)
    finished = [chance.random() < 0.5 for _ in range(MAX_BITMAP_OFFSETS)]
    finished[0], finished[-1] = False, True
    ranges: Ranges = []
    for index, done in enumerate(finished):
        if done:
            if ranges and ranges[-1][1] == 1000 + index:
                ranges[-1] = (ranges[-1][0], 1000 + index + 1)
            else:
                ranges.append((1000 + index, 1000 + index + 1))
    text = encode(1000, ranges)
    assert fits(text)
    assert decode(1000, text) == (ranges, None)


def test_alternating_offsets_of_a_window_are_short() -> None:
    """What repeats is deflated: 10,000 runs in a regular pattern take few bytes."""
    ranges = [(offset, offset + 1) for offset in range(1, 20_001, 2)]
    assert len(encode(0, ranges)) < 100


def test_few_runs_in_a_wide_window_are_short() -> None:
    """The window may be of any width where the runs are few."""
    ranges = [(10**9 * n, 10**9 * n + 5) for n in range(1, 100)]
    text = encode(3, ranges)
    assert len(text) < 1000
    assert decode(3, text) == (ranges, None)


def test_too_many_runs_do_not_fit() -> None:
    """What is too long says so, instead of being cut."""
    chance = random.Random(1)
    ranges: Ranges = []
    end = 0
    for _ in range(5000):
        start = end + chance.randrange(1, 100)
        end = start + chance.randrange(1, 100)
        ranges.append((start, end))
    assert not fits(encode(0, ranges))


@given(st.integers(0, 2**40), st.text(max_size=200) | st.text(max_size=60).map(lambda text: "fl1r" + text))
def test_no_text_makes_the_reader_fail(base: int, text: str) -> None:
    """Whatever somebody else wrote: no ranges and a fault, never an exception."""
    ranges, fault = decode(base, text)
    assert (fault is None and text == "") or (ranges == [] and fault is not None)


@given(based_ranges(most=200), st.data())
@settings(max_examples=50)
def test_a_changed_character_is_damage(case: tuple[int, Ranges], data: st.DataObject) -> None:
    """One changed character makes all of it unusable: better delivered again than taken as finished."""
    base, ranges = case
    text = encode(base, ranges)
    if not text:
        return
    place = data.draw(st.integers(4, len(text) - 1))
    other = data.draw(st.sampled_from("ABab01+/=-").filter(lambda letter: letter != text[place]))
    damaged = text[:place] + other + text[place + 1 :]
    assert decode(base, damaged) == ([], MetadataFault.DAMAGED)


@pytest.mark.parametrize("end", range(1, 200, 17))
def test_every_bit_of_the_text_counts(end: int) -> None:
    """Also those of the last character that belong to no byte, and what a lenient reader would pass over."""
    text = encode(0, [(1, 1 + end), (500, 500 + end), (50_000, 50_000 + end)])
    body = text.rstrip("=")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for letter in letters.replace(body[-1], ""):
        assert decode(0, body[:-1] + letter + text[len(body) :]) == ([], MetadataFault.DAMAGED)
    for damaged in (text + "=", text + "\n", text[:8] + " " + text[8:], text[:8] + "-" + text[8:]):
        assert decode(0, damaged) == ([], MetadataFault.DAMAGED)


def test_metadata_of_another_offset_is_damage() -> None:
    """A tool that copies metadata to another offset must not make us skip records there."""
    text = encode(100, [(110, 120)])
    assert decode(100, text) == ([(110, 120)], None)
    assert decode(99, text) == ([], MetadataFault.DAMAGED)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("fl3rAAAA", MetadataFault.UNKNOWN_VERSION),
        ("flink", MetadataFault.FOREIGN),
        ('{"lag": 3}', MetadataFault.FOREIGN),
        ("fl1", MetadataFault.DAMAGED),
        ("fl1r", MetadataFault.DAMAGED),
        ("fl1zAAAAAAAA", MetadataFault.DAMAGED),
        ("fl1r€", MetadataFault.DAMAGED),
    ],
)
def test_the_fault_is_named(text: str, fault: MetadataFault) -> None:
    """Foreign text, a newer version and damage are told apart for the log."""
    assert decode(0, text) == ([], fault)


def sealed(base: int, form: str, payload: bytes) -> str:
    body = metadata._checksum(base, form, payload) + payload
    return "fl1" + form + base64.b64encode(body).decode()


@pytest.mark.parametrize(
    "text",
    [
        sealed(0, "r", b""),
        sealed(0, "r", b"\x01"),
        sealed(0, "r", b"\x01\x00"),
        sealed(0, "r", b"\x00\x01"),
        sealed(0, "r", b"\x80"),
        sealed(0, "r", b"\xff" * 200),
        sealed(0, "r", b"\xff" * 8 + b"\x7f\x01"),
        sealed(0, "b", b""),
        sealed(0, "b", b"\x00"),
        sealed(0, "b", b"\x01"),
        sealed(0, "B", b"no zlib"),
        sealed(0, "B", zlib.compress(bytes(10_000_000))),
        sealed(0, "B", zlib.compress(b"\x02" * (32 * 1024 + 1))),
        sealed(0, "B", zlib.compress(b"\x02") + b"more"),
        sealed(0, "R", zlib.compress(b"\x01\x01")[:-2]),
    ],
)
def test_a_valid_checksum_over_nonsense_is_damage(text: str) -> None:
    """What another version of ours could have written wrongly is still no exception, and bounded in memory."""
    assert decode(0, text) == ([], MetadataFault.DAMAGED)


def test_what_inflates_up_to_the_bound_is_read() -> None:
    """A bit in each of so many bytes."""
    ranges, fault = decode(0, sealed(0, "B", zlib.compress(b"\x02" * (32 * 1024))))
    assert (len(ranges), ranges[-1], fault) == (32 * 1024, (2**18 - 7, 2**18 - 6), None)


def test_text_beyond_the_bound_is_not_parsed() -> None:
    """Kafka would not have kept it, so it is not ours."""
    assert decode(0, "fl1r" + "A" * MAX_BYTES) == ([], MetadataFault.DAMAGED)


@given(based_ranges(most=80, widest=200))
def test_the_smaller_of_two_forms_is_written(case: tuple[int, Ranges]) -> None:
    """Where nothing is deflated: as many bytes as the shorter of both takes."""
    base, ranges = case
    if ranges:
        sizes = [len(metadata._pack_runs(base, ranges)), len(metadata._pack_bitmap(base, ranges))]
        body = base64.b64decode(encode(base, ranges)[4:])
        assert len(body) - 4 <= min(sizes)
        assert len(body) - 4 == min(sizes) or encode(base, ranges)[3].isupper()


def test_a_window_in_which_both_forms_are_near_takes_the_bitmap_where_it_is_smaller() -> None:
    """Long gaps take two bytes as runs; here that makes the difference."""
    ranges: Ranges = []
    end = 0
    for number in range(100):
        start = end + (136 if number % 10 == 0 else 2)
        end = start + 1
        ranges.append((start, end))
    runs, bitmap = len(metadata._pack_runs(0, ranges)), len(metadata._pack_bitmap(0, ranges))
    assert 2 * len(ranges) < bitmap < runs
    text = encode(0, ranges)
    assert text[3] == "b"
    assert decode(0, text) == (ranges, None)


@pytest.mark.parametrize("form", ["runs", "bitmap"])
def test_the_last_offsets_of_all(form: str) -> None:
    """Up to the greatest that Kafka has; what goes beyond it is no offset."""
    greatest = 2**63 - 1
    base = greatest - (1_000 if form == "runs" else 7)
    text = encode(base, [(greatest - 3, greatest)])
    assert text[3] == form[0]
    assert decode(base, text) == ([(greatest - 3, greatest)], None)
    beyond = sealed(base + 1, form[0], base64.b64decode(text[4:])[4:])
    assert decode(base + 1, beyond) == ([], MetadataFault.DAMAGED)


def test_a_bitmap_is_written_as_far_as_it_can_be_read() -> None:
    """Up to 32 KiB before it is deflated; a larger one does not fit, and says so."""
    every_second = [(offset, offset + 1) for offset in range(1, 2**18, 2)]
    text = encode(0, every_second)
    assert fits(text)
    assert decode(0, text) == (every_second, None)
    assert not fits(encode(0, [*every_second, (2**18 + 1, 2**18 + 2)]))


def test_short_metadata_is_not_deflated_and_long_metadata_is() -> None:
    """Up to half a kibibyte it is not worth the time."""
    for count, letter in ((256, "r"), (257, "R")):  # two bytes each
        ranges = [(100 * n, 100 * n + 1) for n in range(1, count + 1)]
        assert encode(0, ranges)[3] == letter


def test_a_varint_that_does_not_end_in_time_is_damage() -> None:
    """Nine bytes hold any offset; so does a tenth, but nothing behind it."""
    value = bytearray()
    rest = 2**62
    while rest > 0x7F:
        value.append(rest & 0x7F | 0x80)
        rest >>= 7
    value.append(rest)
    assert len(value) == 9
    assert decode(0, sealed(0, "r", bytes(value) + b"\x01")) == ([(2**62, 2**62 + 1)], None)
    assert decode(0, sealed(0, "r", b"\x80" * 11 + b"\x01\x01")) == ([], MetadataFault.DAMAGED)
