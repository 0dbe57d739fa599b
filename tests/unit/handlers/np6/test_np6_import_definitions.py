"""How an import is found, made and understood, and what a person is told where it cannot be."""

from typing import Any

import msgspec
import pytest

from handlers.base import Answer, Failure, FailureKind, Hold, HoldScope, Retry, RetryCause
from handlers.np6.import_definitions import Definition, Finding, Standing, place_problem

CONTENT = b'{"name": "Readers", "binding": 44, "source": {"type": "ftp"}}'


def answered(document: Any, status: int = 200, *, truncated: bool = False) -> Answer:
    body = document if isinstance(document, bytes) else msgspec.json.encode(document)
    return Answer(status, {}, body, truncated=truncated)


def named(number: int, name: Any = "Readers", **source: Any) -> dict[str, Any]:
    return {"id": number, "binding": 44, "name": name, "source": source}


def creating() -> Finding:
    """There is none of that name: it is to be made."""
    finding = Finding(Definition.of(CONTENT))
    assert finding.learn(answered([named(1, "Others"), named(2, None)])) is None
    request = finding.request()
    assert request is not None
    assert (request.method, request.path, request.body) == ("POST", "/imports", CONTENT)
    return finding


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is no JSON object: "),
        (b"[]", "is no JSON object: "),
        (b"\xff", "is no JSON object: "),
        (b"[" * 9_000, "is no JSON object: "),
        (b"{}", "name is required"),
        (b'{"name": "", "binding": 1, "source": {"type": "ftp"}}', "name is required"),
        (b'{"name": 7, "binding": 1, "source": {"type": "ftp"}}', "name is required"),
        (b'{"name": "n", "binding": "1", "source": {"type": "ftp"}}', "binding is required"),
        (b'{"name": "n", "binding": 1, "source": {}}', "source is required"),
    ],
)
def test_what_is_no_definition(content: bytes, words: str) -> None:
    """Said at the start, with the key that is missing, empty or of another kind."""
    with pytest.raises(ValueError, match=rf"^{words}"):
        Definition.of(content)


def test_an_import_stands_as_the_platform_tells() -> None:
    """What is no text of its source counts as not told."""
    finding = Finding(7)
    assert finding.learn(answered(named(7, type="ftp", folder="in", templateFilename="a.csv"))) is None
    assert finding.found == Standing(7, 44, "ftp", "in", "a.csv")
    assert finding.request() is None
    finding = Finding(7)
    assert finding.learn(answered(named(7, type=1, folder=["in"], templateFilename={}))) is None
    assert finding.found == Standing(7, 44, None, None, None)


@pytest.mark.parametrize(
    "answer", [answered(b"<"), answered([]), answered(named(7), truncated=True), answered(b"\xff")]
)
def test_a_definition_that_cannot_be_read_is_asked_for_again(answer: Answer) -> None:
    """Also one that is cut off."""
    finding = Finding(7)
    assert finding.learn(answer) == Retry(RetryCause.SERVER_ERROR, "the import's definition is unreadable")
    assert finding.request() is not None


def test_a_list_that_cannot_be_read_makes_nothing() -> None:
    """Unreadable: it is asked for again. Too long to be read: a person has to name the import."""
    finding = Finding(Definition.of(CONTENT))
    wanted = Retry(RetryCause.SERVER_ERROR, "the list of the account's imports is unreadable")
    for body in (b"{}", b"<", b"\xff", b'[{"name": "Readers"}]'):
        assert finding.learn(answered(body)) == wanted
    too_long = finding.learn(answered([], truncated=True))
    assert too_long == Hold(HoldScope.LANE, "the list of the account's imports is too long: `import: {id}` is needed")
    request = finding.request()
    assert request is not None
    assert request.method == "GET"


def test_of_several_imports_of_one_name_five_are_told() -> None:
    """Enough to look them up."""
    finding = Finding(Definition.of(CONTENT))
    assert finding.learn(answered([named(n) for n in range(1, 8)])) == Hold(
        HoldScope.LANE, "several imports have the definition's name (ids 1, 2, 3, 4, 5): `import: {id}`"
    )


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_definition_that_the_platform_refuses(status: int) -> None:
    """The configuration's fault, in the platform's words where it has any; the list is asked first next time."""
    said = f"the platform refuses the import's definition ({status})"
    for body, reason in ((b'{"Message": "no such\\nfield"}', f"{said}: no such field"), (b"<html>", said)):
        finding = creating()
        assert finding.learn(answered(body, status)) == Hold(HoldScope.LANE, reason)
        request = finding.request()
        assert request is not None
        assert request.method == "GET"


def test_an_answer_that_refuses_to_tell() -> None:
    """Of a list or an import: nothing is said of the definition, which was not sent. What it says goes on."""
    for wanted in (7, Definition.of(CONTENT)):
        assert Finding(wanted).learn(answered(b'{"Message": "bad key"}', 400)) == Hold(
            HoldScope.LANE, "the platform refuses to tell of the import (400): bad key"
        )
        assert Finding(wanted).learn(answered(b'{"Message": "broken"}', 500)) == Retry(
            RetryCause.SERVER_ERROR, "broken"
        )
    assert creating().learn(answered(b"", 500)) == Retry(RetryCause.SERVER_ERROR, None)
    assert creating().learn(Failure(FailureKind.RESET, "gone")) == Retry(RetryCause.RESET, "gone")
    assert creating().learn(answered(b"", 404)) == Hold(HoldScope.LANE, "the platform does not know the import (404)")


NO_FOLDER = "the import's definition names no folder: `folder` is needed"
NO_FILE = "the import's definition names no file (templateFilename) that a server could have"
CLIMBS = "the import's folder climbs the path"


@pytest.mark.parametrize(
    ("folder", "name", "problem"),
    [
        ("in", "a.csv", None),
        ("/in/..x/y", "..a.csv", None),
        (None, "a.csv", NO_FOLDER),
        ("", "a.csv", NO_FOLDER),
        ("in\n", "a.csv", NO_FOLDER),
        ("in", None, NO_FILE),
        ("in", "", NO_FILE),
        ("in", "a\x00.csv", NO_FILE),
        ("in", "a/b.csv", NO_FILE),
        ("in", "a\\b.csv", NO_FILE),
        ("in", ".", NO_FILE),
        ("in", "..", NO_FILE),
        ("..", "a.csv", CLIMBS),
        ("in/../..", "a.csv", CLIMBS),
        ("in\\..\\x", "a.csv", CLIMBS),
    ],
)
def test_where_a_server_could_have_a_file(folder: str | None, name: str | None, problem: str | None) -> None:
    """A folder that stays below where the login arrives, and a name that is one; of the platform or of the file."""
    assert place_problem(folder, name) == problem
