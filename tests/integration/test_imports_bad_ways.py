"""Whatever a platform answers to an import's calls: it ends as it has to, nothing is lost or sent twice, and while the
lane waits it says why. A lane for each way, all in one process, each on an account of its own."""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from handlers.sandbox import Match, Prescription, Step
from service.app import Application
from tests.support.events import Feed
from tests.support.harness import until_state
from tests.support.import_stage import APSIS, COPERNICA, NP6, ImportStage, contacts_of, newest_of
from tests.support.oracle import Expect, Place, Result, Source, delivered
from tests.support.patience import patiently

EVENTS = 12
CONTACTS = 6
# So long an address takes files where a test waits for its end.
SHORT_S = 3.0
PRIVATE = "10.0.0.7"
DENIED = '<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code><Message>no</Message></Error>'
NO_TOKEN = '{"error":{"message":"Invalid access token"}}'
ADD = {"action": "add", "key_fields": []}

Act = Callable[[ImportStage, str], object]


def nothing(_stage: ImportStage, _lane: str) -> None:
    """There is nothing to do."""


def ending(outcome: str, reason: str) -> Expect:
    """Every event is to end so."""

    def expect(_place: Place, _source: Source) -> tuple[str, str | None]:
        return outcome, reason

    return expect


class Way(NamedTuple):
    """``given`` prepares the platform. Some call is made so often (``asked``), then things ``turn``; the lane ``waits``
    (its state, a word of its reason). Then the platform is ``mended``, and where ``resumes`` says so an operator has it
    tried. ``found`` looks at what the platform was asked for."""

    given: Act
    asked: tuple[str, int] | None = None
    turn: Act = nothing
    waits: tuple[str, str] | None = None
    mended: Act = nothing
    resumes: bool = False
    expect: Expect = delivered
    found: Act = nothing
    keys: Mapping[str, Any] = {}
    account: Mapping[str, Any] = {}
    detail: str | None = None


def apsis(**rules: Any) -> Act:
    """The platform behaves so."""
    return lambda stage, lane: stage.apsis.configure(lane, rules)


def copernica(**rules: Any) -> Act:
    """The platform behaves so."""
    return lambda stage, lane: stage.copernica.configure(lane, rules)


def np6(**rules: Any) -> Act:
    """The platform behaves so."""
    return lambda stage, lane: stage.np6.configure(lane, rules)


def answers(kind: str, *steps: Step | int, repeat: bool = False, skip: int = 0) -> Act:
    """What calls of a kind are answered with, behind so many others."""

    def prescribe(stage: ImportStage, lane: str) -> None:
        match = Match(kind=kind, account=lane)
        stage.sandbox.prescriptions.add([Prescription(list(steps), match, skip, repeat)])

    return prescribe


def both(*acts: Act) -> Act:
    """One after the other."""

    def act(stage: ImportStage, lane: str) -> None:
        for one in acts:
            one(stage, lane)

    return act


def uploads(*counts: int) -> Act:
    """So many imports were opened, each with so many files."""

    def found(stage: ImportStage, lane: str) -> None:
        assert [one.uploads for one in stage.apsis.imports(lane)] == list(counts), lane

    return found


def anew(files: int = 1) -> Act:
    """What was opened first has no file, and lapsed; so many were opened behind it, each with one."""

    def found(stage: ImportStage, lane: str) -> None:
        counts = [one.uploads for one in stage.apsis.imports(lane)]
        # Where the machine is slow more than one may lapse.
        assert counts == [0] * max(1, len(counts) - files) + [1] * files, lane

    return found


def times(kind: str, count: int) -> Act:
    """So many calls of a kind were made, those for tokens too."""

    def found(stage: ImportStage, lane: str) -> None:
        made = [call for call in stage.sandbox.log.calls() if (call.account, call.kind) == (lane, kind)]
        assert len(made) == count, lane

    return found


