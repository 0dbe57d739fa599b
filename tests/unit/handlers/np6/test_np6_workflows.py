"""The plan of an event for np6.workflows, and the request that carries many."""

import json
import uuid
from typing import Any

import pytest

from contracts.events import ContactChanged, Event, NotificationOccurred
from contracts.outcomes import Outcome, Reason
from contracts.results import Operation
from handlers.base import Answer, ExpressionError, Hold, Member, Piece, Refusal, Settle
from handlers.np6.workflows import WorkflowsConfig, WorkflowsHandler, workflows_handler
from service.app import KINDS
from service.config import ConfigurationError, loads
from service.config.expressions import compile_expression

NAMESPACE = uuid.UUID("a06f0ca3-e230-4067-9938-b01c7eb393a8")
MEDIA_TYPE = "application/vnd.np6.cm.workflow-v4"
EVENT = Event(
    id="e1",
    source="np6",
    type="notification.occurred.v1",
    data=NotificationOccurred(
        notification_key=7,
        target="000PKXK4",
        action="activation",
        occurred_at="2026-01-01T00:00:00Z",
        context={"amount": 12.5, "none": None, "tags": ["a", "b"]},
    ),
)
DELETED = Event(id="e2", source="crm", type="contact.changed.v1", data=ContactChanged(contact_id="c", change="deleted"))


def handler(**keys: Any) -> WorkflowsHandler:
    """A handler as the file would say it: ``keys`` replace or add to workflow and receiver."""
    return workflows_handler(options(**keys), lambda text, key: compile_expression(text, place=f"f.yaml lanes.x.{key}"))


def options(**keys: Any) -> WorkflowsConfig:
    lane = {
        "handler": "np6.workflows",
        "account": "main",
        "topics": ["notifications"],
        "workflow": 42,
        "receiver": {"type": "id", "value": "data.target"},
        **keys,
    }
    document = {
        "kafka": {"bootstrap_servers": ["localhost:9092"]},
        "accounts": {"main": {"platform": "np6", "base_url": "https://np6.example", "api_key": {"env": "KEY"}}},
        "lanes": {"x": lane},
    }
    found = loads(json.dumps(document).encode(), KINDS, file="f.yaml").lanes["x"].options
    assert isinstance(found, WorkflowsConfig)
    return found


def plan(event: Event = EVENT, /, **keys: Any) -> Any:
    """What an execution is planned to be, as JSON, or the refusal."""
    planned = handler(**keys).plan(event, b"key")
    return planned if isinstance(planned, Refusal) else json.loads(planned.payload)


def member(event: Event = EVENT, *, result_id: str = "r-1", timestamp_ms: int = 1_700_000_000_123) -> Member:
    planned = handler().plan(event, b"key")
    assert isinstance(planned, Piece)
    return Member(planned.operation, planned.payload, event, result_id, timestamp_ms)


def test_the_smallest_execution() -> None:
    """A receiver is all that an execution needs; what was not configured is not sent."""
    planned = handler().plan(EVENT, b"key")
    assert planned == Piece(
        Operation("workflow.execute", "000PKXK4", "42"), b'{"receiver":{"type":"id","value":"000PKXK4"}}'
    )


def test_every_field_of_an_execution() -> None:
    """Objects and lists are sent as the file nests them, each leaf filled in."""
    execution = plan(
        node='"start-" + data.action',
        event={"kind": '"click"', "at": "data.occurred_at"},
        state={"step": 3, "deep": {"er": {"est": "data.notification_key"}}},
        data={"amount": "data.context.amount", "yes": True},
        variables=["data.label", {"name": '"x"', "values": [1, "data.target"]}, None],
        resolutions=[{"key": '"lang"', "value": '"fr"'}, {"key": '"none"', "value": "data.label"}],
        debug={"version": 1, "id": "event.id", "ttl": 60, "nodes": ['"n1"', "data.target"]},
    )
    assert execution == {
        "receiver": {"type": "id", "value": "000PKXK4"},
        "node": "start-activation",
        "event": {"kind": "click", "at": "2026-01-01T00:00:00Z"},
        "state": {"step": 3, "deep": {"er": {"est": 7}}},
        "data": {"amount": 12.5, "yes": True},
        "variables": [None, {"name": "x", "values": [1, "000PKXK4"]}, None],
        "resolutions": [{"key": "lang", "value": "fr"}, {"key": "none"}],
        "debug": {"version": 1, "id": "e1", "ttl": 60, "nodes": ["n1", "000PKXK4"]},
    }


