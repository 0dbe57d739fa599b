"""Copernica as the sandbox imitates it: an empty body and the id in a header, every fault a 400 with a message, numbers
as texts, null as ``false``, an action that doubles profiles when it is repeated.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping
from io import StringIO
from itertools import count
from typing import Any
from urllib.parse import parse_qs

import msgspec

from handlers.sandbox.accounts import Accounts
from handlers.sandbox.calls import KeyState
from handlers.sandbox.platform import PlatformAnswer, Subject

_JSON = {"Content-Type": "application/json"}
_OTHER = Subject("other")
_ACTIONS = ("add", "update", "update or add", "ignore or add", "delete")


class Rules(msgspec.Struct, forbid_unknown_fields=True):
    """How an account behaves."""

    tokens: set[str] | None = None  # access tokens; None: all that are not empty are right
    generation: int = 0  # another number ends what was exchanged before
    databases: dict[int, list[str]] | None = None  # id -> its fields; None: all are known, with all fields
    id_in: str = "X-Created"  # or Location; empty: nowhere
    polls: int = 2  # an import has ended at this look
    fails_with: str | None = None  # the last error of every import
    bad_values: set[str] = set()  # rows with such a cell fail, and no others; the last error does not say which
    stuck: bool = False


class Import(msgspec.Struct):
    """One import."""

    id: int
    name: str
    database: int
    action: str
    rows: int
    failed: int = 0
    polls: int = 0
    error: str | None = None

    def state(self, rules: Rules) -> dict[str, Any]:
        """The answer to a look, in the platform's manner."""
        done = self.polls >= rules.polls and not rules.stuck
        return {
            "ID": str(self.id),
            "name": self.name,
            "type": "csv",
            "status": "done" if done else "ready for start",
            "totallines": str(self.rows if self.polls else 0),
            "processedlines": str(self.rows - self.failed if done else 0),
            "lastrun": "2026-01-01 08:00:00" if self.polls > 1 else False,
            "nextrun": False,
            "lasterror": self.error if done and self.error else False,
        }


class CopernicaSandbox(Accounts[Rules, "_Account"]):
    """The platform for any number of accounts."""

    def __init__(self, rules: Mapping[str, Rules] | None = None) -> None:
        super().__init__(lambda _, given: _Account(given), Rules, rules)

    def subject(self, method: str, path: str) -> Subject:
        """``token``, ``create``, ``status`` with the import."""
        match method, path.strip("/").split("/"):
            case "POST", ["token"]:
                return Subject("token")
            case "POST", ["v3" | "v4" as version, "imports"]:
                return Subject("create", None, version)
            case "GET", ["v3" | "v4", "import", import_id]:
                return Subject("status", None, import_id)
        return _OTHER

    def key_state(self, account: str, headers: Mapping[str, str]) -> KeyState:
        """Whether a bearer token is one that was given; a token in the address is looked at when it is answered."""
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return KeyState.NONE
        return KeyState.RIGHT if self._account(account).lets_in(token) else KeyState.WRONG

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
        """Checks in the order address, token, form, state; only the last can take effect."""
        known = self._account(account)
        if subject.kind == "other":
            return PlatformAnswer(404, _JSON, b'{"error":{"message":"No such resource"}}')
        if subject.kind == "token":
            return known.exchange(body)
        named = parse_qs(subject.query).get("access_token", [""])[0]
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        if not (known.knows(named) if named else known.lets_in(token)):
            return _refusal("Invalid access token")
        if subject.kind == "status":
            return known.status(subject.entity or "")
        return known.create(body)

    def profiles(self, account: str) -> list[dict[str, Any]]:
        """The account's profiles, in the order in which they came to be."""
        return self._account(account).profiles

    def imports(self, account: str) -> list[Import]:
        """The account's imports, in order."""
        return list(self._account(account).imports.values())


