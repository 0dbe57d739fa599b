"""Whether what lanes name is there at their platforms: sections, keyspaces, topics, attributes, imports."""

from collections.abc import AsyncIterator, Mapping, Sequence

from handlers.base import Answer, Failure, Reply
from handlers.looks import Look, Looks
from handlers.platforms import Platform
from service.clock import SystemClock
from service.config import Account, Configuration
from service.config.secrets import SecretError
from service.findings import Finding, Severity
from service.transport.access import access_to, send_once
from service.transport.account import is_success
from service.transport.http import HttpTransport
from service.transport.reaching import policy_of, tls_of
from service.transport.tokens import NoTokenError, TokenRefusedError

_NOT_FOUND = (404, 410)


async def check_lanes(
    config: Configuration, platforms: Mapping[str, Platform], handlers: Mapping[str, object]
) -> list[Finding]:
    """Findings of the lanes whose platforms can be asked; ``handlers`` by lane. Raises StartError."""
    findings: list[Finding] = []
    for account in config.accounts.values():
        looks = {
            name: handler.looks()
            for name, handler in handlers.items()
            if config.lanes[name].account == account.name and isinstance(handler, Looks)
        }
        if looks:
            findings += [one async for one in _looked(account, platforms[account.platform], looks)]
    return findings


async def _looked(account: Account, platform: Platform, looks: Mapping[str, Sequence[Look]]) -> AsyncIterator[Finding]:
    """What the lanes of one account find. Credentials that are refused are told of with the account."""
    access = access_to(account, platform, clock=SystemClock(), keep_secret=lambda _: None)
    async with HttpTransport(policy_of(account, max_connections=1), tls_of(account)) as transport:
        for lane, wanted in looks.items():
            found: list[Finding] = []
            for look in wanted:
                try:
                    reply = await send_once(transport, access, look.request)
                except (SecretError, TokenRefusedError, NoTokenError):
                    found.append(_unread(lane, look, "no credentials"))
                    break
                found += judged(lane, look, reply)
            for finding in found or [Finding(Severity.FINE, f"lane {lane}", _fine(wanted))]:
                yield finding


def judged(lane: str, look: Look, reply: Reply) -> list[Finding]:
    """PURE: what the reply to one look says of a lane."""
    if isinstance(reply, Failure):
        return [_unread(lane, look, reply.detail)]
    if reply.status in _NOT_FOUND:
        problem = f"the platform does not know {look.what} ({reply.status})"
        return [Finding(Severity.ERROR, f"lane {lane}", problem, f"see lanes.{lane}.{look.key}")]
    faults = look.judge(reply) if is_success(reply) else None
    if faults is None:
        return [_unread(lane, look, _why(reply))]
    return [
        Finding(
            Severity.ERROR,
            f"lane {lane}",
            f"lanes.{lane}.{fault.key}: {fault.problem}",
            fault.remedy or f"see lanes.{lane}.{fault.key}",
        )
        for fault in faults
    ]


def _why(answer: Answer) -> str:
    return f"unreadable ({answer.status})" if is_success(answer) else str(answer.status)


def _unread(lane: str, look: Look, why: str) -> Finding:
    problem = f"{look.what} could not be looked at: {why}"
    return Finding(
        Severity.WARNING, f"lane {lane}", problem, "what the lane names there is not proven; try again later"
    )


def _fine(looks: Sequence[Look]) -> str:
    return f"what it names is there: {', '.join(look.what for look in looks)}"
