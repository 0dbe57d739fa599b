"""Outcomes and reasons are closed."""

from contracts.outcomes import DEAD, PAIRS, WORST_FIRST, Outcome, Reason

TABLE = """
delivered: -
skipped: where nothing_to_do tombstone other_type duplicate
superseded: -
invalid: malformed contract unresolved contradictory handler_error
rejected: refused not_found too_large unconfirmed exhausted
expired: deadline
in_doubt: interrupted
unattributed: unattributed
held: behind_dead
"""


def test_the_table_of_pairs() -> None:
    """These pairs and no others; every outcome and every reason occurs."""
    table = {
        Outcome(line.split(":")[0]): frozenset(
            None if word == "-" else Reason(word) for word in line.split(":")[1].split()
        )
        for line in TABLE.strip().splitlines()
    }
    assert table == PAIRS
    assert set(PAIRS) == set(Outcome)
    assert {reason for pairs in PAIRS.values() for reason in pairs} - {None} == set(Reason)


def test_which_outcomes_make_dead_letters() -> None:
    """All but what was delivered, skipped or superseded."""
    assert set(Outcome) - DEAD == {Outcome.DELIVERED, Outcome.SKIPPED, Outcome.SUPERSEDED}


def test_worst_first() -> None:
    """The order in which an event takes the outcome of its operations."""
    assert [outcome.value for outcome in WORST_FIRST] == (
        ["in_doubt", "unattributed", "rejected", "expired", "delivered", "superseded"]
    )
