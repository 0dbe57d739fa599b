"""Writes the state of each lane of a process into the status topic, so that one command sees all processes.

It stands beside the lanes and is in nobody's way: what cannot be written is told once and left out, for five seconds
later there is a newer one.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from service.app import Application
from service.kafka.clients import start, stop_quietly
from service.kafka.names import status_topic
from service.lifecycle import LaneState
from service.status.document import encode_report, report_key
from service.status.snapshot import Status
from service.telemetry import LogEvent

EVERY_S = 5.0
_WITHIN_S = 10.0
_LAST_WITHIN_S = 2.0


@asynccontextmanager
async def reporting(app: Application, every_s: float = EVERY_S) -> AsyncIterator[None]:
    """Report for as long as the block lasts, beginning at once. At its end the reports are taken back, but for those
    of lanes that have stopped by themselves: their reasons stay to be read."""
    reporter = _Reporter(app, every_s)
    task = asyncio.create_task(reporter.run(), name="status reports")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await reporter.close()


class _Reporter:
    """One producer for all lanes of a process, made anew whenever it fails."""

    def __init__(self, app: Application, every_s: float) -> None:
        self._app = app
        self._every_s = every_s
        self._status = Status(app)
        self._topic = status_topic(app.config.kafka.topic_prefix)
        self._producer: AIOKafkaProducer | None = None
        self._failing = False
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self._try(self._values, _WITHIN_S)
            await asyncio.sleep(self._every_s)

    async def close(self) -> None:
        """Say that the lanes have ended."""
        if self._producer is not None and not self._failing:
            await self._try(self._last_values, _LAST_WITHIN_S)
        await self._drop()

    async def _values(self) -> dict[bytes, bytes | None]:
        reports = await self._status.reports(self._every_s)
        return {report_key(report.lane, report.instance): encode_report(report) for report in reports}

    async def _last_values(self) -> dict[bytes, bytes | None]:
        ended = {
            name
            for name, lane in self._app.lanes.items()
            if lane.board.state is LaneState.STOPPED and lane.board.reason
        }
        values = await self._values()
        by_key = {report_key(name, self._app.instance): name for name in self._app.lanes}
        return {key: value if by_key[key] in ended else None for key, value in values.items()}

    async def _try(self, values: Any, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await self._send(await values())
        except (KafkaError, TimeoutError) as error:
            if not self._failing:
                self._log.warning(LogEvent.KAFKA_ERROR, kind=type(error).__name__, of="status", topic=self._topic)
            self._failing = True
            await self._drop()
        else:
            self._failing = False

    async def _send(self, values: Mapping[bytes, bytes | None]) -> None:
        if self._producer is None:
            self._producer = await self._started()
        sent = [await self._producer.send(self._topic, value, key=key, partition=0) for key, value in values.items()]
        await asyncio.gather(*sent)

    async def _started(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._app.connection,
            enable_idempotence=True,
            acks="all",
            compression_type="zstd",
            linger_ms=5,
        )
        await start(producer, stop_within_s=_LAST_WITHIN_S)
        return producer

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_quietly(producer, _LAST_WITHIN_S)
