import time
from collections.abc import Callable
from itertools import permutations, product
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.events import (
    CONTACT_CHANGED,
    NOTIFICATION_OCCURRED,
    Consent,
    ContactChanged,
    Event,
    NotificationOccurred,
    Segments,
)
from handlers.base import ExpressionError
from service.config.expressions import (
    MAX_RESULT_BYTES,
    MAX_TEXT_BYTES,
    ExpressionFault,
    check_expression,
    compile_expression,
)
from service.config.expressions.compiling import interpret_expression

PLACE = "fanline.yaml:14:5 lanes.toys.where"


def contact(**fields: Any) -> Event:
    data = ContactChanged(contact_id="c-1", change="updated", **fields)
    return Event(id="e-1", source="crm", type=CONTACT_CHANGED, data=data, record_ms=1_700_000_000_123)


def notification(**fields: Any) -> Event:
    data = NotificationOccurred(
        notification_key=7, target="000PKXK4", action="activation", occurred_at="2026-01-31T00:00:00Z", **fields
    )
    return Event(id="e-2", source="np6", type=NOTIFICATION_OCCURRED, data=data)


FULL = contact(
    identifiers={"np6": "000PKXK4", "email": "zoe@example.org"},
    attributes={"city": "Lille", "age": 44, "score": 1.5, "vip": True, "none": None, "a b": "x"},
    segments=Segments(join=[501, 502], leave=[]),
    consents=[Consent("email", "shoes", "opt-in"), Consent("sms", "hats", "opt-out")],
    tags=["vip", "new"],
    version=3,
)


def value(text: str, event: Event = FULL, key: bytes | None = b"k-1") -> Any:
    return compile_expression(text, place=PLACE)(event, key)


def holds(text: str, event: Event = FULL, key: bytes | None = b"k-1") -> Any:
    return compile_expression(text, place=PLACE, wants="bool")(event, key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data.identifiers.np6", "000PKXK4"),
        ('data["identifiers"]["np6"]', "000PKXK4"),
        ("data.segments.join", [501, 502]),
        ("data.segments.leave", []),
        ("data.segments", {"join": [501, 502], "leave": []}),
        ('data.attributes["a b"]', "x"),
        ("data.attributes.age", 44),
        ("data.attributes.score", 1.5),
        ("data.version", 3),
        ("data.tags[0]", "vip"),
        ("data.consents[1].topic", "hats"),
        ("data.consents", [{"channel": "email", "topic": "shoes", "status": "opt-in"},
                           {"channel": "sms", "topic": "hats", "status": "opt-out"}]),
        ("event.id + event.source", "e-1crm"),
        ("event.time", "2023-11-14T22:13:20.123Z"),
        ('timestamp(event.time) > timestamp("2023-01-01T00:00:00Z")', True),
        ("key", "k-1"),
        ('"text"', "text"),
        ("501", 501),
        ("-9223372036854775808", -(2**63)),
        ("1.5", 1.5),
        ("null", None),
        ("[501, 502]", [501, 502]),
        ('data.change == "updated" ? [1] : []', [1]),
        ('data.consents.exists(c, c.topic == "shoes" && c.status == "opt-in")', True),
        ("data.consents.filter(c, c.status == 'opt-in').map(c, c.topic)", ["shoes"]),
        ("data.consents.map(c, c.status == 'opt-in', c.channel)", ["email"]),
        ("has(data.version) ? 1 : 2", 1),
        ('data.attributes.city.startsWith("Li")', True),
        ('{"Lille": 1, "Lyon": 2}[data.attributes.city]', 1),
        ("string(data.attributes.age) + '!'", "44!"),
        ("-data.version", -3),
        ("data.attributes.exists(name, name == 'city')", True),
        ("// a comment\n data.version // another", 3),
        ("r'\\d' + '''it's''' + \"\\u00e9\"", "\\dit'sé"),
    ],
)  # fmt: skip
def test_expressions_give_what_the_event_holds(text: str, expected: Any) -> None:
    """Paths, constants, operators, functions and macros over data, event and key."""
    assert value(text) == expected
    assert type(value(text)) is type(expected)