APSIS_WAYS = {
    "another-host": Way(
        apsis(upload_url="https://elsewhere.example/up", upload_life_s=SHORT_S),
        waits=("holding", "at elsewhere.example, which is none of upload_hosts"),
        mended=apsis(upload_url=None, upload_life_s=600.0),
        resumes=True,
        found=anew(),
    ),
    "plain-http": Way(
        apsis(upload_url="http://files.example/up", upload_life_s=SHORT_S),
        waits=("holding", "files.example is not https"),
        mended=apsis(upload_url=None, upload_life_s=600.0),
        resumes=True,
        found=anew(),
    ),
    "private-address": Way(
        apsis(upload_url="https://a.files.example/up", upload_life_s=SHORT_S),
        waits=("holding", "leads into a private network"),
        mended=apsis(upload_url=None, upload_life_s=600.0),
        resumes=True,
        found=anew(),
        account={"upload_hosts": ["*.files.example"]},
    ),
    "address-expired": Way(
        both(apsis(upload_life_s=0.5), answers("upload", Step(status=403, body=DENIED, delay_s=1.0))),
        asked=("upload", 1),
        mended=apsis(upload_life_s=600.0),
        found=anew(),
    ),
    "storage-refuses": Way(
        answers("upload", Step(status=403, body=DENIED)),
        waits=("holding", "the upload address refuses the file (403, AccessDenied)"),
        resumes=True,
        found=uploads(1),
    ),
    "storage-breaks": Way(answers("upload", Step(status=500, effect=True)), found=uploads(1)),
    "stuck-without-file": Way(
        apsis(stuck_at="waiting_for_file"),
        expect=ending("in_doubt", "interrupted"),
        found=uploads(1),
        keys={"poll": {"every": "100ms", "deadline": "1s"}},
    ),
    "unknown-status": Way(
        apsis(stuck_at="resting"), asked=("status", 4), mended=apsis(stuck_at=None), found=uploads(1)
    ),
    "token-ended": Way(
        apsis(stuck_at="in_progress"),
        asked=("status", 2),
        mended=apsis(stuck_at=None, token_generation=1),
        found=both(uploads(1), times("token", 2)),
    ),
    "token-ended-by-403": Way(
        apsis(stuck_at="in_progress", refuses_with=403),
        asked=("status", 2),
        mended=apsis(stuck_at=None, token_generation=1),
        found=both(uploads(1), times("token", 2)),
    ),
    "client-refused": Way(
        apsis(stuck_at="in_progress"),
        asked=("status", 2),
        turn=apsis(token_generation=1, clients={"another": "one"}),
        waits=("holding", "credentials refused"),
        mended=apsis(clients=None, stuck_at=None),
        resumes=True,
        found=uploads(1),
    ),
    "create-too-large": Way(answers("create", 413), found=both(uploads(1, 1), times("create", 3))),
    "each-too-large": Way(answers("create", 413, repeat=True), expect=ending("rejected", "too_large"), found=uploads()),
    "file-too-large": Way(
        both(apsis(upload_life_s=SHORT_S), answers("upload", 413)),
        asked=("upload", 1),
        mended=apsis(upload_life_s=600.0),
        found=anew(2),
    ),
    "too-many-a-minute": Way(
        answers("create", Step(status=429, headers={"Retry-After": "1"})),
        waits=("holding", "asked us to wait"),
        found=both(uploads(1), times("create", 2)),
    ),
    "too-many-open": Way(
        apsis(max_open=0), waits=("holding", "asked us to wait"), mended=apsis(max_open=1), found=uploads(1)
    ),
    "fewer-found": Way(
        apsis(passes_over=1),
        expect=ending("unattributed", "unattributed"),
        found=uploads(1),
        detail=f"of {CONTACTS} rows the platform reports 0 failed and 1 not found",
    ),
}


def profiles(rows: Callable[[Feed], list[str]], creates: int) -> Callable[[ImportStage, str, Feed], None]:
    """These contacts are there, each as often as it says; so many creates were made."""

    def found(stage: ImportStage, lane: str, feed: Feed) -> None:
        there = [profile["contact"] for profile in stage.copernica.profiles(lane)]
        assert sorted(there) == sorted(rows(feed)), lane
        assert stage.asked(lane).count("create") == creates, lane

    return found


