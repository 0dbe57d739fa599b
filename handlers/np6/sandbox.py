"""NP6's segments, notifications and workflows, imitated with their quirks. What is known of them, and how surely,
stands in README.md.

By default every key, target and segment is taken for known, so that demonstrations need no preparation.
"""

from collections.abc import Mapping
from itertools import count
from math import ceil
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from handlers.np6 import sandbox_imports as imports
from handlers.np6.sandbox_notifications import BadQuery, Row, listed, made_rows
from handlers.np6.sandbox_workflows import (
    MEDIA_TYPE,
    BadExecutions,
    Performed,
    Workflows,
    read_executions,
    receiver_value,
)
from handlers.sandbox.accounts import Accounts
from handlers.sandbox.calls import KeyState
from handlers.sandbox.platform import PlatformAnswer, Subject

_OTHER = Subject("other")
_UNSUPPORTED = Subject("unsupported")
# By method and number of pieces of the path.
_KINDS = {("POST", 5): "join", ("DELETE", 5): "leave", ("GET", 4): "get"}
# By method and last piece of the path, below a target and below a workflow.
_OF_TARGETS = {("GET", "notifications"): "notifications"}
_OF_WORKFLOWS = {
    ("POST", "execution"): "execute",
    ("POST", "executions"): "executions",
    ("POST", "duplication"): "duplicate",
}
_EXECUTING = ("execute", "executions")
_OF_IMPORTS = frozenset(imports.KINDS.values())
_JSON = {"Content-Type": "application/json"}
_WORKFLOW = {"Content-Type": MEDIA_TYPE}
_IMPORT = {"Content-Type": imports.MEDIA_TYPE}


class RateLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many calls per window of an account, then 429. The platform does not say what ``reset`` counts."""

    requests: int
    window_s: float = 1.0
    reset: Literal["seconds", "epoch"] = "seconds"  # of X-RateLimit-Reset
    headers: bool = True  # X-RateLimit-* on every answer
    retry_after: bool = False  # Retry-After on a 429


class Rules(msgspec.Struct, forbid_unknown_fields=True):
    """What holds for an account. None: everything is known."""

    keys: set[str] | None = None  # None: any that is not empty
    targets: set[str] | None = None
    unknown_targets: set[str] = set()
    segments: set[int] | None = None
    unknown_segments: set[int] = set()
    dynamic_segments: set[int] = set()  # joins and leaves get an empty 409
    limit: RateLimit | None = None
    errors: Literal["ExceptionMessage", "Message", "errorType", "text", "empty"] = "ExceptionMessage"
    notifications: dict[str, list[Row]] = {}  # by target; others have those that are made of their names
    notifications_per_target: int = 3
    unknown_have_none: bool = False  # an unknown target's notifications are [] and not a 404
    workflows: set[int] | None = None
    unknown_workflows: set[int] = set()
    refused_receivers: set[str] = set()  # the item of their execution is of type error, inside a 200
    bad_receivers: set[str] = set()  # a request that names one is a 400 as a whole
    max_executions: int | None = None  # a request with more is a 413
    import_looks: int = 2  # an import's execution has ended at this look
    imports_fail: bool = False  # and in state 2
    import_unbegun: Literal["404", "empty"] = "404"  # the answer of its state before any execution
    items: Literal["each", "short", "long", "other"] = "each"  # of the answer to several executions: one too few,
    # one too many, or of a type that nobody knows


class Np6Sandbox(Accounts[Rules, "_Account"]):
    """The platform for any number of accounts. With ``remember=False`` each join and leave is 204, for
    benchmarks: assignments are neither kept nor found to be there already."""

    def __init__(self, rules: Mapping[str, Rules] | None = None, *, remember: bool = True) -> None:
        super().__init__(lambda _, given: _Account(given, remember), Rules, rules)
        self._remember = remember
        self._requests = count(1)

    def subject(self, method: str, path: str) -> Subject:
        """``join``, ``leave`` or ``get`` with target and segment, ``notifications`` with the target, ``execute``,
        ``executions`` or ``duplicate`` with the workflow, an
        import's calls with its id; ``unsupported`` for another method there."""
        parts = path.split("/")
        if parts[1:2] == ["imports"]:
            return _import_subject(method, parts[2:])
        if len(parts) not in (4, 5) or parts[1] != "targets" or parts[3] != "segments":
            return _other_subject(method, parts)
        target = unquote(parts[2]) if "%" in parts[2] else parts[2]
        if target in ("", ".", ".."):
            return _OTHER
        kind = _KINDS.get((method, len(parts)))
        if kind is None:
            return _UNSUPPORTED
        return Subject(kind, target, parts[4] if len(parts) == 5 else None)

    def key_state(self, account: str, headers: Mapping[str, str]) -> KeyState:
        """Whether ``X-Key`` is one of the account's."""
        key = headers.get("X-Key")
        if not key:
            return KeyState.NONE
        keys = self._account(account).rules.keys
        return KeyState.RIGHT if keys is None or key in keys else KeyState.WRONG

    def answer(
        self,
        account: str,
        method: str,
        subject: Subject,
        headers: Mapping[str, str],
        body: bytes,
        now: float,
        items: int | None = None,
    ) -> PlatformAnswer:
        """Checks in the order key, rate, address, form, existence, state; only the last can take effect."""
        known = self._account(account)
        added = {"x-request-id": f"sandbox-{next(self._requests)}"}
        if self.key_state(account, headers) is not KeyState.RIGHT:
            return known.error(401, "The key is missing or unknown", added)
        if known.rules.limit is not None and not known.admit(known.rules.limit, now, added):
            return known.error(429, "Too many requests", added)
        fault = _fault_of_form(method, subject, headers, body)
        if fault is not None:
            return known.error(*fault, added)
        if subject.kind == "notifications":
            return known.notifications(subject, added)
        if subject.kind in (*_EXECUTING, "duplicate"):
            return known.workflow(subject, body, now, added, items)
        if subject.kind in _OF_IMPORTS:
            return known.importing(subject, body, added)
        segment = _int32(subject.entity)
        if not known.knows(subject, segment):
            return known.error(404, "Target or segment unknown", added)
        if subject.kind == "get":
            return PlatformAnswer(200, {**added, **_JSON}, known.list_of(subject.target))
        if not self._remember:
            return PlatformAnswer(204, added, effect=True)
        return known.change(subject, segment, added)

    def performed(self, account: str) -> list[Performed]:
        """The executions of an account that have taken effect, in order."""
        return list(self._account(account).workflows.performed)

    def imported(self, account: str) -> list[imports.Imported]:
        """The imports of an account that were executed, in order."""
        return list(self._account(account).imports.executed)

    def configure(self, account: str, rules: Mapping[str, Any]) -> None:
        """Replaces those rules that are given, as JSON has them; a window of calls begins anew. Raises ValueError."""
        super().configure(account, rules)
        self._account(account).window_end = 0.0


