import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.config.document import MAX_ALIASES, MAX_BYTES, parse_document, read_document
from service.config.faults import ConfigurationError


def parse(text: str) -> object:
    return parse_document(text.encode(), file="f.yaml").root.plain()


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31T00:00:00Z", "2026-01-31T00:00:00Z"),
        ('"5"', "5"),
        ("!!str 5", "5"),
        ("=", "="),
    ],
)
def test_plain_scalars_follow_the_core_schema(text: str, value: object) -> None:
    """The surprises of YAML 1.1 do not happen: only true and false are bools, dates and 010 are texts."""
    read = parse(f"a: {text}")
    assert read == {"a": value}
    assert type(read["a"]) is type(value)  # type: ignore[index]  # a mapping by the line above


def test_each_path_has_the_place_of_its_key() -> None:
    """A value's place is that of its key, an item's is its own."""
    places = parse_document(b'a:\n  b c: {d: 1}\n  e:\n  - x\n  - "y"\n', file="f.yaml").places
    assert places.positions["a"] == (1, 1)
    assert places.positions['a["b c"].d'] == (2, 9)
    assert places.positions["a.e[1]"] == (5, 5)


def test_a_key_twice_is_refused_with_both_lines() -> None:
    """All repeated keys are told, at every level."""
    assert faults("a: 1\nb:\n  c: 1\n  c: 2\na: 2") == [
        "f.yaml:4:3 b.c: the key stands twice, first in line 3",
        "f.yaml:5:1 a: the key stands twice, first in line 1",
    ]


@pytest.mark.parametrize("key", ["1", "null", "true", "[a]", "{a: b}", "1.5"])
def test_keys_must_be_texts(key: str) -> None:
    """A key that YAML reads as something else is refused, not turned into a text."""
    assert "a key must be a text" in faults(f"? {key}\n: 1")[0]


@pytest.mark.parametrize("text", ["a: !!binary aGk=", "a: !own x", "!!python/object:os.system x", "a: !!int x"])
def test_tags_that_make_objects_are_refused(text: str) -> None:
    """No tag but those of the core schema is allowed, and none lies about its value."""
    assert "tag" in faults(text)[0]


def test_merge_keys_are_refused() -> None:
    """A merge key would hide what is written where; an alias of a whole value is fine."""
    assert "merge keys" in faults("a: &a {b: 1}\nc: {<<: *a}")[0]
    assert parse("a: &a {b: 1}\nc: *a") == {"a": {"b": 1}, "c": {"b": 1}}
    assert parse('"<<": 1') == {"<<": 1}


def test_what_is_told_of_a_broken_file_is_short() -> None:
    """The parser quotes what it does not know, however long that is."""
    (told,) = faults(f"a: *{'9' * 5_000}")
    assert told.startswith("f.yaml:1:4: not YAML: found undefined alias '999")
    assert told.endswith("99…")
    assert len(told) < 250
    assert faults(f"a: *{'9' * 50}")[0].endswith("99'")


def test_aliases_are_bounded() -> None:
    """1,000 aliases are read, one more is refused."""
    many = "a: &a 1\nb: [" + ", ".join(["*a"] * MAX_ALIASES)
    assert isinstance(parse(many + "]"), dict)
    assert "aliases" in faults(many + ", *a]")[0]


def test_aliases_of_aliases_do_not_multiply_without_bound() -> None:
    """Ten lines that stand for a billion values are refused at once."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "aliases written out" in faults("\n".join(lines))[0]


def test_a_value_that_contains_itself_is_refused() -> None:
    """An alias inside of its own anchor has no end."""
    assert "contains itself" in faults("a: &a [*a]")[0]


def test_nesting_is_bounded() -> None:
    """Deep nesting is refused before anything recurses into it."""
    assert "over 64 levels" in faults("[" * 100_000)[0]


def test_large_files_are_refused() -> None:
    """One byte over 1 MiB is refused, without being parsed."""
    content = b"a: " + b"x" * (MAX_BYTES - 3)
    assert parse_document(content, file="f.yaml").root.plain()
    with pytest.raises(ConfigurationError, match="larger than 1 MiB"):
        parse_document(content + b"x", file="f.yaml")


@pytest.mark.parametrize(
    "content", [b"a: \xff", b"", b"# nothing", b"a: b\n---\nc: d", b"a: [", b'a: "\x07"', b'a: "\\ud800"']
)
def test_what_is_no_document_is_refused_with_its_file(content: bytes) -> None:
    """Not UTF-8, empty, two documents, broken syntax, control characters, half a character: each is one fault."""
    with pytest.raises(ConfigurationError, match=r"^f\.yaml"):
        parse_document(content, file="f.yaml")


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    """No such file, and a folder."""
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            read_document(path)


@given(st.binary(max_size=200) | st.text(alphabet="ab:-[]{}&*!|>'\"#,? \n<", max_size=60).map(str.encode))
def test_no_bytes_crash_the_reading(content: bytes) -> None:
    """Whatever stands in the file, it is a document or a list of faults."""
    with contextlib.suppress(ConfigurationError):
        parse_document(content, file="f.yaml").root.plain()
