"""What the processes tell of themselves: the newest report of each lane and instance."""

import msgspec
from aiokafka.structs import TopicPartition

from service.lookup.scanning import TopicReader
from service.status.document import LaneReport, decode_report

# Reports are written each few seconds; who was silent for longer than this has nothing to tell of now.
_BACK_MS = 10 * 60_000


async def read_reports(reader: TopicReader, topic: str, now_ms: int) -> list[LaneReport]:
    """The newest report of each lane and instance in the last ten minutes. Raises ReadingError."""
    newest: dict[bytes | None, LaneReport] = {}
    async for _, records in reader.scan(await reader.spans([TopicPartition(topic, 0)], now_ms - _BACK_MS)):
        for record in records:
            if record.value is None:
                newest.pop(record.key, None)
                continue
            try:
                newest[record.key] = decode_report(record.value)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue  # of another version: its lanes count as silent
    return list(newest.values())
