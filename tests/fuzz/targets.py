"""What reads bytes of others, each as a function of bytes that raises if anything is wrong with the reading.

An input is a file of ``corpus/<target>``. Where it stands for several things (headers and a value, a key and a value)
they are written as in HTTP: lines, an empty line, the rest.
"""

import json
import zlib
from binascii import b2a_base64
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from aiokafka.structs import TopicPartition

from contracts import envelope
from contracts.control import LossKey, decode_key
from contracts.deadletters import (
    DEAD_LETTER_HEADERS,
    PREFIX,
    DeadLetter,
    Position,
    dead_letter_headers,
    read_dead_letter,
    read_replay,
)
from contracts.envelope import Undecodable, decode
from contracts.events import Event
from contracts.fast_decoding import FastDecoder
from contracts.masking import mask_detail, personal_strings
from contracts.outcomes import Outcome, Reason
from contracts.results import DETAIL_MAX, decode_result
from handlers.base import Answer, BatchVerdict, Confirm, Forbidden, Hold, InDoubt, Retry, Settle, Split, Verdict
from handlers.np6.verdicts import judge_confirmation, judge_join, judge_leave
from handlers.np6.workflow_verdicts import judge_executions
from service.app import KINDS, Application
from service.config import Configuration, ConfigurationError, load, loads
from service.control.orders import Orders
from service.delivery.held_time import HeldTime
from service.delivery.limiter import AccountLimiter, LimiterPolicy
from service.errors import JournalUnreadableError
from service.intake.losses import judge
from service.intake.planner import Planner, PlanningPolicy
from service.intake.starts import Begin
from service.journal.reading import Journal
from service.journal.recovery import recover
from service.offsets.ledger import PartitionLedger
from service.offsets.metadata import MAX_BYTES, Ranges, decode_all, encode, fits
from service.offsets.metadata import decode as decode_metadata
from service.status.document import report_key
from service.status.fleet import _take, fleet_of
from tests.fuzz.import_targets import check_import_answers
from tests.support.fakes import START_WALL_MS, Source, values
from tests.support.settling import documents_for

CORPUS = Path(__file__).parent / "corpus"
EXAMPLE = Path(__file__).parents[2] / "deploy" / "fanline.example.yaml"

Headers = list[tuple[str, bytes | None]]


def event(data: bytes) -> None:
    """A record: its headers, and its value. Read, planned by every lane of the example, and written as a result."""
    headers, value = _message(data)
    read = decode(value, headers)
    assert isinstance(read, Event | Undecodable)
    if isinstance(read, Undecodable):
        assert len(read.detail) < 200, "a detail names places and quotes nothing"
    if value:
        exact = repr(envelope._exact_structured(value))
        expecting = FastDecoder()
        expecting._tolerant_left = 1
        nested = FastDecoder()
        nested._nested_left = 1
        for fast in (FastDecoder(), nested, expecting):
            found = fast.structured(value)
            assert found is None or repr(found) == exact, "the fast and the exact way differ"
    for planner in _planners():
        source = Source()
        item = source.item(b"\xff key", value=value or None, headers=headers)  # type: ignore[arg-type]
        planner.plan(item)
        assert (item.outcome is None) == bool(item.operations)
        assert item.reason is not Reason.HANDLER_ERROR, item.detail
        if item.outcome is None:
            item.outcome, item.reason = Outcome.REJECTED, Reason.REFUSED
            planned = item.read_event()
            assert planned is not None
            item.detail = mask_detail("the platform said: " + str(planned.data)[:2_000], personal_strings(planned))
        writes = documents_for().writes([item], START_WALL_MS)
        results = values(writes, "results")
        assert len(results) == 1
        assert decode_result(results[0] or b"").data.outcome is item.outcome
        # Twice: what is not ASCII can take more bytes in a result than in a header.
        assert len(results[0] or b"") < 16 * 1024 + 2 * len(data)


def configuration(data: bytes) -> None:
    """A configuration file: read, or every fault of it with its place."""
    try:
        config = loads(data, KINDS, file="fanline.yaml")
    except ConfigurationError as error:
        _check_faults(error)
        return
    application = Application(config)
    for lane in config.lanes.values():
        application.handler(lane)
        application._where(lane)


