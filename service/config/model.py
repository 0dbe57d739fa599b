"""The configuration as the service uses it: frozen, resolved, numbers with units in their names."""

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Struct

from service.config.accounts import Account
from service.config.faults import Places
from service.config.kafka import Kafka
from service.config.lanes import Lane
from service.config.marks import about
from service.config.secrets import Secret

if TYPE_CHECKING:
    Accounts = dict[str, Account]
else:
    # msgspec looks into the types and wants unions of structs tagged; which one an entry is its platform says, and
    # service.config.loading reads it.
    Accounts = dict[str, Any]


class Results(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is published of each event."""

    topic: Annotated[
        str,
        about("Where results go. Never empty once the configuration is read.", default="<kafka.topic_prefix>.results"),
    ] = ""
    skipped: Annotated[
        bool,
        about(
            "Whether skipped events have results too.",
            hurts="With `false` the audit cannot prove what became of an event without result.",
        ),
    ] = True
    key: Annotated[
        Literal["plain", "hash"],
        about(
            "Whether results have the key of the input record, or a hash of it.",
            hurts="`plain` publishes the key: do not use e-mail addresses as keys then.",
        ),
    ] = "plain"


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged, to standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], about("The least that is logged.")] = "info"
    format: Annotated[Literal["json", "console"], about("One JSON object a line, or for people.")] = "json"


class Tracing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where traces go."""

    otlp_endpoint: Annotated[str | None, about("An OTLP collector.", later=True)] = None


class Http(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Health, metrics and status."""

    listen: Annotated[
        str,
        about(
            "Where `/livez`, `/readyz`, `/metrics` and `/status` are served, `host:port`.",
            hurts="Off loopback anybody who reaches it can read lanes, topics and counts.",
        ),
    ] = "127.0.0.1:8080"


class Configuration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file: a Kafka, accounts, lanes."""

    kafka: Annotated[Kafka, about("The connection to Kafka.")]
    results: Annotated[Results, about("What is published of each event.")] = Results()
    log: Annotated[Log, about("What is logged.")] = Log()
    tracing: Annotated[Tracing, about("Where traces go.")] = Tracing()
    http: Annotated[Http | None, about("Health, metrics and status; absent: not served.")] = None
    console: Annotated[Any, about("The web console; absent: not served.", later=True)] = None
    accounts: Annotated[Accounts, about("Customer accounts on platforms, by name.")]
    lanes: Annotated[
        dict[str, Lane],
        about(
            "The lanes, by name.",
            hurts="The name is the lane's identity: renamed, it is a new lane that begins at its `start`.",
        ),
    ]
    places: Annotated[Places, about("Where each key stands in the file.", given=True)]

    def place(self, path: str) -> str:
        """Where a key stands, for messages at run time: ``fanline.yaml:14:5 lanes.vip-segment.where``."""
        return self.places.describe(path)


def config_fingerprint(lane: Lane) -> str:
    """8 hex digits that tell one resolved configuration of a lane from another, whatever the order of its keys."""
    text = msgspec.json.encode(lane, enc_hook=_encode, order="deterministic")
    return hashlib.sha256(text).hexdigest()[:8]


def _encode(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.source
    raise TypeError(f"{type(value).__name__} has no place in a configuration")
