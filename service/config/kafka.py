"""``kafka`` of the configuration: where the brokers are, how we prove who we are, how long things may take."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from service.config.marks import Duration, File, NameOrEnv, Username, about
from service.config.secrets import Secret


class Security(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How connections to Kafka are encrypted and authenticated."""

    protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        about(
            "Encryption and authentication of the connections.",
            hurts="PLAINTEXT and SASL_PLAINTEXT send events, and SASL_PLAINTEXT with PLAIN the password, "
            "readable by whoever can listen.",
        ),
    ] = "PLAINTEXT"
    mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None,
        about("How a SASL protocol authenticates; required with SASL_PLAINTEXT and SASL_SSL."),
    ] = None
    username: Annotated[Username | None, about("With PLAIN and SCRAM.")] = None
    password: Annotated[Secret | None, about("With PLAIN and SCRAM.")] = None
    token_url: Annotated[str | None, about("With OAUTHBEARER: where tokens are asked for; https.")] = None
    client_id: Annotated[Username | None, about("With OAUTHBEARER.")] = None
    client_secret: Annotated[Secret | None, about("With OAUTHBEARER.")] = None
    ca_file: Annotated[
        File | None, about("Certificates that the brokers' are checked against; null: the system's.")
    ] = None
    cert_file: Annotated[File | None, about("Our own certificate, for mutual TLS.")] = None
    key_file: Annotated[File | None, about("The private key of `cert_file`.")] = None


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=lambda name: name[:-2]):
    """How long `topics ensure` lets topics keep their records."""

    results_s: Annotated[Duration, Meta(ge=60), about("The results topic.")] = 30 * 86_400.0
    dead_letters_s: Annotated[
        Duration,
        Meta(ge=60),
        about(
            "The dead-letter topics.",
            hurts="What is older can no longer be replayed; the events are lost for the platform.",
        ),
    ] = 30 * 86_400.0
    replay_s: Annotated[
        Duration,
        Meta(ge=60),
        about("The replay topics.", hurts="A replay that waits longer than this, say behind a hold, is lost."),
    ] = 7 * 86_400.0


class Topics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `topics ensure` makes."""

    replication: Annotated[
        int,
        Meta(ge=1, le=100),
        about("Replicas of each of our topics.", hurts="Below 3 a broken disk can take results with it."),
    ] = 3
    results_partitions: Annotated[
        int,
        Meta(ge=1, le=10_000),
        about("Partitions of the results topic.", hurts="A later change moves keys to other partitions."),
    ] = 12
    retention: Annotated[Retention, about("How long records are kept.")] = Retention()


class Kafka(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={
        "session_timeout_s": "session_timeout",
        "rebalance_timeout_s": "rebalance_timeout",
        "transaction_timeout_s": "transaction_timeout",
    },
):
    """The connection to Kafka and the names under which we appear there."""

    bootstrap_servers: Annotated[tuple[str, ...], Meta(min_length=1), about("Brokers to ask first, each `host:port`.")]
    delivery: Annotated[
        Literal["exactly_once", "at_least_once"],
        about(
            "`exactly_once`: results, dead letters and offsets are committed in one transaction. `at_least_once` "
            "is for brokers without transactions.",
            hurts="With `at_least_once` a result may appear twice with the same id, and journal writes are not fenced.",
        ),
    ] = "exactly_once"
    security: Annotated[Security, about("Encryption and authentication.")] = Security()
    topic_prefix: Annotated[
        str,
        about(
            "Begins the names of our topics and consumer groups.",
            hurts="A change is a new service: it reads the source topics from their `start` again.",
        ),
    ] = "fanline"
    client_id: Annotated[
        str, Meta(min_length=1, max_length=200), about("Our name in the brokers' logs and quotas.")
    ] = "fanline"
    instance_id: Annotated[
        NameOrEnv | None,
        about(
            "Static membership: a name for this process that outlives a restart (a StatefulSet's pod name, for "
            "instance by `{env: POD_NAME}`). A restart within the session timeout then moves no partition.",
            hurts="Two processes with one name throw each other out. A process that is gone for good keeps its "
            "partitions until the session timeout.",
        ),
    ] = None
    session_timeout_s: Annotated[
        Duration,
        Meta(ge=1, le=1_800),
        about(
            "A process that is silent for this long loses its partitions.",
            hurts="Short: pauses become rebalances. Long: the events of a dead process wait this long.",
        ),
    ] = 30.0
    rebalance_timeout_s: Annotated[
        Duration,
        Meta(ge=1, le=3_600),
        about("How long members may take to give up partitions. The drain must be shorter than half of it."),
    ] = 60.0
    transaction_timeout_s: Annotated[
        Duration,
        Meta(ge=0.1, le=900),
        about(
            "The broker aborts a settling transaction that is open for longer.",
            hurts="Readers of our topics wait this long for a process that died within a transaction.",
        ),
    ] = 15.0
    topics: Annotated[Topics, about("What `topics ensure` makes.")] = Topics()
