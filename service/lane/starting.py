"""The record of where a lane began with a partition, written with that partition's first commit, and of what it lost
there, written with the commit that passes it.
"""

from collections.abc import Mapping

import msgspec
from aiokafka.structs import TopicPartition

from contracts.journal import Lost, StartKey, encode_entry, encode_key
from contracts.journal import Start as StartEntry
from contracts.timestamps import rfc3339_ms
from service.config import Start
from service.intake.starts import Begin
from service.journal.reading import Starts
from service.settling.batches import PartitionWrite, Record

_NONE_PASSED: Mapping[TopicPartition, Lost] = {}
_NONE_EARLIER: Starts = {}


def start_writes(
    journal: str,
    begins: Mapping[TopicPartition, Begin],
    start: Start,
    counts: Mapping[str, int],
    now_ms: int,
    replay_topic: str,
    *,
    passed: Mapping[TopicPartition, Lost] = _NONE_PASSED,
    earlier: Starts = _NONE_EARLIER,
) -> list[PartitionWrite]:
    """``start/<topic>`` of each source partition that is begun, or passes what it lost, into the journal partition of
    the same number. What was lost before, says the record for ever."""
    policy = start.policy if start.time_ms is None else rfc3339_ms(start.time_ms)
    by_partition: dict[int, list[Record]] = {}
    for tp, begin in begins.items():
        lost = passed.get(tp)
        if tp.topic == replay_topic or not (begin.fresh or lost):
            continue
        before = earlier.get((tp.topic, tp.partition))
        entry = before if before is not None and lost is not None else None
        if entry is None:
            entry = StartEntry(
                policy=policy,
                resolved_at_ms=now_ms,
                partitions=max(1, counts.get(tp.topic, tp.partition + 1)),
                first_offset=begin.offset if lost is None else lost.from_offset,
                lost=() if before is None else before.lost,
            )
        if lost is not None:
            entry = msgspec.structs.replace(entry, lost=(*entry.lost, lost))
        record: Record = (now_ms, encode_key(StartKey(tp.topic)), encode_entry(entry), [])
        by_partition.setdefault(tp.partition, []).append(record)
    return [PartitionWrite(journal, partition, records) for partition, records in by_partition.items()]
