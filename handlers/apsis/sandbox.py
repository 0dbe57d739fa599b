"""Apsis One as the sandbox imitates it: tokens, imports of profiles and the storage that takes their files.

Agrees with what is known of the platform: two ways to say "too many" (imports a minute, open imports), an address for
the file that lapses, a form whose policy is obeyed, a status that is read without ``/v2``, failed rows that are counted
and never named, cells of 0 that are no opt-out, tags that are only added.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from itertools import count
from typing import Any
from urllib.parse import unquote

import msgspec

from contracts.timestamps import rfc3339_ms
from handlers.apsis.sandbox_imports import BadImport, Import, Profiles, rows_of
from handlers.sandbox.accounts import Accounts
from handlers.sandbox.calls import KeyState
from handlers.sandbox.platform import PlatformAnswer, Subject

_JSON = {"Content-Type": "application/json"}
_XML = {"Content-Type": "application/xml"}
_OTHER = Subject("other")
_FIELD_NAME = re.compile(rb'\r\nContent-Disposition: form-data; name="([^"]+)"', re.IGNORECASE)
_LISTS = ("sections", "keyspaces", "attributes", "topics")


class Rules(msgspec.Struct, forbid_unknown_fields=True):
    """How an account behaves. Seconds, counts; None: no bound."""

    clients: dict[str, str] | None = None  # id -> secret; None: all are right
    token_life_s: float = 86_400.0
    token_generation: int = 0  # another number ends all tokens that were given out
    refuses_with: int = 401  # what an ended token is answered with: 401, or 403 as it is seen too
    tokens_per_minute: int | None = 10
    max_open: int = 3
    waiting_counts: bool = True  # whether an import without its file counts as open
    imports_per_minute: int | None = 10
    max_body_bytes: int = 100_000
    upload_life_s: float = 3_600.0
    upload_url: str | None = None  # in place of the sandbox's own
    max_file_bytes: int = 524_288_000
    polls: int = 2  # an import has ended at this poll after its file came
    takes_s: float = 0.0  # and not sooner than this
    stuck_at: str | None = None  # a status that stays, whatever it is
    bad_values: set[str] = set()  # a row with such a cell fails
    passes_over: int = 0  # so many rows of each file are not even found
    sections: set[str] | None = None
    keyspaces: set[str] = msgspec.field(default_factory=lambda: {"com.apsis1.keyspaces.email"})
    topics: set[str] = set()
    attributes: dict[str, str | None] = {}  # version id -> when it was given up


class ApsisSandbox(Accounts[Rules, "_Account"]):
    """The platform for any number of accounts."""

    def __init__(self, rules: Mapping[str, Rules] | None = None) -> None:
        super().__init__(_Account, Rules, rules)

    def subject(self, method: str, path: str) -> Subject:
        """``token``, ``create`` with the section, ``status`` and ``upload`` with the import, lists by their names."""
        parts = [unquote(part) for part in path.split("/")[1:]]
        version = parts[0] if parts[0] in ("v1", "v2") else None
        rest = parts[1:] if version else parts
        if (method, parts) == ("POST", ["oauth", "token"]):
            return Subject("token")
        if method == "POST" and len(parts) == 2 and parts[0] == "uploads":
            return Subject("upload", None, parts[1])
        if rest[:1] != ["audience"]:
            return _OTHER
        match method, rest[1:]:
            case "GET", ["sections" | "keyspaces" as kind] if version is None:
                return Subject(kind)
            case "GET", ["sections", section, "attributes"] if version is None:
                return Subject("attributes", None, section)
            case "GET", ["sections", section, "topics"] if version == "v2":
                return Subject("topics", None, section)
            case "POST", ["sections", section, "imports"] if version in (None, "v2"):
                return Subject("create" if version else "create_v1", None, section)
            case "GET", ["sections", _, "imports", import_id] if version is None:
                return Subject("status", None, import_id)
        return _OTHER

    def key_state(self, account: str, headers: Mapping[str, str]) -> KeyState:
        """Whether the bearer token is one that was given out; whether it has ended is another matter."""
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return KeyState.NONE
        return KeyState.RIGHT if token in self._account(account).tokens else KeyState.WRONG

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
        """Checks in the order address, token, size, rate, form, state; only the last can take effect."""
        known = self._account(account)
        match subject.kind:
            case "other":
                return _error(404, "Not found")
            case "token":
                return known.give_token(body, now)
            case "upload":
                return known.upload(subject.entity or "", headers, body, now)
        if not known.lets_in(headers, now):
            return _error(known.rules.refuses_with, "The access token is missing, unknown or has ended")
        if len(body) > known.rules.max_body_bytes:
            return _error(413, "The request is too large")
        if subject.kind == "status":
            return known.status(subject.entity or "", now)
        if subject.kind in _LISTS:
            return known.listed(subject)
        return known.create(subject, body, now, host=headers.get("Host", ""))

    def profiles(self, account: str) -> Mapping[tuple[str, ...], Mapping[str, Any]]:
        """What the account's imports have made: key values -> ``{"cells", "tags"}``."""
        return self._account(account).profiles.held

    def imports(self, account: str) -> list[Import]:
        """The account's imports, in the order in which they were opened."""
        return list(self._account(account).imports.values())


