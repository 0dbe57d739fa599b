"""A file of which the platform says that some rows failed, and not which: through a whole lane."""

import json
from collections import Counter
from pathlib import Path

from tests.support.fleet import Fleet
from tests.support.oracle import Place, Source, read_results

ROWS = 2_000
BAD = (17, 950, 1_999)
COMMON = {"slots": 1, "batch": {"max_events": ROWS, "max_bytes": "20MiB", "linger": "1m"}, "guard": "off"}
ACCOUNTS = {
    "splitting": {"split": {**COMMON, "partial_failures": "split"}},
    "reporting": {"report": {**COMMON, "partial_failures": "report"}},
}


def split(_place: Place, source: Source) -> tuple[str, str | None]:
    """Who is at fault is refused, and nobody else."""
    number = json.loads(source.value or b"")["data"]["attributes"]["number"]
    return ("rejected", "refused") if number in BAD else ("delivered", None)


def report(_place: Place, _source: Source) -> tuple[str, str | None]:
    """Nobody knows who is."""
    return "unattributed", "unattributed"


async def test_three_bad_rows_of_two_thousand(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """``split`` finds the three with halves, within its budget, and delivers all others; ``report`` makes one import
    and tells all of them what the platform counted. Each has its result, and its dead letter."""
    async with Fleet(
        bootstrap_servers,
        prefix,
        tmp_path,
        accounts=ACCOUNTS,
        contacts=None,
        seed=3,
        bad_values={str(number) for number in BAD},
        takes_s=0.0,
        polls=1,
    ) as fleet:
        async with fleet.crowding(ROWS, per_s=ROWS * 4):
            pass
        fleet.start(1)
        await fleet.until_settled(within_s=60)
        results = await read_results(bootstrap_servers, fleet.results_topic)
        await fleet.check("split", split, results=results)
        reported = await fleet.check("report", report, results=results)
        assert Counter(result.data["detail"] for result in reported) == {
            f"of {ROWS} rows the platform reports {len(BAD)} failed and 0 not found": ROWS
        }
        assert len(fleet.apsis.imports("reporting")) == 1
        assert len(fleet.apsis.imports("splitting")) <= 1 + 100
        there = {profile["cells"]["number"] for profile in fleet.apsis.profiles("splitting").values()}
        assert there == {str(number) for number in range(ROWS)} - {str(number) for number in BAD}
