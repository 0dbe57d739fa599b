"""What a look at the surroundings found: Kafka, its topics, the platforms. Never holds a secret."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from enum import StrEnum

from msgspec import Struct


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"  # a lane would not start, would stop, or a guarantee would not hold
    WARNING = "warning"  # works, with a risk that somebody should know
    NOTE = "note"  # how things are, where that is worth a sentence
    FINE = "fine"  # was looked at and is as it should be


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    severity: Severity
    subject: str  # what it is about, e.g. "topic fanline.results", "account np6-main"
    problem: str  # what is the case
    remedy: str | None = None  # what to do

    def __str__(self) -> str:
        text = f"{self.subject}: {self.problem}"
        return f"{text}; {self.remedy}" if self.remedy else text


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """In the order of severity; those of one severity stay in theirs."""
    order = list(Severity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """For people: findings of equal words about several subjects as one."""
    alike: dict[tuple[Severity, str, str | None], list[str]] = defaultdict(list)
    for finding in findings:
        alike[finding.severity, finding.problem, finding.remedy].append(finding.subject)
    return [
        Finding(severity, _joined(subjects), problem, remedy) for (severity, problem, remedy), subjects in alike.items()
    ]


def _joined(subjects: Sequence[str]) -> str:
    """``topic a``, ``topic b`` as ``topics a, b``; of different kinds one after the other."""
    kind = subjects[0].partition(" ")[0]
    if len(subjects) > 1 and all(subject.startswith(f"{kind} ") for subject in subjects):
        return f"{kind}s " + ", ".join(subject.removeprefix(f"{kind} ") for subject in subjects)
    return ", ".join(subjects)
