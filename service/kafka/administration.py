"""Reads topics with their settings, and creates topics."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeConfigsRequest

from service.errors import FanlineError
from service.kafka.codes import name_of
from service.kafka.probing import ClusterView, ask, view
from service.kafka.topic_faults import FoundTopic

_TOPIC = 2  # Kafka's number of this type of resource
_SETTINGS = (
    "cleanup.policy",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "min.cleanable.dirty.ratio",
    "min.insync.replicas",
    "retention.ms",
    "segment.bytes",
    "segment.ms",
)
_LEADERS_WITHIN_S = 15.0
_POLL_S = 0.05

_EXISTS = 36
_MISSING_RIGHT = frozenset({29, 31})
_CREATE_ERRORS = {
    37: "the cluster does not take this number of partitions",
    38: "the cluster has fewer brokers in service than kafka.topics.replication says",
    44: "a policy of the cluster forbids it",
}


class TopicsError(FanlineError):
    """Topics could not be created. The message names each and says what to do."""


async def read_topics(
    connection: AIOKafkaConnection, names: Sequence[str]
) -> tuple[ClusterView, dict[str, FoundTopic]]:
    """The cluster, and those of the topics that exist, with their settings. Raises UnreachableError."""
    seen = await view(connection, names)
    existing = [seen.topics[name] for name in names if name in seen.topics and seen.topics[name].exists]
    settings = await _settings(connection, [state.name for state in existing])
    found = {
        state.name: FoundTopic(state.name, state.partitions, state.replication, settings.get(state.name))
        for state in existing
    }
    return seen, found


async def _settings(connection: AIOKafkaConnection, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The settings of each topic; one whose settings may not be read is absent."""
    if not names:
        return {}
    answer = await ask(connection, DescribeConfigsRequest([(_TOPIC, name, list(_SETTINGS)) for name in names]))
    return {
        name: {key: value for key, value, *_ in entries if value is not None}
        for code, _, _, name, entries in answer.resources
        if not code
    }


async def create_topics(arguments: Mapping[str, Any], topics: Iterable[NewTopic]) -> list[str]:
    """Creates topics and waits until they have leaders; gives the names of those that are new. ``arguments`` are
    those of a client. Raises TopicsError with all that went wrong."""
    wanted = {topic.name: topic for topic in topics}
    if not wanted:
        return []
    admin = AIOKafkaAdminClient(**arguments)
    try:
        await admin.start()
        answer: Any = await admin.create_topics(list(wanted.values()))
    except (KafkaError, TimeoutError) as error:
        raise TopicsError(f"topics could not be created: {type(error).__name__}") from error
    finally:
        await admin.close()
    codes = {name: (code, *text) for name, code, *text in answer.topic_errors}
    problems = [_problem(name, *told) for name, told in codes.items() if told[0] not in (0, _EXISTS)]
    if problems:
        raise TopicsError("\n".join(problems))
    return [name for name, told in codes.items() if told[0] == 0]


def _problem(name: str, code: int, text: str | None = None) -> str:
    if code in _MISSING_RIGHT:
        return f"topic {name}: this user of Kafka may not create it; grant Create on topics of the prefix"
    why = _CREATE_ERRORS.get(code, name_of(code))
    return f"topic {name}: {why}" + (f" (the broker says: {text})" if text else "")


async def until_led(connection: AIOKafkaConnection, names: Sequence[str]) -> None:
    """Wait until every partition of the topics has a leader. Raises TopicsError after 15 s."""
    try:
        async with asyncio.timeout(_LEADERS_WITHIN_S):
            while _leaderless(await view(connection, names), names):  # noqa: ASYNC110 - a broker announces nothing
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise TopicsError(f"created topics have no leaders yet: {', '.join(names)}; look at the brokers") from None


def _leaderless(seen: ClusterView, names: Sequence[str]) -> bool:
    return bool(seen.missing(names)) or any(seen.topics[name].leaderless for name in names)
