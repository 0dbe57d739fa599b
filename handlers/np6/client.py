"""The calls to NP6, as requests relative to the account's base URL. Pure: nothing is sent here.

Each part of a path is percent-encoded, so that no target can name another resource. What encoding cannot
make safe is refused by :func:`addressable`: a part that is empty, and ``.`` or ``..`` as a whole or between
slashes. RFC 3986 takes ``%2E`` for a dot, so that a client, a proxy or the server may walk up the path with
it, and some servers decode ``%2F`` before they look for dots.
"""

from collections.abc import Mapping
from secrets import token_hex
from urllib.parse import quote, urlencode

from handlers.base import Request

KEY_HEADER = "X-Key"

# Without it the platform answers 411 to a POST that has no body.
_NO_BODY = (("Content-Length", "0"),)
_READ = (("Accept", "application/json"),)
IMPORT_MEDIA_TYPE = "application/vnd.mperf.v8.import.v1+json"
_READ_IMPORT = (("Accept", IMPORT_MEDIA_TYPE),)
_SEND_IMPORT = (("Content-Type", "application/json"), *_READ_IMPORT)
_FILE = (("Content-Type", "application/octet-stream"), *_READ)
_EXECUTE = (("Content-Type", "application/json"), *_READ)
WORKFLOW_MEDIA_TYPE = "application/vnd.np6.cm.workflow-v4"
_WORKFLOW = (("Content-Type", WORKFLOW_MEDIA_TYPE), ("Accept", WORKFLOW_MEDIA_TYPE))


def credentials(secrets: Mapping[str, str]) -> dict[str, str]:
    """The headers that carry the account's ``api_key``, for every call.

    Raises ValueError, without the secret, if it cannot stand in a header.
    """
    secret = secrets["api_key"]
    if not secret or not secret.isascii() or not secret.isprintable() or secret != secret.strip():
        raise ValueError("an NP6 key is printable ASCII, not empty, without blanks around it")
    return {KEY_HEADER: secret}


def addressable(part: str) -> bool:
    """Whether ``part`` can stand in a path as what it is."""
    if part.isascii() and part.isalnum():
        return True
    if not part or (not part.isascii() and not _is_unicode(part)):
        return False
    return "." not in part or not _walks(part)


def join_segment(target: str, segment: str) -> Request:
    """Assigns a target to a segment: 204. Raises ValueError for a part that is not :func:`addressable`."""
    return Request("POST", f"/targets/{_encoded(target)}/segments/{_encoded(segment)}", _NO_BODY)


def leave_segment(target: str, segment: str) -> Request:
    """Takes a target out of a segment: 204. Raises ValueError for a part that is not :func:`addressable`."""
    return Request("DELETE", f"/targets/{_encoded(target)}/segments/{_encoded(segment)}")


def segments_of(target: str) -> Request:
    """Reads the segments of a target: 200, a list of int. Raises ValueError like :func:`join_segment`."""
    return Request("GET", f"/targets/{_encoded(target)}/segments", _READ)


def execute_workflow(workflow: int, body: bytes) -> Request:
    """Executes a workflow for each object of the JSON list ``body``: 200, a list of items in the same order."""
    return Request("POST", f"/scripting/workflows/{workflow:d}/executions", _WORKFLOW, body)


def notifications_of(target: str, *, start: str | None, end: str | None, sort: str | None) -> Request:
    """Lists what happened to what a target was shown: 200, a list that may be long. ``start`` is included, ``end`` is
    not, both ISO 8601; ``sort`` is asc or desc. Raises ValueError like :func:`join_segment`."""
    asked = {name: value for name, value in (("start", start), ("end", end), ("sort", sort)) if value is not None}
    query = f"?{urlencode(asked)}" if asked else ""
    return Request("GET", f"/targets/{_encoded(target)}/notifications{query}", _READ)


def duplicate_workflow(workflow: int) -> Request:
    """Makes a copy of a workflow: 200, the new one. Not to be repeated blindly."""
    return Request("POST", f"/scripting/workflows/{workflow:d}/duplication", (*_NO_BODY, *_READ))


def execute_once(workflow: int, body: bytes) -> Request:
    """Executes a workflow for the one object ``body``: 200, one item. Not to be repeated blindly."""
    return Request("POST", f"/scripting/workflows/{workflow:d}/execution", _WORKFLOW, body)


def imports() -> Request:
    """Lists the account's imports: 200, a list of definitions."""
    return Request("GET", "/imports", _READ_IMPORT)


def import_of(import_id: int) -> Request:
    """Reads the definition of an import: 200."""
    return Request("GET", f"/imports/{import_id:d}", _READ_IMPORT)


def create_import(body: bytes) -> Request:
    """Makes an import of a definition: 200 or 201, the definition with its id. Not to be repeated blindly."""
    return Request("POST", "/imports", _SEND_IMPORT, body)


def put_source(import_id: int, file_name: str) -> Request:
    """Gives an import the file that its next execution takes; the body is sent apart. 2xx."""
    disposition = ("Content-Disposition", f'form-data; filename="{file_name}"')
    return Request("PUT", f"/imports/{import_id:d}/source", (*_FILE, disposition))


def execute_import(import_id: int, binding: int) -> Request:
    """Executes an import with the file that was put: 2xx. Not to be repeated blindly."""
    return Request("POST", f"/imports/{import_id:d}/executions", _EXECUTE, b'{"binding": %d}' % binding)


def execution_state(import_id: int) -> Request:
    """Reads the state of an import's last execution: 200, ``{state}``."""
    return Request("GET", f"/imports/{import_id:d}/executions", _READ)


def probe(api_version: int = 0) -> Request:
    """Reads a target that does not exist: whoever may do that gets 404 or an empty list."""
    return segments_of(f"fanline-check-{token_hex(8)}")


def _encoded(part: str) -> str:
    if part.isascii() and part.isalnum():
        return part
    if not addressable(part):
        raise ValueError("a part of the path is empty, climbs the path or is no Unicode text")
    return quote(part, safe="")


def _is_unicode(part: str) -> bool:
    try:
        part.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _walks(part: str) -> bool:
    return any(piece in (".", "..") for piece in part.replace("\\", "/").split("/"))