@pytest.mark.parametrize(
    "text",
    [
        "data.identifiers.np6",
        "data.segments.join",
        "data.attributes.none",
        "data.attributes.nowhere",
        'data.attributes["nowhere"]',
        "data.label",
        "data.version + 1",
        "event.tenant",
        "event.time",
        "[data.version]",
        '{"a": 1}[data.contact_id]',
        "data.segments.join.map(s, s + 1)",
    ],
)
def test_what_is_missing_gives_null(text: str) -> None:
    """A missing field, also within a larger expression, and a missing key of a map give null, not an error."""
    event = contact()
    event.record_ms = None
    assert value(text, event) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data.version == 3", False),
        ("data.version != 3", False),
        ("!(data.version == 3)", False),
        ("data.version == 3 || data.change == 'updated'", True),
        ("data.change == 'updated' || data.version == 3", True),
        ("data.version == 3 || data.change == 'created'", False),
        ("data.version == 3 && data.change == 'updated'", False),
        ("has(data.version)", False),
        ("!has(data.version)", True),
        ("has(data.identifiers.np6)", False),
        ("data.tags.exists(t, t == 'vip')", False),
        ("'vip' in data.tags", False),
        ("data.attributes.vip", False),
        ("event.tenant == 'a'", False),
        ("true", True),
    ],
)
def test_a_missing_field_makes_a_condition_false(text: str, expected: bool) -> None:
    """Also one that asks for the opposite; where something else decides an || it counts."""
    assert holds(text, contact()) is expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("data.tags[5] == 'a'", "an index lies beyond its list"),
        ("data.attributes.city > 5", "types that do not go together"),
        ("data.attributes.age + data.attributes.score > 1.0", "types that do not go together"),
        ("data.attributes.none > 5", "types that do not go together"),
        ("1 / (data.version - 3) > 0", "division by zero"),
        ("9223372036854775807 + data.version > 0", "a number is out of range"),
        ("int(data.attributes.city) > 0", "int cannot take this value"),
        ("timestamp(data.attributes.city) > timestamp(event.time)", "timestamp cannot take this value"),
        ("data.attributes.city", "must give a bool, not a string"),
        ("data.attributes.none", "must give a bool, not null"),
        ("data.tags", "must give a bool, not a list"),
        ("data.attributes.city.matches(data.attributes.city + '[')", "matches cannot take this value"),
    ],
)
def test_other_failures_are_errors_that_name_the_place_and_no_value(text: str, problem: str) -> None:
    """The message is fit for a result: the place in the file, what went wrong, nothing of the event."""
    with pytest.raises(ExpressionError) as caught:
        holds(text)
    assert str(caught.value) == f"{PLACE}: {problem}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("timestamp(event.time)", "gives a timestamp; use string(…)"),
        ("[duration(data.tags[0] + '1s')]", "duration cannot take this value"),
        ("bytes(data.contact_id)", "gives bytes; use string(…)"),
        ("double(data.version) / 0.0", "gives a double that is no finite number"),
    ],
)
def test_results_are_what_json_has(text: str, problem: str) -> None:
    """Timestamps, bytes and infinite doubles could be written in several ways: the expression has to say how."""
    with pytest.raises(ExpressionError, match=problem.split("(")[0]):
        value(text)


