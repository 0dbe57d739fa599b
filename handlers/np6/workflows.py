"""``np6.workflows``: executes a workflow for each event, many in one request."""

from collections.abc import Hashable, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from contracts.events import INT32_MAX, INT32_MIN, Event
from contracts.ids import execution_id, executions_stamps_and_threads
from contracts.results import Operation
from handlers.base import BatchVerdict, Expression, ExpressionError, Member, Piece, Refusal, Reply, Request
from handlers.deletions import DELETED, Deleted, is_deletion
from handlers.expressions import Expr, ListTemplate, ObjectTemplate, Template
from handlers.faults import unresolved, wrong_value
from handlers.np6 import client
from handlers.np6.usual_executions import usual_executions
from handlers.np6.workflow_verdicts import judge_executions
from handlers.templates import Compile, compile_template

EXECUTE = "workflow.execute"

# Receivers of this type are named by NP6's own id of the target: it alone may appear in results and logs.
TARGET_ID = "id"

_encode = msgspec.json.Encoder().encode


class ReceiverConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Whom an execution is for."""

    value: Annotated[
        Expr, Meta(description="Who it is. Null and an empty string are invalid/unresolved; it must give a string.")
    ]
    type: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=100,
            description="What `value` is to NP6: a text, sent as it stands. With `id` it is NP6's id of the target, "
            "which results name; other values never appear in results.",
        ),
    ] = TARGET_ID


class ResolutionConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One of an execution's resolutions."""

    key: Annotated[Expr, Meta(description="Its key.")]
    value: Annotated[Template, Meta(description="Its value.")] = None


class DebugConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What NP6 takes for debugging an execution."""

    version: Annotated[Expr | None, Meta(description="`debug.version`.")] = None
    id: Annotated[Expr | None, Meta(description="`debug.id`.")] = None
    ttl: Annotated[Expr | None, Meta(description="`debug.ttl`.")] = None
    nodes: Annotated[ListTemplate, Meta(description="`debug.nodes`.")] = None


class WorkflowsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of a lane that are this handler's own."""

    workflow: Annotated[
        int | Expr,
        Meta(
            description="The workflow to execute: its id, or an expression that gives it; batches are formed per "
            "workflow. One that NP6 does not know holds the lane where the id stands here, and is rejected/not_found "
            "where an expression gave it."
        ),
    ]
    receiver: Annotated[ReceiverConfig, Meta(description="Whom an execution is for.")]
    node: Annotated[Expr | None, Meta(description="The node to start at; null: the workflow's default entry.")] = None
    event: Annotated[ObjectTemplate, Meta(description="Sent as `event`.")] = None
    state: Annotated[ObjectTemplate, Meta(description="Sent as `state`.")] = None
    data: Annotated[ObjectTemplate, Meta(description="Sent as `data`.")] = None
    variables: Annotated[ListTemplate, Meta(description="Sent as `variables`.")] = None
    resolutions: Annotated[tuple[ResolutionConfig, ...] | None, Meta(description="Sent as `resolutions`.")] = None
    debug: Annotated[DebugConfig | None, Meta(description="Sent as `debug`; leave it out in production.")] = None
    deleted: Deleted = "skip"
    in_doubt: Annotated[
        Literal["dead_letter", "repeat"],
        Meta(
            description="What becomes of executions that may or may not have taken effect (a time-out, a reset, a "
            "5xx, a crash after the call): a dead letter in_doubt/interrupted, or the same request again with the "
            "same execution ids, `retry.max_attempts` times.",
            extra={"hurts": "With `repeat` a person can get a message twice, unless NP6 recognises the id."},
        ),
    ] = "dead_letter"

    def __post_init__(self) -> None:
        if isinstance(self.workflow, int) and not INT32_MIN <= self.workflow <= INT32_MAX:
            raise ValueError("workflow is beyond int32")


