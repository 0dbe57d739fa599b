"""``accounts`` of the configuration: one entry per customer account on a platform."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from service.config.marks import Duration, File, about
from service.config.secrets import Secret


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What we ask of the platform at most; shared by the account's lanes."""

    max_in_flight: Annotated[
        int,
        Meta(ge=1, le=10_000),
        about("Requests of all processes together that run at the same time, at least one of each."),
    ] = 32
    requests_per_second: Annotated[
        Annotated[float, Meta(ge=0.1, le=100_000)] | None,
        about(
            "Requests a second of all processes together; null: only the platform's own headers set the pace.",
            hurts="null lets a backlog go out as fast as the platform answers.",
        ),
    ] = 50.0
    adaptive: Annotated[
        bool, about("Whether the requests in flight are reduced while the platform slows down or refuses.")
    ] = True


class Timeouts(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"connect_s": "connect", "total_s": "total"},
):
    """How long a request may take."""

    connect_s: Annotated[Duration, Meta(gt=0), about("To a connection, TLS included.")] = 5.0
    total_s: Annotated[
        Duration,
        Meta(gt=0),
        about(
            "From the start of a request to the end of its answer. 10s more than this must fit into the drain.",
            hurts="Too short: calls that took effect look failed and are repeated.",
        ),
    ] = 12.0


class Np6Account(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A customer account of NP6."""

    name: Annotated[str, about("The key of the entry.", given=True)]
    platform: Annotated[Literal["np6"], about("Which platform the account is on.")]
    base_url: Annotated[
        str,
        about(
            "Where the platform's API is, e.g. `https://api-cm.np6.com`. https, except on loopback; without "
            "credentials, query and fragment."
        ),
    ]
    api_key: Annotated[Secret, about("The key sent as `X-Key`.")]
    limits: Annotated[Limits, about("What we ask of the platform at most.")] = Limits()
    timeouts: Annotated[Timeouts, about("How long a request may take.")] = Timeouts()
    ca_file: Annotated[
        File | None, about("Certificates that the platform's is checked against; null: the system's.")
    ] = None
    proxy: Annotated[
        str | None,
        about("An HTTP proxy for the account's requests, e.g. `http://proxy:3128`; without credentials."),
    ] = None


# Each platform that exists in this version. Other platforms join the union and this table.
Account = Np6Account
ACCOUNT_TYPES: dict[str, type[Np6Account]] = {"np6": Np6Account}
