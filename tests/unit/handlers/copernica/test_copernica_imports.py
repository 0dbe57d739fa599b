"""``copernica.imports``: which rows come of an event, and what the platform is sent."""

import csv
from io import StringIO
from typing import Any, Literal

import msgspec
import pytest

from contracts.events import CONTACT_CHANGED, ContactChanged, Event
from contracts.outcomes import Outcome, Reason
from handlers.base import Answer, Expression, ExpressionError, Refusal, Retry, RowValue
from handlers.copernica.imports import CopernicaImportsConfig, CopernicaImportsHandler
from handlers.imports.rows import Row
from handlers.imports.verdicts import Completed, MayBeOpen, Unnamed
from service.config.expressions import compile_expression, compile_row_expression
from tests.support.vendor import shape_of, vendor_example

FIELDS = {"Email": "data.identifiers.email", "Name": "data.attributes.first_name"}
ORDERS = {
    **FIELDS,
    "Order.OrderID": "row.id",
    "Order.Status": "row.status",
}


def compiled(text: str, key: str, wants: Literal["value", "bool"] = "value") -> Expression:
    return compile_expression(text, place=key, wants=wants)


def compiled_row(text: str, key: str) -> RowValue:
    return compile_row_expression(text, place=key)


def handler(**keys: Any) -> CopernicaImportsHandler:
    given = {"database": 4, "fields": FIELDS, "key_fields": ["Email"], **keys}
    options = msgspec.convert(given, CopernicaImportsConfig)
    return CopernicaImportsHandler(options, compiled, compiled_row, api_version=4)


def contact(**parts: Any) -> Event:
    given = {"identifiers": {"email": "ada@example.com"}, "attributes": {"first_name": 'Ada "A"'}, **parts}
    change = given.pop("change", "updated")
    return Event("e-1", "s", CONTACT_CHANGED, ContactChanged("c-1", change, **given))


def rows_of(event: Event, **keys: Any) -> list[Row]:
    planned = handler(**keys).plan(event, None)
    assert not isinstance(planned, Refusal), planned
    return list(planned)


def sent(given: list[Row], **keys: Any) -> dict[str, Any]:
    """The body of the create that carries the rows."""
    made = handler(**keys)
    file = made.head(None) + made.between().join(row.line for row in given) + made.tail()
    request = made.create(None, file)
    assert (request.method, request.path) == ("POST", "/v4/imports")
    body: dict[str, Any] = msgspec.json.decode(request.body or b"")
    return body


def test_a_row_has_all_fields_in_the_same_order() -> None:
    """Also those without a value: the platform takes the order of the first object for all."""
    full, bare = rows_of(contact()) + rows_of(contact(attributes=None))
    assert full.line == b'{"Email":"ada@example.com","Name":"Ada \\"A\\""}'
    assert bare.line == b'{"Email":"ada@example.com","Name":""}'
    assert full.key == "ada@example.com"
    assert (full.operation.target, full.operation.entity) == ("c-1", "4")


SUBPROFILES: dict[str, Any] = {
    "fields": ORDERS,
    "key_fields": ["Email", "Order.OrderID"],
    "rows": "[{'id': '70001', 'status': 'Sent'}, {'id': '70002', 'status': data.change}]",
}


def test_one_row_for_each_element() -> None:
    """Each with its own key and operation; the body agrees with the vendor's example."""
    rows = rows_of(contact(), **SUBPROFILES)
    assert [row.key for row in rows] == [("ada@example.com", "70001"), ("ada@example.com", "70002")]
    assert rows[0].operation is not rows[1].operation
    body = sent(rows, **SUBPROFILES)
    example = vendor_example("copernica-import-subprofiles.json")
    assert shape_of(body["source"]) == shape_of(example["source"])
    assert {name: type(body[name]) for name in example if name not in ("format", "source")} == {
        name: type(example[name]) for name in example if name not in ("format", "source")
    }


@pytest.mark.parametrize("form", ["array", "json", "csv"])
def test_what_a_reader_gets_back(form: str) -> None:
    """As an array, a text in JSON or a text in CSV: what the event said."""
    keys = {"source": {"as": form, "delimiter": ";"}}
    nasty = 'a;"b"\r\nc, =1+1 é😀\u202eא'
    body = sent(rows_of(contact(attributes={"first_name": nasty}), **keys) * 2, **keys)
    source = body["source"]
    if form == "json":
        assert body["format"] == "json"
        source = msgspec.json.decode(source)
    if form == "csv":
        assert (body["format"], body["delimiter"]) == ("csv", ";")
        source = list(csv.DictReader(StringIO(source, newline=""), delimiter=";"))
    assert source == [{"Email": "ada@example.com", "Name": nasty}] * 2