@pytest.mark.parametrize(
    "text",
    ["data.attributes.big", "data.attributes.big + 'x'", "[data.attributes.big, data.contact_id]", "data.tags"],
)
def test_results_are_bounded(text: str) -> None:
    """1 MiB is given, more is an error, by plain paths too."""
    event = contact(attributes={"big": "é" * (MAX_RESULT_BYTES // 2 - 1000)}, tags=["x" * 100_000] * 10)
    assert value(text, event)
    event = contact(attributes={"big": "é" * (MAX_RESULT_BYTES // 2 + 1)}, tags=["x" * 110_000] * 10)
    with pytest.raises(ExpressionError, match="more than 1 MiB"):
        value(text, event)


def test_keys_that_are_no_text_are_null() -> None:
    """A null key and one that is not UTF-8 are null, which is a value and not missing."""
    for key in (None, b"\xff"):
        assert value("key", key=key) is None
        assert holds("key == null", key=key) is True
    assert holds('key == "é"', key="é".encode()) is True


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("data.segmnets.join", 'data.segmnets: there is no field "segmnets"; did you mean "segments"?'),
        ('data["segmnets"]', 'there is no field "segmnets"'),
        ("data.segments.joins", 'data.segments.joins: there is no field "joins"; did you mean "join"?'),
        ("has(data.segmnets)", 'there is no field "segmnets"'),
        ("data.consents.exists(c, c.topics == 'a')", 'c.topics: there is no field "topics"'),
        ("data.consents.filter(c, c.topic == 'a').map(d, d.x)", 'd.x: there is no field "x"'),
        ("data.consents[0].state", 'data.consents[0].state: there is no field "state"'),
        ("(true ? data : data).foo", 'there is no field "foo"'),
        ("data.contact_id.foo", "a single value has no fields"),
        ("data.identifiers.np6.foo", "a single value has no fields"),
        ("data.tags.vip", "a list has no fields"),
        ("data.tags['vip']", "items of a list are counted from 0"),
        ("data['a' + 'b']", "a field is named by a constant text"),
        ("data.version[0]", "a single value has no items"),
        ("event.traceparent", 'there is no field "traceparent"'),
        ("dat.version", 'there is no variable "dat"; did you mean "data"?'),
        ("deleted", "a constant text is written '\"deleted\"'"),
        ("data.tags.exists(t, u == 'a')", 'there is no variable "u"'),
        ("t == 'a' || data.tags.exists(t, t == 'a')", 'there is no variable "t"'),
        ("data.tags.exists(data, data == 'a')", 'the variable "data" of exists hides another'),
        ("upper(data.contact_id)", 'there is no function "upper"'),
        ("data.contact_id.startswith('a')", 'there is no function "startswith"; did you mean "startsWith"?'),
        ("data.contact_id.matches('[')", "a regular expression"),
        ("data.change ==", "is not CEL: "),
        ("data.change = 'a'", "is not CEL: "),
        ("", "is not CEL: "),
        ("1 / 0", "division by zero"),
        ("google.protobuf.Duration{}", 'not "{"'),
        ("'" + "x" * MAX_TEXT_BYTES + "'", "longer than 4 KiB"),
        ("(" * 500 + "1" + ")" * 500, "is not CEL"),
        ("1" + "+1" * 2000, "nested too deeply"),
        ("data" + ".a" * 2000, "nested too deeply"),
    ],
)
def test_expressions_are_checked_against_the_contracts_at_start(text: str, problem: str) -> None:
    """Unknown fields, variables and functions refuse to start, and say what there is."""
    with pytest.raises(ExpressionFault) as caught:
        check_expression(text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["5", '"true"', "null", "[]", "1 + 1", "'a' + 'b'"])
def test_a_condition_that_is_a_constant_must_be_a_bool(text: str) -> None:
    """What can be known at start is refused at start."""
    with pytest.raises(ExpressionFault, match="must give a bool"):
        check_expression(text, wants="bool")
    check_expression(text)


def test_open_maps_take_any_key() -> None:
    """Identifiers, attributes and context are open, and what stands in a context may nest."""
    event = notification(context={"page": {"url": "/a", "tags": [1, {"x": 2}]}, "big": 2**70, "n": None})
    assert value("data.context.page.url", event) == "/a"
    assert value("data.context.page.tags[1].x", event) == 2
    assert value("data.context.page", event) == {"url": "/a", "tags": [1, {"x": 2}]}
    assert value("data.context.big", event) == float(2**70)
    assert value("data.context.n", event) is None
    assert value("data.context.nowhere.deeper", event) is None
    assert value("data.context", event)["page"]["url"] == "/a"
    assert value("data.identifiers.whatever", event) is None


def test_both_event_types_may_be_asked_for() -> None:
    """A field of the other event type is missing, no fault."""
    text = 'data.action == "activation" || data.change == "updated"'
    assert holds(text, notification()) is True
    assert holds(text, FULL) is True
    assert value("data.occurred_at", FULL) is None


# What accessors of our own give must be what the library gives. Each of these is evaluated by both.
PATHS = [
    "data.contact_id", "data.change", "data.version", "data.tags", "data.segments.join", "data.segments.leave",
    "data.identifiers.np6", 'data["identifiers"]["a b"]', "data.attributes.x", 'data.attributes["a b"]',
    "data.notification_key", "data.label", "data.action", "data.context.x", "data.occurred_at", "data.consents",
    "event.id", "event.type", "event.time", "event.subject", "event.tenant", "key", "data.segments", "data.context",
]  # fmt: skip
CONSTANTS = ['"x"', '""', '"created"', "0", "1", "-1", "5", "9223372036854775807", "true", "false", "null", "1.0", "1u"]


def outcome(evaluate: Callable[[Event, bytes | None], Any], event: Event, key: bytes | None) -> Any:
    """A result with its type, or the error's text, to compare by."""
    try:
        result = evaluate(event, key)
    except ExpressionError as error:
        return str(error)
    return type(result), result


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([0, 1, -1, 5, 2**63 - 1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.0, 1.0, 5.0, -0.0])
    | st.text(max_size=3)
    | st.sampled_from(["x", "created", "", "vip"])
)
names = st.sampled_from(["x", "a b", "np6", "y"])
texts = st.sampled_from(["x", "created", "", "vip"]) | st.text(max_size=3)
wild = st.recursive(
    scalars | st.integers(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An optional field of a contract."""
    return st.none() | strategy


contacts = st.builds(
    ContactChanged,
    contact_id=st.text(min_size=1, max_size=3) | st.just("x"),
    change=st.sampled_from(["created", "updated", "deleted"]),
    identifiers=maybe(st.dictionaries(names, texts, max_size=3)),
    attributes=maybe(st.dictionaries(names, scalars, max_size=3)),
    segments=maybe(st.builds(Segments, join=maybe(st.lists(st.integers(0, 5), max_size=2)), leave=maybe(st.just([5])))),
    consents=maybe(st.lists(st.builds(Consent, channel=texts, topic=texts, status=st.just("opt-in")), max_size=2)),
    tags=maybe(st.lists(texts, max_size=2)),
    version=maybe(st.integers(0, 6) | st.just(2**63 - 1)),
)
notifications = st.builds(
    NotificationOccurred,
    notification_key=st.integers(-1, 5),
    target=texts,
    action=st.sampled_from(["impression", "dismiss"]),
    occurred_at=st.just("2026-01-31T00:00:00Z"),
    label=maybe(texts),
    contact_id=maybe(texts),
    context=maybe(st.dictionaries(names, wild, max_size=2)),
)
events = st.builds(
    Event,
    id=texts,
    source=texts,
    type=st.sampled_from([CONTACT_CHANGED, NOTIFICATION_OCCURRED]),
    data=contacts | notifications,
    subject=maybe(texts),
    tenant=maybe(texts),
    record_ms=maybe(st.integers(0, 2**40)),
)
keys = st.none() | st.binary(max_size=3) | st.sampled_from([b"x", b"", b"\xff"])
comparisons = st.builds(
    "{} {} {}".format, st.sampled_from(PATHS), st.sampled_from(["==", "!="]), st.sampled_from(CONSTANTS)
) | st.builds("{} {} {}".format, st.sampled_from(CONSTANTS), st.sampled_from(["==", "!="]), st.sampled_from(PATHS))
others = st.sampled_from(
    [
        "has(data.version)", "has(data.segments.join)", "has(data.identifiers.np6)", "has(data.attributes.x)",
        "has(data.context.x)", "has(data.context.x.y)", "'vip' in data.tags", '"x" in data.identifiers',
        'data.change in ["created", "x"]', 'data.attributes.x in ["x", ""]', "data.context.x in ['x']",
        "data.attributes.x in []", "true", "false",
        'data.consents.exists(c, c.topic == "x")', 'data.consents.exists(c, c.topic == "" && "x" == c.channel)',
        'data.consents.exists(c, c.status == "opt-in" && c.topic == "x" && c.topic == "vip")',
    ]
)  # fmt: skip
conditions = st.recursive(
    comparisons | others,
    lambda inner: (
        st.builds("({} && {})".format, inner, inner)
        | st.builds("({} || {})".format, inner, inner)
        | st.builds("{} && {}".format, inner, inner)  # precedence counts
        | st.builds("{} || {}".format, inner, inner)
        | st.builds("!({})".format, inner)
    ),
    max_leaves=4,
)


@settings(max_examples=500, deadline=None)
@given(conditions | st.sampled_from(PATHS), events, keys)
@example("data.context.x", notification(context={"x": 2**70}), None)
@example("data.attributes.x", contact(attributes={"x": float("inf")}), None)
@example("data.version == 0 && data.version == 1 || data.change == 'updated'", contact(version=3), None)
@example("data.change == 'updated' || data.version == 0 && data.version == 1", contact(version=3), None)
@example("data.context.x == 9223372036854775807", notification(context={"x": 2**63}), None)
@example("data.attributes.x == 1", contact(attributes={"x": True}), None)
@example("data.attributes.x == true", contact(attributes={"x": 1}), None)
@example("data.attributes.x == 5", contact(attributes={"x": 5.0}), None)
def test_accessors_give_what_the_library_gives(text: str, event: Event, key: bytes | None) -> None:
    """Values, missing fields, nulls, every type, errors: our shortcut cannot be told from the library."""
    for wants in ("bool", "value"):
        try:
            own = compile_expression(text, place="p", wants=wants)
        except ExpressionFault:
            continue  # a constant of another kind; its own tests stand above
        library = interpret_expression(text, place="p", wants=wants)
        assert outcome(own, event, key) == outcome(library, event, key)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="adt.[]()\"'x1 -!&|=?:,{}in\\r\n", max_size=40) | st.text(max_size=20))
def test_no_text_crashes_the_check(text: str) -> None:
    """Whatever an operator writes, it is an expression or a fault."""
    try:
        check_expression(text)
    except ExpressionFault as fault:
        assert str(fault)  # noqa: PT017 (either is right; a fault must say something)


def test_plain_paths_do_not_go_through_the_library() -> None:
    """The hot path is an accessor: many times quicker than the library on the same event."""

    def cost(evaluate: Callable[[Event, bytes | None], Any]) -> float:
        best = float("inf")
        for _ in range(5):
            start = time.process_time()
            for _ in range(2_000):
                evaluate(FULL, b"k")
            best = min(best, time.process_time() - start)
        return best

    consent = 'data.consents.exists(c, c.topic == "shoes" && c.status == "opt-in")'
    for text in ("data.identifiers.np6", "data.segments.join", 'data.change != "deleted"', "event.type", consent):
        assert cost(compile_expression(text, place="p")) * 4 < cost(interpret_expression(text, place="p"))


def test_a_consent_is_found_by_whatever_fields_are_asked_for() -> None:
    """Each of them, and any together, among all consents that differ in one of them or more."""
    words = {"channel": "sms", "topic": "shoes", "status": "opt-in"}
    consents = [Consent(*each) for each in product(("sms", "x"), ("shoes", "y"), ("opt-in", "opt-out"))]
    for count in (1, 2, 3):
        for fields in permutations(words, count):
            asked = " && ".join(f'c.{field} == "{words[field]}"' for field in fields)
            exists = compile_expression(f"data.consents.exists(c, {asked})", place="p", wants="bool")
            for consent in consents:
                data = ContactChanged("c", "updated", consents=[Consent("other", "other", "opt-out"), consent])
                found = exists(Event("e", "s", CONTACT_CHANGED, data), b"k")
                assert found is all(getattr(consent, field) == words[field] for field in fields)
