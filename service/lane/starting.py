"""The record of where a lane began with a partition, written with that partition's first commit."""

from collections.abc import Mapping

from aiokafka.structs import TopicPartition

from contracts.journal import Start as StartEntry
from contracts.journal import StartKey, encode_entry, encode_key
from contracts.timestamps import rfc3339_ms
from service.config import Start
from service.intake.starts import Begin
from service.settling.batches import PartitionWrite, Record


def start_writes(
    journal: str,
    fresh: Mapping[TopicPartition, Begin],
    start: Start,
    counts: Mapping[str, int],
    now_ms: int,
    replay_topic: str,
) -> list[PartitionWrite]:
    """``start/<topic>`` for each fresh partition of a source topic, into the journal partition of the same number."""
    policy = start.policy if start.time_ms is None else rfc3339_ms(start.time_ms)
    by_partition: dict[int, list[Record]] = {}
    for tp, begin in fresh.items():
        if tp.topic == replay_topic:
            continue
        entry = StartEntry(
            policy=policy,
            resolved_at_ms=now_ms,
            partitions=max(1, counts.get(tp.topic, tp.partition + 1)),
            first_offset=begin.offset,
        )
        record: Record = (now_ms, encode_key(StartKey(tp.topic)), encode_entry(entry), [])
        by_partition.setdefault(tp.partition, []).append(record)
    return [PartitionWrite(journal, partition, records) for partition, records in by_partition.items()]