def each_once(feed: Feed) -> list[str]:
    return sorted(set(contacts_of(feed)))


IN_DOUBT = ending("in_doubt", "interrupted")
# Of each: the way, which contacts are there then, and how many creates were made.
COPERNICA_WAYS = {
    "client-refused": (
        Way(
            copernica(tokens=["another"]),
            waits=("holding", "credentials refused"),
            mended=copernica(tokens=None),
            resumes=True,
        ),
        each_once,
        1,
    ),
    "v3-token-refused": (
        Way(
            copernica(tokens=["another"]),
            waits=("holding", "credentials refused (401)"),
            mended=copernica(tokens=None),
            resumes=True,
            account={"api_version": 3, "i_know": True},
        ),
        each_once,
        2,
    ),
    "token-refused": (
        Way(
            answers("create", Step(status=400, body=NO_TOKEN), Step(status=400, body=NO_TOKEN)),
            waits=("holding", "credentials refused"),
            resumes=True,
        ),
        each_once,
        3,
    ),
    "token-ended": (
        Way(
            copernica(stuck=True),
            asked=("status", 2),
            mended=copernica(stuck=False, generation=1),
            found=times("token", 2),
        ),
        each_once,
        1,
    ),
    "lost": (Way(answers("create", Step(reset="after"))), each_once, 2),
    "broken": (Way(answers("create", Step(status=500, effect=True))), each_once, 2),
    "add-lost": (Way(answers("create", Step(reset="after")), keys=ADD, expect=IN_DOUBT), contacts_of, 1),
    "add-broken": (Way(answers("create", Step(status=500, effect=True)), keys=ADD, expect=IN_DOUBT), contacts_of, 1),
    "add-redirected": (
        Way(
            answers("create", Step(status=303, effect=True, headers={"Location": "https://elsewhere.example/1"})),
            keys=ADD,
            expect=IN_DOUBT,
        ),
        contacts_of,
        1,
    ),
    "add-nameless": (
        Way(copernica(id_in=""), waits=("holding", "without an import's id"), keys=ADD, resumes=True, expect=IN_DOUBT),
        contacts_of,
        1,
    ),
    "add-throttled": (Way(answers("create", 429), keys=ADD), contacts_of, 2),
    "unknown-database": (
        Way(
            copernica(databases={"7": []}),
            waits=("holding", "Unknown database"),
            mended=copernica(databases=None),
            resumes=True,
        ),
        each_once,
        2,
    ),
}


def executed_by_hand(stage: ImportStage, lane: str) -> None:
    """Somebody else executes the import, and it takes long."""
    held = stage.np6._account(lane).imports
    held.put(23, OTHERS)
    held.execute(23, b'{"binding": 7}')
    stage.np6.configure(lane, {"import_looks": 1_000_000})


class Sent(NamedTuple):
    """What an import of NP6 has carried out for a lane: ``rows``, in so many executions; so often it was asked for a
    file and for an execution."""

    rows: Callable[[Feed], list[str]] = each_once
    files: int = 1
    puts: int = 1
    starts: int = 1


def nobody(_feed: Feed) -> list[str]:
    return []