@pytest.mark.parametrize("form", ["array", "json", "csv"])
def test_a_file_is_sent_from_the_disk_as_it_is(form: str) -> None:
    """What stands around it in the request is known before; together they are the body that a create in memory has."""
    made = handler(source={"as": form})
    file = made.head(None) + made.between().join(row.line for row in rows_of(contact(), source={"as": form}) * 3)
    file += made.tail()
    request, before, behind = made.around(None)
    assert request.body is None
    assert made.create(None, file).body == before + file + behind
    body = msgspec.json.decode(before + file + behind)
    assert isinstance(body["source"], list if form == "array" else str)


def test_a_success_without_a_number_counts_as_delivered_where_the_lane_says_so() -> None:
    """Unproven; else it holds the lane."""
    answer = Answer(201, {}, b"")
    assert isinstance(handler().judge_create(answer), Unnamed)
    assert handler(without_id="delivered").judge_create(answer) == Completed()


def test_all_parameters_are_sent() -> None:
    """By the platform's names; never a removal that was not asked for."""
    keys = {"action": "delete", "delete_target": "subprofile", "rebuild": True, "followups": True, "name": "n"}
    body = sent([], **keys)
    assert body == {
        "database": 4,
        "name": "n",
        "action": "delete",
        "deleteTarget": "subprofile",
        "keyFields": ["Email"],
        "followups": True,
        "autostart": True,
        "rebuild": True,
        "ignoreEmptyFields": False,
        "removeMissing": False,
        "source": [],
    }


@pytest.mark.parametrize(
    ("event", "keys", "outcome", "reason"),
    [
        (contact(change="deleted"), {}, Outcome.SKIPPED, Reason.NOTHING_TO_DO),
        (contact(), {"rows": "[]"}, Outcome.SKIPPED, Reason.NOTHING_TO_DO),
        (contact(), {"rows": "data.tags"}, Outcome.SKIPPED, Reason.NOTHING_TO_DO),
        (contact(identifiers={}), {}, Outcome.INVALID, Reason.UNRESOLVED),
        (contact(identifiers={"email": ""}), {}, Outcome.INVALID, Reason.UNRESOLVED),
    ],
)
def test_events_without_a_row(event: Event, keys: dict[str, Any], outcome: Outcome, reason: Reason) -> None:
    """Deleted, nothing to send, or without a key."""
    planned = handler(**keys).plan(event, None)
    assert isinstance(planned, Refusal)
    assert (planned.outcome, planned.reason) == (outcome, reason)


@pytest.mark.parametrize(
    ("keys", "place"), [({"rows": '"text"'}, "rows"), ({"fields": {**FIELDS, "Name": "data.tags"}}, "fields.Name")]
)
def test_values_of_a_wrong_type(keys: dict[str, Any], place: str) -> None:
    """Are the configuration's fault, told by its place."""
    with pytest.raises(ExpressionError, match=place):
        handler(**keys).plan(contact(tags=["a"]), None)


def test_without_key_fields_no_two_rows_are_the_same() -> None:
    """An ``add`` needs none; what may have taken effect is never repeated."""
    made = handler(action="add", key_fields=[])
    [row] = made.plan(contact(), None)  # type: ignore[misc] # no refusal
    assert row.key is None
    assert isinstance(made.judge_create(Answer(500, {}, b"")), MayBeOpen)
    assert isinstance(handler().judge_create(Answer(500, {}, b"")), Retry)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"key_fields": []}, "are needed with action update or add"),
        ({"key_fields": ["Mail"]}, "'Mail' is none of fields"),
        ({"remove_missing": True}, "needs i_know: true"),
        ({"autostart": False}, "needs i_know: true"),
        ({"database": 0}, "database"),
        ({"fields": {}}, "fields"),
        ({"action": "add", "key_fields": [], "partial_failures": "split"}, "action add would double their profiles"),
        ({"action": "add", "partial_failures": "split"}, "action add would double their profiles"),
        ({"remove_missing": True, "i_know": True, "partial_failures": "split"}, "deletes who is not among them"),
    ],
)
def test_keys_that_contradict_each_other(keys: dict[str, Any], problem: str) -> None:
    """Refused when the configuration is read."""
    with pytest.raises(msgspec.ValidationError, match=problem):
        handler(**keys)


def test_halves_are_sent_where_the_lane_says_so_and_rows_may_be_sent_twice() -> None:
    """As of any import lane: within ``split_budget``."""
    assert handler().split_budget is None
    assert handler(partial_failures="report", split_budget=7).split_budget is None
    for action in ("update", "update or add", "ignore or add", "delete"):
        assert handler(action=action, partial_failures="split", split_budget=7).split_budget == 7