class _Account:
    """An account's rules and what it holds."""

    def __init__(self, name: str, rules: Rules) -> None:
        self._name = name
        self.rules = rules
        self.tokens: dict[str, tuple[float, int]] = {}  # token -> when it ends, its generation
        self.imports: dict[str, Import] = {}
        self.profiles = Profiles()
        self.most_open = 0  # at once, ever
        self.refused_open = 0  # creates that asked for one too many
        self._asked: dict[str, list[float]] = {"tokens": [], "imports": []}
        self._numbers = count(1)

    # -- tokens

    def give_token(self, body: bytes, now: float) -> PlatformAnswer:
        try:
            asked = msgspec.json.decode(body, type=dict[str, str])
        except msgspec.MsgspecError:
            return _error(400, "The request is no JSON object")
        if not self._admit("tokens", self.rules.tokens_per_minute, now):
            return _error(429, "Too many requests")
        if asked.get("grant_type") != "client_credentials":
            return _error(400, "Unsupported grant type")
        name, secret = asked.get("client_id", ""), asked.get("client_secret", "")
        clients = self.rules.clients
        if not name or not secret or (clients is not None and clients.get(name) != secret):
            return _error(401, "Unknown client")
        ends = now + self.rules.token_life_s
        token = _jwt({"sub": name, "exp": int(ends), "jti": f"{self._name}-{next(self._numbers)}"})
        self.tokens[token] = (ends, self.rules.token_generation)
        answer = {"access_token": token, "expires_in": int(self.rules.token_life_s), "token_type": "Bearer"}
        return PlatformAnswer(200, _JSON, msgspec.json.encode(answer), effect=True)

    def lets_in(self, headers: Mapping[str, str], now: float) -> bool:
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        ends, generation = self.tokens.get(token, (0.0, -1))
        return now < ends and generation == self.rules.token_generation

    def _admit(self, what: str, most: int | None, now: float) -> bool:
        """Counts what is bounded by the minute."""
        asked = self._asked[what] = [at for at in self._asked[what] if now - at < 60]
        if most is not None and len(asked) >= most:
            return False
        asked.append(now)
        return True

    # -- imports

    def create(self, subject: Subject, body: bytes, now: float, *, host: str) -> PlatformAnswer:
        if self.rules.sections is not None and subject.entity not in self.rules.sections:
            return _error(404, "Unknown section")
        number = next(self._numbers)
        try:
            opened = Import.asked_for(
                f"sandbox-import-{number}", subject.entity or "", body, first=subject.kind == "create_v1"
            )
        except BadImport as error:
            return _error(400, "Bad request", str(error))
        unknown = set(opened.keyspaces) - self.rules.keyspaces
        if unknown:
            return _error(400, "Bad request", f"Unknown keyspace {sorted(unknown)[0]}")
        open_now = sum(one.is_open(self.rules.waiting_counts, now) for one in self.imports.values())
        if open_now >= self.rules.max_open:
            self.refused_open += 1
            return _error(429, "Too many pending imports")
        if not self._admit("imports", self.rules.imports_per_minute, now):
            return _error(429, "Too many requests")
        opened.expires_at = now + self.rules.upload_life_s
        self.imports[opened.id] = opened
        self.most_open = max(self.most_open, open_now + 1)
        url = self.rules.upload_url or f"http://{host}/apsis/{self._name}/uploads/{opened.id}"
        answer = {
            "import_id": opened.id,
            "file_upload_url": url,
            "file_upload_body": self._form(opened),
            "file_upload_url_expires_at": _rfc3339(opened.expires_at),
        }
        return PlatformAnswer(201, _JSON, msgspec.json.encode(answer), effect=True)

    def _form(self, opened: Import) -> dict[str, str]:
        """The fields that have to come with the file, unchanged."""
        conditions = [["content-length-range", 1, self.rules.max_file_bytes], {"key": f"imports/{opened.id}"}]
        policy = msgspec.json.encode({"expiration": _rfc3339(opened.expires_at), "conditions": conditions})
        encoded = base64.b64encode(policy).decode()
        opened.form = {
            "key": f"imports/{opened.id}",
            "success_action_status": "200",
            "policy": encoded,
            "content-type": "text/csv",
            "x-amz-meta-id": opened.id,
            "x-amz-algorithm": "AWS4-HMAC-SHA256",
            "x-amz-credential": "sandbox/20260101/eu-west-1/s3/aws4_request",
            "x-amz-date": "20260101T000000Z",
            "x-amz-signature": hashlib.sha256(encoded.encode()).hexdigest(),
        }
        return opened.form

    def upload(self, import_id: str, headers: Mapping[str, str], body: bytes, now: float) -> PlatformAnswer:
        """The storage: it knows forms and policies, and nothing of profiles."""
        one = self.imports.get(import_id)
        if one is None:
            return _storage_error(404, "NoSuchKey")
        if "Authorization" in headers:
            return _storage_error(400, "InvalidArgument")
        fields = _form_fields(headers.get("Content-Type", ""), body)
        if fields is None or not fields or fields[-1][0] != "file":
            return _storage_error(400, "MalformedPOSTRequest")
        *given, (_, file) = fields
        if [(name, value.decode()) for name, value in given] != list(one.form.items()):
            return _storage_error(403, "AccessDenied")
        if now >= one.expires_at:
            return _storage_error(403, "AccessDenied")
        if not file:
            return _storage_error(400, "EntityTooSmall")
        if len(file) > self.rules.max_file_bytes:
            return _storage_error(400, "EntityTooLarge")
        one.take(file, now)
        return PlatformAnswer(200, {}, b"", effect=True)

    def status(self, import_id: str, now: float) -> PlatformAnswer:
        one = self.imports.get(import_id)
        if one is None:
            return _error(404, "Unknown import")
        if self.rules.stuck_at is not None:
            return _told(one, self.rules.stuck_at)
        if one.file is None and now >= one.expires_at:
            one.end("error")
        if one.ended is None and one.file is not None:
            one.polls += 1
            if one.polls >= self.rules.polls and now - one.uploaded_at >= self.rules.takes_s:
                self._carry_out(one)
        return _told(one, one.state(self.rules.polls))

    def _carry_out(self, one: Import) -> None:
        try:
            rows = rows_of(one)
        except BadImport:
            one.end("error")
            return
        rows = rows[self.rules.passes_over :]
        one.found = len(rows)
        for row in rows:
            if self.rules.bad_values.isdisjoint(row.values()):
                self.profiles.take(one, row)
                one.processed += 1
            else:
                one.failed += 1
        one.end("completed")

    def listed(self, subject: Subject) -> PlatformAnswer:
        """What the account's lists hold, in the platform's shape."""
        rules = self.rules
        if subject.kind == "attributes":
            versions = [{"id": name, "deprecated_at": at} for name, at in rules.attributes.items()]
            items: list[dict[str, Any]] = [{"discriminator": "usercreated.attributes.all", "versions": versions}]
        else:
            names = {"sections": rules.sections or set(), "keyspaces": rules.keyspaces, "topics": rules.topics}
            items = [{"discriminator": name} for name in sorted(names[subject.kind])]
        return PlatformAnswer(200, _JSON, msgspec.json.encode({"items": items}))

    def counts(self) -> dict[str, int]:
        return {
            "imports": len(self.imports),
            "profiles": len(self.profiles.held),
            "most_open": self.most_open,
            "refused_open": self.refused_open,
        }

    def state(self) -> dict[str, Any]:
        rules = msgspec.to_builtins(self.rules)
        rules["clients"] = None if self.rules.clients is None else len(self.rules.clients)
        told = [
            {
                "id": one.id,
                "state": one.state(self.rules.polls),
                "found": one.found,
                "failed": one.failed,
                "uploads": one.uploads,
            }
            for one in self.imports.values()
        ]
        return {**self.counts(), "imports": told, "rules": rules}


