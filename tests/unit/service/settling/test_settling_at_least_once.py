"""Settling without transactions: every acknowledgement first, then the offsets; each broker answer at both steps."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import CoordinationType
from aiokafka.errors import NodeNotReadyError
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.structs import TopicPartition

from service.clock import SystemClock
from service.errors import FencedError, RefusedError, SettleError, TransactorLostError
from service.kafka.codes import COORDINATOR_MOVED, FENCED, LEADER_MOVED, REFUSED, Code
from service.kafka.private import Membership
from service.settling.at_least_once import AcknowledgedCommitter
from service.settling.batches import PackedWrite, PartitionWrite
from service.settling.packing import Packer
from service.settling.producing import TransactorPolicy
from service.settling.transactor import Committed
from service.turns import Turns
from tests.support.fakes import records_in

POLICY = TransactorPolicy(settle_deadline_s=0.3, short_backoff_s=0.001, max_backoff_s=0.002)
MEMBER = Membership("group", 7, "member-1", None)
SOURCE, OTHER = TopicPartition("contacts", 0), TopicPartition("contacts", 1)

Answer = int | Exception


class Client:
    """A broker: Produce answers by partition of ``results``, OffsetCommit by what is scripted; then all is well."""

    def __init__(self) -> None:
        self.produce: dict[int, list[Answer]] = {}
        self.commit: list[Answer] = []
        self.leaders: dict[int, int | None] = {}
        self.sent: list[tuple[str, Any]] = []
        self.updates = 0
        self.topics_added: list[str] = []
        self.cluster = SimpleNamespace(leader_for_partition=self._leader)

    def _leader(self, tp: TopicPartition) -> int | None:
        leader = self.leaders.get(tp.partition, 1)
        if leader is None:
            self.leaders[tp.partition] = 1  # known by the next time
        return leader

    async def coordinator_lookup(self, kind: CoordinationType, key: str) -> int:
        assert (kind, key) == (CoordinationType.GROUP, "group")
        return 1

    def force_metadata_update(self) -> None:
        self.updates += 1

    def add_topic(self, topic: str) -> None:
        self.topics_added.append(topic)

    async def send(self, node: int, request: Any, *, group: Any = None) -> Any:
        await asyncio.sleep(0)
        if isinstance(request, OffsetCommitRequest):
            self.sent.append(("commit", request))
            said = self.commit.pop(0) if self.commit else 0
            if isinstance(said, Exception):
                raise said
            topics = [(topic, [(part[0], said) for part in parts]) for topic, parts in request._topics]
            return SimpleNamespace(topics=topics)
        self.sent.append(("produce", request))
        answers = []
        for topic, parts in request._topics:
            for partition, _ in parts:
                script = self.produce.get(partition)
                code = script.pop(0) if script else 0
                if isinstance(code, Exception):
                    raise code
                answers.append((topic, [(partition, code, 0)]))
        return SimpleNamespace(topics=answers)

    def steps(self) -> list[str]:
        return [step for step, _ in self.sent]


def committer(client: Client) -> AcknowledgedCommitter:
    return AcknowledgedCommitter(client, POLICY)  # type: ignore[arg-type] # a fake of what it uses


async def commit(client: Client, *partitions: int, records: int = 1) -> AcknowledgedCommitter:
    made = committer(client)
    await made.open()
    assert made.healthy
    writes = [PartitionWrite("results", n, [(1, b"k", b"v", [])] * records) for n in partitions or (0,)]
    try:
        await made.commit(writes, {SOURCE: Committed(12, "meta")}, MEMBER)
    except SettleError:
        assert not made.healthy
        raise
    assert made.healthy
    return made


async def test_offsets_are_committed_behind_every_acknowledgement() -> None:
    """A partition that had to be asked three times is waited for; offsets carry the membership."""
    client = Client()
    client.produce = {1: [Code.NOT_ENOUGH_REPLICAS, Code.NOT_LEADER_OR_FOLLOWER]}
    await commit(client, 0, 1)
    assert client.steps() == ["produce", "produce", "produce", "commit"]
    request = client.sent[-1][1]
    assert (request._consumer_group, request._consumer_group_generation_id) == ("group", 7)
    assert request._consumer_id == "member-1"
    assert request._topics == [("contacts", [(0, 12, "meta")])]
    for _, produce in client.sent[:-1]:
        assert (produce._transactional_id, produce._required_acks) == (None, -1)


async def test_only_what_was_not_acknowledged_is_sent_again() -> None:
    """And metadata are asked for where the leader moved."""
    client = Client()
    client.produce = {1: [Code.NOT_LEADER_OR_FOLLOWER]}
    await commit(client, 0, 1)
    rounds = [[part for _, parts in request._topics for part, _ in parts] for step, request in client.sent[:-1]]
    assert rounds == [[0, 1], [1]]
    assert client.updates == 1


async def test_a_partition_without_a_leader_waits_for_one() -> None:
    """The topic is asked for; nothing is sent into the void."""
    client = Client()
    client.leaders = {0: None}
    await commit(client, 0)
    assert client.topics_added == ["results"]
    assert client.steps() == ["produce", "commit"]


async def test_a_lost_connection_is_tried_again() -> None:
    """At both steps."""
    client = Client()
    client.produce = {0: [NodeNotReadyError("gone")]}
    client.commit = [NodeNotReadyError("gone"), AssertionError()]
    await commit(client)
    assert client.steps() == ["produce", "produce", "commit", "commit", "commit"]


def expected(step: str, code: Code) -> type[SettleError] | None:
    """What a code that is answered for ever ends in; None: success."""
    if code == Code.NONE or (step == "produce" and code == Code.DUPLICATE_SEQUENCE_NUMBER):
        return None
    if code in REFUSED:
        return RefusedError
    return FencedError if step == "commit" and code in FENCED else TransactorLostError


@pytest.mark.parametrize("code", list(Code), ids=lambda code: code.name)
@pytest.mark.parametrize("step", ["produce", "commit"])
async def test_every_code_for_ever(step: str, code: Code) -> None:
    """It ends as the table says, within the deadline, and leaves a committer that has to be opened again."""
    client = Client()
    answers: list[Answer] = [int(code)] * 10_000
    if step == "produce":
        client.produce = {0: answers}
    else:
        client.commit = answers
    end = expected(step, code)
    if end is None:
        await commit(client)
        return
    with pytest.raises(end) as caught:
        await commit(client)
    assert step == "commit" or "commit" not in client.steps()
    if isinstance(caught.value, RefusedError):
        assert caught.value.what == ("results" if step == "produce" else "group group")


RETRIED = {
    "produce": sorted(LEADER_MOVED | {Code.CONCURRENT_TRANSACTIONS}),
    "commit": sorted(COORDINATOR_MOVED),
}


@pytest.mark.parametrize(("step", "code"), [(step, code) for step, codes in RETRIED.items() for code in codes])
async def test_what_passes_is_waited_for(step: str, code: Code) -> None:
    """Once, and the commit succeeds all the same."""
    client = Client()
    if step == "produce":
        client.produce = {0: [int(code)]}
    else:
        client.commit = [int(code)]
    await commit(client)
    assert client.steps().count(step) == 2


async def test_a_refusal_counts_before_what_else_went_wrong() -> None:
    """It names what a person has to mend."""
    client = Client()
    client.produce = {0: [Code.UNKNOWN_PRODUCER_ID], 1: [Code.MESSAGE_TOO_LARGE]}
    with pytest.raises(RefusedError, match="results: MESSAGE_TOO_LARGE"):
        await commit(client, 0, 1)


async def test_batches_of_one_partition_go_one_after_the_other() -> None:
    """The second is sent when the first is acknowledged; what is tried again keeps its place."""
    client = Client()
    client.produce = {0: [Code.REQUEST_TIMED_OUT]}
    made = committer(client)
    await made.open()
    write = PartitionWrite("results", 0, [(1, None, b"a" * 400_000, []), (1, None, b"b" * 400_000, [])])
    await made.commit([write], {SOURCE: Committed(1, "")}, MEMBER)
    data = [parts[0][1] for step, request in client.sent if step == "produce" for _, parts in request._topics]
    assert len(data) == 3
    assert data[0] == data[1] != data[2]


async def test_what_is_packed_is_sent_as_it_is() -> None:
    """And what is not goes behind it, where both are for one partition."""
    client = Client()
    made = committer(client)
    await made.open()
    packer = Packer(Turns(SystemClock()))
    await packer.add([(1, b"k", b"v", [])] * 3)
    writes = [
        PartitionWrite("results", 0, [(2, b"k", b"w", [])]),
        PackedWrite("results", 0, await packer.packed()),
    ]
    await made.commit(writes, {SOURCE: Committed(1, "")}, MEMBER)
    data = [parts[0][1] for step, request in client.sent if step == "produce" for _, parts in request._topics]
    assert [[value for _, _, value, _ in records_in(one)] for one in data] == [[b"v"] * 3, [b"w"]]
    assert {(one[22] & 0x10, one[43:57]) for one in data} == {(0, b"\xff" * 14)}


async def test_offsets_alone_are_committed() -> None:
    """Skipped events that are not published still move the offsets."""
    client = Client()
    made = committer(client)
    await made.commit([], {SOURCE: Committed(1, ""), OTHER: Committed(2, "x")}, MEMBER)
    assert client.steps() == ["commit"]
    assert client.sent[0][1]._topics == [("contacts", [(0, 1, ""), (1, 2, "x")])]


async def test_the_deadline_bounds_it() -> None:
    """A broker that never answers does not keep the lane."""
    client = Client()

    async def never(node: int, request: Any, *, group: Any = None) -> Any:
        await asyncio.Event().wait()

    client.send = never  # type: ignore[method-assign] # nobody answers
    with pytest.raises(TransactorLostError, match="deadline"):
        await commit(client)
