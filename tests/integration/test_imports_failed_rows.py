"""A file of which the platform says that some rows failed, and not which: through a whole lane."""

import json
from collections import Counter
from pathlib import Path

from tests.support.events import Feed
from tests.support.fleet import Fleet
from tests.support.import_stage import COPERNICA, NP6, ImportStage
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


# Of each lane whose platform tells no rows by name: its keys.
WHOLE = {"batch": {"max_events": ROWS, "max_bytes": "20MiB", "linger": "1m"}, "guard": "off"}
OTHERS = {
    "copernica-split": {**COPERNICA, **WHOLE, "partial_failures": "split"},
    "copernica-report": {**COPERNICA, **WHOLE, "partial_failures": "report"},
    "np6-report": {**NP6, **WHOLE, "partial_failures": "report"},
}
# What each result of a lane that reports says.
TOLD = {
    "copernica-report": f"of {ROWS} rows the platform has found {ROWS} and processed {ROWS - len(BAD)}; "
    "the platform says of the import: Some lines could not be imported",
    "np6-report": f"of {ROWS} rows the platform tells no counts; the platform says of the execution: error",
}


async def test_the_same_on_the_platforms_that_count_lines_or_nothing(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """Copernica says of an import how many lines it has worked through, and one error; NP6 of an execution that it
    failed. Halves find the three where rows may be sent twice; else all are told what the platform said."""
    async with ImportStage(bootstrap_servers, prefix, tmp_path, OTHERS) as stage:
        feed = Feed(ROWS)
        bad = {feed.target(number) for number in BAD}
        for lane in ("copernica-split", "copernica-report"):
            stage.copernica.configure(lane, {"bad_values": sorted(bad), "polls": 1})
        stage.np6.configure("np6-report", {"imports_fail": True})
        await stage.publish([feed.of(number) for number in range(ROWS)])
        async with stage.application():
            await stage.results.until(dict.fromkeys(OTHERS, ROWS), within_s=90)

        def found(_place: Place, source: Source) -> tuple[str, str | None]:
            contact = json.loads(source.value or b"")["data"]["contact_id"]
            return ("rejected", "refused") if contact in bad else ("delivered", None)

        results = await stage.check_all({"copernica-split": found, "copernica-report": report, "np6-report": report})
        for lane, detail in TOLD.items():
            assert Counter(result.data["detail"] for result in results[lane]) == {detail: ROWS}
            assert len(stage.copernica.imports(lane) or stage.np6.imported(lane)) == 1
        assert len(stage.copernica.imports("copernica-split")) <= 1 + 100
        there = [profile["contact"] for profile in stage.copernica.profiles("copernica-split")]
        assert sorted(there) == [feed.target(number) for number in range(ROWS) if number not in BAD]