class _Account:
    """An account's rules and what it holds."""

    def __init__(self, rules: Rules, remember: bool) -> None:
        self.rules = rules
        self.segments: dict[str, set[int]] = {}
        self.workflows = Workflows(remember=remember)
        self.imports = imports.Imports()
        self.window_end = 0.0
        self._window_left = 0

    def knows(self, subject: Subject, segment: int | None) -> bool:
        rules = self.rules
        if not self._knows_target(subject.target):
            return False
        if subject.kind == "get":
            return True
        if segment is None or segment in rules.unknown_segments:
            return False
        return rules.segments is None or segment in rules.segments

    def _knows_target(self, target: str | None) -> bool:
        rules = self.rules
        return target not in rules.unknown_targets and (rules.targets is None or target in rules.targets)

    def notifications(self, subject: Subject, added: dict[str, str]) -> PlatformAnswer:
        """What happened to what the target was shown."""
        target = subject.target or ""
        rows = self.rules.notifications.get(target)
        if not self._knows_target(target):
            if not self.rules.unknown_have_none:
                return self.error(404, "Target unknown", added)
            rows = []
        if rows is None:
            rows = list(made_rows(target, self.rules.notifications_per_target))
        try:
            return PlatformAnswer(200, {**added, **_JSON}, listed(rows, subject.query))
        except BadQuery as error:
            return self.error(400, str(error), added)

    def workflow(
        self, subject: Subject, body: bytes, now: float, added: dict[str, str], items: int | None
    ) -> PlatformAnswer:
        """Executes a workflow, or makes a copy of it."""
        rules, workflow = self.rules, _int32(subject.entity)
        known = rules.workflows is None or workflow in rules.workflows
        if workflow is None or workflow in rules.unknown_workflows or not (known or self.workflows.is_copy(workflow)):
            return self.error(404, "Workflow unknown", added)
        if subject.kind == "duplicate":
            copy = self.workflows.duplicate(workflow)
            return PlatformAnswer(200, {**added, **_JSON}, msgspec.json.encode(copy), effect=True)
        several = subject.kind == "executions"
        try:
            executions = read_executions(body, several=several)
        except BadExecutions as error:
            return self.error(400, str(error), added)
        if rules.max_executions is not None and len(executions) > rules.max_executions:
            return self.error(413, "Too many executions", added)
        if not rules.bad_receivers.isdisjoint(map(receiver_value, executions)):
            return self.error(400, "A receiver cannot be resolved", added)
        answered, effect = self._execute(workflow, executions[:items] if several else executions, now)
        answer = msgspec.json.encode(_miscounted(answered, rules.items) if several else answered[0])
        return PlatformAnswer(200, {**added, **_WORKFLOW}, answer, effect=effect)

    def importing(self, subject: Subject, body: bytes, added: dict[str, str]) -> PlatformAnswer:
        """Lists, shows, makes and executes imports. The state is that of the last execution, and has no row counts."""
        held, number = self.imports, _int32(subject.entity)
        if subject.kind == "imports":
            return PlatformAnswer(200, {**added, **_IMPORT}, msgspec.json.encode(list(held.definitions.values())))
        try:
            if subject.kind == "create_import":
                return PlatformAnswer(201, {**added, **_IMPORT}, msgspec.json.encode(held.create(body)), effect=True)
            if number is None or number not in held.definitions:
                return self.error(404, "Import unknown", added)
            if subject.kind == "execute_import":
                held.execute(number, body)
                return PlatformAnswer(204, added, effect=True)
        except imports.BadDefinition as error:
            return self.error(400, str(error), added)
        if subject.kind == "put_source":
            held.put(number, body)
            return PlatformAnswer(204, added, effect=True)
        if subject.kind == "import":
            return PlatformAnswer(200, {**added, **_IMPORT}, msgspec.json.encode(held.definitions[number]))
        state = held.state(number, self.rules.import_looks, fails=self.rules.imports_fail)
        if state is None:
            if self.rules.import_unbegun == "empty":
                return PlatformAnswer(200, {**added, **_JSON})
            return self.error(404, "No execution", added)
        return PlatformAnswer(200, {**added, **_JSON}, msgspec.json.encode({"state": state}))

    def _execute(
        self, workflow: int, executions: list[dict[str, Any]], now: float
    ) -> tuple[list[dict[str, Any]], bool]:
        """The items of the answer, and whether any of the executions took effect."""
        call = self.workflows.begin_call()
        answered, effect = [], False
        for execution in executions:
            receiver = receiver_value(execution)
            if receiver in self.rules.refused_receivers or not self._knows_target(receiver):
                answered.append({"type": "error", "flow": None})
            else:
                answered.append(self.workflows.perform(workflow, execution, call, now))
                effect = True
        return answered, effect

    def list_of(self, target: str | None) -> bytes:
        return msgspec.json.encode(sorted(self.segments.get(target or "", ())))

    def change(self, subject: Subject, segment: int | None, added: dict[str, str]) -> PlatformAnswer:
        """Joins or leaves. The conflicts have empty bodies, and do not say which of them they are."""
        target = subject.target or ""
        if segment is None or segment in self.rules.dynamic_segments:
            return PlatformAnswer(409, added)
        members = self.segments.setdefault(target, set())
        if subject.kind == "join":
            if segment in members:
                return PlatformAnswer(409, added)
            members.add(segment)
        elif segment in members:
            members.remove(segment)
        else:
            return self.error(404, "The target is not in the segment", added)
        return PlatformAnswer(204, added, effect=True)

    def admit(self, limit: RateLimit, now: float, added: dict[str, str]) -> bool:
        """Counts a call in its window and puts what is left of it into ``added``."""
        if now >= self.window_end:
            self.window_end = now + limit.window_s
            self._window_left = limit.requests
        admitted = self._window_left > 0
        self._window_left -= admitted
        left_s = ceil(self.window_end - now)
        if limit.headers:
            added["X-RateLimit-Limit"] = str(limit.requests)
            added["X-RateLimit-Remaining"] = str(self._window_left)
            reset = left_s if limit.reset == "seconds" else ceil(self.window_end)
            added["X-RateLimit-Reset"] = str(reset)
        if limit.retry_after and not admitted:
            added["Retry-After"] = str(left_s)
        return admitted

    def error(self, status: int, text: str, added: dict[str, str]) -> PlatformAnswer:
        """An error in one of the forms that older clients parse; which one is used today is not known."""
        match self.rules.errors:
            case "empty":
                return PlatformAnswer(status, added)
            case "text":
                return PlatformAnswer(status, {**added, "Content-Type": "text/plain"}, text.encode())
            case "errorType":
                body: dict[str, Any] = {"errorType": str(status), "errorData": [{"value": text}]}
            case form:
                body = {form: text}
        return PlatformAnswer(status, {**added, **_JSON}, msgspec.json.encode(body))

    def counts(self) -> dict[str, int]:
        return {
            "targets": len(self.segments),
            "assignments": sum(map(len, self.segments.values())),
            "executions": len(self.workflows.performed),
            "imports": len(self.imports.definitions),
        }

    def state(self) -> dict[str, Any]:
        rules = msgspec.to_builtins(self.rules)
        rules["keys"] = None if self.rules.keys is None else len(self.rules.keys)
        held = {target: sorted(members) for target, members in self.segments.items() if members}
        return {"segments": held, "executions": msgspec.to_builtins(self.workflows.performed), "rules": rules}


