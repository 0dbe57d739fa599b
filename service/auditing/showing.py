"""What a person sees of an audit: the counts as a table, examples of what is wrong, a verdict for each lane."""

from collections.abc import Mapping

from rich.table import Table

from service.auditing.tally import LaneAudit

_WRONG = ("missing", "duplicate", "contradictory")
_REST = ("unknown", "unproven", "lost", "past", "pending")


def audit_table(found: Mapping[str, LaneAudit]) -> Table:
    """A row for each lane: events, results by outcome, what is wrong, and what cannot be judged where there is such."""
    outcomes = sorted({name for one in found.values() for name in one.results})
    counted = [*_WRONG, *(name for name in _REST if any(getattr(one, name) for one in found.values()))]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("lane", overflow="fold")
    for column in ("events", *outcomes, *counted):
        table.add_column(column, justify="right", overflow="fold")
    for name, one in found.items():
        numbers = [one.events, *(one.results.get(outcome, 0) for outcome in outcomes)]
        numbers += [getattr(one, what) for what in counted]
        table.add_row(name, *(f"{number:,}" for number in numbers))
    return table


def audit_lines(found: Mapping[str, LaneAudit]) -> list[str]:
    """Examples of what is wrong, then a sentence for each lane."""
    examples = [f"{name}: {example}" for name, one in found.items() for example in one.examples]
    return examples + [f"{name}: {verdict_text(one)}" for name, one in found.items()]


def verdict_text(one: LaneAudit) -> str:
    """One sentence: proven, or what is wrong."""
    events = f"{one.events:,} {'event' if one.events == 1 else 'events'}"
    if not one.proven:
        wrong = ", ".join(f"{getattr(one, what):,} {what}" for what in _WRONG if getattr(one, what))
        return f"NOT proven: {wrong} of {events}"
    told = sum(one.results.values())
    rest = [f"{getattr(one, what):,} {what}" for what in _REST if getattr(one, what)]
    if one.repeated:
        rest.append(f"{one.repeated:,} repeated (at least once)")
    if one.of_no_record:
        rest.append(f"{one.of_no_record:,} of records that are gone")
    tail = f"; {', '.join(rest)}" if rest else ""
    return f"proven: {told:,} of {events} have exactly one result{tail}"
