"""What a lane leaves on the brokers: members, transactions, committed metadata, keys that a compacted topic keeps."""

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields
from aiokafka.structs import TopicPartition

from tests.support.kafka import end_of

_OPEN = frozenset({"Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"})


class ListTransactionsResponse_v0(Response):
    API_KEY = 66
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("unknown_state_filters", CompactArray(CompactString("utf-8"))),
        (
            "transaction_states",
            CompactArray(
                ("transactional_id", CompactString("utf-8")),
                ("producer_id", Int64),
                ("state", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class ListTransactionsRequest_v0(RequestStruct):
    API_KEY = 66
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ListTransactionsResponse_v0
    SCHEMA = Schema(
        ("state_filters", CompactArray(CompactString("utf-8"))),
        ("producer_id_filters", CompactArray(Int64)),
        ("tags", TaggedFields),
    )


class ListTransactions(Request[ListTransactionsRequest_v0]):
    """Every transactional id that a broker coordinates, with its producer id and state."""

    API_KEY = 66

    def build(self, request_struct_class: type[ListTransactionsRequest_v0]) -> ListTransactionsRequest_v0:
        return request_struct_class([], [], {})


class Brokers:
    """Asks one broker; an async context manager. ``prefix`` is that of the lanes' groups and transactional ids."""

    def __init__(self, servers: str, prefix: str, lanes: Sequence[str], compacted: Sequence[str]) -> None:
        self._prefix = prefix
        self._groups = [f"{prefix}.{lane}" for lane in lanes]
        self._compacted = compacted
        self._client = AIOKafkaClient(bootstrap_servers=servers)
        self._admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        self._keys: dict[str, dict[tuple[int, bytes | None], None]] = {topic: {} for topic in compacted}

    async def __aenter__(self) -> "Brokers":
        await self._client.bootstrap()
        await self._admin.start()
        await self._consumer.start()
        await self._consumer._client.set_topics(self._compacted)
        self._consumer.assign(
            [TopicPartition(t, n) for t in self._compacted for n in self._consumer.partitions_for_topic(t) or ()]
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await end_of(self._consumer)
        await self._admin.close()
        await self._client.close()

    async def look(self) -> dict[str, float]:
        """What is there now."""
        return {**await self._transactions(), **await self._group_state(), **await self._kept()}

    async def _transactions(self) -> dict[str, float]:
        node = self._client.get_random_node()
        answer: Any = await self._client.send(node, ListTransactions())
        ours = [one for one in answer.transaction_states if one[0].startswith(self._prefix)]
        return {
            "producer_ids": len({one[1] for one in ours}),
            "open_transactions": sum(one[2] in _OPEN for one in ours),
        }

    async def _group_state(self) -> dict[str, float]:
        members = 0
        for group in self._groups:
            # The client reads the answer for several at once wrongly.
            answers: Any = await self._admin.describe_consumer_groups([group])
            members += sum(len(found[5]) for answer in answers for found in answer.groups)
        sizes: list[int] = []
        for group in self._groups:
            found: Mapping[TopicPartition, Any] = await self._admin.list_consumer_group_offsets(group)
            sizes += [len(value.metadata or "") for value in found.values()]
        return {"group_members": members, "offset_metadata_bytes": max(sizes, default=0)}

    async def _kept(self) -> dict[str, float]:
        """Keys that a compacted topic would keep: those whose last record has a value."""
        for _ in range(100):
            found = await self._consumer.getmany(timeout_ms=50, max_records=5_000)
            for tp, records in found.items():
                keys = self._keys[tp.topic]
                for record in records:
                    if record.value is None:
                        keys.pop((tp.partition, record.key), None)
                    else:
                        keys[tp.partition, record.key] = None
            if not found:
                break
        counts = {topic: len(keys) for topic, keys in self._keys.items()}
        status = sum(count for topic, count in counts.items() if topic.endswith(".status"))
        return {"journal_keys": sum(counts.values()) - status, "status_keys": status}
