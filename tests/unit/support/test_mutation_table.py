"""The table of the report on mutants: measured anew where it was measured, and its sum."""

from tests.mutation.table import Row, row_of, with_rows

REPORT = """# Title

| module | mutants | killed | of these by the clock | survived |
| --- | ---: | ---: | ---: | ---: |
| `contracts/ids.py` | 120 | 113 (94%) | 0 | 7 |
| `service/lifecycle.py` | 15 | 15 (100%) | 1 | 0 |
| **all** | **135** | **128 (94.8%)** | | **7** |

| where | reason |
| `contracts/ids.py` `last` | speed alone |
"""


def test_rows_are_replaced_and_added_and_summed_up() -> None:
    """Other rows stay, and so does what is no row of it; a share is not rounded up."""
    new = with_rows(REPORT, {"contracts/ids.py": Row(200, 199, 2), "contracts/new.py": Row(5, 4, 0)})
    assert new.splitlines() == [
        *REPORT.splitlines()[:4],
        "| `contracts/ids.py` | 200 | 199 (99%) | 2 | 1 |",
        "| `contracts/new.py` | 5 | 4 (80%) | 0 | 1 |",
        "| `service/lifecycle.py` | 15 | 15 (100%) | 1 | 0 |",
        "| **all** | **220** | **218 (99.1%)** | | **2** |",
        *REPORT.splitlines()[7:],
    ]


def test_what_the_clock_ended_counts_as_killed() -> None:
    """Survivors are told by name."""
    score = {"module": "m.py", "killed": 7, "timed_out": 2, "survivors": {"a": [], "b": []}, "seconds": 3.0}
    assert row_of(score) == Row(11, 9, 2)
