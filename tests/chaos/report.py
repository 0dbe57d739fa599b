"""What a run says of itself, as JSON and as Markdown."""

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.chaos.plan import Options
from tests.chaos.verdict import Findings


@dataclass(frozen=True, kw_only=True)
class Report:
    """One run."""

    options: Options
    bug: str | None
    took_s: float
    judged_s: float  # of it, for the verdict
    memory_mib: int  # the run's own, at most
    events: int
    faults: Counter[str]
    assignments: int
    scrapes: int
    findings: Findings
    recovery: dict[str, list[float]]
    still: dict[str, list[float]]
    audit: str

    @property
    def well(self) -> bool:
        return not self.findings.wrong

    @property
    def command(self) -> str:
        """What repeats it."""
        options = self.options
        events = f" --events {options.events}" if options.events is not None else ""
        faults = " --broker-faults" if options.broker_faults else ""
        sessions = f" --sessions {options.sessions_s:g}" if options.sessions_s is not None else ""
        bug = f" --bug '{self.bug}'" if self.bug else ""
        return (
            f"python -m tests.chaos --seed {options.seed} --minutes {options.minutes:g}{events} "
            f"--replicas {options.replicas} --brokers {options.brokers}{faults}{sessions}{bug}"
        )

    def document(self) -> dict[str, Any]:
        """As JSON."""
        wrong, counts = self.findings.wrong, self.findings.counts
        return {
            "command": self.command,
            "seed": self.options.seed,
            "took_s": round(self.took_s, 1),
            "judged_s": round(self.judged_s, 1),
            "memory_mib": self.memory_mib,
            "verdict": "proven" if self.well else "wrong",
            "events": self.events,
            "lost": wrong["missing"],
            "duplicate_results": wrong["duplicate"],
            "executed_twice": wrong["executed twice"],
            "repeated_calls": counts["repeated calls"],
            "faults": dict(self.faults),
            "kills": self.faults["kill"],
            "rebalances": self.assignments,
            "wrong": {name: {"count": n, "examples": self.findings.examples[name]} for name, n in wrong.items()},
            "counted": dict(sorted(counts.items())),
            "pages_read": self.scrapes,
            "recovery_s": _figures(self.recovery),
            "still_s": _figures(self.still),
            "audit": json.loads(self.audit)["lanes"] if self.audit.startswith("{") else self.audit,
        }

    def markdown(self) -> str:
        """For people."""
        document = self.document()
        rows = [
            ("verdict", document["verdict"]),
            ("events", f"{self.events:,}"),
            ("lost", document["lost"]),
            ("duplicate results", document["duplicate_results"]),
            ("executions performed twice", document["executed_twice"]),
            ("processes killed", document["kills"]),
            ("processes frozen", self.faults["freeze"]),
            ("assignments of partitions (a member in a rebalance)", self.assignments),
            ("calls made again, each with its reason", document["repeated_calls"]),
            ("took", f"{self.took_s / 60:.1f} min, of it {self.judged_s:.0f} s for the verdict"),
            ("memory of the run itself", f"{self.memory_mib} MiB at most"),
        ]
        lines = ["# A chaos run", "", f"Repeat it: `{self.command}`", "", "| | |", "| --- | --- |"]
        lines += [f"| {name} | {value} |" for name, value in rows]
        for title, key in (("stood still, median", "still_s"), ("recovered after, median", "recovery_s")):
            lines += ["", f"| fault | count | {title} | p95 | at most |", "| --- | --- | --- | --- | --- |"]
            for kind, found in sorted(document[key].items()):
                told = f"{found['median']} s | {found['p95']} s | {found['max']} s"
                lines.append(f"| {kind} | {found['count']} | {told} |")
        lines += [
            "",
            "Stood still: until the last partition had a new result, those of the lost process among them. "
            "Recovered: all that had been published before the fault is settled, whatever else fell meanwhile; "
            "a machine that is slower than its load recovers only when the load ends.",
        ]
        lines += ["", "| counted | |", "| --- | --- |"]
        lines += [f"| {name} | {count} |" for name, count in document["counted"].items()]
        if self.findings.wrong:
            lines += ["", "## Wrong", ""]
            for name, found in document["wrong"].items():
                lines.append(f"- **{name}**: {found['count']}, e.g. {found['examples'][:2]}")
        return "\n".join(lines) + "\n"

    def write(self, directory: Path) -> None:
        """Both, named after the seed."""
        directory.mkdir(parents=True, exist_ok=True)
        name = f"chaos-{self.options.seed}"
        (directory / f"{name}.json").write_text(json.dumps(self.document(), indent=1) + "\n", "utf-8")
        (directory / f"{name}.md").write_text(self.markdown(), "utf-8")


def _figures(of: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """By fault, in seconds."""
    return {
        kind: {
            "count": len(found),
            "median": round(median(found), 2),
            "p95": round(sorted(found)[math.ceil(len(found) * 0.95) - 1], 2),
            "max": round(max(found), 2),
        }
        for kind, found in of.items()
    }
