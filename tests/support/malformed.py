"""Records of every sort that a publisher can get wrong, and what has to become of each.

The expected outcomes follow the contract's text, not the code: a reader may check them against it one by one.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from tests.support.events import contact_event

Headers = tuple[tuple[str, bytes | None], ...]
Verdict = tuple[str, str | None]

MALFORMED: Verdict = ("invalid", "malformed")
CONTRACT: Verdict = ("invalid", "contract")
UNRESOLVED: Verdict = ("invalid", "unresolved")
CONTRADICTORY: Verdict = ("invalid", "contradictory")
TOMBSTONE: Verdict = ("skipped", "tombstone")
NOTHING_TO_DO: Verdict = ("skipped", "nothing_to_do")
DELIVERED: Verdict = ("delivered", None)

STRUCTURED: Headers = (("content-type", b"application/cloudevents+json; charset=utf-8"),)
BINARY: Headers = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"binary-1"),
    ("ce_source", b"crm"),
    ("ce_type", b"contact.changed.v1"),
    ("content-type", b"application/json"),
)


@dataclass(frozen=True)
class Sample:
    """A record and its end. With ``bad_header`` one header key is no UTF-8, which the client cannot parse."""

    name: str
    value: bytes | None
    verdict: Verdict
    headers: Headers = ()
    bad_header: bool = False


def samples(seed: int = 0) -> list[Sample]:
    """Each sort in several shapes."""
    random = Random(seed)
    return [
        *_broken_bytes(random),
        *_wrong_envelopes(),
        *_wrong_modes(),
        *_deep(),
        *_broken_contracts(),
        *_not_deliverable(),
        *_odd_but_right(),
        *_bad_headers(),
    ]


def event(**changes: Any) -> dict[str, Any]:
    """A right event as an object, with the envelope's fields replaced; None takes one out."""
    document: dict[str, Any] = json.loads(contact_event("sample", "contact", target="sample-target", join=[1]))
    document |= changes
    return {name: value for name, value in document.items() if value is not None}


def data(**changes: Any) -> dict[str, Any]:
    """``data`` of a right event with fields replaced; None takes one out."""
    fields: dict[str, Any] = event()["data"] | changes
    return {name: value for name, value in fields.items() if value is not None}


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def _broken_bytes(random: Random) -> Iterator[Sample]:
    right = _json(event())
    for at in sorted(random.sample(range(1, len(right)), 46)):
        yield Sample(f"cut at {at}", right[:at], MALFORMED, random.choice([(), STRUCTURED]))
    for at in range(10):
        # Inside a string: what the JSON grammar alone would take.
        place = right.index(b"crm") + at % 3
        broken = right[:place] + random.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5"]) + right[place:]
        yield Sample(f"not UTF-8 {at}", broken, MALFORMED)
    for name, value in {
        "empty": b"",
        "blanks": b"  \n",
        "byte order mark": b"\xef\xbb\xbf" + right,
        "UTF-16": right.decode().encode("utf-16"),
        "zero bytes": b"\0" * 100,
        "NaN": right.replace(b"[1]", b"[NaN]"),
        "Infinity": right.replace(b"[1]", b"[-Infinity]"),
        "single quotes": right.replace(b'"', b"'"),
        "comma at the end": right[:-1] + b",}",
        "two documents": right + right,
        "a control character": right.replace(b"crm", b"c\nm"),
        "leading zero": right.replace(b"[1]", b"[01]"),
        "lone surrogate": right.replace(b"crm", rb"\ud800"),
        "other half": right.replace(b"crm", rb"a\udc00b"),
        "surrogate in an unknown field": right[:-1] + rb',"x":"\udfff"}',
        "1 MiB of text": b"x" * 2**20,
        "1 MiB string that does not end": b'{"specversion":"1.0","id":"' + b"y" * 2**20,
        "random": random.randbytes(5_000),
    }.items():
        yield Sample(name, value, MALFORMED)


