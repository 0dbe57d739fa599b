"""Committed offsets are read stable, whole, and never taken for absent because a broker was not ready."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import GroupAuthorizationFailedError, NodeNotReadyError
from aiokafka.structs import TopicPartition

from service.errors import RefusedError
from service.kafka.codes import REFUSED, Code
from service.kafka.offsets import CommittedOffset, ToldOffsets, read_committed_offsets, read_told_offsets
from service.kafka.requests import OffsetFetch

A0, A1, B0 = TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)

# What one answer says: a top-level code, an exception, or (offset, metadata, code) by partition.
Script = int | Exception | dict[TopicPartition, tuple[int, str | None, int]]


class Client:
    """Answers OffsetFetch by a script; behind its end, that offset 7 is committed everywhere."""

    def __init__(self, *script: Script) -> None:
        self._script = list(script)
        self.asked: list[list[TopicPartition]] = []
        self.lookups = 0
        self.requests: list[Any] = []
        self.lookup_faults: list[Exception] = []

    async def coordinator_lookup(self, kind: CoordinationType, key: str) -> int:
        assert (kind, key) == (CoordinationType.GROUP, "group")
        self.lookups += 1
        if self.lookup_faults:
            raise self.lookup_faults.pop(0)
        return 1

    async def send(self, node: int, request: OffsetFetch, *, group: Any = None) -> Any:
        assert group is ConnectionGroup.COORDINATION
        self.requests.append(request)
        topics: list[Any] = request._fields[1]  # type: ignore[assignment] # as OffsetFetch builds it
        asked = [TopicPartition(topic, n) for topic, parts, _ in topics for n in parts]
        self.asked.append(asked)
        await asyncio.sleep(0)
        said = self._script.pop(0) if self._script else {}
        if isinstance(said, Exception):
            raise said
        if isinstance(said, int):
            return SimpleNamespace(error_code=said, topics=[])
        return SimpleNamespace(error_code=0, topics=[self._topic(topic, parts, said) for topic, parts, _ in topics])

    def _topic(self, topic: str, parts: list[int], said: dict[TopicPartition, tuple[int, str | None, int]]) -> Any:
        found = [(n, said.get(TopicPartition(topic, n), (7, "m", 0))) for n in parts]
        return topic, [(n, offset, -1, metadata, code, {}) for n, (offset, metadata, code) in found], {}


async def read(client: Client, *tps: TopicPartition) -> dict[TopicPartition, CommittedOffset]:
    async with asyncio.timeout(5):
        return await read_committed_offsets(client, "group", tps or (A0, A1, B0), backoff_s=0.001)  # type: ignore[arg-type] # a fake


async def test_offsets_come_with_their_metadata() -> None:
    """What was never committed is absent; null metadata are none."""
    client = Client({A0: (12, "finished", 0), A1: (-1, "", 0), B0: (0, None, 0)})
    assert await read(client) == {A0: CommittedOffset(12, "finished"), B0: CommittedOffset(0, "")}
    assert client.asked == [[A0, A1, B0]]


async def test_they_are_asked_for_as_stable_ones() -> None:
    """With a pending transaction the broker must not tell the offset in front of it."""
    client = Client()
    await read(client)
    assert client.requests[0]._fields[0] == "group"
    assert client.requests[0]._fields[2] is True


@pytest.mark.parametrize(
    "code",
    [
        Code.COORDINATOR_LOAD_IN_PROGRESS,
        Code.COORDINATOR_NOT_AVAILABLE,
        Code.NOT_COORDINATOR,
        Code.UNSTABLE_OFFSET_COMMIT,
        Code.UNKNOWN_TOPIC_OR_PARTITION,
        -1,
    ],
)
async def test_a_top_level_error_is_asked_again_and_never_none(code: int) -> None:
    """A coordinator that loads knows nothing yet."""
    client = Client(code, code)
    assert await read(client) == dict.fromkeys((A0, A1, B0), CommittedOffset(7, "m"))
    assert len(client.asked) == 3
    assert client.lookups == 3


async def test_only_what_was_not_answered_is_asked_again() -> None:
    """A pending commit of one partition does not hide the others, nor replace what they said."""
    client = Client({A0: (12, "", 0), A1: (-1, "", Code.UNSTABLE_OFFSET_COMMIT), B0: (-1, "", 0)})
    assert await read(client) == {A0: CommittedOffset(12, ""), A1: CommittedOffset(7, "m")}
    assert client.asked == [[A0, A1, B0], [A1]]


async def test_a_partition_that_an_answer_left_out_is_asked_again() -> None:
    """Absence is no answer."""
    client = Client()
    original = client.send

    async def short(node: int, request: OffsetFetch, *, group: Any = None) -> Any:
        answer = await original(node, request, group=group)
        return SimpleNamespace(error_code=0, topics=answer.topics[:1]) if len(client.asked) == 1 else answer

    client.send = short  # type: ignore[method-assign] # one answer that lacks a topic
    assert await read(client) == dict.fromkeys((A0, A1, B0), CommittedOffset(7, "m"))
    assert client.asked[1] == [B0]


async def test_a_lost_connection_looks_the_coordinator_up_anew() -> None:
    """In the look-up as well as in the request; the client's own assertion counts as one."""
    client = Client(NodeNotReadyError("gone"), AssertionError())
    client.lookup_faults = [NodeNotReadyError("nobody")]
    assert len(await read(client)) == 3
    assert client.lookups == 4