def test_an_absent_field_is_left_out_and_never_null() -> None:
    """A missing field of the event is left out of its object; a field that is one expression, as a whole."""
    execution = plan(node="data.label", data={"label": "data.label", "at": "data.occurred_at"}, state="data.contact_id")
    assert execution == {"receiver": {"type": "id", "value": "000PKXK4"}, "data": {"at": "2026-01-01T00:00:00Z"}}


def test_one_expression_may_give_a_whole_object() -> None:
    """An open map of the event is sent as it is, with its nulls."""
    assert plan(data="data.context", variables="data.context.tags")["data"] == {
        "amount": 12.5,
        "none": None,
        "tags": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("value", "fault"), [("data.contact_id", "gives null"), ("data.label", "gives null"), ('""', "gives an empty")]
)
def test_a_receiver_without_value_is_unresolved(value: str, fault: str) -> None:
    """Nobody to send it to: invalid/unresolved, with the key's name."""
    refusal = plan(receiver={"value": value})
    assert (refusal.outcome, refusal.reason) == (Outcome.INVALID, Reason.UNRESOLVED)
    assert "receiver.value" in refusal.detail
    assert fault in refusal.detail


@pytest.mark.parametrize("value", ["data.notification_key", "true", "[data.target]"])
def test_a_receiver_that_is_no_text_is_the_expressions_fault(value: str) -> None:
    """An int or a list names nobody."""
    with pytest.raises(ExpressionError, match=r"receiver\.value: must give a string"):
        plan(receiver={"value": value})


def test_only_a_target_id_is_named_in_results() -> None:
    """An e-mail address as receiver is sent, and stands in no operation."""
    planned = handler(receiver={"type": "email", "value": '"a@private.example"'}).plan(EVENT, None)
    assert isinstance(planned, Piece)
    assert planned.operation == Operation("workflow.execute", None, "42")
    assert json.loads(planned.payload)["receiver"] == {"type": "email", "value": "a@private.example"}


def test_a_workflow_that_an_expression_chooses() -> None:
    """Batches are formed per workflow."""
    chosen = handler(workflow='data.action == "activation" ? 7 : 8')
    planned = chosen.plan(EVENT, None)
    assert isinstance(planned, Piece)
    assert planned.operation.entity == "7"
    assert chosen.batch_of(planned.operation) == "7"


def test_a_workflow_without_value_is_unresolved() -> None:
    """Nothing to execute."""
    refusal = plan(workflow="data.contact_id == null ? null : 1")
    assert (refusal.outcome, refusal.reason) == (Outcome.INVALID, Reason.UNRESOLVED)
    assert "workflow" in refusal.detail


@pytest.mark.parametrize("workflow", ["data.target", "data.action == 'x'", "7.0", "2147483648"])
def test_a_workflow_that_is_no_int32_is_the_expressions_fault(workflow: str) -> None:
    """A text, a bool and a double are no ids."""
    with pytest.raises(ExpressionError, match="workflow"):
        plan(workflow=workflow)


def test_a_workflow_beyond_int32_refuses_to_start() -> None:
    """A constant is checked once, at start."""
    with pytest.raises(ConfigurationError, match="int32"):
        options(workflow=2**31)


@pytest.mark.parametrize("workflow", [2**31 - 1, -(2**31), "2147483647", "-2147483648"])
def test_a_workflow_at_the_bounds_of_int32(workflow: int | str) -> None:
    """The bounds themselves are workflows, in the file and from an expression."""
    planned = handler(workflow=workflow).plan(EVENT, b"key")
    assert isinstance(planned, Piece)
    assert planned.operation.entity == str(workflow)


def test_every_expression_gets_the_records_key() -> None:
    """A workflow, a receiver and a field may be made of it."""
    planned = handler(workflow="int(key)", receiver={"type": "id", "value": '"T" + key'}, node="key").plan(EVENT, b"7")
    assert isinstance(planned, Piece)
    assert planned.operation == Operation("workflow.execute", "T7", "7")
    assert json.loads(planned.payload)["node"] == "7"