def _wrong_envelopes() -> Iterator[Sample]:
    for value in (b"[]", b"{}", b"1", b'"text"', b"null", b"true", b"[" + _json(event()) + b"]"):
        yield Sample(f"no event: {value[:8]!r}", value, MALFORMED)
    for name in ("specversion", "id", "source", "type"):
        yield Sample(f"without {name}", _json(event(**{name: None})), MALFORMED, STRUCTURED)
        yield Sample(f"{name} is null", _json(event() | {name: None}), MALFORMED, STRUCTURED)
        yield Sample(f"{name} is a number", _json(event() | {name: 1}), MALFORMED, STRUCTURED)
        yield Sample(f"{name} is an object", _json(event() | {name: {}}), MALFORMED)
    yield Sample("specversion 0.3", _json(event(specversion="0.3")), MALFORMED)
    encoded = base64.b64encode(_json(data())).decode()
    yield Sample("data twice", _json(event(data_base64=encoded)), MALFORMED)
    yield Sample("data_base64 is none", _json(event(data=None, data_base64="*")), MALFORMED)
    yield Sample("data_base64 of no JSON", _json(event(data=None, data_base64="AAAA")), MALFORMED)


def _wrong_modes() -> Iterator[Sample]:
    right = _json(event())
    for kind in (b"application/cloudevents+avro", b"application/cloudevents", b"Application/CloudEvents+XML; a=b"):
        yield Sample(f"content type {kind.decode()}", right, MALFORMED, (("content-type", kind),))
    yield Sample("binary, structured value", b"not json", MALFORMED, BINARY)
    for missing in ("ce_id", "ce_source", "ce_type"):
        headers = tuple(header for header in BINARY if header[0] != missing)
        yield Sample(f"binary without {missing}", _json(data()), MALFORMED, headers)
    yield Sample("binary, plain text", _json(data()), MALFORMED, (*BINARY[:4], ("content-type", b"text/plain")))
    version = (("ce_specversion", b"2.0"), *BINARY[1:])
    yield Sample("binary, other version", _json(data()), MALFORMED, version)
    yield Sample("binary, empty", b"", MALFORMED, BINARY)


def _deep() -> Iterator[Sample]:
    for levels in (65, 100, 10_000, 200_000):
        yield Sample(f"{levels} arrays", b"[" * levels + b"]" * levels, MALFORMED)
        nested = _json(event())[:-1] + b',"x":' + b'{"a":' * levels + b"1" + b"}" * levels + b"}"
        yield Sample(f"{levels} objects in an unknown field", nested, MALFORMED)
    yield Sample("arrays without an end", b"[" * 2**20, MALFORMED)
    yield Sample("64 levels", _json(event())[:-1] + b',"x":' + b"[" * 63 + b"]" * 63 + b"}", DELIVERED)


def _broken_contracts() -> Iterator[Sample]:
    wrong: dict[str, list[Any]] = {
        "contact_id": [None, "", 7, "x" * 256, {}, []],
        "change": [None, "moved", 1, "Updated"],
        "identifiers": [[], "x", 1, {"np6": 1}, {"np6": {}}],
        "attributes": [[], "x", {"a": {}}, {"a": [1]}, {"a": 2**64}, {"a": -(2**63) - 1}],
        "segments": [[], 1, {"join": 1}, {"join": ["1"]}, {"join": [2**31]}, {"join": [7.5]}, {"leave": [True]}],
        "consents": [{}, [1], [{"channel": "a", "topic": "b"}], [{"channel": "a", "topic": "b", "status": "yes"}]],
        "tags": [{}, "x", [1], [None]],
        "version": [-1, 2**63, 1.5, "1", 10**30, True],
    }
    for field, values in wrong.items():
        for value in values:
            document = event(data=data(**{field: value}))
            yield Sample(f"{field} = {str(value)[:20]!r}", _json(document), CONTRACT)
    for value in (None, [], "x", 1):
        yield Sample(f"data = {value!r}", _json(event() | {"data": value}), CONTRACT)
    for kind in ("contact.changed.v2", "Contact.Changed.v1", "something.else", " contact.changed.v1"):
        yield Sample(f"type {kind}", _json(event(type=kind)), CONTRACT)
    huge = _json(event(data=data(version=1))).replace(b'"version": 1', b'"version": ' + b"9" * 5_000)
    yield Sample("a number of 5,000 digits", huge, CONTRACT)
    yield Sample("a number that no double holds", huge.replace(b"9" * 5_000, b"1e999"), CONTRACT)


