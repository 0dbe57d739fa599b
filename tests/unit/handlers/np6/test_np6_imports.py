"""``np6.imports``: which row comes of an event, how the import is found, and which calls carry a file."""

from typing import Any, Literal

import msgspec
import pytest

from contracts.events import CONTACT_CHANGED, ContactChanged, Event
from contracts.outcomes import Outcome, Reason
from handlers.base import Answer, Expression, Failure, FailureKind, Hold, HoldScope, Refusal, Request, Retry, RetryCause
from handlers.imports.putting import Begun, Free, PutsFirst
from handlers.imports.rows import ImportHandler, Row
from handlers.imports.verdicts import Completed, Divide, Failed, MayBeOpen, Opened, Pending, Uploaded
from handlers.np6.import_definitions import Definition
from handlers.np6.imports import Np6ImportsConfig, Np6ImportsHandler
from handlers.np6.sandbox import Np6Sandbox, Rules
from service.config.expressions import compile_expression
from tests.support.vendor import vendor_bytes, vendor_example

COLUMNS = {"Email": "data.identifiers.email", "FirstName": "data.attributes.first_name"}
FTP = {"ftp": {"host": "ftp.example.com", "username": "u", "password": {"env": "P"}}}


def compiled(text: str, key: str, wants: Literal["value", "bool"] = "value") -> Expression:
    return compile_expression(text, place=key, wants=wants)


def handler(definition: bytes | None = None, **keys: Any) -> Np6ImportsHandler:
    by = {"id": 23} if definition is None else {"definition": "d.json"}
    options = msgspec.convert({"import": by, "columns": COLUMNS, **keys}, Np6ImportsConfig)
    return Np6ImportsHandler(options, compiled, None if definition is None else Definition.of(definition))


def contact(**parts: Any) -> Event:
    given = {"identifiers": {"email": "ada@example.com"}, "attributes": {"first_name": "Ada"}, **parts}
    change = given.pop("change", "updated")
    return Event("e-1", "s", CONTACT_CHANGED, ContactChanged("c-1", change, **given))


def row_of(event: Event, **keys: Any) -> Row:
    planned = handler(**keys).plan(event, None)
    assert not isinstance(planned, Refusal), planned
    [row] = planned
    return row


def standing(**changes: Any) -> Answer:
    """The platform's answer to who asks for the import."""
    document = {**vendor_example("np6-import-answer.json"), "id": 23, "binding": 44, **changes}
    return Answer(200, {}, msgspec.json.encode(document))


FILE = {"type": "file", "filename": "a.csv"}


def found(**keys: Any) -> Np6ImportsHandler:
    made = handler(**keys)
    source = FILE if "via" not in keys else {"type": "ftp", "folder": "23 - Import", "templateFilename": "a b.csv"}
    assert made.learn(standing(source=source)) is None
    assert made.missing() is None
    return made


def test_it_is_what_the_lane_asks_for() -> None:
    """All of both protocols."""
    assert isinstance(found(), ImportHandler)
    assert isinstance(found(), PutsFirst)


def test_a_row_holds_the_columns_in_their_order() -> None:
    """The binding goes by positions; the contact is all that the row is told by."""
    row = row_of(contact())
    assert (handler().head(None), row.line) == (b"Email;FirstName\r\n", b"ada@example.com;Ada\r\n")
    assert (row.key, row.operation.target, row.operation.entity) == ("c-1", "c-1", "23")
    other = {"separator": "|", "header": False, "encoding": "windows-1252"}
    assert handler(**other).head(None) == b""
    assert row_of(contact(attributes={"first_name": "Zoë|"}), **other).line == b'ada@example.com|"Zo\xeb|"\r\n'