def _check_faults(error: ConfigurationError) -> None:
    assert error.faults
    for fault in error.faults:
        assert fault.problem
        assert fault.file == "fanline.yaml"
        assert fault.line is None or (fault.line >= 1 and (fault.column or 0) >= 1)
        str(fault).encode()
        assert len(fault.problem) < 4_000, "a fault is for a person"


def journal(data: bytes) -> None:
    """A record of a lane's journal: its key, and its value. Taken over as an assignment does it."""
    key, _, value = data.partition(b"\n\n")
    found = Journal()
    tp = TopicPartition("contacts.changed", 3)
    reason = _unreadable(found, key, value)
    if reason is not None:
        assert len(reason) < 1_000, "a reason is for a person"
        return
    for delivery in found.deliveries.values():
        assert all(0 <= first < end for ranges in delivery.ranges.values() for _, first, end in ranges)
    begins = {tp: Begin(7, encode(7, [(9, 11)]))}
    try:
        recovered = recover(found.deliveries, begins, "np6.workflows")
    except JournalUnreadableError:
        recovered = recover({}, begins, "np6.workflows")
    for offsets in recovered.interrupted.values():
        assert all(offset >= 7 and not 9 <= offset < 11 for offset in offsets)
    for entry in found.held_times.values():
        held = HeldTime()
        held.read(entry, START_WALL_MS)
        assert held.since(0, START_WALL_MS) >= 0
        held.forget(1_000, START_WALL_MS)
        held.entry()
    judge(begins, lambda _: None, found.starts, hold=True, now_ms=START_WALL_MS)
    found.take(3, key, None)
    assert found == Journal()


def _unreadable(journal: Journal, key: bytes, value: bytes) -> str | None:
    """Why the lane holds for a record."""
    try:
        journal.take(3, key, value)
    except JournalUnreadableError as error:
        return str(error)
    return None


def metadata(data: bytes) -> None:
    """A committed offset, and the metadata of its commit."""
    first, _, rest = data.partition(b"\n\n")
    base = int(first) if first.isdigit() and len(first) < 19 else 1207
    text = rest.decode("utf-8", "surrogatepass") if _is_text(rest) else rest.decode("latin-1")
    _metadata(base, text)
    # With a checksum that is right: what lies behind it is to be reached too.
    for form in "rbRB":
        for prefix, below in (("fl1", 0), ("fl2", 1)):
            payload = rest[:2_900]
            sum_ = zlib.crc32(payload, zlib.crc32(f"{form}{base - below}".encode())).to_bytes(4, "big")
            _metadata(base, f"{prefix}{form}{b2a_base64(sum_ + payload, newline=False).decode()}")


def _metadata(base: int, text: str) -> None:
    ranges, deferred, fault = decode_all(base, text)
    assert fault is None or (not ranges and not deferred)
    _check_ranges(base - bool(deferred), ranges)
    assert all(first >= base for first in deferred.values())
    for_all, _ = decode_metadata(base, text)
    _check_ranges(base - bool(deferred), for_all)
    ledger = PartitionLedger(base, ranges, deferred)
    assert ledger.low >= base
    ledger.read(ledger.position)
    again = encode(base, ranges, deferred)
    if fits(again) and len(text) <= MAX_BYTES:
        assert decode_all(base, again)[:2] == (ranges, deferred)


def _check_ranges(base: int, ranges: Ranges) -> None:
    before = base
    for start, end in ranges:
        assert before < start < end
        before = end


def control(data: bytes) -> None:
    """A record of the control topic: its key, and its value. What cannot be read pauses."""
    key, _, value = data.partition(b"\n\n")
    orders = Orders()
    orders.apply(b"lane/vip", b'{"action":"resume","by":"a","why":"b","at_ms":1,"version":1}')
    change = orders.apply(key, value)
    named = decode_key(key)
    if key in (b"lane/vip", b"account/np6-main"):
        pause = orders.pause_of("vip", "np6-main")
        assert change is not None
        assert (change.order is None) <= (pause is not None), "an order that cannot be read is leave to go on"
        if pause is not None:
            pause.describe().encode("utf-8", "backslashreplace")
    elif isinstance(named, LossKey):
        tp = TopicPartition(named.topic, named.partition)
        assert (orders.loss_of(named.lane, tp) is not None) == (change is not None)
    orders.apply(key, None)
    assert orders.pause_of("vip", "np6-main") is None


