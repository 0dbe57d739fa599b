"""``lanes`` of the configuration: the keys common to all handlers, and which handlers there are."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from handlers.expressions import Condition
from service.config.marks import Duration, Fraction, Size, about


class HandlerKind(Struct, frozen=True):
    """A handler as the configuration knows it."""

    name: str  # e.g. "np6.segments"
    platform: str  # e.g. "np6"
    config: type[Struct]  # a frozen Struct of the handler's own keys
    defaults: Mapping[str, Any] = {}  # of common keys that this handler gives another one, by the model's names


Kinds = Mapping[str, HandlerKind]


def kinds_of(handlers: Sequence[HandlerKind]) -> Kinds:
    """The handlers by name. Raises ValueError if one of them claims a key that is common to all."""
    common = set(LaneSettings.__struct_encode_fields__)
    for kind in handlers:
        if taken := common & set(kind.config.__struct_encode_fields__):
            raise ValueError(f"{kind.name} claims keys that are common to all handlers: {sorted(taken)}")
        if unknown := kind.defaults.keys() - set(LaneSettings.__struct_fields__):
            raise ValueError(f"{kind.name} has defaults of keys that are not common: {sorted(unknown)}")
    return {kind.name: kind for kind in handlers}


class Batch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"linger_s": "linger"}):
    """When a batch is closed: at the first of three bounds."""

    max_events: Annotated[int, Meta(ge=1, le=100_000), about("Events in a batch.")] = 500
    max_bytes: Annotated[Size, Meta(ge=1), about("Bytes of records in a batch.")] = 1024 * 1024
    linger_s: Annotated[
        Duration,
        Meta(ge=0, le=3_600),
        about(
            "Time since the first record in the batch.",
            hurts="Every event of a quiet topic waits this long.",
        ),
    ] = 0.2


class Retry(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"first_delay_s": "first_delay", "max_delay_s": "max_delay"},
):
    """When an operation is tried again: exponential delays with full jitter."""

    first_delay_s: Annotated[Duration, Meta(gt=0, le=3_600), about("Bound of the first delay.")] = 0.5
    max_delay_s: Annotated[Duration, Meta(gt=0, le=3_600), about("Bound of all delays.")] = 60.0
    max_attempts: Annotated[
        int,
        Meta(ge=1, le=1_000),
        about(
            "Attempts of one operation that fail while other requests of the account succeed; then the event is "
            "rejected/exhausted.",
            hurts="Few: a short disturbance makes dead letters. Many: later events of the key wait.",
        ),
    ] = 10


class Guard(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the platform refuses so many operations that the configuration is more likely wrong than the items."""

    dead_letters: Annotated[Fraction, Meta(gt=0), about("The share that holds the lane.")] = 0.2
    of_last: Annotated[int, Meta(ge=50, le=100_000), about("Operations looked back on; judged once 50 have ended.")] = (
        200
    )


class Start(Struct, frozen=True):
    """Where a topic begins that was never read."""

    policy: Literal["earliest", "latest", "time"] = "earliest"
    time_ms: int | None = None  # since 1970 UTC; with "time" alone


class LaneSettings(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"deadline_s": "deadline", "buffer_bytes": "buffer", "dedupe_s": "dedupe"},
):
    """The keys of a lane that are common to all handlers."""

    handler: Annotated[str, about("The kind of delivery, e.g. `np6.segments`.")]
    account: Annotated[str, about("A name under `accounts`, on the handler's platform.")]
    topics: Annotated[tuple[str, ...], Meta(min_length=1, max_length=100), about("The source topics.")]
    where: Annotated[
        Condition,
        about(
            "Which events the lane delivers; the others are skipped/where. A missing field makes it false.",
            hurts="A `where` that is false by mistake skips events, and a skip is no dead letter.",
        ),
    ] = "true"
    batch: Annotated[Batch, about("When a batch is closed.")] = Batch()
    concurrency: Annotated[int, Meta(ge=1, le=10_000), about("Requests in flight of this lane.")] = 32
    retry: Annotated[Retry, about("When an operation is tried again.")] = Retry()
    deadline_s: Annotated[
        Annotated[Duration, Meta(gt=0)] | None,
        about(
            "An event older than this is expired instead of delivered; null: never. Time in which the lane was "
            "paused or held for credentials, configuration, guard or lost records does not count.",
            hurts="After an outage longer than this, everything becomes a dead letter.",
        ),
    ] = None
    deadline_from: Annotated[
        Literal["record", "time"],
        about(
            "Whether age counts from the record's timestamp or from the event's own `time`.",
            hurts="With `time` a publisher's wrong clock makes dead letters.",
        ),
    ] = "record"
    buffer_bytes: Annotated[
        Size,
        Meta(ge=1),
        about("Bytes of records that the lane holds, in flight included; full means that intake pauses."),
    ] = 128 * 1024 * 1024
    on_dead: Annotated[
        Literal["continue", "hold"],
        about(
            "Whether later events of a contact go on behind its dead letter.",
            hurts="With `continue` a replay comes after newer events of the contact.",
            later=["hold"],
        ),
    ] = "continue"
    guard: Annotated[
        Guard | None,
        about(
            "Holds the lane when too many operations end not_found, refused or unconfirmed, until `lanes resume`.",
            hurts="Off: a wrong segment id turns a whole backlog into dead letters.",
            off=True,
        ),
    ] = Guard()
    dedupe_s: Annotated[
        Annotated[Duration, Meta(gt=0)] | None,
        about(
            "An event whose source and id an earlier record of the same topic partition had, record timestamps at most "
            "this far apart, is skipped/duplicate, whatever became of the earlier; replays are exempt.",
            hurts="An event that was corrected and published again with its old id is skipped. The window takes memory "
            "and is read back at each start.",
            off=True,
        ),
    ] = None
    start: Annotated[
        Start,
        about(
            "Where a topic of the lane begins that was never read: `earliest`, `latest`, or a time such as "
            "`2026-01-31T00:00:00Z`.",
            hurts="`latest` skips, without results, what lies in the topic before the first start.",
            form="start",
        ),
    ] = Start()
    on_gap: Annotated[
        Literal["hold", "continue"],
        about(
            "What happens when retention removed records that were not yet read.",
            hurts="`continue` passes lost events by; only a metric and the audit tell.",
        ),
    ] = "hold"
    other_types: Annotated[
        Literal["invalid", "skip"],
        about("What a well-formed event of a type that we do not know becomes: a dead letter or skipped/other_type."),
    ] = "invalid"
    dry_run: Annotated[
        bool,
        about(
            "Plans, batches and reports, calls nothing.",
            hurts="Offsets are committed: what a dry run reported as delivered is not delivered later.",
        ),
    ] = False
    weight: Annotated[
        float, Meta(gt=0, le=1_000), about("Share of the account's limits, beside the account's other lanes.")
    ] = 1.0


class Lane(LaneSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A lane: the common keys, and the handler's own as ``options``."""

    name: Annotated[str, about("The key of the entry.", given=True)]
    options: Annotated[Any, about("The handler's own keys, a struct of its `config` type.", given=True)]
