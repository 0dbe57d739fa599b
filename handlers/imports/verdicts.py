"""What can come of an import's calls: create, upload, poll. The whole table of faults for imports is here, as far as it
is the same on each platform. Pure."""

from typing import assert_never

import msgspec

from handlers.base import Answer, Failure, FailureKind, Hold, HoldScope, Reply, Retry, RetryCause
from handlers.statuses import Row, misdirected, row_of


class Upload(msgspec.Struct, frozen=True, gc=False):
    """Where an import's file goes, in another call. ``fields`` come before the file, in this order and unchanged."""

    url: str
    fields: tuple[tuple[str, str], ...]
    expires_at_ms: int | None  # None: the platform did not say


class Opened(msgspec.Struct, frozen=True, gc=False):
    """The platform has opened an import; ``upload`` is None where it has the rows already."""

    import_id: str
    upload: Upload | None = None


class Unnamed(msgspec.Struct, frozen=True, gc=False):
    """A success that names no import which could be asked about."""

    detail: str


class MayBeOpen(msgspec.Struct, frozen=True, gc=False):
    """There is no telling whether an import was opened: its slot counts as taken."""

    detail: str | None = None


class Divide(msgspec.Struct, frozen=True, gc=False):
    """The platform refused the file, and nothing took effect: smaller ones are tried. ``too_large``: its size alone is
    at fault; else halves, until the row at fault is alone."""

    too_large: bool
    detail: str | None = None


class Uploaded(msgspec.Struct, frozen=True, gc=False):
    """The platform has the file."""


class Unclear(msgspec.Struct, frozen=True, gc=False):
    """The file may have arrived: the status tells."""

    detail: str | None = None


class Lapsed(msgspec.Struct, frozen=True, gc=False):
    """The upload's address takes no file any more: the import is created anew."""


class Pending(msgspec.Struct, frozen=True, gc=False):
    """The platform has not ended. ``state`` is its word; ``has_file``: None where it does not say."""

    state: str
    has_file: bool | None = None
    processed: int | None = None


class Completed(msgspec.Struct, frozen=True, gc=False):
    """The platform has ended, and says no failure of the file as a whole. Counts are of rows, None where untold."""

    found: int | None = None
    failed: int | None = None


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The platform gave the file up, or knows nothing of it: whose rows are at fault nobody says. ``divides``: smaller
    imports could tell. Counts are of rows, None where untold."""

    detail: str
    found: int | None = None
    processed: int | None = None
    divides: bool = True


# Completed: an import that nobody can ask about counts as delivered, where the lane says so.
CreateVerdict = Opened | Completed | Unnamed | MayBeOpen | Divide | Retry | Hold
UploadVerdict = Uploaded | Unclear | Lapsed | Divide | Retry | Hold
PollVerdict = Pending | Completed | Failed | Retry | Hold


def judge_refused_create(reply: Reply, text: str | None) -> CreateVerdict:
    """What a create that was no success means; ``text`` is the platform's own words. Nothing was opened, but for an
    answer that did not come or that says that the platform broke."""
    if isinstance(reply, Failure):
        return _unanswered(reply) or MayBeOpen(reply.detail)
    row = row_of(reply.status)
    match row:
        case Row.BROKEN | Row.DONE:
            return MayBeOpen(text)
        case Row.CONFLICT:
            return Retry(RetryCause.THROTTLED, text)
        case Row.NOT_FOUND | Row.GONE:
            return Hold(
                HoldScope.LANE, _said(f"the platform knows nothing of the import's place ({reply.status})", text)
            )
        case Row.TOO_LARGE:
            return Divide(too_large=True, detail=text)
        case Row.REFUSED:
            return Divide(too_large=False, detail=text)
        case Row.THROTTLED | Row.CREDENTIALS | Row.FORBIDDEN | Row.MISDIRECTED:
            return _of_nobody(row, reply, text)
        case _:
            assert_never(row)


def judge_refused_poll(reply: Reply, text: str | None) -> PollVerdict:
    """What a poll that was no success means: asking again costs nothing, an import that is not known has no end."""
    if isinstance(reply, Failure):
        return _unanswered(reply) or Retry(_CAUSES[reply.kind], reply.detail)
    row = row_of(reply.status)
    match row:
        case Row.BROKEN | Row.DONE:
            return Retry(RetryCause.SERVER_ERROR, text)
        case Row.CONFLICT:
            return Retry(RetryCause.THROTTLED, text)
        case Row.NOT_FOUND | Row.GONE:
            said = _said(f"the platform does not know the import any more ({reply.status})", text)
            return Failed(said, divides=False)
        case Row.TOO_LARGE | Row.REFUSED:
            return Hold(HoldScope.LANE, _said(f"the platform refuses to tell of the import ({reply.status})", text))
        case Row.THROTTLED | Row.CREDENTIALS | Row.FORBIDDEN | Row.MISDIRECTED:
            return _of_nobody(row, reply, text)
        case _:
            assert_never(row)


_CAUSES = {
    FailureKind.NOT_SENT: RetryCause.NOT_SENT,
    FailureKind.TIMED_OUT: RetryCause.TIMED_OUT,
    FailureKind.RESET: RetryCause.RESET,
}


def _unanswered(failure: Failure) -> Retry | Hold | None:
    """What a call without an answer means where nothing was sent; None: it was."""
    if failure.kind is FailureKind.NOT_SENT:
        return Retry(RetryCause.NOT_SENT, failure.detail)
    if failure.kind is FailureKind.BAD_CERTIFICATE:
        return Hold(HoldScope.LANE, f"bad certificate: {failure.detail}")
    return None


def _of_nobody(row: Row, answer: Answer, text: str | None) -> Retry | Hold:
    """What is no row's fault, the same for create and poll."""
    if row is Row.THROTTLED:
        return Retry(RetryCause.THROTTLED, text)
    if row is Row.CREDENTIALS:
        return Hold(HoldScope.ACCOUNT, f"credentials refused ({answer.status})")
    if row is Row.FORBIDDEN:
        return Hold(HoldScope.LANE, _said("the platform forbids it (403)", text))
    return Hold(HoldScope.LANE, misdirected(answer.status))


def _said(problem: str, text: str | None) -> str:
    return f"{problem}: {text}" if text else problem
