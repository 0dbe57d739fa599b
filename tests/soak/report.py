"""What a soak run says of itself, as JSON and as Markdown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.soak.flatness import Verdict

_POINTS = 60


@dataclass(frozen=True, kw_only=True)
class Report:
    """One run."""

    minutes: float
    per_s: int
    leak: str | None
    published: int
    settled: int
    outages: int
    faults: Sequence[str]
    verdicts: Sequence[Verdict]
    samples: Mapping[str, Sequence[tuple[float, float]]]

    @property
    def wrong(self) -> list[str]:
        """Everything that is not as it should be."""
        return [*self.faults, *(f"{one.measure.name} {one.fault}" for one in self.verdicts if one.fault)]

    @property
    def command(self) -> str:
        """What repeats it."""
        leak = f" --leak {self.leak}" if self.leak else ""
        return f"python -m tests.soak --minutes {self.minutes:g} --per-second {self.per_s}{leak}"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "command": self.command,
            "verdict": "wrong" if self.wrong else "flat",
            "wrong": self.wrong,
            "events": self.published,
            "results": self.settled,
            "outages": self.outages,
            "measures": {
                one.measure.name: {
                    "tells": one.measure.tells,
                    "lowest": round(one.lowest, 1),
                    "median": round(one.middle, 1),
                    "highest": round(one.highest, 1),
                    "rises": round(one.rises, 2),
                    "tolerance": round(one.tolerance, 2),
                    "judged": one.judged,
                }
                for one in self.verdicts
            },
            "samples": {name: _thinned(samples) for name, samples in self.samples.items()},
        }

    def markdown(self) -> str:
        """For people."""
        lines = [
            "# A soak run",
            "",
            f"Repeat it: `{self.command}`",
            "",
            f"Verdict: **{'wrong' if self.wrong else 'flat'}**. {self.published:,} events at {self.per_s} a second in "
            f"{self.minutes:g} minutes, {self.settled:,} results; {self.outages} outages of an account, and a call in "
            "200 that failed by chance.",
            "",
            "The figures are of the run's second half; *rises* is by how much a straight line through its samples "
            "rises from its beginning to its end.",
            "",
            "| measure | lowest | median | highest | rises | flat is at most |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for one in self.verdicts:
            flat = f"{one.tolerance:,.5g}" if one.judged else "not judged in so short a run"
            figures = " | ".join(f"{value:,.1f}" for value in (one.lowest, one.middle, one.highest, one.rises))
            lines.append(f"| {one.measure.tells} | {figures} | {flat} |")
        if self.wrong:
            lines += ["", "## Wrong", "", *(f"- {fault}" for fault in self.wrong)]
        return "\n".join(lines) + "\n"

    def write(self, directory: Path) -> None:
        """Both."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "soak.json").write_text(json.dumps(self.document()) + "\n", "utf-8")
        (directory / "soak.md").write_text(self.markdown(), "utf-8")


def _thinned(samples: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    step = max(1, len(samples) // _POINTS)
    return [(round(at_s), round(value, 1)) for at_s, value in samples[::step]]
