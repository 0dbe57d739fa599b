"""JSON read exactly: what is refused and in which words, how deep it may nest, and numbers as they were written."""

import math

import pytest

from contracts.json_text import MalformedError, Real, is_too_deep, parse, plain


def real(text: str) -> Real:
    number = parse(text.encode())
    assert type(number) is Real
    return number


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b'"ab\xff"', "not UTF-8 at byte 3"),
        (b"[" * 65 + b"]" * 65, "nested over 64 levels"),
        (b'["\\ud800"]', "a lone surrogate"),
        (b'["\\uDC00"]', "a lone surrogate"),
        (b"[1 2]", "not JSON at character 3"),
        (b"", "not JSON at character 0"),
        (b"\xef\xbb\xbf[]", "not JSON at character 0"),
        (b"[NaN]", "NaN or Infinity, which JSON does not have"),
        (b"[-Infinity]", "NaN or Infinity, which JSON does not have"),
    ],
)
def test_what_is_malformed_says_why_and_where(value: bytes, said: str) -> None:
    """And holds nothing of the text."""
    with pytest.raises(MalformedError) as caught:
        parse(value)
    assert str(caught.value) == said


def test_levels_are_counted_up_and_down() -> None:
    """What was closed does not count, what is open does, however often both change."""
    for inner, is_deep in [
        (b"[]", False),
        (b"[[]]", True),
        (b"[],[]," * 9 + b"[{}]", True),
        (b"[],{}," * 9 + b"[]", False),
    ]:
        value = b"[" * 63 + inner + b"]" * 63
        assert is_too_deep(value) is is_deep
        if is_deep:
            with pytest.raises(MalformedError, match="64 levels"):
                parse(value)
        else:
            parse(value)
    assert not is_too_deep(b"[" + b"[]," * 1000 + b"[]]")
    assert not is_too_deep(b'["' + b"[" * 100 + b'"]')


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("7.0", 7),
        ("-70e-1", -7),
        ("0.0", 0),
        ("9223372036854775808.0", 2**63),
        ("12345678901234567890.0", 12345678901234567890),
        ("7.5", None),
        ("1e21", None),
        ("1e999999999999999999999", None),
    ],
)
def test_ints_that_are_written_as_decimals(text: str, meant: int | None) -> None:
    """Exactly the number that stands there, also where a double could not hold it."""
    assert real(text).integral() == meant
    assert real(text).text == text


def test_open_content_holds_plain_numbers() -> None:
    """At every level; what no double can hold is infinite, what is no number stays as it is."""
    value = plain(parse(b'{"a": [1.5, {"b": 1e400}, [2.0]], "c": {"d": -0.5}, "e": [7, "x", null, true]}'))
    assert value == {"a": [1.5, {"b": math.inf}, [2.0]], "c": {"d": -0.5}, "e": [7, "x", None, True]}
    assert [type(number) for number in (value["a"][0], value["a"][1]["b"], value["a"][2][0], value["c"]["d"])] == [
        float
    ] * 4
    huge = plain(parse(b"[" + b"9" * 5000 + b"]"))
    assert huge == [math.inf]