class Gives:
    """An expression that gives a value, and knows its place or does not."""

    def __init__(self, value: Any, place: str | None) -> None:
        self.value = value
        if place is not None:
            self.place = place

    def __call__(self, event: Event, key: bytes | None) -> Any:
        return self.value


@pytest.mark.parametrize("place", [None, "lanes.welcome.x"])
@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("workflow", None, "gives null"),
        ("workflow", True, "must give an int or null"),
        ("workflow", 2**31, "gives a workflow beyond int32"),
        ("receiver.value", None, "gives null"),
        ("receiver.value", "", "gives an empty string"),
        ("receiver.value", 7, "must give a string or null"),
    ],
)
def test_each_fault_of_an_expression_names_it(name: str, value: Any, fault: str, place: str | None) -> None:
    """By its place in the file if it knows that, by its key else; whether the lane dies of it or the event."""
    wrong, right = Gives(value, place), Gives("T", None)
    made = WorkflowsHandler(wrong, right) if name == "workflow" else WorkflowsHandler(42, wrong)
    try:
        refusal = made.plan(EVENT, b"key")
    except ExpressionError as error:
        told = str(error)
    else:
        assert isinstance(refusal, Refusal)
        told = refusal.detail or ""
    assert told == f"{place or name}: {fault}"


def test_expressions_are_compiled_with_their_places() -> None:
    """Workflow, receiver and each leaf below the optional fields."""
    places: list[str] = []

    def compiled(text: str, key: str, wants: str = "value") -> Any:
        places.append(key)
        return compile_expression(text, place=key)

    workflows_handler(options(workflow="7", node="key", data={"a": ["key"]}), compiled)
    assert sorted(places) == ["data.a[0]", "node", "receiver.value", "workflow"]


def test_what_json_cannot_hold_is_the_expressions_fault() -> None:
    """Said without the value."""
    made = WorkflowsHandler(42, Gives("T", None), [("data", Gives("\ud800", None))])
    with pytest.raises(ExpressionError, match=r"^an expression gives a value that JSON cannot hold$"):
        made.plan(EVENT, b"key")


def test_a_deleted_contact_is_skipped_unless_the_lane_delivers_it() -> None:
    """Nothing is sent to who is no more, by default."""
    who = {"value": "data.contact_id"}
    assert plan(DELETED, receiver=who) == Refusal(Outcome.SKIPPED, Reason.NOTHING_TO_DO)
    assert plan(DELETED, receiver=who, deleted="deliver")["receiver"] == {"type": "id", "value": "c"}


def test_the_request_carries_all_in_order_with_deterministic_ids() -> None:
    """The vendor's media type both ways; id and stamp of each come from its result id, event and record."""
    other = Event(id="e9", source="np6", type=EVENT.type, data=EVENT.data)
    members = [member(), member(other, result_id="r-2", timestamp_ms=-1)]
    request = handler().batch_request(members, "batch-1")
    assert (request.method, request.path) == ("POST", "/scripting/workflows/42/executions")
    assert dict(request.headers) == {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE}
    first, second = json.loads(request.body or b"")
    assert first == {
        "id": str(uuid.uuid5(NAMESPACE, "execution\nr-1")),
        "stamp": {
            "time": 1_700_000_000_123,
            "id": str(uuid.uuid5(NAMESPACE, "stamp\nr-1")),
            "thread": str(uuid.uuid5(NAMESPACE, "thread\nnp6\ne1")),
            "set": "batch-1",
        },
        "receiver": {"type": "id", "value": "000PKXK4"},
    }
    assert second["id"] == str(uuid.uuid5(NAMESPACE, "execution\nr-2"))
    assert second["stamp"] == {  # a record without timestamp has no time to tell
        "id": str(uuid.uuid5(NAMESPACE, "stamp\nr-2")),
        "thread": str(uuid.uuid5(NAMESPACE, "thread\nnp6\ne9")),
        "set": "batch-1",
    }
    assert handler().batch_request(members, "batch-1") == request


def test_members_of_several_workflows_are_no_batch() -> None:
    """A request that would execute the wrong workflow is never made."""
    one = member()
    other = Member(Operation("workflow.execute", "T", "43"), one.payload, EVENT, "r", 0)
    with pytest.raises(ValueError, match="not a batch"):
        handler().batch_request([one, other], "b")