@pytest.mark.parametrize(
    ("event", "keys", "outcome", "reason"),
    [
        (contact(change="deleted"), {}, Outcome.SKIPPED, Reason.NOTHING_TO_DO),
        (contact(attributes={"first_name": "אב"}), {"encoding": "iso-8859-1"}, Outcome.INVALID, Reason.CONTRACT),
    ],
)
def test_events_without_a_row(event: Event, keys: dict[str, Any], outcome: Outcome, reason: Reason) -> None:
    """Deleted, or with what the file cannot hold; the detail has the place and not the text."""
    planned = handler(**keys).plan(event, None)
    assert isinstance(planned, Refusal)
    assert (planned.outcome, planned.reason) == (outcome, reason)
    assert planned.detail is None or ("columns.FirstName" in planned.detail and "א" not in planned.detail)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"import": {}}, "either an id or a definition"),
        ({"import": {"id": 1, "definition": "x"}}, "either an id or a definition"),
        ({"columns": {}}, "columns"),
        ({"via": {"ftp": {**FTP["ftp"], "tls": "none"}}}, "needs i_know: true"),
        ({"via": {"ftp": {**FTP["ftp"], "host": "ftp://x/y"}}}, "without scheme"),
        ({"via": "mail"}, "via"),
        ({"import": {"id": 2**31}}, "id"),
        ({"partial_failures": "split"}, "split sends rows once more, and what NP6's import makes of them nobody says"),
    ],
)
def test_keys_that_contradict_each_other(keys: dict[str, Any], problem: str) -> None:
    """Refused when the configuration is read."""
    with pytest.raises(msgspec.ValidationError, match=problem):
        handler(**keys)


# -- finding the import


def test_an_import_is_read_by_its_id() -> None:
    """Its binding is needed for each execution."""
    made = handler()
    request = made.missing()
    assert request is not None
    assert (request.method, request.path) == ("GET", "/imports/23")
    assert made.learn(standing(source=FILE)) is None
    assert made.missing() is None
    assert made.start("d").body == b'{"binding": 44}'


def ask(sandbox: Np6Sandbox, request: Request, body: bytes | None = None) -> Answer:
    body = body or request.body or b""
    headers = {"X-Key": "k", "Content-Length": str(len(body)), **dict(request.headers)}
    subject = sandbox.subject(request.method, request.path)
    given = sandbox.answer("main", request.method, subject, headers, body, 12.5)
    return Answer(given.status, {}, given.body)


def find(sandbox: Np6Sandbox, made: Np6ImportsHandler) -> list[str]:
    """Asks until nothing is missing; what was asked."""
    asked = []
    while (request := made.missing()) is not None:
        asked.append(f"{request.method} {request.path}")
        assert made.learn(ask(sandbox, request)) is None
    return asked


def test_a_definition_is_made_once_and_found_again_by_its_name() -> None:
    """By whichever process comes next."""
    sandbox = Np6Sandbox()
    definition = vendor_bytes("np6-import-request.json")
    assert find(sandbox, handler(definition, via=FTP)) == ["GET /imports", "POST /imports"]
    again = handler(definition, via=FTP)
    assert find(sandbox, again) == ["GET /imports"]
    assert again.import_id() == "23"


def test_a_create_without_an_answer_is_looked_for_first() -> None:
    """The list tells whether the import is there: two of one name could not be told apart."""
    sandbox = Np6Sandbox()
    made = handler(vendor_bytes("np6-import-request.json"), via=FTP)
    listed = made.missing()
    assert listed is not None
    made.learn(ask(sandbox, listed))
    create = made.missing()
    assert create is not None
    ask(sandbox, create)
    assert isinstance(made.learn(Failure(FailureKind.TIMED_OUT, "no answer")), Retry)
    assert find(sandbox, made) == ["GET /imports"]


def test_two_imports_of_one_name_hold_the_lane() -> None:
    """Nobody knows which is meant."""
    made = handler(vendor_bytes("np6-import-request.json"), via=FTP)
    one = {"id": 1, "binding": 7, "name": "Newsletter readers"}
    trouble = made.learn(Answer(200, {}, msgspec.json.encode([one, {**one, "id": 2}])))
    assert isinstance(trouble, Hold)
    assert "1, 2" in trouble.reason