def _fault_of_form(method: str, subject: Subject, headers: Mapping[str, str], body: bytes) -> tuple[int, str] | None:
    """What is wrong with the request itself: status and text."""
    if subject.kind == "other":
        return 404, "No such resource"
    if subject.kind == "unsupported":
        return 405, "Method not allowed"
    if method == "POST" and "Content-Length" not in headers:
        return 411, "Length required"
    executing = subject.kind in _EXECUTING
    wanted = MEDIA_TYPE if executing else "application/json"
    if subject.kind == "put_source":
        wanted = "application/octet-stream"
    if (body or executing) and _media_type(headers) != wanted:
        return 415, "Unsupported media type"
    return None


def _miscounted(items: list[dict[str, Any]], how: str) -> list[dict[str, Any]]:
    """The items of an answer as a rule wants them."""
    match how:
        case "short":
            return items[:-1]
        case "long":
            return [*items, {"type": "success", "flow": None}]
        case "other":
            return [{**item, "type": "queued"} for item in items]
    return items


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _other_subject(method: str, parts: list[str]) -> Subject:
    """What is neither joined, left nor read of segments."""
    if len(parts) == 4 and parts[1] == "targets" and parts[3] == "notifications":
        target = unquote(parts[2])
        if target in ("", ".", ".."):
            return _OTHER
        kind = _OF_TARGETS.get((method, parts[3]))
        return _UNSUPPORTED if kind is None else Subject(kind, target)
    if len(parts) == 5 and parts[1] == "scripting" and parts[2] == "workflows":
        kind = _OF_WORKFLOWS.get((method, parts[4]))
        if kind is not None:
            return Subject(kind, None, parts[3])
        return _UNSUPPORTED if any(name == parts[4] for _, name in _OF_WORKFLOWS) else _OTHER
    return _OTHER


def _import_subject(method: str, parts: list[str]) -> Subject:
    try:
        kind, number = imports.kind_of(method, parts)
    except KeyError:
        return _OTHER
    return _UNSUPPORTED if kind is None else Subject(kind, None, number)


def _int32(entity: str | None) -> int | None:
    """A segment's or workflow's id; None if it is no int32, which the platform answers like an unknown one."""
    if entity is None or not entity.removeprefix("-").isdecimal() or len(entity) > 11:
        return None
    number = int(entity)
    return number if -(2**31) <= number < 2**31 else None