OTHERS = b"contact;newest\r\n"
NO_EXECUTION = Step(status=200, body="<html>busy</html>")
HURRIED = {"retry": {"first_delay": "20ms", "max_delay": "20ms", "max_attempts": 3}}
ONCE = Sent()
NP6_WAYS: dict[str, tuple[Way, Sent]] = {
    # The file.
    "put-too-large": (Way(answers("put_source", 413)), Sent(files=2, puts=3, starts=2)),
    "each-too-large": (
        Way(answers("put_source", 413, repeat=True), expect=ending("rejected", "too_large")),
        Sent(nobody, files=0, puts=11, starts=0),
    ),
    "put-throttled": (
        Way(
            answers("put_source", Step(status=429, headers={"Retry-After": "1"})),
            waits=("holding", "asked us to wait"),
        ),
        Sent(puts=2),
    ),
    "put-lost-before": (Way(answers("put_source", Step(reset="before"))), Sent(puts=2)),
    "put-lost": (Way(answers("put_source", Step(reset="after"))), Sent(puts=2)),
    "put-broken": (Way(answers("put_source", Step(status=500, effect=True))), Sent(puts=2)),
    "put-key-refused": (
        Way(answers("put_source", 401), waits=("holding", "credentials refused (401)"), resumes=True),
        Sent(puts=2),
    ),
    "put-forbidden": (
        Way(answers("put_source", 403), waits=("holding", "the platform forbids it (403)"), resumes=True),
        Sent(puts=2),
    ),
    # The start. Where nothing took effect file and start are made again, else neither is.
    "start-throttled": (
        Way(
            answers(
                "execute_import", Step(status=429, headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"})
            ),
            waits=("holding", "asked us to wait"),
        ),
        Sent(puts=2, starts=2),
    ),
    "start-unavailable": (Way(answers("execute_import", 503)), Sent(puts=2, starts=2)),
    "start-garbage": (Way(answers("execute_import", Step(status=200, body="<html>"))), ONCE),
    "start-lost": (Way(both(np6(import_looks=5), answers("execute_import", Step(reset="after")))), ONCE),
    "start-broken": (
        Way(both(np6(import_looks=5), answers("execute_import", Step(status=500, effect=True)))),
        ONCE,
    ),
    "start-lost-and-ended": (
        Way(both(np6(import_looks=1), answers("execute_import", Step(reset="after"))), expect=IN_DOUBT),
        ONCE,
    ),
    "start-lost-before": (
        Way(answers("execute_import", Step(reset="before")), expect=IN_DOUBT),
        Sent(nobody, files=0),
    ),
    "start-broken-before": (Way(answers("execute_import", 502), expect=IN_DOUBT), Sent(nobody, files=0)),
    "start-refused": (
        Way(answers("execute_import", 400, repeat=True), expect=ending("rejected", "refused")),
        Sent(nobody, files=0, puts=11, starts=11),
    ),
    "start-key-refused": (
        Way(answers("execute_import", 401), waits=("holding", "credentials refused (401)"), resumes=True),
        Sent(puts=2, starts=2),
    ),
    "start-forbidden": (
        Way(answers("execute_import", 403), waits=("holding", "the platform forbids it (403)"), resumes=True),
        Sent(puts=2, starts=2),
    ),
    # The state, which is the last execution's.
    "runs-already": (
        Way(
            executed_by_hand,
            waits=("holding", "an execution of the import runs already"),
            mended=np6(import_looks=1),
            resumes=True,
            keys=HURRIED,
        ),
        ONCE,
    ),
    "look-garbage": (Way(answers("import_state", NO_EXECUTION)), ONCE),
    "definition-garbage": (Way(answers("import", NO_EXECUTION)), ONCE),
    "unknown-state": (
        Way(
            answers("import_state", Step(status=200, body='{"state": 7}'), NO_EXECUTION, Step(cut=True), 500, skip=1),
            asked=("import_state", 6),
        ),
        ONCE,
    ),
    "stuck": (
        Way(
            np6(import_looks=1_000_000),
            expect=IN_DOUBT,
            keys={"poll": {"every": "100ms", "deadline": "1s"}},
        ),
        ONCE,
    ),
    "forgotten": (
        Way(
            answers("import_state", 404, skip=1),
            expect=ending("unattributed", "unattributed"),
        ),
        ONCE,
    ),
    "state-forbidden": (
        Way(
            answers("import_state", 403, 401, skip=1),
            waits=("holding", "the platform forbids it (403)"),
            resumes=True,
        ),
        ONCE,
    ),
}


class Names:
    """Looks up names of nobody's; of ``files.example`` all lead into a private network."""

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict[str, Any]]:
        assert host.endswith(".files.example"), host
        return [{"hostname": host, "host": PRIVATE, "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing is open."""


async def go(stage: ImportStage, application: Application, lane: str, way: Way) -> None:
    """What happens to one lane, until all its events have results."""
    running = application.lanes[lane]
    if way.asked is not None:
        await stage.until_asked(lane, *way.asked)
    way.turn(stage, lane)
    if way.waits is not None:
        await until_state(running, *way.waits, within_s=40)
    way.mended(stage, lane)
    if way.resumes:
        deadline = time.monotonic() + patiently(40)
        while len(stage.results.of(lane)) < EVENTS:
            assert time.monotonic() < deadline, f"{lane}: {running.board.state} ({running.board.reason})"
            running.account.resume()
            running.released()
            await asyncio.sleep(0.3)


async def all_go(stage: ImportStage, ways: Mapping[str, Way], feed: Feed) -> dict[str, list[Result]]:
    """All lanes, beside each other; the results of each."""
    for lane, way in ways.items():
        way.given(stage, lane)
    await stage.publish([feed.of(n % CONTACTS) for n in range(EVENTS)])
    async with stage.application() as application, asyncio.TaskGroup() as group:
        tasks = [group.create_task(go(stage, application, lane, way)) for lane, way in ways.items()]
        await stage.results.until(dict.fromkeys(ways, EVENTS), within_s=60)
        await asyncio.wait(tasks)
    return await stage.check_all({lane: way.expect for lane, way in ways.items()})


def lanes_of(ways: Mapping[str, Way], usual: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {lane: {**usual, **way.keys, "account_keys": way.account} for lane, way in ways.items()}


async def test_apsis(bootstrap_servers: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address where no file may go, one that has ended, refusals of the storage, statuses that say nothing, tokens,
    sizes, rates, and rows that were not found."""
    monkeypatch.setattr(aiohttp, "ThreadedResolver", Names)
    async with ImportStage(bootstrap_servers, prefix, tmp_path, lanes_of(APSIS_WAYS, APSIS)) as stage:
        feed = Feed(CONTACTS)
        results = await all_go(stage, APSIS_WAYS, feed)
        for lane, way in APSIS_WAYS.items():
            way.found(stage, lane)
            assert way.detail is None or {result.data["detail"] for result in results[lane]} == {way.detail}
            if lane != "too-many-open":
                assert stage.apsis.state(lane)["refused_open"] == 0, f"{lane}: one import too many was asked for"
            if way.expect is delivered:
                cells = {key[0]: profile["cells"]["newest"] for key, profile in stage.apsis.profiles(lane).items()}
                assert cells == newest_of(feed), lane


async def test_copernica(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Tokens, creates whose answers say nothing or were lost, and what is the configuration's fault: rows that may not
    be sent twice never are."""
    ways = {lane: way for lane, (way, _, _) in COPERNICA_WAYS.items()}
    async with ImportStage(bootstrap_servers, prefix, tmp_path, lanes_of(ways, COPERNICA)) as stage:
        feed = Feed(CONTACTS)
        await all_go(stage, ways, feed)
        for lane, (way, rows, creates) in COPERNICA_WAYS.items():
            way.found(stage, lane)
            profiles(rows, creates)(stage, lane, feed)


async def test_np6(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Files that are too large, lost or refused are put again, and nobody minds; a start that may have begun something
    never is made again, and what nobody can tell is in doubt."""
    ways = {lane: way for lane, (way, _) in NP6_WAYS.items()}
    async with ImportStage(bootstrap_servers, prefix, tmp_path, lanes_of(ways, NP6)) as stage:
        feed = Feed(CONTACTS)
        await all_go(stage, ways, feed)
        for lane, (_, wanted) in NP6_WAYS.items():
            assert sorted(stage.sent(lane)) == sorted(wanted.rows(feed)), lane
            files = [one.file for one in stage.np6.imported(lane) if one.file != OTHERS]
            asked = stage.asked(lane)
            made = Sent(wanted.rows, len(files), asked.count("put_source"), asked.count("execute_import"))
            assert made == wanted, lane
