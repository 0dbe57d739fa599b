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


Name = Annotated[str, about("The key of the entry.", given=True)]
CaFile = Annotated[File | None, about("Certificates that the platform's is checked against; null: the system's.")]
Proxy = Annotated[
    str | None, about("An HTTP proxy for the account's requests, e.g. `http://proxy:3128`; without credentials.")
]
OrphanLife = Annotated[
    Duration,
    Meta(gt=0),
    about(
        "For so long an import whose create got no answer counts as open.",
        hurts="Shorter than the platform keeps it: more imports are open than the platform allows.",
    ),
]


def _base_url(example: str) -> Meta:
    return about(
        f"Where the platform's API is, e.g. `{example}`. https, except on loopback; without credentials, query and "
        "fragment."
    )


class Np6Account(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A customer account of NP6."""

    name: Name
    platform: Annotated[Literal["np6"], about("Which platform the account is on.")]
    base_url: Annotated[str, _base_url("https://api-cm.np6.com")]
    api_key: Annotated[Secret, about("The key sent as `X-Key`.")]
    limits: Annotated[Limits, about("What we ask of the platform at most.")] = Limits()
    timeouts: Annotated[Timeouts, about("How long a request may take.")] = Timeouts()
    ca_file: CaFile = None
    proxy: Proxy = None


class ApsisLimits(
    Limits, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"orphan_life_s": "orphan_life"}
):
    """What we ask of Apsis One at most; shared by the account's lanes."""

    max_open_imports: Annotated[
        int, Meta(ge=1, le=100), about("Imports of all processes together that are open at the same time.")
    ] = 3
    orphan_life_s: OrphanLife = 3_600.0


class ApsisAccount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A customer account of Apsis One."""

    name: Name
    platform: Annotated[Literal["apsis"], about("Which platform the account is on.")]
    base_url: Annotated[str, _base_url("https://api.apsis.one")]
    client_id: Annotated[Secret, about("Names our client where tokens are given.")]
    client_secret: Annotated[Secret, about("Proves that it is us.")]
    upload_hosts: Annotated[
        tuple[str, ...],
        Meta(min_length=1, max_length=20),
        about(
            "Hosts that files may be uploaded to: exact, or `*.suffix`; port 443 unless written behind a colon.",
            hurts="Whoever is let in here gets the contacts' data.",
        ),
    ]
    limits: Annotated[ApsisLimits, about("What we ask of the platform at most.")] = ApsisLimits()
    timeouts: Annotated[Timeouts, about("How long a request may take.")] = Timeouts()
    ca_file: CaFile = None
    proxy: Proxy = None


class CopernicaLimits(
    Limits, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"orphan_life_s": "orphan_life"}
):
    """What we ask of Copernica at most; shared by the account's lanes."""

    max_open_imports: Annotated[
        int, Meta(ge=1, le=100), about("Imports of all processes together that are open at the same time.")
    ] = 4
    orphan_life_s: OrphanLife = 3_600.0


class CopernicaAccount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A customer account of Copernica."""

    name: Name
    platform: Annotated[Literal["copernica"], about("Which platform the account is on.")]
    base_url: Annotated[str, _base_url("https://api.copernica.com")]
    access_token: Annotated[Secret, about("The account's access token; with version 4 it is exchanged for another.")]
    api_version: Annotated[
        Literal[3, 4],
        about(
            "Version of the API.",
            hurts="With 3 the token stands in the address of each request, and so in the logs of proxies between us.",
        ),
    ] = 4
    token_url: Annotated[
        str, about("Where version 4 exchanges the access token. https, except where `base_url` is on loopback.")
    ] = "https://authenticate.copernica.com"
    i_know: Annotated[bool, about("Needed for `api_version: 3`.")] = False
    limits: Annotated[CopernicaLimits, about("What we ask of the platform at most.")] = CopernicaLimits()
    timeouts: Annotated[Timeouts, about("How long a request may take.")] = Timeouts()
    ca_file: CaFile = None
    proxy: Proxy = None


# Each platform that exists in this version.
Account = Np6Account | ApsisAccount | CopernicaAccount
ACCOUNT_TYPES: dict[str, type[Account]] = {
    "np6": Np6Account,
    "apsis": ApsisAccount,
    "copernica": CopernicaAccount,
}