def status(data: bytes) -> None:
    """A report of a process in the status topic."""
    newest: dict = {}  # type: ignore[type-arg]
    key = report_key("vip", "a")
    _take(newest, key, data, START_WALL_MS)
    fleet = fleet_of(newest, ["vip"], START_WALL_MS + 1)
    assert len(fleet.heard) == len(newest)
    _take(newest, key, None, START_WALL_MS)
    assert newest == {}


def dead_letter(data: bytes) -> None:
    """The headers of a record: of a dead letter, of the replay topic, of a source topic; each dies again."""
    headers, _ = _message(data)
    told, replay = read_dead_letter(headers), read_replay(headers)
    assert told is None or isinstance(told, DeadLetter)
    for is_replay in (False, True):
        read = Position("replay" if is_replay else "contacts.changed", 3, 17, START_WALL_MS)
        written = dead_letter_headers(
            headers,
            lane="vip",
            outcome=Outcome.REJECTED,
            reason=Reason.REFUSED,
            detail="no",
            result_id="r",
            read=read,
            attempts=1,
            failed_at_ms=START_WALL_MS,
            is_replay=is_replay,
        )
        ours = [name for name, _ in written if name.startswith(PREFIX)]
        assert len(set(ours)) == len(ours)
        assert set(ours) <= set(DEAD_LETTER_HEADERS)
        assert [one for one in written if not one[0].startswith(PREFIX)] == [
            one for one in headers if not one[0].startswith(PREFIX)
        ]
        again = read_dead_letter(written)
        assert again is not None
        believed = replay.origin if is_replay and replay is not None and replay.origin is not None else read
        assert (again.origin.topic, again.origin.partition) == (believed.topic, believed.partition)
        assert again.origin.offset == believed.offset
        if is_replay and replay is not None:
            assert again.replays == replay.replays
            json.dumps(replay.result_replay().id)


def segments_answer(data: bytes) -> None:
    """NP6's answer to a join, a leave, or the question that settles a conflict."""
    answer = _answer(data)
    for confirm in (False, True):
        for verdict in (
            judge_join(answer, confirm_conflicts=confirm),
            judge_leave(answer, confirm_conflicts=confirm),
        ):
            _check_verdict(verdict, answer)
    for member in (False, True):
        verdict = judge_confirmation(answer, segment=501, member=member)
        assert not isinstance(verdict, Confirm), "a question is not settled by another"
        _check_verdict(verdict, answer)
    _check_pace(answer)


def executions_answer(data: bytes) -> None:
    """NP6's answer to a batch of executions."""
    answer = _answer(data)
    ids = ["e-1", "e-2", "e-3"]
    for only in (None, "42"):
        verdict: BatchVerdict = judge_executions(answer, ids, only=only)
        if isinstance(verdict, Retry | Hold | Forbidden | Split | InDoubt):
            # No answer but one that says that nothing took effect may be repeated.
            assert not isinstance(verdict, Retry) or answer.status in (429, 503)
            _bounded_text(verdict.reason if isinstance(verdict, Hold) else verdict.detail, answer)
            continue
        assert len(verdict) == len(ids)
        for end in verdict:
            assert isinstance(end, Settle | InDoubt)
            _bounded_text(end.detail, answer)
    _check_pace(answer)


def imports_answer(data: bytes) -> None:
    """An answer to any step of an import, of whichever platform."""
    answer = _answer(data)
    check_import_answers(answer)
    _check_pace(answer)


def _check_verdict(verdict: Verdict, answer: Answer) -> None:
    if isinstance(verdict, Settle):
        assert verdict.outcome in (Outcome.DELIVERED, Outcome.REJECTED)
        # Nothing but a success, a conflict, or what is not there to be left says that a wanted state is there.
        assert verdict.outcome is not Outcome.DELIVERED or 200 <= answer.status < 300 or answer.status in (404, 409)
    if isinstance(verdict, Settle | Retry | Forbidden):
        _bounded_text(verdict.detail, answer)
        assert verdict.reference is None or (verdict.reference.isascii() and len(verdict.reference) <= 200)


def _bounded_text(text: str | None, answer: Answer) -> None:
    if text is not None:
        assert "\n" not in text
        assert len(text) <= 1_000 + 2 * len(answer.body)
        masked = mask_detail(text, ["secret"])
        assert len(masked) <= DETAIL_MAX
        assert "secret" not in masked.lower() or "•" in masked


