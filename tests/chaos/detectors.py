"""``python -m tests.chaos.detectors``: each scene as it is has to be proven, and each bug that is put back found."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from service.localkafka import Cluster
from tests.chaos.bugs import BUGS
from tests.chaos.report import Report
from tests.chaos.scenes import SCENES, Scene
from tests.support.kafka import unique

# Without a new result for so long, what is missing is given up: a bug that loses is not waited for much longer than
# what is right takes to come.
QUIET_S = 12.0


class Shown(NamedTuple):
    """What came of a bug, or of a scene without one."""

    scene: str
    bug: str | None
    found: tuple[str, ...]
    well: bool
    took_s: float
    report: Report


async def show(servers: str, directory: Path, scene: str, bug: str | None = None) -> Shown:
    """Play a scene. ``well``: what was to be found was, or there was nothing to be found."""
    began = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    quiet_s = QUIET_S if bug else 60.0
    report = await Scene(SCENES[scene], servers, unique("chaos"), directory, bug=bug, quiet_s=quiet_s).run()
    found = tuple(report.findings.wrong)
    well = bool(BUGS[bug].caught_as & set(found)) if bug else not found
    return Shown(scene, bug, found, well, time.monotonic() - began, report)


async def show_all(servers: str, directory: Path, wanted: list[str] | None) -> list[Shown]:
    """Every scene as it is, then with each of its bugs."""
    shown: list[Shown] = []
    for scene in SCENES:
        bugs = [name for name, bug in BUGS.items() if bug.scene == scene and (wanted is None or name in wanted)]
        if wanted is not None and not bugs:
            continue
        for bug in (None, *bugs):
            one = await show(servers, directory / unique("scene"), scene, bug)
            shown.append(one)
            print(_line(one), flush=True)
            if not one.well:
                print(one.report.markdown(), flush=True)
    return shown


def _line(one: Shown) -> str:
    told = ", ".join(one.found) or "nothing"
    verdict = "as it has to be" if one.well else "WRONG"
    return f"| {one.scene} | {one.bug or '(none)'} | {told} | {verdict} | {one.took_s:.0f} s |"


def main() -> int:
    """Exit code 1 if a bug was not found, or something where there is none."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.detectors", description=__doc__)
    parser.add_argument("--bug", choices=sorted(BUGS), nargs="+", help="only these, and their scenes without them")
    parser.add_argument("--scene", choices=sorted(SCENES), help="only this scene, without a bug")
    parser.add_argument("--keep", type=Path, help="a folder for the processes' logs")
    given = parser.parse_args()
    print("| scene | bug | found | verdict | took |\n| --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as temporary, Cluster() as cluster:
        servers, directory = cluster.bootstrap_servers, given.keep or Path(temporary)
        if given.scene:
            one = asyncio.run(show(servers, directory, given.scene))
            print(_line(one), one.report.markdown(), sep="\n")
            return 0 if one.well else 1
        shown = asyncio.run(show_all(servers, directory, given.bug))
    wrong = [one for one in shown if not one.well]
    print(f"\n{len(shown) - len(wrong)} of {len(shown)} as they have to be, in {sum(s.took_s for s in shown):.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
