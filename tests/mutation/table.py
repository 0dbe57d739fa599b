"""``python -m tests.mutation.table SCORES.json …``: what ``--report`` wrote goes into the table of the report.

That is docs/reports/mutants.md. Rows of modules that were measured are replaced, others stay; the last is their sum.
"""

import argparse
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

REPORT = Path(__file__).parents[2] / "docs" / "reports" / "mutants.md"

_ROW = re.compile(r"\| `([^`]+)` \| (\d+) \| (\d+) \(\d+%\) \| (\d+) \| \d+ \|")
_ALL = "| **all** |"


class Row(NamedTuple):
    """A module's figures; ``killed`` includes what the clock has ended."""

    mutants: int
    killed: int
    timed_out: int


def row_of(score: Mapping[str, Any]) -> Row:
    """A score as ``--report`` writes it."""
    killed = score["killed"] + score["timed_out"]
    return Row(killed + len(score["survivors"]), killed, score["timed_out"])


def with_rows(report: str, measured: Mapping[str, Row]) -> str:
    """The report with these rows in its table, by module."""
    lines = report.splitlines(keepends=True)
    places = [place for place, line in enumerate(lines) if _ROW.match(line) or line.startswith(_ALL)]
    rows = {found[1]: Row(*map(int, found.group(2, 3, 4))) for line in lines if (found := _ROW.match(line))}
    return "".join([*lines[: places[0]], *_table(rows | dict(measured)), *lines[places[-1] + 1 :]])


def _table(rows: Mapping[str, Row]) -> Iterable[str]:
    for module, row in sorted(rows.items()):
        share = 100 * row.killed // max(1, row.mutants)
        left = row.mutants - row.killed
        yield f"| `{module}` | {row.mutants} | {row.killed} ({share}%) | {row.timed_out} | {left} |\n"
    mutants, killed = sum(row.mutants for row in rows.values()), sum(row.killed for row in rows.values())
    yield f"{_ALL} **{mutants}** | **{killed} ({killed / max(1, mutants):.1%})** | | **{mutants - killed}** |\n"


def main() -> None:
    """Write the report anew."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.table", description=__doc__)
    parser.add_argument("scores", nargs="+", type=Path)
    given = parser.parse_args()
    measured = {score["module"]: row_of(score) for path in given.scores for score in json.loads(path.read_text())}
    REPORT.write_text(with_rows(REPORT.read_text(), measured))


if __name__ == "__main__":
    main()
