"""All processes as the status topic tells of them: the newest report of each lane in each process."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from aiokafka.structs import TopicPartition

from service.kafka.clients import stop_quietly
from service.kafka.probing import connected, view
from service.status.asking import NoStatusError
from service.status.document import LaneReport, decode_report

# A process tells each 5 s. Who has not told for so long is shown as silent, and who has not for longer not at all.
SILENT_S = 30.0
LOOK_BACK_S = 15 * 60.0
_WITHIN_S = 30.0
_POLL_MS = 200
_CLOSE_S = 2.0


class Heard(msgspec.Struct, frozen=True):
    """A report and how old it is."""

    report: LaneReport
    age_s: float

    @property
    def silent(self) -> bool:
        """Whether its process tells no more: it hangs, was killed, or does not reach Kafka."""
        return self.age_s > SILENT_S


class Fleet(msgspec.Struct, frozen=True):
    """The reports of all processes, and the lanes of the configuration of which nobody tells."""

    heard: tuple[Heard, ...]
    unheard: tuple[str, ...]


def fleet_of(reports: Mapping[bytes, tuple[int, LaneReport]], lanes: Sequence[str], now_ms: int) -> Fleet:
    """Pure: from each key's record timestamp and report. In the order of ``lanes``, then of the instances."""
    order = {name: place for place, name in enumerate(lanes)}
    heard = [Heard(report, max(0, now_ms - at_ms) / 1000) for at_ms, report in reports.values()]
    heard.sort(key=lambda h: (order.get(h.report.lane, len(order)), h.report.lane, h.silent, h.report.instance))
    told_of = {one.report.lane for one in heard}
    return Fleet(tuple(heard), tuple(name for name in lanes if name not in told_of))


async def read_reports(
    arguments: Mapping[str, Any], topic: str, now_ms: int, look_back_s: float = LOOK_BACK_S
) -> dict[bytes, tuple[int, LaneReport]]:
    """The newest report of each key and its timestamp, of the last ``look_back_s``. Reports of a version that cannot
    be read are left out. Raises NoBrokerError, UnreachableError, NoStatusError."""
    async with connected(arguments) as connection:
        if (await view(connection, [topic])).missing([topic]):
            raise NoStatusError(
                f"topic {topic}: does not exist, or may not be seen by this user of Kafka; "
                "`fanline topics ensure` creates it"
            )
    tp = TopicPartition(topic, 0)
    newest: dict[bytes, tuple[int, LaneReport]] = {}
    consumer = AIOKafkaConsumer(**arguments, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        async with asyncio.timeout(_WITHIN_S):
            await consumer.start()
            consumer.assign([tp])
            end = (await consumer.end_offsets([tp]))[tp]
            since_ms = max(0, now_ms - round(look_back_s * 1000))
            found = (await consumer.offsets_for_times({tp: since_ms})).get(tp)
            consumer.seek(tp, end if found is None else found.offset)
            while await consumer.position(tp) < end:
                for record in (await consumer.getmany(tp, timeout_ms=_POLL_MS)).get(tp, ()):
                    _take(newest, record.key, record.value, record.timestamp)
    except TopicAuthorizationFailedError as error:
        raise NoStatusError(f"topic {topic}: this user of Kafka may not read it; grant Read on the topic") from error
    except (KafkaError, TimeoutError) as error:
        raise NoStatusError(f"topic {topic}: could not be read ({type(error).__name__})") from error
    finally:
        await stop_quietly(consumer, _CLOSE_S)
    return newest


def _take(
    newest: dict[bytes, tuple[int, LaneReport]], key: bytes | None, value: bytes | None, timestamp_ms: int
) -> None:
    if key is None:
        return
    if value is None:
        newest.pop(key, None)
        return
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        newest[key] = (timestamp_ms, decode_report(value))
