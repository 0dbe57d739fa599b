"""The upload of an import's file as a form: to where the platform said, if a file may go there."""

import secrets
from collections.abc import Sequence

import msgspec
from yarl import URL

from handlers.base import Failure, FailureKind, Hold, HoldScope, Reply, Request
from handlers.imports.form import address_problem, content_type, form_around, is_named, length_range, resolved_problem
from handlers.imports.verdicts import Opened, Upload
from service.imports.seams import Spooled
from service.uploading.sending import Body, FileSender, Misled
from service.uploading.spool import SpoolError


class FormPolicy(msgspec.Struct, frozen=True):
    """Where an account's files may go, and how long they may be, whatever the form allows. ``plain_loopback``: the
    account's own address is this machine."""

    hosts: Sequence[str]
    max_file_bytes: int
    plain_loopback: bool = False


class FormUploads:
    """Uploads the files of one account; implements ``service.imports.seams.Uploads``. Nothing of ours proves there
    who we are: the form does."""

    def __init__(self, sender: FileSender, policy: FormPolicy) -> None:
        self._sender = sender
        self._policy = policy

    def problem(self, opened: Opened, file: Spooled) -> str | None:
        """Why the file may not be sent there; the words name the host at most."""
        upload = opened.upload
        if upload is None:
            return "the platform gave no upload address"
        return upload_problem(upload, file.size, self._policy)

    async def send(self, opened: Opened, file: Spooled) -> Reply | Hold:
        """Send the file once, behind every given field, first and unchanged."""
        upload = opened.upload
        assert upload is not None, "problem() comes first"
        boundary = secrets.token_hex(16)
        before, behind = form_around(upload.fields, boundary)
        named = is_named(upload.url, self._policy.hosts)

        def problem_of(address: str) -> str | None:
            return resolved_problem(address, named=named, plain_loopback=self._policy.plain_loopback)

        address = URL(upload.url, encoded=True)
        request = Request("POST", address.raw_path_qs, (("Content-Type", content_type(boundary)),))
        try:
            reply = await self._sender.send(address.origin(), request, {}, Body(file, before, behind), problem_of)
        except SpoolError as error:
            # Some of it may have gone out: the status tells.
            return Failure(FailureKind.RESET, str(error))
        except ValueError:
            return Hold(HoldScope.LANE, "the upload address is no URL")
        return Hold(HoldScope.LANE, reply.problem) if isinstance(reply, Misled) else reply


def upload_problem(upload: Upload, size: int, policy: FormPolicy) -> str | None:
    """PURE: why a file of so many bytes may not be sent to an address; None: it may."""
    problem = address_problem(upload.url, policy.hosts, plain_loopback=policy.plain_loopback)
    if problem is not None:
        return problem
    lengths = length_range(upload.fields, policy.max_file_bytes)
    if size > lengths.at_most:
        return f"the upload takes {lengths.at_most} bytes, the file has {size}: a smaller batch.max_bytes is needed"
    if size < lengths.at_least:
        return f"the upload takes no file below {lengths.at_least} bytes"
    try:
        form_around(upload.fields, "-")
    except ValueError as error:
        return str(error)
    return None