@pytest.mark.parametrize(
    ("answer", "keys", "words"),
    [
        (standing(source={"type": "ftp"}), {}, "by ftp, and `via` says file"),
        (standing(source=FILE), {"via": FTP}, "by file, and `via` says ftp"),
        (standing(source={"type": "ftp", "folder": "f"}), {"via": FTP}, "templateFilename"),
        (standing(source={"type": "ftp", "folder": "f", "templateFilename": "../x"}), {"via": FTP}, "templateFilename"),
        (standing(source={"type": "ftp", "folder": "a/../b", "templateFilename": "x"}), {"via": FTP}, "climbs"),
        (standing(source={"type": "ftp", "templateFilename": "x"}), {"via": FTP}, "no folder"),
        (Answer(404, {}, b""), {}, "does not know the import"),
        (Answer(403, {}, b""), {}, "forbids"),
    ],
)
def test_an_import_that_cannot_be_used_holds_the_lane(answer: Answer, keys: dict[str, Any], words: str) -> None:
    """And is asked for again: somebody may mend it."""
    made = handler(**keys)
    trouble = made.learn(answer)
    assert isinstance(trouble, Hold)
    assert trouble.scope is HoldScope.LANE
    assert words in trouble.reason
    assert made.missing() is not None


@pytest.mark.parametrize("answer", [Answer(200, {}, b"[]"), Answer(500, {}, b""), Answer(429, {}, b"")])
def test_what_tells_nothing_of_the_import_is_asked_again(answer: Answer) -> None:
    """Unreadable, broken, throttled."""
    made = handler()
    assert isinstance(made.learn(answer), Retry)
    assert made.missing() is not None


# -- the calls


def test_a_file_goes_through_the_sandbox() -> None:
    """Looked for, put, started, polled: the file that is carried out is the one that was put."""
    sandbox = Np6Sandbox({"main": Rules(import_looks=2)})
    definition = {**vendor_example("np6-import-request.json"), "source": FILE}
    made = handler(msgspec.json.encode(definition))
    find(sandbox, made)
    assert isinstance(made.judge_look(ask(sandbox, made.look())), Free)
    put = made.put("d-1")
    assert dict(put.headers)["Content-Disposition"] == 'form-data; filename="d-1.csv"'
    assert isinstance(made.judge_put(ask(sandbox, put, b"a;b\r\n")), Uploaded)
    assert made.judge_create(ask(sandbox, made.start("d-1"))) == Opened("23")
    assert isinstance(made.judge_look(ask(sandbox, made.look())), Retry)
    assert isinstance(made.judge_poll(ask(sandbox, made.poll("23")), 1), Completed)
    assert isinstance(made.judge_look(ask(sandbox, made.look())), Free)
    sandbox.configure("main", {"imports_fail": True, "import_looks": 1})
    ask(sandbox, made.put("d-2"), b"c")
    ask(sandbox, made.start("d-2"))
    assert isinstance(made.judge_poll(ask(sandbox, made.poll("23")), 1), Failed)


def test_a_file_for_ftp_lies_under_another_name_first() -> None:
    """In the folder of the definition, or of the configuration; nothing of it is an event's."""
    made = found(via=FTP)
    assert made.elsewhere
    assert made.look().path == "/23%20-%20Import/a%20b.csv"
    put = made.put("d-1")
    [(header, part)] = put.headers
    assert (header, put.path) == ("Clears", f"/23%20-%20Import/{part}d-1")
    assert part.startswith(".fanline-part-")
    move = made.start("d-1")
    assert (move.method, move.path) == ("MOVE", made.put("d-1").path)
    assert dict(move.headers) == {"Destination": made.look().path}
    elsewhere = found(via={"ftp": {**FTP["ftp"], "folder": "/in/np6/"}})
    assert elsewhere.look().path == "//in/np6/a%20b.csv"


STATE = Answer(200, {}, b'{"state": 1}')
TIMED_OUT = Failure(FailureKind.TIMED_OUT, "no answer")
NOT_SENT = Failure(FailureKind.NOT_SENT, "refused")
CERTIFICATE = Failure(FailureKind.BAD_CERTIFICATE, "unknown CA")


def plain(status: int, body: bytes = b"") -> Answer:
    return Answer(status, {}, body)


def kind_of(verdict: Any) -> Any:
    match verdict:
        case Hold():
            return verdict.scope
        case Retry():
            return verdict.cause
    return type(verdict)


LANE, ACCOUNT = HoldScope.LANE, HoldScope.ACCOUNT
LATER, BROKEN = RetryCause.THROTTLED, RetryCause.SERVER_ERROR


