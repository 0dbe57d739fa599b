"""``apsis.imports``: which row comes of an event, and what the platform is asked for."""

import csv
from io import StringIO
from typing import Any, Literal

import msgspec
import pytest

from contracts.events import CONTACT_CHANGED, Consent, ContactChanged, Event
from contracts.outcomes import Outcome, Reason
from handlers.apsis.imports import ApsisImportsConfig, ApsisImportsHandler
from handlers.base import Expression, ExpressionError, Refusal
from handlers.imports.rows import Row
from service.config.expressions import compile_expression
from tests.support.vendor import shape_of, vendor_example

KEYSPACE = {
    "discriminator": "com.apsis1.keyspaces.email",
    "column": "email-address",
    "value": "data.identifiers.email",
}


def compiled(text: str, key: str, wants: Literal["value", "bool"] = "value") -> Expression:
    return compile_expression(text, place=key, wants=wants)


def handler(**keys: Any) -> ApsisImportsHandler:
    given = {"section": "usercreated.sections.shop", "keyspaces": [KEYSPACE], **keys}
    return ApsisImportsHandler(msgspec.convert(given, ApsisImportsConfig), compiled)


def contact(**parts: Any) -> Event:
    given = {"identifiers": {"email": "ada@example.com"}, "attributes": {"city": "Hull"}, **parts}
    change = given.pop("change", "updated")
    return Event("e-1", "s", CONTACT_CHANGED, ContactChanged("c-1", change, **given))


def row_of(event: Event, **keys: Any) -> Row:
    planned = handler(**keys).plan(event, None)
    assert not isinstance(planned, Refusal), planned
    [row] = planned
    return row


def cells_of(row: Row, delimiter: str = ",") -> list[str]:
    [cells] = csv.reader(StringIO(row.line.decode(), newline=""), delimiter=delimiter)
    return cells


CITY = {"version_id": "1234", "column": "city", "value": "data.attributes.city"}
PHONE = {"version_id": "77", "column": "mobile", "value": "data.identifiers.phone", "as": "phone"}
SHOES = {
    "channel": "com.apsis1.channels.email",
    "topic": "usercreated.topics.shoes",
    "column": "shoes",
    "value": 'data.consents.exists(c, c.topic == "shoes" && c.status == "opt-in")',
}
VIP = {"discriminator": "usercreated.attributes.vip", "when": '"vip" in data.tags'}


def test_a_row_holds_key_attributes_consents_and_addresses() -> None:
    """In the order of the head, whose names are the import's field selectors."""
    keys = {
        "attributes": [CITY, PHONE],
        "consents": [{**SHOES, "address": {"column": "address", "value": "data.identifiers.email"}}],
    }
    event = contact(
        identifiers={"email": "ada@example.com", "phone": "+46 70-1"}, consents=[Consent("email", "shoes", "opt-in")]
    )
    row = row_of(event, **keys)
    assert handler(**keys).head(()) == b"email-address,city,mobile,shoes,address\r\n"
    assert cells_of(row) == ["ada@example.com", "Hull", "46701", "1", "ada@example.com"]
    assert row.key == "ada@example.com"
    assert (row.operation.kind, row.operation.target) == ("import.row", "c-1")
    assert row.operation.entity == "com.apsis1.keyspaces.email"


def test_what_an_event_does_not_tell_is_an_empty_cell() -> None:
    """And a consent that is not given is a 0."""
    row = row_of(contact(attributes=None), attributes=[CITY, PHONE], consents=[SHOES])
    assert cells_of(row) == ["ada@example.com", "", "", "0"]


def test_batches_are_formed_per_set_of_tags() -> None:
    """A tag is given where its condition holds; a missing part gives none."""
    new = {"discriminator": "usercreated.attributes.new", "when": 'data.change == "created"'}
    keys = {"tags": [VIP, new]}
    assert row_of(contact(tags=["vip"]), **keys).group == (0,)
    assert row_of(contact(), **keys).group == ()
    assert row_of(contact(tags=["vip"], change="created"), **keys).group == (0, 1)
    body = msgspec.json.decode(handler(**keys).create((1,), b"").body or b"")
    assert body["tag_mappings"] == [{"tag_discriminator": "usercreated.attributes.new"}]


