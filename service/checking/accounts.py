"""Whether each account lets us in: one reading call for something that does not exist."""

from collections.abc import Mapping

from handlers.base import Answer, Failure, FailureKind, Platform, Reply
from service.config import Account, Configuration
from service.findings import Finding, Severity
from service.transport.http import HttpTransport
from service.transport.reaching import policy_of, tls_of

_MISDIRECTED = frozenset({405, 410, 411, 415})


async def check_accounts(config: Configuration, platforms: Mapping[str, Platform]) -> list[Finding]:
    """A finding for each account. Raises SecretError, StartError."""
    return [await _check(account, platforms[account.platform]) for account in config.accounts.values()]


async def _check(account: Account, platform: Platform) -> Finding:
    try:
        credentials = platform.credentials(account.api_key.read())
    except ValueError as error:
        return Finding(Severity.ERROR, f"account {account.name}", str(error), f"see accounts.{account.name}.api_key")
    async with HttpTransport(policy_of(account, max_connections=1), tls_of(account)) as transport:
        return judge(account, await transport.send(platform.probe(), credentials))


def judge(account: Account, reply: Reply) -> Finding:
    """What the reply to the probe says of the account."""
    subject, place = f"account {account.name}", f"accounts.{account.name}"
    if isinstance(reply, Failure):
        return Finding(Severity.ERROR, subject, f"{account.base_url}: {reply.detail}", _remedy(reply, place))
    severity, problem, remedy = _of_answer(reply, place)
    return Finding(severity, subject, problem, remedy)


def _of_answer(reply: Answer, place: str) -> tuple[Severity, str, str | None]:
    status = reply.status
    match status:
        case 401:
            return Severity.ERROR, "the platform refuses the key (401)", f"see {place}.api_key"
        case 403:
            remedy = "ask the platform for the right to read and change segments"
            return Severity.ERROR, "the key may not read the segments of a target (403)", remedy
        case 429 | 503:
            remedy = "the key could not be proven; try again later"
            return Severity.WARNING, f"the platform asks for patience ({status})", remedy
        case 404:
            return Severity.FINE, "reached, and the key was accepted (404 for a target that does not exist)", None
        case _ if 200 <= status < 300:
            return Severity.FINE, f"reached, and the key was accepted ({status})", None
        case _ if 300 <= status < 400 or status in _MISDIRECTED:
            return Severity.ERROR, f"this is not where the platform's API is ({status})", f"see {place}.base_url"
        case _ if status >= 500:
            remedy = "its lanes would hold and go on once it is back"
            return Severity.WARNING, f"the platform fails ({status})", remedy
        case _:
            problem = f"reached, but the answer to the trial call is unusual ({status})"
            return Severity.WARNING, problem, f"see {place}.base_url"


def _remedy(failure: Failure, place: str) -> str:
    if failure.kind is FailureKind.BAD_CERTIFICATE:
        return f"{place}.ca_file must hold the authority that signed the platform's certificate"
    if failure.kind is FailureKind.NOT_SENT:
        return f"see {place}.base_url and proxy; does a firewall let us out?"
    return f"is {place}.base_url the platform's API? See also timeouts"