def _told(one: Import, state: str) -> PlatformAnswer:
    result: dict[str, Any] = {"status": state}
    if one.file is not None:
        result |= {"profiles_found": one.found, "profiles_processed": one.processed, "profiles_failed": one.failed}
    return PlatformAnswer(200, _JSON, msgspec.json.encode({"import_id": one.id, "result": result}))


def _error(status: int, title: str, detail: str | None = None) -> PlatformAnswer:
    body = {"status": status, "title": title, **({} if detail is None else {"detail": detail})}
    return PlatformAnswer(status, _JSON, msgspec.json.encode(body))


def _storage_error(status: int, code: str) -> PlatformAnswer:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><RequestId>sandbox</RequestId></Error>'
    return PlatformAnswer(status, _XML, body.encode())


def _form_fields(content_type: str, body: bytes) -> list[tuple[str, bytes]] | None:
    """The fields of a multipart form in order (RFC 7578); None if it is none."""
    kind, _, parameter = content_type.partition(";")
    boundary = parameter.strip().removeprefix("boundary=").strip('"').encode()
    if kind.strip() != "multipart/form-data" or not boundary:
        return None
    first, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if first or not parts or parts.pop() != b"--\r\n":
        return None
    fields = []
    for part in parts:
        head, blank, content = part.partition(b"\r\n\r\n")
        name = _FIELD_NAME.search(head)
        if not blank or name is None:
            return None
        fields.append((name[1].decode(), content))
    return fields


def _jwt(claims: Mapping[str, Any]) -> str:
    """A token of the usual form. Nobody checks the signature."""
    parts = [msgspec.json.encode({"alg": "none", "typ": "JWT"}), msgspec.json.encode(claims), b"sandbox"]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def _rfc3339(seconds: float) -> str:
    return rfc3339_ms(int(seconds * 1000))
