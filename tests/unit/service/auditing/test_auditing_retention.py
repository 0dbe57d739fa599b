"""What may have been deleted, and what an audit shows."""

import io

from rich.console import Console

from service.auditing.retention import Left
from service.auditing.showing import audit_lines, audit_table
from service.auditing.tally import LaneAudit


def test_nothing_is_gone_where_nothing_was_deleted() -> None:
    """A partition that begins at its first offset has all that was ever written to it."""
    assert Left(3, {}).whole
    assert not Left(3, {}).may_lack(0, 5)
    assert not Left(3, {1: 100}).may_lack(0, 5)


def test_what_is_older_than_the_first_that_is_left_may_be_gone() -> None:
    """A result is younger than its record, and lies in a partition of its own."""
    left = Left(3, {1: 100})
    assert not left.whole
    assert left.may_lack(1, 99)
    assert not left.may_lack(1, 100)
    assert not left.may_lack(2, 99)


def test_of_an_emptied_partition_everything_may_be_gone() -> None:
    """A quiet lane's last dead letter is deleted some day: that contradicts no result."""
    assert Left(2, {0: None}).may_lack(0, 1 << 60)
    assert not Left(2, {0: None}).may_lack(1, 0)


def shown(**audits: LaneAudit) -> list[str]:
    """The table as it is on a terminal of 80 columns, and the lines."""
    out = io.StringIO()
    Console(file=out, width=80, highlight=False).print(audit_table(audits))
    return [line.rstrip() for line in out.getvalue().splitlines()] + audit_lines(audits)


def test_a_sound_lane_fits_a_terminal() -> None:
    """What is not there takes no column, but for what would be wrong."""
    one = LaneAudit(events=1_234, results={"delivered": 1_200, "rejected": 34})
    assert shown(vip=one) == [
        "lane  events  delivered  rejected  missing  duplicate  contradictory",
        "vip    1,234      1,200        34        0          0              0",
        "vip: proven: 1,234 of 1,234 events have exactly one result",
    ]


def test_what_is_wrong_is_told_with_examples() -> None:
    """Of each lane by itself; what could not be judged is told beside it."""
    bad = LaneAudit(events=1, missing=1, unknown=2, examples=["missing: contacts-0 offset 7"])
    rest = LaneAudit(events=3, results={"skipped": 1}, pending=2, repeated=1, of_no_record=4)
    lines = shown(bad=bad, rest=rest)
    assert lines[0].split() == [
        "lane",
        "events",
        "skipped",
        "missing",
        "duplicate",
        "contradictory",
        "unknown",
        "pending",
    ]
    assert lines[3:] == [
        "bad: missing: contacts-0 offset 7",
        "bad: NOT proven: 1 missing of 1 event",
        "rest: proven: 1 of 3 events have exactly one result; 2 pending, 1 repeated (at least once), "
        "4 of records that are gone",
    ]