def test_an_operation_of_somebody_else_is_no_batch() -> None:
    """No workflow called None is executed; nor is one made up for a batch without members."""
    foreign = Member(Operation("workflow.execute", "T", None), b"{}", EVENT, "r-1", 0)
    with pytest.raises(ValueError, match="this handler planned"):
        handler().batch_request([foreign], "batch")
    with pytest.raises(ValueError, match="this handler has formed"):
        handler().batch_request([], "batch")


def test_members_are_told_apart_by_their_execution() -> None:
    """It is the handler's name for each; a record of the year 1970 has a time as any other."""
    members = [member(timestamp_ms=0), member(result_id="r-2", timestamp_ms=-1)]
    first, second = json.loads(handler().batch_request(members, "batch").body or b"")
    assert [one.name for one in members] == [first["id"], second["id"]]
    assert (first["stamp"]["time"], "time" in second["stamp"]) == (0, False)


def test_a_workflow_that_the_platform_does_not_know() -> None:
    """It holds the lane whose file names it; where an expression gave it, the event is at fault."""
    unknown = Answer(404, {}, b"")
    assert isinstance(handler().judge_batch([member()], unknown), Hold)
    assert not isinstance(handler(workflow="42").judge_batch([member()], unknown), Hold)


def test_each_item_is_judged_by_itself() -> None:
    """A success names the execution, an error the platform's words and request id."""
    body = b'[{"type":"success","flow":"f"},{"type":"error","flow":{"Message":"no such receiver"}}]'
    ends = handler().judge_batch([member(), member(result_id="r-2")], Answer(200, {"x-request-id": "q"}, body))
    assert ends == [
        Settle(Outcome.DELIVERED, None, None, str(uuid.uuid5(NAMESPACE, "execution\nr-1"))),
        Settle(Outcome.REJECTED, Reason.REFUSED, "no such receiver", "q"),
    ]


def test_the_defaults_of_this_handler() -> None:
    """A deadline of a day, for a message that comes too late is worse than none, and a window of ten minutes against
    one that is published twice; other handlers have neither, and null and off are still the file's to say."""
    document = {
        "kafka": {"bootstrap_servers": ["localhost:9092"]},
        "accounts": {"main": {"platform": "np6", "base_url": "https://np6.example", "api_key": {"env": "KEY"}}},
        "lanes": {
            "w": {
                "handler": "np6.workflows",
                "account": "main",
                "topics": ["n"],
                "workflow": 1,
                "receiver": {"value": "key"},
            },
            "s": {"handler": "np6.segments", "account": "main", "topics": ["c"], "target": "key", "join": 1},
            "n": {
                "handler": "np6.workflows",
                "account": "main",
                "topics": ["n"],
                "workflow": 1,
                "receiver": {"value": "key"},
                "deadline": None,
                "dedupe": "off",
            },
        },
    }
    lanes = loads(json.dumps(document).encode(), KINDS, file="f.yaml").lanes
    assert {name: (lane.deadline_s, lane.dedupe_s) for name, lane in lanes.items()} == {
        "w": (86_400.0, 600.0),
        "s": (None, None),
        "n": (None, None),
    }


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ({"data": {"a": {"b": "data.lable"}}}, r"lanes\.x\.data\.a\.b"),
        ({"data": [1]}, r"lanes\.x\.data: expected a mapping"),
        ({"data": {"a": 1.5}}, r"lanes\.x\.data\.a"),
        ({"variables": {"a": 1}}, r"lanes\.x\.variables: expected a list"),
        ({"variables": [{"a": "hello"}]}, r"lanes\.x\.variables\[0\]\.a"),
        ({"resolutions": [{"value": 1}]}, r"lanes\.x\.resolutions\[0\]\.key"),
        ({"debug": {"verbose": 1}}, r"lanes\.x\.debug\.verbose"),
        ({"receiver": {"type": "", "value": "key"}}, r"lanes\.x\.receiver\.type"),
        ({"in_doubt": "ignore"}, r"lanes\.x\.in_doubt"),
        ({"deleted": "send"}, r"lanes\.x\.deleted"),
    ],
)
def test_a_fault_of_the_file_is_told_with_its_place(keys: dict[str, Any], place: str) -> None:
    """A wrong leaf is named by its path, however deep it stands."""
    with pytest.raises(ConfigurationError, match=place):
        options(**keys)
