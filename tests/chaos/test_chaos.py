"""A short chaos run, and its detectors shown red on bugs that are put back."""

import os
from pathlib import Path

import pytest

from tests.chaos.bugs import BUGS
from tests.chaos.plan import Kind, Options, plan
from tests.chaos.run import Run

# The others take minutes: FANLINE_CHAOS_BUGS=all has every bug put back.
_SHOWN_EACH_TIME = ("commit before settle", "send future not awaited", "dead letter with the original timestamp")
_ALL = os.environ.get("FANLINE_CHAOS_BUGS") == "all"


async def test_a_short_run_is_proven(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Three replicas, half a minute of kills, freezes, broken connections and a failing platform: everything has one
    result, nothing is executed twice or called again without a reason, and nothing leaks."""
    options = Options(seed=20, minutes=0.5, events=3_000, every_s=(2.0, 5.0))
    run = Run(plan(options), bootstrap_servers, prefix, tmp_path, quiet_s=60)
    report = await run.run()
    print(report.markdown())
    assert report.well, report.markdown()
    assert report.faults["kill"] >= 2, "nothing fell: nothing was proven"
    assert report.events == options.events
    assert report.findings.counts["commits sampled"] > 20


@pytest.mark.parametrize("name", BUGS if _ALL else _SHOWN_EACH_TIME)
async def test_a_bug_that_is_put_back_is_found(bootstrap_servers: str, prefix: str, tmp_path: Path, name: str) -> None:
    """The service with a bug, the faults under which it shows, and the detector that names it."""
    bug = BUGS[name]
    options = Options(
        seed=3,
        minutes=0.35 if bug.faults else 0.15,
        events=2_500 if bug.faults else 1_000,
        every_s=(2.0, 3.0),
        only=frozenset(map(Kind, bug.faults)) or frozenset({Kind.STORM}),
    )
    report = await Run(plan(options), bootstrap_servers, prefix, tmp_path, bug=name, quiet_s=10).run()
    print(report.markdown())
    assert bug.caught_as & report.findings.wrong.keys(), f"{name} was not found:\n{report.markdown()}"