class _Account:
    """An account's rules and what it holds."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.profiles: list[dict[str, Any]] = []
        self.imports: dict[int, Import] = {}
        self._given: dict[str, int] = {}  # exchanged token -> its generation
        self._numbers = count(1)

    def knows(self, token: str) -> bool:
        return bool(token) and (self.rules.tokens is None or token in self.rules.tokens)

    def lets_in(self, token: str) -> bool:
        return self._given.get(token) == self.rules.generation

    def exchange(self, body: bytes) -> PlatformAnswer:
        asked = parse_qs(body.decode("ascii", "replace")).get("access_token", [""])[0]
        if not self.knows(asked):
            return _refusal("Invalid access token")
        token = f"e30.e30.{next(self._numbers)}"
        self._given[token] = self.rules.generation
        return PlatformAnswer(200, {"Content-Type": "text/plain"}, token.encode(), effect=True)

    def create(self, body: bytes) -> PlatformAnswer:
        try:
            asked = msgspec.json.decode(body, type=dict[str, Any])
            rows = _rows_of(asked)
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError, csv.Error):
            return _refusal("The import could not be read")
        database, action = asked.get("database"), asked.get("action", "add")
        if not isinstance(database, int) or (self.rules.databases is not None and database not in self.rules.databases):
            return _refusal("Unknown database")
        if action not in _ACTIONS:
            return _refusal("Unknown action")
        keys = list(asked.get("keyFields", []))
        if action != "add" and not keys:
            return _refusal("No key field was given")
        fields = None if self.rules.databases is None else self.rules.databases[database]
        if fields is not None and not set(rows[0] if rows else {}) <= set(fields):
            return _refusal("Unknown field")
        # The order of the keys is that of the columns: an object with another order is read wrongly.
        if len({tuple(row) for row in rows}) > 1:
            return _refusal("The keys are not the same in every object")
        number = next(self._numbers)
        good = [row for row in rows if self.rules.bad_values.isdisjoint(map(str, row.values()))]
        failed = len(rows) - len(good)
        error = self.rules.fails_with or ("Some lines could not be imported" if failed else None)
        self.imports[number] = Import(
            number, str(asked.get("name", "")), database, action, len(rows), failed, error=error
        )
        if self.rules.fails_with is None:
            self._carry_out(good, action, keys)
        place = {"X-Created": str(number), "Location": f"https://api.example/v4/import/{number}"}
        headers = {self.rules.id_in: place[self.rules.id_in]} if self.rules.id_in else {}
        return PlatformAnswer(201, headers, effect=True)

    def _carry_out(self, rows: list[dict[str, Any]], action: str, keys: list[str]) -> None:
        known: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        if action != "add":
            for profile in self.profiles:
                known[_values(profile, keys)].append(profile)
        for row in rows:
            found = known[_values(row, keys)] if action != "add" else []
            if action == "delete":
                self.profiles = [one for one in self.profiles if one not in found]
            elif found and action in ("update", "update or add"):
                for one in found:
                    one.update(row)
            elif not found and action in ("add", "update or add", "ignore or add"):
                self.profiles.append(dict(row))
                found.append(self.profiles[-1])

    def status(self, text: str) -> PlatformAnswer:
        one = self.imports.get(int(text)) if text.isdecimal() else None
        if one is None:
            return _refusal("No import with this id")
        one.polls += 1
        return PlatformAnswer(200, _JSON, msgspec.json.encode(one.state(self.rules)))

    def counts(self) -> dict[str, int]:
        return {"imports": len(self.imports), "profiles": len(self.profiles)}

    def state(self) -> dict[str, Any]:
        rules = msgspec.to_builtins(self.rules)
        rules["tokens"] = None if self.rules.tokens is None else len(self.rules.tokens)
        return {**self.counts(), "imports": [one.state(self.rules) for one in self.imports.values()], "rules": rules}


def _values(profile: Mapping[str, Any], keys: list[str]) -> tuple[str, ...]:
    """What of a profile tells it apart."""
    return tuple([msgspec.json.encode(profile.get(key)).decode() for key in keys])


def _refusal(message: str) -> PlatformAnswer:
    return PlatformAnswer(400, _JSON, msgspec.json.encode({"error": {"message": message}}))


def _rows_of(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a create: an array, or a text in JSON or CSV; none where a location names the file."""
    source = asked.get("source", [])
    if isinstance(source, str):
        if asked.get("format") == "json":
            source = msgspec.json.decode(source)
        else:
            source = list(csv.DictReader(StringIO(source, newline=""), delimiter=asked["delimiter"]))
    if not isinstance(source, list) or not all(isinstance(row, dict) for row in source):
        raise ValueError("no rows")
    return source