@pytest.mark.parametrize("code", sorted(REFUSED))
@pytest.mark.parametrize("level", ["top", "partition"])
async def test_a_missing_right_is_said_with_the_groups_name(code: Code, level: str) -> None:
    """Asking again would change nothing."""
    client = Client(int(code) if level == "top" else {A1: (-1, "", int(code))})
    with pytest.raises(RefusedError, match="group group") as caught:
        await read(client)
    assert caught.value.what == "group group"


async def test_a_refusal_among_other_errors_is_said() -> None:
    """It counts before a partition that is only unstable."""
    refused, unstable = (-1, "", Code.GROUP_AUTHORIZATION_FAILED), (-1, "", Code.UNSTABLE_OFFSET_COMMIT)
    for answer in ({A0: refused, A1: unstable}, {A0: unstable, A1: refused}):
        with pytest.raises(RefusedError):
            await read(Client(*[answer] * 50))


async def test_nothing_asked_is_nothing_sent() -> None:
    """A member without partitions."""
    client = Client()
    assert await read_committed_offsets(client, "group", ()) == {}  # type: ignore[arg-type] # a fake
    assert client.requests == []


async def test_a_right_that_the_lookup_already_lacks() -> None:
    """aiokafka raises it, and asking again would change nothing: the caller is told, and the group named."""
    client = Client()
    client.lookup_faults = [GroupAuthorizationFailedError("group")]
    with pytest.raises(RefusedError, match=r"group group: GROUP_AUTHORIZATION_FAILED \(30\)"):
        await read(client)
    assert client.lookups == 1


UNSTABLE = (-1, "", int(Code.UNSTABLE_OFFSET_COMMIT))


async def told(client: Client, *tps: TopicPartition, within_s: float = 0.05) -> ToldOffsets:
    async with asyncio.timeout(5):
        return await read_told_offsets(client, "group", tps or (A0, A1, B0), within_s=within_s, backoff_s=0.001)  # type: ignore[arg-type] # a fake


class PendingClient(Client):
    """Calls a commit of A0 pending for as long as it is asked for stable offsets."""

    async def send(self, node: int, request: OffsetFetch, *, group: Any = None) -> Any:
        if request._fields[2]:
            self._script[:0] = [{A0: UNSTABLE}]
        else:
            self._script[:0] = [{A0: (5, "before", 0)}]
        return await super().send(node, request, group=group)


async def test_what_stays_pending_is_told_as_it_was_before_and_named() -> None:
    """Only that partition is asked for so, and only behind the bound."""
    client = PendingClient()
    found = await told(client)
    assert found.offsets == {A0: CommittedOffset(5, "before"), A1: CommittedOffset(7, "m"), B0: CommittedOffset(7, "m")}
    assert found.pending == {A0}
    assert [request._fields[2] for request in client.requests][-2:] == [True, False]
    assert client.asked[-1] == [A0]


async def test_what_is_decided_in_time_is_not_pending() -> None:
    """A transaction that ends is the usual case."""
    found = await told(Client({A0: UNSTABLE}, {A0: UNSTABLE}), within_s=5.0)
    assert found == ToldOffsets(dict.fromkeys((A0, A1, B0), CommittedOffset(7, "m")))


@pytest.mark.parametrize("code", [Code.COORDINATOR_LOAD_IN_PROGRESS, Code.UNKNOWN_TOPIC_OR_PARTITION])
async def test_only_pending_commits_are_asked_for_as_they_were(code: Code) -> None:
    """A coordinator that knows nothing yet would tell none."""

    class Loading(Client):
        async def send(self, node: int, request: OffsetFetch, *, group: Any = None) -> Any:
            self._script[:0] = [{A0: UNSTABLE, A1: (-1, "", int(code))}]
            return await super().send(node, request, group=group)

    client = Loading()
    with pytest.raises(TimeoutError):
        await told(client)
    assert all(request._fields[2] for request in client.requests)
