"""How far a lane is settled, for whoever only looks: an operator's command, an audit."""

from collections.abc import Collection, Mapping
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.structs import TopicPartition

from service.journal.reading import read_journal
from service.journal.settled import refuse_undecided, trusted
from service.kafka.names import LaneNames
from service.kafka.offsets import CommittedOffset, read_told_offsets


async def settled_offsets(
    client: AIOKafkaClient,
    connection: Mapping[str, Any],
    names: LaneNames,
    partitions: Collection[TopicPartition],
    *,
    within_s: float,
) -> dict[TopicPartition, CommittedOffset]:
    """As the lane's group tells, and where that calls a commit undecided for longer than ``within_s``, as the journal
    says.

    Raises TimeoutError, RefusedError, KafkaError, JournalUnreadableError, TransactorLostError (nobody knows).
    """
    told = await read_told_offsets(client, names.group, partitions, within_s=within_s)
    if not told.pending:
        return told.offsets
    journal = await read_journal(connection, names.journal, own={tp.partition for tp in told.pending})
    found = trusted(told, journal.settled, told.pending)
    refuse_undecided(found)
    return found.offsets
