"""Imports whose create carries the rows: sent from the disk, so that a file is never in memory as a whole."""

from handlers.base import Failure, FailureKind, Reply, Request
from handlers.imports.rows import StreamsRows
from service.imports.dispatcher import ImportDispatcher
from service.imports.runs import ImportRun
from service.transport.account import Permit
from service.uploading.spool import SpoolError


class StreamingDispatcher(ImportDispatcher):
    """What is different where the file stands in the create's body."""

    async def _create_request(self, run: ImportRun) -> Request:
        request, _, _ = self._around(run)
        return request

    async def _send_create(self, run: ImportRun, request: Request, permit: Permit) -> Reply:
        assert run.file is not None
        assert self._imports.way is not None
        _, before, behind = self._around(run)
        way = self._imports.way.transport(run.file, before, behind)
        try:
            return await self._send(run.current, request, permit, way)
        except SpoolError as error:
            # Some of it may have gone out.
            return Failure(FailureKind.RESET, str(error))

    def _around(self, run: ImportRun) -> tuple[Request, bytes, bytes]:
        assert isinstance(self._handler, StreamsRows)
        return self._handler.around(run.items[0].rows[0].group)
