"""A short chaos run, and its detectors shown red on bugs that are put back."""

import os
from pathlib import Path

import pytest

from tests.chaos.bugs import BUGS
from tests.chaos.detectors import show
from tests.chaos.plan import Options, plan
from tests.chaos.run import Run
from tests.chaos.scenes import SCENES

# The others take minutes: FANLINE_CHAOS_BUGS=all, or make chaos-bugs, has every bug put back.
_ALL = os.environ.get("FANLINE_CHAOS_BUGS") == "all"
_SHOWN = [name for name, bug in BUGS.items() if bug.each_time or _ALL]


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


@pytest.mark.parametrize("name", _SHOWN)
async def test_a_bug_that_is_put_back_is_found(bootstrap_servers: str, tmp_path: Path, name: str) -> None:
    """The service with a bug, what has to happen for it to show, and the detector that names it."""
    shown = await show(bootstrap_servers, tmp_path, BUGS[name].scene, name)
    print(shown.report.markdown())
    assert shown.well, f"{name} was not found:\n{shown.report.markdown()}"


@pytest.mark.parametrize("scene", SCENES if _ALL else ["zombie"])
async def test_without_a_bug_nothing_is_found(bootstrap_servers: str, tmp_path: Path, scene: str) -> None:
    """The same scenes with the service as it is: what finds the bugs finds nothing there."""
    shown = await show(bootstrap_servers, tmp_path, scene)
    assert shown.well, shown.report.markdown()
