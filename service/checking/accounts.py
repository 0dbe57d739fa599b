"""Whether each account lets us in: one reading call for something that does not exist."""

from collections.abc import Mapping

from handlers.base import Answer, Failure, FailureKind, Reply
from handlers.platforms import Platform
from service.clock import SystemClock
from service.config import Account, Configuration
from service.config.secrets import SecretError
from service.findings import Finding, Severity
from service.transport.access import access_to, send_once, version_of
from service.transport.http import HttpTransport
from service.transport.reaching import policy_of, tls_of
from service.transport.tokens import NoTokenError, TokenRefusedError

_MISDIRECTED = frozenset({405, 410, 411, 415})


async def check_accounts(config: Configuration, platforms: Mapping[str, Platform]) -> list[Finding]:
    """A finding for each account. Raises SecretError, StartError."""
    return [await _check(account, platforms[account.platform]) for account in config.accounts.values()]


async def _check(account: Account, platform: Platform) -> Finding:
    access = access_to(account, platform, clock=SystemClock(), keep_secret=lambda _: None)
    try:
        async with HttpTransport(policy_of(account, max_connections=1), tls_of(account)) as transport:
            reply = await send_once(transport, access, platform.probe(version_of(account)))
    except (SecretError, TokenRefusedError) as error:
        keys = " and ".join(f"accounts.{account.name}.{key}" for key in platform.secrets)
        return Finding(Severity.ERROR, f"account {account.name}", str(error), f"see {keys}")
    except NoTokenError as error:
        return Finding(Severity.WARNING, f"account {account.name}", str(error), "try again later")
    return judge(account, platform, reply)


def judge(account: Account, platform: Platform, reply: Reply) -> Finding:
    """What the reply to the probe says of the account."""
    subject, place = f"account {account.name}", f"accounts.{account.name}"
    if isinstance(reply, Failure):
        return Finding(Severity.ERROR, subject, f"{account.base_url}: {reply.detail}", _remedy(reply, place))
    severity, problem, remedy = _of_answer(reply, platform, place)
    return Finding(severity, subject, problem, remedy)


def _of_answer(reply: Answer, platform: Platform, place: str) -> tuple[Severity, str, str | None]:
    status = reply.status
    match status:
        case _ if platform.refuses(reply):
            keys = " and ".join(f"{place}.{key}" for key in platform.secrets)
            return Severity.ERROR, f"the platform refuses our credentials ({status})", f"see {keys}"
        case 403:
            remedy = f"ask the platform for the right to {platform.rights}"
            return Severity.ERROR, "the account may not make the trial call (403)", remedy
        case 429 | 503:
            remedy = "the credentials could not be proven; try again later"
            return Severity.WARNING, f"the platform asks for patience ({status})", remedy
        case 404 | platform.unknown:
            told = f"reached, and our credentials were accepted ({status}: there is no such thing)"
            return Severity.FINE, told, None
        case _ if 200 <= status < 300:
            return Severity.FINE, f"reached, and our credentials were accepted ({status})", None
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
