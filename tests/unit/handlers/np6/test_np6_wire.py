"""What is read of NP6's answers, and what never is."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.np6.wire import platform_text, segment_list

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"ExceptionMessage": "Segment unknown"}', "Segment unknown"),
        (b'{"Message": "No"}', "No"),
        (b'{"ExceptionMessage": null, "Message": "No"}', "No"),
        (b'{"ExceptionMessage": " ", "Message": "two\\r\\nlines"}', "two lines"),
        (b'{"errorType": "Invalid", "errorData": [{"value": "a"}, {"value": 3}]}', "Invalid: a, 3"),
        (b'{"errorType": "Invalid"}', "Invalid"),
        (b'{"errorData": [{"value": "a"}, {"value": null}, {}, 4, null]}', "a"),
        (b'{"errorType": 7, "errorData": {"value": "a"}}', "7"),
        (b'{"ExceptionMessage": {"deep": "x"}, "Message": ["x"], "errorType": true}', None),
        (b'{"message": "another spelling"}', None),
        (b'["text"]', None),
        (b'"text"', None),
        (b"null", None),
        (b"Segment unknown", None),
        (b"<html>no</html>", None),
        (b"", None),
        (b'{"Message": "cut', None),
        (b"\xff\xfe", None),
        (b'{"Message": "\\ud800"}', None),
        (b'{"Message": 1e400}', None),
        (b"[" * 100_000, None),
        (b'{"a":' * 100_000, None),
    ],
)
def test_the_platforms_own_words(body: bytes, text: str | None) -> None:
    """Only known fields are read; text, HTML, other JSON and broken bodies give nothing."""
    assert platform_text(body) == text


@pytest.mark.parametrize(
    ("body", "segments"),
    [
        (b"[]", []),
        (b" [501, -7] ", [501, -7]),
        (b"[501, 501]", [501, 501]),
        (b"", None),
        (b"null", None),
        (b'{"segments": [1]}', None),
        (b'["501"]', None),
        (b"[501, null]", None),
        (b"[501", None),
        (b"<html>", None),
        (b"[" * 100_000, None),
    ],
)
def test_the_list_of_segments(body: bytes, segments: list[int] | None) -> None:
    """A list of ints is read; anything else is told from an empty list."""
    assert segment_list(body) == segments


@given(st.binary() | JSON.map(msgspec.json.encode))
def test_no_body_is_too_odd(body: bytes) -> None:
    """Reading never raises, whatever the platform sends."""
    platform_text(body)
    segment_list(body)


@given(st.dictionaries(st.sampled_from(["ExceptionMessage", "Message", "errorType", "errorData"]), JSON))
def test_a_text_is_one_printable_line_of_unicode(error: dict[str, object]) -> None:
    """What is read can be written into a result and a header."""
    text = platform_text(msgspec.json.encode(error))
    if text is not None:
        assert text.encode()
        assert "\n" not in text
        assert text == text.strip() != ""
