"""The account that a command calls by hand, and what is said of its answers."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, assert_never

import typer
from msgspec import Struct

from contracts.masking import mask_detail
from handlers.base import Answer, Failure, FailureKind, Reply, Request
from handlers.platforms import Platform
from handlers.statuses import Row, request_id, row_of
from service.app import KINDS, PLATFORMS
from service.cli.failures import CommandError, ExitCode
from service.clock import SystemClock
from service.config import Account, Configuration, load
from service.delivery.retry import retry_after_s
from service.transport.access import Access, access_to, secrets_of, send_once
from service.transport.http import HttpTransport
from service.transport.reaching import policy_of, tls_of
from service.transport.tokens import NoTokenError, TokenRefusedError

# What is shown to a person may be longer than what a lane reads: a whole workflow.
_MAX_BODY_BYTES = 16 * 1024 * 1024

AccountOption = Annotated[
    str | None,
    typer.Option(
        "--account",
        "-a",
        metavar="NAME",
        help="The account to call. May be left out where the file has one of the platform.",
        show_default=False,
    ),
]


class Called(Struct, frozen=True):
    """An account of the configuration, and how calls to it prove who makes them."""

    config: Configuration
    account: Account
    platform: Platform
    access: Access
    secrets: list[str]  # all that have been read so far

    @property
    def name(self) -> str:
        """The account's name in the configuration."""
        return self.account.name

    async def ask(self, request: Request) -> Reply:
        """Send once, and not again but with a new token where the old one had ended. Raises CommandError."""
        policy = policy_of(self.account, max_connections=1, max_body_bytes=_MAX_BODY_BYTES)
        async with HttpTransport(policy, tls_of(self.account)) as transport:
            try:
                return await send_once(transport, self.access, request)
            except (NoTokenError, TokenRefusedError) as error:
                raise CommandError(str(error)) from None

    def trouble(self, reply: Reply, *, advise: bool = True) -> str:
        """Why a reply is no success, with the platform's own words, masked, and (``advise``) what to do."""
        place = f"accounts.{self.name}"
        if isinstance(reply, Failure):
            problem = f"{self.account.base_url}: {reply.detail}"
            remedy: str | None = _remedy(reply, place)
        else:
            problem, remedy = _problem(reply, place, self.platform)
            if said := self.words(reply):
                problem += f": {said}"
            if named := request_id(reply):
                problem += f" (the platform calls the request {named})"
        return f"account {self.name}: {problem}{f'; {remedy}' if advise and remedy else ''}"

    def words(self, answer: Answer) -> str | None:
        """The platform's own words in an error, masked; None if there are none in a known field."""
        text = self.platform.text(answer.body)
        return None if text is None else self.masked(text)

    def masked(self, text: str) -> str:
        """Text of the platform's as it may be shown."""
        return printable(mask_detail(text, self.secrets))


def called(config: Path, account: str | None, platform: str) -> Called:
    """The account that the options name, of a platform. Raises ConfigurationError, SecretError, CommandError."""
    configuration = load(config, KINDS)
    known = PLATFORMS[platform]
    chosen = _chosen(configuration, account, known)
    for secret in secrets_of(chosen, known).values():
        secret.read()  # told before anything is asked or sent
    secrets: list[str] = []
    access = access_to(chosen, known, clock=SystemClock(), keep_secret=secrets.append)
    return Called(configuration, chosen, known, access, secrets)


def printable(text: str) -> str:
    """Foreign text on one line, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def is_success(reply: Reply) -> bool:
    """Whether the platform did what it was asked for."""
    return isinstance(reply, Answer) and row_of(reply.status) is Row.DONE


def _chosen(configuration: Configuration, name: str | None, platform: Platform) -> Account:
    ours = {key: account for key, account in configuration.accounts.items() if account.platform == platform.name}
    if name is not None:
        if name in ours:
            return ours[name]
        other = f"is not of {platform.title}" if name in configuration.accounts else "is not in the file"
        problem = f"--account {name}: {other}; of {platform.title} it has: {_names(ours)}"
        raise CommandError(problem, ExitCode.USAGE)
    if len(ours) == 1:
        return next(iter(ours.values()))
    if not ours:
        raise CommandError(f"the file has no account of {platform.title}", ExitCode.USAGE)
    raise CommandError(f"say which account, with --account; the file has: {_names(ours)}", ExitCode.USAGE)


def _names(accounts: Mapping[str, Account]) -> str:
    return ", ".join(sorted(accounts)) or "none"


def _remedy(failure: Failure, place: str) -> str:
    match failure.kind:
        case FailureKind.BAD_CERTIFICATE:
            return f"{place}.ca_file must hold the authority that signed the platform's certificate"
        case FailureKind.NOT_SENT:
            return f"see {place}.base_url and proxy; does a firewall let us out?"
        case FailureKind.TIMED_OUT:
            return f"see {place}.timeouts, or try again later"
        case FailureKind.RESET:
            return "try again later"
        case _:
            assert_never(failure.kind)


def _problem(answer: Answer, place: str, platform: Platform) -> tuple[str, str | None]:
    """What is the case, and what to do."""
    status = answer.status
    match row_of(status):
        case _ if platform.refuses(answer):
            keys = " and ".join(f"{place}.{key}" for key in platform.secrets)
            return f"the platform refuses our credentials ({status})", f"see {keys}"
        case Row.FORBIDDEN:
            return f"the account may not do this ({status})", "ask the platform for the right"
        case Row.THROTTLED:
            return f"the platform asks for patience ({status})", f"try again {_later(answer)}"
        case Row.MISDIRECTED:
            return f"this is not where the platform's API is ({status})", f"see {place}.base_url"
        case Row.BROKEN:
            return f"the platform fails ({status})", "try again later"
        case Row.NOT_FOUND | Row.GONE:
            return f"the platform does not know it ({status})", None
        case _:
            return f"the platform refused ({status})", None


def _later(answer: Answer) -> str:
    wait_s = retry_after_s(answer.headers, time.time())
    return "later" if not wait_s else f"in {wait_s:.0f} s"
