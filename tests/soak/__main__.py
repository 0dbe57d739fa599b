"""``python -m tests.soak``: a soak run, and its report."""

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from service.localkafka import Cluster
from tests.soak.entry import LEAKS
from tests.soak.report import Report
from tests.soak.run import Soak


def main() -> int:
    """Exit code 1 if anything grows."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--per-second", type=int, default=100, help="events")
    parser.add_argument("--leak", choices=LEAKS, help="put a leak into the service: the run has to find it")
    parser.add_argument("--report", type=Path, help="a folder for the report; default: only on the terminal")
    parser.add_argument("--keep", type=Path, help="a folder for the process's log")
    given = parser.parse_args()
    # Whoever ends the run ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as temporary:
        directory = given.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        report = _run(directory, given.minutes, given.per_second, given.leak)
    if given.report:
        report.write(given.report)
    print(report.markdown())
    return 1 if report.wrong else 0


def _run(directory: Path, minutes: float, per_s: int, leak: str | None) -> Report:
    with Cluster() as cluster:
        soak = Soak(cluster.bootstrap_servers, directory, minutes=minutes, per_s=per_s, leak=leak)
        return asyncio.run(soak.run())


if __name__ == "__main__":
    sys.exit(main())