def _not_deliverable() -> Iterator[Sample]:
    yield Sample("tombstone", None, TOMBSTONE)
    yield Sample("tombstone with headers", None, TOMBSTONE, BINARY)
    for target in ({}, {"np6": None}, {"np6": ""}, {"np6": "."}, {"np6": ".."}):
        yield Sample(f"target {target}", _json(event(data=data(identifiers=target))), UNRESOLVED)
    both = {"join": [1, 2], "leave": [2]}
    yield Sample("join and leave", _json(event(data=data(segments=both))), CONTRADICTORY)
    nothings: list[dict[str, Any]] = [{}, {"join": []}, {"join": None, "leave": None}]
    for nothing in nothings:
        yield Sample(f"segments {nothing}", _json(event(data=data(segments=nothing))), NOTHING_TO_DO)
    occurred = {"notification_key": 1, "target": "t", "action": "dismiss", "occurred_at": "2026-01-01T00:00:00Z"}
    yield Sample("a notification", _json(event(type="notification.occurred.v1", data=occurred)), NOTHING_TO_DO)


def _odd_but_right() -> Iterator[Sample]:
    right = _json(event())
    yield Sample("a key repeated", right.replace(b'"join": [1]', b'"join": ["x"], "join": [1]'), DELIVERED)
    yield Sample("7.0 for an int", right.replace(b"[1]", b"[1.0]"), DELIVERED)
    yield Sample("1e0 for an int", right.replace(b"[1]", b"[1e0]"), DELIVERED)
    yield Sample(
        "an unknown field with a huge number", right[:-1] + b',"x":1e999,"y":' + b"9" * 5_000 + b"}", DELIVERED
    )
    yield Sample("a text of 1 MiB", _json(event(data=data(attributes={"a": "z" * 2**20}))), DELIVERED)
    yield Sample("time that is none", _json(event(time="yesterday")), DELIVERED)
    yield Sample("binary", _json(data()), DELIVERED, BINARY)
    yield Sample("structured by its header", right, DELIVERED, STRUCTURED)
    yield Sample("in upper case", right, DELIVERED, (("content-type", b"APPLICATION/CLOUDEVENTS+JSON"),))
    encoded = base64.b64encode(_json(data())).decode()
    yield Sample("data_base64", _json(event(data=None, data_base64=encoded)), DELIVERED)
    foreign = (("fanline-outcome", b"delivered"), ("fanline-origin-offset", b"9"), ("x", b"\xff\0"), ("y", None))
    yield Sample("headers of ours on a source record", b"{", MALFORMED, foreign)
    yield Sample("a header repeated", b"{", MALFORMED, (("x", b"1"), ("y", b"2")))


def _bad_headers() -> Iterator[Sample]:
    yield Sample("a header key that is not UTF-8", _json(event()), MALFORMED, bad_header=True)
    yield Sample("and nothing else in it", None, MALFORMED, bad_header=True)
    yield Sample("and a broken value", b"{", MALFORMED, bad_header=True)


def at_limit(prefix: bytes, filling: bytes, suffix: bytes, *, key: bytes, limit: int) -> bytes:
    """A value with which a record batch of one record has exactly ``limit`` bytes; ``filling`` is cut to fit."""
    room = limit - len(prefix) - len(suffix)
    while True:
        value = prefix + filling[:room] + suffix
        over = batch_bytes(key, value) - limit
        if not over:
            return value
        room -= over


def batch_bytes(key: bytes, value: bytes) -> int:
    """The size of a record batch of one record, as topics count it."""
    builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 64 * 2**20)
    builder.append(0, 0, key, value, [])
    return len(builder.build())
