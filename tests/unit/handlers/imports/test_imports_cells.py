"""Values as the cells of a file."""

import csv
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.imports.cells import CellError, flag_cell, phone_cell, text_cell
from handlers.imports.csv_rows import row_writer


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        ("", ""),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-(2**63), "-9223372036854775808"),
        (1234567890123456789, "1234567890123456789"),
        (0.1, "0.1"),
        (1e21, "1000000000000000000000"),
        (1e-7, "0.0000001"),
        (7.0, "7"),
        (-2.5e-10, "-0.00000000025"),
        (' =1+1;"x",\n', ' =1+1;"x",\n'),
    ],
)
def test_a_cell_is_what_the_event_said(value: object, cell: str) -> None:
    """null, bools, ints of any size, doubles without exponent, texts unchanged."""
    assert text_cell(value) == cell


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_reads_back_as_the_same_number(value: float) -> None:
    """And has no exponent."""
    cell = text_cell(value)
    assert float(cell) == value
    assert "e" not in cell.lower()


@pytest.mark.parametrize("value", [[], {}, [1], b"x", float("nan"), float("inf")])
def test_what_no_cell_can_hold(value: object) -> None:
    """Said without repeating it."""
    with pytest.raises(CellError, match=r"^gives (no number|a list or an object; a cell holds a text, a number, .*)$"):
        text_cell(value)


def test_a_text_is_never_cut() -> None:
    """One over the platform's bound is refused; one at the bound is not."""
    assert text_cell("é" * 1000, max_characters=1000) == "é" * 1000
    with pytest.raises(CellError, match="1001 characters"):
        text_cell("x" * 1001, max_characters=1000)


@pytest.mark.parametrize(
    ("value", "cell"),
    [(None, ""), ("", ""), ("+46 70-123 45", "467012345"), (4670123, "4670123"), ("0049", "0049"), (0, "0")],
)
def test_a_phone_number_is_digits(value: object, cell: str) -> None:
    """Without the plus and without what people put between the digits."""
    assert phone_cell(value) == cell


@pytest.mark.parametrize(
    ("value", "cell"), [("+46\u00a070\u2013123 45", "467012345"), ("\u202a0046\u202c", "0046"), ("#46*7_0", "4670")]
)
def test_an_unusual_phone_number_is_digits_too(value: str, cell: str) -> None:
    """With blanks and dashes of word processors, and marks that nobody sees."""
    assert phone_cell(value) == cell


@pytest.mark.parametrize("value", ["none", "+", "12a", "\u2013", "12\u20131x", "\u0664\u0666", True, 1.5, -3, ["1"]])
def test_what_is_no_phone_number(value: object) -> None:
    """Refused, not guessed."""
    with pytest.raises(CellError, match=r"^gives no phone number: expected (a text or null|digits, with blanks .*)$"):
        phone_cell(value)


def test_a_consent_is_one_or_nought() -> None:
    """null is none given."""
    assert [flag_cell(value) for value in (True, False, None)] == ["1", "0", "0"]
    with pytest.raises(CellError, match=r"^must give a bool or null$"):
        flag_cell(1)


@pytest.mark.parametrize(
    ("cells", "line"),
    [
        (["a", "b"], b"a,b\r\n"),
        (["", ""], b",\r\n"),
        ([""], b'""\r\n'),
        (["a,b"], b'"a,b"\r\n'),
        (['a"b', "c"], b'"a""b",c\r\n'),
        (["a\nb"], b'"a\nb"\r\n'),
        (["a\rb"], b'"a\rb"\r\n'),
        (["\u00e9", "'"], b"\xc3\xa9,'\r\n"),
    ],
)
def test_a_cell_is_quoted_where_it_needs_to_be(cells: list[str], line: bytes) -> None:
    """And nowhere else; lines end CRLF, the text is UTF-8."""
    assert row_writer(",")(cells) == line


def test_what_needs_no_quotes_is_not_looked_through_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """As nearly every row: the writer takes four times as long."""

    class Writer:
        def writerow(self, cells: list[str]) -> str:
            raise AssertionError(cells)

    monkeypatch.setattr(csv, "writer", lambda *_, **__: Writer())
    assert row_writer(";")(["a", "", "b,c"]) == b"a;;b,c\r\n"
    with pytest.raises(AssertionError):
        row_writer(";")(["a;b"])


_CELLS = st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=30), min_size=1, max_size=6)


@given(st.lists(_CELLS, min_size=1, max_size=5), st.sampled_from(",;\t|"))
def test_a_reader_gets_back_what_was_written(rows: list[list[str]], delimiter: str) -> None:
    """Quotes, delimiters, line ends, emoji, blanks: each row is one row again."""
    encode = row_writer(delimiter)
    file = b"".join(encode(row) for row in rows)
    assert list(csv.reader(StringIO(file.decode(), newline=""), delimiter=delimiter)) == rows


@given(st.text("0123456789+ -(.a\u0663\u00a0", max_size=8))
def test_how_a_phone_number_is_written_makes_no_difference(value: str) -> None:
    """Its cell are the digits, whatever is between them; with a letter, or without a digit, it has none."""
    digits = "".join(letter for letter in value if letter in "0123456789")
    if value and (not digits or "a" in value):
        with pytest.raises(CellError):
            phone_cell(value)
    else:
        assert phone_cell(value) == digits