class WorkflowsHandler:
    """One execution per event, sent in batches per workflow. Implements ``handlers.base.BatchHandler``.

    An event is checked in this order: deleted → skipped/nothing_to_do, unless the lane delivers it; the workflow
    null → invalid/unresolved; the receiver null or empty → invalid/unresolved. Whatever else has no value is left
    out. The execution's id and stamp come from the event's result id, so that a repeat can be recognised.
    """

    name: ClassVar[str] = "np6.workflows"
    platform: ClassVar[str] = "np6"

    def __init__(
        self,
        workflow: int | Expression,
        receiver: Expression,
        fields: Sequence[tuple[str, Expression]] = (),
        *,
        receiver_type: str = TARGET_ID,
        deliver_deleted: bool = False,
    ) -> None:
        """``fields`` are the optional fields of an execution by the platform's names."""
        self._only = str(workflow) if isinstance(workflow, int) else None
        self._chosen = None if isinstance(workflow, int) else workflow
        self._receiver = receiver
        self._receiver_type = receiver_type
        self._fields = list(fields)
        self._usual = usual_executions(receiver_type, receiver, self._fields)
        self._deliver_deleted = deliver_deleted

    def plan(self, event: Event, key: bytes | None) -> Piece | Refusal:
        """The execution for an event, or why there is none. Raises ExpressionError, also for a wrong type."""
        if not self._deliver_deleted and is_deletion(event):
            return DELETED
        workflow = self._only if self._chosen is None else _workflow_id(self._chosen, event, key)
        if isinstance(workflow, Refusal):
            return workflow
        if self._usual is not None and (usual := self._usual.encode(event.data)) is not None:
            receiver, payload = usual
            target = receiver if self._receiver_type == TARGET_ID else None
            return Piece(Operation(EXECUTE, target, workflow), payload)
        receiver = self._receiver(event, key)
        if type(receiver) is not str:
            if receiver is not None:
                raise wrong_value(self._receiver, "receiver.value", "must give a string or null")
            return unresolved(self._receiver, "receiver.value", "gives null")
        if not receiver:
            return unresolved(self._receiver, "receiver.value", "gives an empty string")
        execution: dict[str, Any] = {"receiver": {"type": self._receiver_type, "value": receiver}}
        for name, field in self._fields:
            value = field(event, key)
            if value is not None:
                execution[name] = value
        target = receiver if self._receiver_type == TARGET_ID else None
        return Piece(Operation(EXECUTE, target, workflow), _encoded(execution))

    def batch_of(self, operation: Operation) -> Hashable:
        """A request is for one workflow."""
        return operation.entity

    def batch_request(self, members: Sequence[Member], batch_id: str) -> Request:
        """The executions of the members, in order, each with its deterministic id and stamp."""
        workflow = _workflow_of(members)
        executions, stamps, threads = executions_stamps_and_threads(
            [(one.result_id, one.event.source, one.event.id) for one in members]
        )
        for member, execution in zip(members, executions, strict=True):
            member.name = execution.decode()
        # {"id":"ID","stamp":{"time":1700000000000,"id":"ID","thread":"ID","set":"BATCH"}, and on as it was planned.
        # What differs from one execution to the next is put between what is the same in all, a column at a time.
        behind = f'","set":"{batch_id}"}},'.encode()
        parts = [b',{"id":"', b"", b'","stamp":{', b"", b'"id":"', b"", b'","thread":"', b"", behind, b""] * len(
            members
        )
        parts[0] = b'[{"id":"'
        parts[1::10], parts[5::10], parts[7::10] = executions, stamps, threads
        parts[3::10] = [b'"time":%d,' % one.timestamp_ms if one.timestamp_ms >= 0 else b"" for one in members]
        parts[9::10] = [one.payload[1:] for one in members]
        parts.append(b"]")
        return client.execute_workflow(workflow, b"".join(parts))

    def judge_batch(self, members: Sequence[Member], reply: Reply) -> BatchVerdict:
        """What the answer to :meth:`batch_request` means."""
        ids = [member.name or execution_id(member.result_id) for member in members]
        return judge_executions(reply, ids, only=self._only)


def workflows_handler(options: WorkflowsConfig, compile_: Compile) -> WorkflowsHandler:
    """The handler of a lane; ``compile_`` gets an expression's text and where it stands below the lane."""
    workflow = options.workflow
    return WorkflowsHandler(
        workflow if isinstance(workflow, int) else compile_(workflow, "workflow"),
        compile_(options.receiver.value, "receiver.value"),
        [(name, compile_template(template, name, compile_)) for name, template in _templates(options)],
        receiver_type=options.receiver.type,
        deliver_deleted=options.deleted == "deliver",
    )


def _templates(options: WorkflowsConfig) -> list[tuple[str, Any]]:
    """The optional fields that the lane sends, with what each is made of."""
    resolutions = debug = None
    if options.resolutions is not None:
        resolutions = [{"key": one.key, "value": one.value} for one in options.resolutions]
    if options.debug is not None:
        debug = {name: getattr(options.debug, name) for name in DebugConfig.__struct_fields__}
    fields = {
        "node": options.node,
        "event": options.event,
        "state": options.state,
        "data": options.data,
        "variables": options.variables,
        "resolutions": resolutions,
        "debug": debug,
    }
    return [(name, template) for name, template in fields.items() if template is not None]


def _encoded(execution: dict[str, Any]) -> bytes:
    """An execution as JSON. Raises ExpressionError for what JSON cannot hold; the message holds no value."""
    try:
        return _encode(execution)
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        raise ExpressionError("an expression gives a value that JSON cannot hold") from None


def _workflow_id(chosen: Expression, event: Event, key: bytes | None) -> str | Refusal:
    """The workflow that an expression gives. Raises ExpressionError for what is none."""
    workflow = chosen(event, key)
    if workflow is None:
        return unresolved(chosen, "workflow", "gives null")
    if type(workflow) is not int:  # a bool is none, and neither is 7.0
        raise wrong_value(chosen, "workflow", "must give an int or null")
    if not INT32_MIN <= workflow <= INT32_MAX:
        raise wrong_value(chosen, "workflow", "gives a workflow beyond int32")
    return str(workflow)


def _workflow_of(members: Sequence[Member]) -> int:
    """The one workflow of a batch. Raises ValueError if there are several, or none."""
    workflows = {member.operation.entity for member in members}
    if len(workflows) != 1:
        raise ValueError("not a batch that this handler has formed")
    (workflow,) = workflows
    if workflow is None:
        raise ValueError("not an operation that this handler planned")
    return int(workflow)
