"""``topics ensure``: creates what is missing, and says what of the rest is wrong."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from aiokafka.admin import NewTopic
from aiokafka.conn import AIOKafkaConnection
from msgspec import Struct, structs

from service.config import Configuration
from service.findings import Finding, Severity, worst_first
from service.kafka.administration import TopicsError, create_topics, read_topics, until_led
from service.kafka.connection import connection_arguments
from service.kafka.probing import connected, visible_topics
from service.kafka.rights import hidden
from service.kafka.topic_faults import FoundTopic, durability_faults, source_faults, topic_faults, unwritable_faults
from service.kafka.topics import Role, WantedTopic, source_topics, wanted_topics

_ALIKE = 0.8


class TopicLine(Struct, frozen=True):
    """A topic of the configuration after the review. ``partitions`` and ``replication`` are None where missing."""

    name: str
    role: Role
    lane: str | None
    partitions: int | None
    replication: int | None
    created: bool = False


class Review(Struct, frozen=True):
    """All topics of a configuration, and what is to be said of them, the worst first."""

    topics: tuple[TopicLine, ...]
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        """Whether something would keep a lane from starting or break a guarantee."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)


async def ensure_topics(config: Configuration, *, source_partitions: int | None = None) -> Review:
    """Creates the missing topics. Source topics are their publishers' to create: a missing one is an error, and its
    lanes get no topics, for their number of partitions is not known. With ``source_partitions`` missing ones are
    created with so many partitions, for trials.

    Raises NoBrokerError, UnreachableError, TopicsError, StartError, SecretError. Doing it again changes nothing.
    """
    arguments = connection_arguments(config.kafka)
    sources, replication = source_topics(config), config.kafka.topics.replication
    async with connected(arguments) as connection:
        seen, found = await read_topics(connection, sources)
        created: list[str] = []
        missing = seen.missing(sources)
        if missing and source_partitions is not None:
            _refuse_replication(replication, len(seen.nodes))
            created += await create_topics(
                arguments, [NewTopic(name, source_partitions, replication) for name in missing]
            )
            await until_led(connection, missing)
            _, found = await read_topics(connection, sources)
        wanted = _wanted(config, found)
        seen, _ = await read_topics(connection, [topic.name for topic in wanted])
        new = [topic for topic in wanted if topic.name in seen.missing([topic.name])]
        if new:
            _refuse_replication(replication, len(seen.nodes))
            created += await create_topics(arguments, [_new_topic(topic, replication) for topic in new])
            await until_led(connection, [topic.name for topic in new])
        return await review_topics(config, connection, created=created)


async def review_topics(
    config: Configuration, connection: AIOKafkaConnection, *, created: Sequence[str] = ()
) -> Review:
    """Looks at all topics and changes nothing."""
    sources = source_topics(config)
    seen, found = await read_topics(connection, sources)
    wanted = _wanted(config, found)
    names = [topic.name for topic in wanted]
    seen_own, own = await read_topics(connection, names)
    unseen = frozenset([*seen.hidden(sources), *seen_own.hidden(names)])
    review = _review(config, found, own, wanted, unseen, frozenset(created))
    mistaken = [name for name in seen.missing(sources) if name not in unseen]
    return _with_suggestions(review, mistaken, await visible_topics(connection)) if mistaken else review


def _with_suggestions(review: Review, mistaken: Sequence[str], visible: Sequence[str]) -> Review:
    """A missing source topic whose name is almost that of another one is probably that other one."""
    meant = {f"topic {name}": get_close_matches(name, visible, n=1, cutoff=_ALIKE) for name in mistaken}
    findings = (
        structs.replace(finding, problem=f"{finding.problem} (there is {close[0]})")
        if (close := meant.get(finding.subject))
        else finding
        for finding in review.findings
    )
    return structs.replace(review, findings=tuple(findings))


def _review(
    config: Configuration,
    sources: Mapping[str, FoundTopic],
    own: Mapping[str, FoundTopic],
    wanted: Sequence[WantedTopic],
    unseen: frozenset[str],
    created: frozenset[str],
) -> Review:
    missing = [name for name in source_topics(config) if name not in sources]
    findings = [hidden(Role.SOURCE, name) if name in unseen else _missing_source(name) for name in missing]
    findings += source_faults(config, sources)
    for topic in wanted:
        if topic.name in own:
            findings += topic_faults(topic, own[topic.name], config.kafka.topics.replication)
        else:
            findings.append(hidden(topic.role, topic.name) if topic.name in unseen else _missing(topic.name))
    findings += unwritable_faults(own.values())
    findings += durability_faults([*sources.values(), *own.values()])
    lines = [_line(name, Role.SOURCE, None, sources.get(name), created) for name in source_topics(config)]
    lines += [_line(topic.name, topic.role, topic.lane, own.get(topic.name), created) for topic in wanted]
    return Review(tuple(lines), tuple(worst_first(findings)))


def _wanted(config: Configuration, found: Mapping[str, FoundTopic]) -> list[WantedTopic]:
    return wanted_topics(config, {name: topic.as_source for name, topic in found.items()})


def _new_topic(topic: WantedTopic, replication: int) -> NewTopic:
    return NewTopic(topic.name, topic.partitions, replication, topic_configs=dict(topic.settings))


def _refuse_replication(replication: int, brokers: int) -> None:
    if brokers < replication:
        raise TopicsError(
            f"kafka.topics.replication is {replication}, but the cluster has {brokers} "
            f"broker{'s' if brokers != 1 else ''}: no topic was created. Set the key to at most {brokers}; below 3 a "
            "broken disk can take results with it"
        )


def _missing_source(name: str) -> Finding:
    problem = "a source topic that does not exist"
    remedy = "its publishers create it; for a trial `fanline topics ensure --sources N` does"
    return Finding(Severity.ERROR, f"topic {name}", problem, remedy)


def _missing(name: str) -> Finding:
    return Finding(Severity.ERROR, f"topic {name}", "does not exist", "`fanline topics ensure` creates it")


def _line(name: str, role: Role, lane: str | None, found: FoundTopic | None, created: frozenset[str]) -> TopicLine:
    if found is None:
        return TopicLine(name, role, lane, None, None)
    return TopicLine(name, role, lane, found.partitions, found.replication, name in created)
