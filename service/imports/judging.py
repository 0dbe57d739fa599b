"""PURE: what an import that has ended means for its events."""

import msgspec

from contracts.outcomes import Outcome, Reason
from handlers.imports.verdicts import Completed, Failed
from service.imports.runs import Ends


class Divided(msgspec.Struct, frozen=True):
    """Some rows failed, and nobody says which: smaller imports are to tell. ``otherwise``: where nothing can be
    divided, or no import is left for it."""

    alone: Ends
    otherwise: Ends


def had_file(verdict: Failed, *, expired: bool) -> bool:
    """Whether an import that has failed may have had its file, where nobody saw it arrive; ``expired``: its address has
    ended. Without one it would wait for it until then; and what the platform counted, or does not know any more, was
    there."""
    return not expired or not verdict.divides or bool(verdict.found or verdict.processed)


def judge_end(verdict: Completed | Failed, rows: int, *, divides: bool) -> Ends | Divided:
    """``rows`` are those that were sent, 0 where nobody knows that any more; fewer found, or any failed, is a failure
    of nobody knows whom."""
    if isinstance(verdict, Failed):
        detail = _counted(verdict, rows)
        divides = divides and verdict.divides
    else:
        missing = 0 if verdict.found is None else max(0, rows - verdict.found)
        failed = verdict.failed or 0
        if not missing and not failed:
            return Ends(Outcome.DELIVERED)
        detail = f"of {rows} rows the platform reports {failed} failed and {missing} not found"
    unattributed = Ends(Outcome.UNATTRIBUTED, Reason.UNATTRIBUTED, detail)
    if not divides:
        return unattributed
    return Divided(alone=Ends(Outcome.REJECTED, Reason.REFUSED, detail), otherwise=unattributed)


def _counted(verdict: Failed, rows: int) -> str:
    """What the platform said, behind how much it has done: its words may be long."""
    if not rows:
        return verdict.detail
    if verdict.found is None and verdict.processed is None:
        return f"of {rows} rows the platform tells no counts; {verdict.detail}"
    found, processed = ("?" if count is None else count for count in (verdict.found, verdict.processed))
    return f"of {rows} rows the platform has found {found} and processed {processed}; {verdict.detail}"