@pytest.mark.parametrize(
    ("step", "reply", "expected"),
    [
        *(("judge_look", reply, Free) for reply in (STATE, plain(404), plain(410), plain(200), plain(200, b"[]"))),
        ("judge_look", plain(200, b'{"state": 0}'), LATER),
        ("judge_look", plain(200, b'{"state": 7}'), BROKEN),
        ("judge_look", plain(500), BROKEN),
        ("judge_look", TIMED_OUT, RetryCause.TIMED_OUT),
        ("judge_look", plain(401), ACCOUNT),
        ("judge_look", plain(400), LANE),
        ("judge_put", plain(204), Uploaded),
        ("judge_put", TIMED_OUT, RetryCause.TIMED_OUT),
        ("judge_put", NOT_SENT, RetryCause.NOT_SENT),
        ("judge_put", plain(500), BROKEN),
        ("judge_put", plain(413), Divide),
        ("judge_put", plain(400), Divide),
        ("judge_put", plain(404), LANE),
        ("judge_put", plain(415), LANE),
        ("judge_put", CERTIFICATE, LANE),
        ("judge_create", plain(204), Opened),
        ("judge_create", TIMED_OUT, MayBeOpen),
        ("judge_create", plain(500), MayBeOpen),
        ("judge_create", NOT_SENT, RetryCause.NOT_SENT),
        ("judge_create", plain(429), LATER),
        ("judge_create", plain(409), LATER),
        ("judge_create", plain(400), Divide),
        ("judge_create", plain(404), LANE),
        ("judge_poll", STATE, Completed),
        ("judge_poll", plain(200, b'{"state": 0}'), Pending),
        ("judge_poll", plain(200, b'{"state": 2}'), Failed),
        ("judge_poll", plain(200, b'{"state": true}'), BROKEN),
        ("judge_poll", plain(200), BROKEN),
        ("judge_poll", plain(404), Failed),
        ("judge_poll", plain(503), LATER),
    ],
)
def test_whose_fault_an_answer_of_the_platform_is(step: str, reply: Any, expected: Any) -> None:
    """Row by row. Nothing but a start is in doubt for want of an answer."""
    more = (1,) if step == "judge_poll" else ()
    assert kind_of(getattr(found(), step)(reply, *more)) == expected


@pytest.mark.parametrize(
    ("step", "reply", "expected"),
    [
        ("judge_look", plain(404), Free),
        ("judge_look", plain(204), LATER),
        ("judge_put", plain(204), Uploaded),
        ("judge_put", plain(404), LANE),
        ("judge_put", TIMED_OUT, RetryCause.TIMED_OUT),
        ("judge_put", plain(500, b"the server has 3 bytes of 4"), BROKEN),
        ("judge_create", plain(204), Opened),
        ("judge_create", TIMED_OUT, MayBeOpen),
        ("judge_create", plain(409), LATER),
        ("judge_create", plain(404), LANE),
        ("judge_poll", plain(204), Pending),
        ("judge_poll", plain(404), Completed),
        ("judge_withdraw", plain(204), Free),
        ("judge_withdraw", plain(404), Begun),
        ("judge_withdraw", TIMED_OUT, RetryCause.TIMED_OUT),
        ("judge_withdraw", plain(403), LANE),
        ("judge_withdraw", plain(405), Begun),
        ("judge_withdraw", plain(401), LANE),
        *((step, plain(401), LANE) for step in ("judge_look", "judge_put", "judge_create", "judge_poll")),
        *((step, plain(503), LATER) for step in ("judge_look", "judge_put", "judge_create", "judge_poll")),
        *((step, plain(405), LANE) for step in ("judge_look", "judge_put", "judge_create", "judge_poll")),
        *((step, CERTIFICATE, LANE) for step in ("judge_look", "judge_put", "judge_create", "judge_poll")),
        *((step, NOT_SENT, RetryCause.NOT_SENT) for step in ("judge_look", "judge_put", "judge_create", "judge_poll")),
    ],
)
def test_whose_fault_an_answer_of_the_ftp_server_is(step: str, reply: Any, expected: Any) -> None:
    """Row by row. Its login is the lane's, and not the platform's account."""
    more = (1,) if step == "judge_poll" else ()
    assert kind_of(getattr(found(via=FTP), step)(reply, *more)) == expected
