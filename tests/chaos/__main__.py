"""``python -m tests.chaos``: a chaos run, and its report."""

import argparse
import asyncio
import gc
import signal
import sys
import tempfile
from pathlib import Path

from service.localkafka import Cluster
from service.localkafka.cluster import Options as KafkaOptions
from tests.chaos.bugs import BUGS
from tests.chaos.plan import Kind, Options, plan
from tests.chaos.report import Report
from tests.chaos.run import Run
from tests.support.kafka import unique


def main() -> int:
    """Exit code 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--events", type=int, help="in all; default: 150 a second")
    parser.add_argument("--replicas", type=int, choices=(3, 4, 5), default=3)
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    parser.add_argument(
        "--broker-faults", action="store_true", help="kill brokers too; with 3 always, with one sessions are 90 s then"
    )
    parser.add_argument(
        "--sessions", type=float, help="seconds instead of 5; with 20 and more the only broker can be killed too"
    )
    parser.add_argument("--only", nargs="+", choices=[kind.value for kind in Kind], help="no faults but these")
    parser.add_argument("--bug", choices=sorted(BUGS), help="put this bug back: the run has to find it")
    parser.add_argument("--report", type=Path, help="a folder for the report; default: only on the terminal")
    parser.add_argument("--keep", type=Path, help="a folder for the processes' logs, and what the brokers keep")
    given = parser.parse_args()
    # Whoever ends the run ends the processes that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A million results and calls stay: to look through all of them again and again would stop the platform.
    gc.set_threshold(50_000, 20, 1_000)
    options = Options(
        seed=given.seed,
        minutes=given.minutes,
        events=given.events,
        replicas=given.replicas,
        brokers=given.brokers,
        broker_faults=given.broker_faults or given.brokers == 3,
        sessions_s=given.sessions,
        only=frozenset(map(Kind, given.only)) if given.only else None,
    )
    with tempfile.TemporaryDirectory() as temporary:
        directory = given.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        data = directory.absolute() / "kafka" if given.keep else None
        report = _run(options, directory, data, given.bug)
    if given.report:
        report.write(given.report)
    print(report.markdown())
    return 0 if report.well else 1


def _run(options: Options, directory: Path, data: Path | None, bug: str | None) -> Report:
    with Cluster(KafkaOptions(brokers=options.brokers, data_dir=data)) as cluster:
        servers = cluster.bootstrap_servers
        return asyncio.run(_act(options, servers, directory, cluster, bug))


async def _act(options: Options, servers: str, directory: Path, cluster: Cluster, bug: str | None) -> Report:
    quiet_s = max(120.0, 6 * options.session_s)
    return await Run(
        plan(options), servers, unique("chaos"), directory, cluster=cluster, bug=bug, quiet_s=quiet_s
    ).run()


if __name__ == "__main__":
    sys.exit(main())
