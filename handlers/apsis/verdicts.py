"""Whose fault is what Apsis One and its storage answered, and what now. Pure."""

import re

from handlers.apsis.wire import ImportState, opened_import, platform_text, status_of
from handlers.base import Answer, Failure, FailureKind, Hold, HoldScope, Reply, Retry, RetryCause
from handlers.imports.verdicts import (
    Completed,
    CreateVerdict,
    Divide,
    Failed,
    Lapsed,
    Opened,
    Pending,
    PollVerdict,
    Unclear,
    Unnamed,
    Upload,
    Uploaded,
    UploadVerdict,
    judge_refused_create,
    judge_refused_poll,
)
from handlers.statuses import Row, misdirected, row_of

# The storage's own word for what is wrong, in its XML; nothing else of that body is read.
_STORAGE_CODE = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")
_SIZE_CODES = frozenset({"EntityTooLarge", "EntityTooSmall", "MaxMessageLengthExceeded"})


def judge_create(reply: Reply) -> CreateVerdict:
    """What the answer to a create means. A success that cannot be read may have opened an import all the same."""
    if isinstance(reply, Failure) or row_of(reply.status) is not Row.DONE:
        return judge_refused_create(reply, _text(reply))
    opened = None if reply.truncated else opened_import(reply.body)
    if opened is None:
        return Unnamed(f"the platform answered {reply.status} without the id of an import")
    return Opened(opened.import_id, Upload(opened.upload_url, opened.fields, opened.expires_at_ms))


def judge_upload(reply: Reply, *, expired: bool) -> UploadVerdict:
    """What the storage's answer to the file means; ``expired``: the address's time was over when it came."""
    if isinstance(reply, Failure):
        match reply.kind:
            case FailureKind.NOT_SENT:
                return Lapsed() if expired else Retry(RetryCause.NOT_SENT, reply.detail)
            case FailureKind.BAD_CERTIFICATE:
                return Hold(HoldScope.LANE, f"bad certificate of the upload address: {reply.detail}")
        return Unclear(reply.detail)
    status, code = reply.status, _storage_code(reply)
    row = row_of(status)
    if row is Row.DONE:
        return Uploaded()
    if row is Row.BROKEN:
        return Unclear(f"the upload address answered {status}")
    if row in (Row.THROTTLED, Row.CONFLICT):
        return Retry(RetryCause.THROTTLED, f"the upload address answered {status}")
    if row is Row.TOO_LARGE or code in _SIZE_CODES:
        return Divide(too_large=True, detail=f"the upload address answered {status}{_named(code)}")
    if row in (Row.FORBIDDEN, Row.CREDENTIALS) and expired:
        return Lapsed()
    if row is Row.MISDIRECTED:
        return Hold(HoldScope.LANE, f"the upload address: {misdirected(status)}")
    # The storage does not look into the file: what it refuses is the form, which is the platform's and ours.
    return Hold(HoldScope.LANE, f"the upload address refuses the file ({status}{_named(code)})")


def judge_poll(reply: Reply) -> PollVerdict:
    """What an import's status means. A word that is not known is not final."""
    if isinstance(reply, Failure) or row_of(reply.status) is not Row.DONE:
        return judge_refused_poll(reply, _text(reply))
    status = None if reply.truncated else status_of(reply.body)
    if status is None:
        return Retry(RetryCause.SERVER_ERROR, "the import's status is unreadable")
    match status.state:
        case ImportState.COMPLETED:
            return Completed(status.found, status.failed)
        case ImportState.ERROR:
            return Failed("the platform says of the import: error", status.found, status.processed)
        case ImportState.WAITING_FOR_FILE:
            return Pending(status.state, has_file=False)
        case ImportState.QUEUED | ImportState.IN_PROGRESS:
            return Pending(status.state, has_file=True, processed=status.processed)
    return Pending(status.state, processed=status.processed)


def _text(reply: Reply) -> str | None:
    return platform_text(reply.body) if isinstance(reply, Answer) else None


def _storage_code(answer: Answer) -> str | None:
    found = _STORAGE_CODE.search(answer.body)
    return None if found is None else found[1].decode()


def _named(code: str | None) -> str:
    return f", {code}" if code else ""