@pytest.mark.parametrize(
    ("event", "outcome", "reason"),
    [
        (contact(change="deleted"), Outcome.SKIPPED, Reason.NOTHING_TO_DO),
        (contact(identifiers={}), Outcome.INVALID, Reason.UNRESOLVED),
        (contact(identifiers={"email": ""}), Outcome.INVALID, Reason.UNRESOLVED),
        (contact(attributes={"city": "x" * 1001}), Outcome.INVALID, Reason.CONTRACT),
    ],
)
def test_events_without_a_row(event: Event, outcome: Outcome, reason: Reason) -> None:
    """Deleted, without a key, or with a text that the platform would not take."""
    planned = handler(attributes=[CITY]).plan(event, None)
    assert isinstance(planned, Refusal)
    assert (planned.outcome, planned.reason) == (outcome, reason)
    assert "x" * 20 not in str(planned.detail)


def test_a_deletion_is_delivered_where_the_lane_says_so() -> None:
    """``deleted: deliver``."""
    assert row_of(contact(change="deleted"), deleted="deliver").key == "ada@example.com"


def test_a_key_is_no_list() -> None:
    """What no profile can be known by is the configuration's fault, told by its place."""
    keyspace = {**KEYSPACE, "value": "data.tags"}
    with pytest.raises(ExpressionError, match=r"keyspaces\[0\]\.value"):
        handler(keyspaces=[keyspace]).plan(contact(tags=["a"]), None)


def test_the_create_agrees_with_the_vendors_example() -> None:
    """Version 2: the same keys in the same places, whatever the values."""
    example = vendor_example("apsis-import-request.json")
    body = handler(attributes=[CITY], consents=[SHOES], tags=[VIP]).create((0,), b"")
    assert (body.method, body.path) == ("POST", "/v2/audience/sections/usercreated.sections.shop/imports")
    assert shape_of(msgspec.json.decode(body.body or b"")) == shape_of(example)


def test_version_1_takes_several_keyspaces_merging_and_folders() -> None:
    """As the vendor's client sends them."""
    crm = {"discriminator": "usercreated.keyspaces.crm", "column": "crm", "value": "data.contact_id"}
    keys: dict[str, Any] = {
        "api_version": 1,
        "keyspaces": [{**KEYSPACE, "merge_profiles": True}, crm],
        "consents": [{**SHOES, "folder": "usercreated.folders.a"}],
    }
    request = handler(**keys).create((), b"")
    body = msgspec.json.decode(request.body or b"")
    assert request.path == "/audience/sections/usercreated.sections.shop/imports"
    assert [one["merge_profiles"] for one in body["keyspace_mappings"]] == [True, False]
    assert body["consent_mappings"][0]["consents"][0]["consent_list_discriminator"] == "usercreated.folders.a"
    assert row_of(contact(), **keys).key == ("ada@example.com", "c-1")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"keyspaces": [KEYSPACE, {**KEYSPACE, "column": "b"}]}, "api_version 2 takes one"),
        ({"keyspaces": [{**KEYSPACE, "merge_profiles": True}]}, "merge_profiles"),
        ({"consents": [{**SHOES, "folder": "f"}]}, "folder"),
        ({"attributes": [CITY, CITY]}, "'city' stands twice"),
        ({"attributes": [{**CITY, "column": "email-address"}]}, "stands twice"),
        ({"tags": [VIP, VIP]}, "stands twice"),
    ],
)
def test_keys_that_contradict_each_other(keys: dict[str, Any], problem: str) -> None:
    """Refused when the configuration is read."""
    with pytest.raises(msgspec.ValidationError, match=problem):
        handler(**keys)