def _check_pace(answer: Answer) -> None:
    """Whatever the headers say, the account goes on within minutes, and never waits a negative time."""
    limiter = AccountLimiter(LimiterPolicy(max_in_flight=4, requests_per_second=50))
    now = 1_000.0
    assert limiter.admit(now) == 0.0
    limiter.release()
    limiter.observe(answer.headers, answer.status, now, 1_767_225_600.0, now - 0.1)
    waited = 0.0
    for _ in range(1_000):
        wait_s = limiter.admit(now + waited)
        if not wait_s:
            return
        assert 0 < wait_s <= 300
        waited += wait_s
        assert waited < 1_000
    raise AssertionError("it asks again and again")


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one
    for one in (
        event,
        configuration,
        journal,
        metadata,
        control,
        status,
        dead_letter,
        segments_answer,
        executions_answer,
        imports_answer,
    )
}

# How many bytes an input has at most: a configuration is read slowly, and once.
MOST_BYTES = {"configuration": 8 * 1024}

# Words of each format, to be put in where they do not belong.
WORDS: dict[str, tuple[bytes, ...]] = {
    "event": (b"ce_id: x", b"content-type: application/json", b'"data_base64":"e30="', b'"type":', b'"version":7.0'),
    "configuration": (
        b"{env: X}",
        b"{file: /}",
        b"1 KiB",
        b"10h",
        b"i_know: true",
        b"'data.x'",
        b"lanes:",
        b"- ",
        b"|\n",
    ),
    "journal": (
        b"delivery/d-1",
        b"start/contacts.changed",
        b"held-time",
        b"contact/k",
        b'"version":2',
        b"[3,0,1000000000]",
    ),
    "metadata": (b"fl1r", b"fl2B", b"fl3", b"fl1b", b"\xff" * 70),
    "control": (b"loss/vip/t-", b"account/np6-main", b"guard/vip", b'"version":9', b'"action":"pause"'),
    "status": (b'"waiting":[]', b'"partitions":[]', b"null", b"1e400"),
    "dead_letter": (b"fanline-replays: 3\n", b"fanline-origin-offset: 1\n", b"fanline-outcome: delivered\n"),
    "segments_answer": (
        b"409",
        b"204",
        b"x-ratelimit-reset: 1e9\n",
        b"retry-after: 9\n",
        b"[501]",
        b"ExceptionMessage",
    ),
    "imports_answer": (
        b"x-created: 17\n",
        b'"status":"completed"',
        b'"state":0',
        b'"file_upload_url":"https://a.amazonaws.com:443/x?y=%20"',
        b'"Invalid access token"',
        b"<Code>EntityTooLarge</Code>",
    ),
    "executions_answer": (b"200", b'{"type":"success"}', b'{"type":"error","flow":{}}', b"x-ratelimit-remaining: 0\n"),
}


def corpus(name: str) -> Iterator[tuple[str, bytes]]:
    """The kept inputs of a target, by the names of their files."""
    for path in sorted((CORPUS / name).iterdir()):
        yield path.name, path.read_bytes()


@cache
def example() -> Configuration:
    """The example configuration."""
    return load(EXAMPLE, KINDS)


@cache
def _planners() -> list[Planner]:
    config, planners = example(), []
    application = Application(config)
    policy = PlanningPolicy(other_types_skipped=False, deadline_s=None, deadline_from_time=False)
    for lane in config.lanes.values():
        planner = Planner(application.handler(lane), application._where(lane), policy, lambda kind, stack: None)
        planners.append(planner)
    return planners


def _message(data: bytes) -> tuple[Headers, bytes | None]:
    """Headers as ``name: value`` lines, an empty line, the value; without headers the first line is empty."""
    head, _, value = (b"\n" + data).partition(b"\n\n")
    headers: Headers = []
    for line in head.split(b"\n")[1:]:
        name, _, content = line.partition(b": ")
        headers.append((name.decode("utf-8", "replace"), content))
    return headers, value


def _answer(data: bytes) -> Answer:
    """A status line, headers, an empty line, the body."""
    head, _, body = data.partition(b"\n\n")
    lines = head.decode("latin-1").split("\n")
    status = int(lines[0]) if lines[0].isascii() and lines[0].isdigit() and len(lines[0]) < 4 else 200
    headers = dict(line.lower().partition(": ")[::2] for line in lines[1:])
    return Answer(status, headers, body, truncated="truncated" in headers)


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
