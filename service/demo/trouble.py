"""What ``--faults`` does to the platform: a bit of everything that platforms do, and an outage."""

import time

from handlers.sandbox import Fault, Faults, Match, Mode, Outage, Prescription, SandboxServer, Step
from handlers.sandbox.faults import FaultSource
from handlers.sandbox.platform import Subject

OUTAGE_S = 12.0

_RATES = {
    Fault.SERVER_ERROR: 0.012,
    Fault.BAD_GATEWAY: 0.004,
    Fault.RESET_BEFORE: 0.004,
    Fault.RESET_AFTER: 0.004,
    Fault.GARBAGE: 0.004,
    Fault.SLOW: 0.01,
}
_SLOW_S = 0.8
_BY_CHANCE = ("join", "leave", "get", "executions")
# The calls of an account after which it asks for patience.
_PATIENCE_AFTER = (400, 1_600)
_PATIENCE = {"Retry-After": "1", "X-RateLimit-Limit": "500", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}


# The request of executions that is carried out, and whose answer is lost.
_LOST_ANSWER_AFTER = 4


class _ByChance(FaultSource):
    """Leaves imports alone: they make so few calls that what goes wrong with them is prescribed."""

    def draw(self, account: str, subject: Subject) -> tuple[Fault, Step] | None:
        return super().draw(account, subject) if subject.kind in _BY_CHANCE else None


def add_faults(server: SandboxServer, accounts: list[str]) -> None:
    """Errors, resets and slow answers by chance; a 429 with the vendor's headers and a 503 that each ask for
    patience; a request of executions that takes effect and is not answered."""
    server.faults = _ByChance(Faults(seed=1, rates=_RATES, slow_s=_SLOW_S))
    for account in accounts:
        server.prescriptions.add(
            [
                Prescription([Step(status=status, headers=_PATIENCE)], Match(account=account), skip=after)
                for status, after in zip((429, 503), _PATIENCE_AFTER, strict=True)
            ]
        )
    lost = Match(account=accounts[0], kind="executions")
    server.prescriptions.add([Prescription([Step(reset="after")], lost, skip=_LOST_ANSWER_AFTER)])


def add_import_faults(server: SandboxServer, apsis: str, copernica: str, redlist: str) -> None:
    """What goes wrong with imports: too many asked for, an upload that breaks off, answers that are lost behind what
    they tell of. ``redlist`` is NP6's account."""
    for account, kind, step in (
        (apsis, "create", Step(status=429, headers={"Retry-After": "1"})),
        (apsis, "upload", Step(reset="before")),
        (apsis, "upload", Step(reset="after")),
        (apsis, "status", Step(status=502)),
        (copernica, "create", Step(reset="after")),
        (redlist, "execute_import", Step(reset="after")),
    ):
        server.prescriptions.add([Prescription([step], Match(account=account, kind=kind))])


def begin_outage(server: SandboxServer, account: str) -> None:
    """From now on, for a few seconds, the account answers nothing but 500."""
    outage = Outage(Mode.UNAVAILABLE, account=account, for_s=OUTAGE_S, status=500)
    server.outages.set(outage, time.monotonic())
