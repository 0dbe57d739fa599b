"""What is wrong with topics that exist: pure, from what is wanted and what was found."""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from service.config import Configuration, Lane
from service.findings import Finding, Severity
from service.kafka.topics import Role, Source, WantedTopic

DAY_MS = 86_400_000
_FOR_EVER = -1

# What a wrong cleanup policy costs. Status tells of processes alone: there it breaks nothing.
_CLEANUP_COSTS = {
    Role.RESULTS: "compaction removes all but the newest result of a contact",
    Role.DEAD_LETTERS: "compaction removes all but the newest dead letter of a contact",
    Role.REPLAY: "compaction removes dead letters that wait for their replay",
    Role.JOURNAL: "entries that still hold would be deleted, and deliveries repeated blindly",
    Role.LOG: "it would be forgotten what was replayed, and replayed again",
    Role.CONTROL: "it would be forgotten what an operator has paused",
}
# These are written in the partition number of the record that was read.
_AS_SOURCES = frozenset({Role.DEAD_LETTERS, Role.REPLAY, Role.JOURNAL, Role.LOG})
_SIZED = frozenset({Role.DEAD_LETTERS, Role.REPLAY})


class FoundTopic(Struct, frozen=True):
    """A topic as the cluster has it; ``settings`` is None where we may not read them."""

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str] | None = None

    def number(self, key: str) -> int | None:
        """A setting as a number; None where it is unknown."""
        text = (self.settings or {}).get(key)
        return int(text) if text is not None else None

    @property
    def as_source(self) -> Source:
        """As a lane sees what it reads."""
        return Source(
            self.partitions,
            self.number("max.message.bytes"),
            self.number("retention.ms"),
            (self.settings or {}).get("cleanup.policy"),
        )


def topic_faults(wanted: WantedTopic, found: FoundTopic, replication: int) -> Iterator[Finding]:
    """What is wrong with one of our topics. ``replication`` is what the configuration asks for."""
    subject = f"topic {wanted.name}"
    yield from _partition_faults(subject, wanted, found)
    if found.replication < replication:
        problem = f"replication factor {found.replication}, kafka.topics.replication says {replication}"
        yield Finding(Severity.WARNING, subject, problem, "reassign it with kafka-reassign-partitions.sh")
    if found.settings is None:
        yield _unreadable(subject)
        return
    for key, value in wanted.settings.items():
        actual = found.settings.get(key)
        if actual is not None and (told := _setting_fault(wanted.role, key, value, actual)) is not None:
            severity, why = told
            problem = f"{key} is {actual}, expected {value}" + (f": {why}" if why else "")
            yield Finding(severity, subject, problem, _altering(wanted.name, key, value))


def source_faults(config: Configuration, sources: Mapping[str, FoundTopic]) -> Iterator[Finding]:
    """What lanes have to know of the topics that they read."""
    for lane in config.lanes.values():
        found = {topic: sources[topic] for topic in lane.topics if topic in sources}
        if len({topic.partitions for topic in found.values()}) > 1:
            counts = ", ".join(f"{name} {topic.partitions}" for name, topic in found.items())
            problem = f"its source topics have different partition counts ({counts})"
            remedy = "order between topics holds only where they are partitioned alike; within each it holds"
            yield Finding(Severity.NOTE, f"lane {lane.name}", problem, remedy)
        for name, topic in found.items():
            yield from _retention_faults(lane, name, topic.as_source)
    for name, topic in sources.items():
        if topic.settings is None:
            yield _unreadable(f"topic {name}")


def durability_faults(topics: Iterable[FoundTopic]) -> Iterator[Finding]:
    """Topics whose acknowledged records one broken disk can take."""
    for topic in topics:
        in_sync = topic.number("min.insync.replicas")
        if in_sync is not None and topic.replication < 3 and in_sync < 2:
            problem = f"replication factor {topic.replication} with min.insync.replicas {in_sync}"
            remedy = "one broken disk can take acknowledged records; use 3 and 2 where events matter"
            yield Finding(Severity.WARNING, f"topic {topic.name}", problem, remedy)


def unwritable_faults(topics: Iterable[FoundTopic]) -> Iterator[Finding]:
    """Topics of ours that want more replicas in sync than they have."""
    for topic in topics:
        in_sync = topic.number("min.insync.replicas")
        if in_sync is not None and in_sync > topic.replication:
            problem = f"min.insync.replicas is {in_sync} with {topic.replication} replicas: it takes no record of ours"
            remedy = _altering(topic.name, "min.insync.replicas", str(max(1, topic.replication - 1)))
            yield Finding(Severity.ERROR, f"topic {topic.name}", problem, remedy)


def _partition_faults(subject: str, wanted: WantedTopic, found: FoundTopic) -> Iterator[Finding]:
    if wanted.role in _AS_SOURCES and found.partitions < wanted.partitions:
        problem = f"{found.partitions} partitions, but a source topic of the lane has {wanted.partitions}"
        remedy = f"kafka-topics.sh --alter --topic {wanted.name} --partitions {wanted.partitions}"
        yield Finding(Severity.ERROR, subject, problem, remedy)
    elif wanted.role is Role.RESULTS and found.partitions != wanted.partitions:
        problem = f"{found.partitions} partitions, kafka.topics.results_partitions says {wanted.partitions}"
        yield Finding(Severity.NOTE, subject, problem, "it works; a change moves keys to other partitions")
    elif wanted.role in (Role.STATUS, Role.CONTROL) and found.partitions != wanted.partitions:
        problem = f"{found.partitions} partitions, expected 1"
        yield Finding(Severity.WARNING, subject, problem, "it works; their order among each other is not kept")


def _setting_fault(role: Role, key: str, wanted: str, actual: str) -> tuple[Severity, str] | None:
    """How bad another value is, and what it costs; None if it is as good."""
    match key:
        case "cleanup.policy":
            if _policies(wanted) == _policies(actual):
                return None
            cost = _CLEANUP_COSTS.get(role)
            return (Severity.ERROR, cost) if cost else (Severity.WARNING, "")
        case "max.message.bytes":
            if int(actual) >= int(wanted):
                return None
            if role in _SIZED:
                return Severity.ERROR, "a dead letter of the largest record would stop the lane"
            return Severity.WARNING, "the result of an event with a very long key would stop its lane"
        case "retention.ms":
            if wanted == actual:
                return None
            if int(actual) == _FOR_EVER or int(actual) > int(wanted):
                return Severity.NOTE, "records are kept longer than the configuration says"
            return Severity.WARNING, "records are kept shorter than the configuration says"
        case _:
            if wanted == actual:
                return None
            return Severity.WARNING, "it grows between compactions, and starting takes longer"


def _retention_faults(lane: Lane, topic: str, source: Source) -> Iterator[Finding]:
    if lane.deadline_s is None or source.retention_ms in (None, _FOR_EVER):
        return
    if source.cleanup is not None and "delete" not in _policies(source.cleanup):
        return
    needed_ms = round(lane.deadline_s * 1000) + DAY_MS
    if source.retention_ms is not None and source.retention_ms < needed_ms:
        problem = f"retention.ms is {source.retention_ms}, shorter than the deadline of lane {lane.name} and one day"
        remedy = f"events could be lost before they expire; {_altering(topic, 'retention.ms', str(needed_ms))}"
        yield Finding(Severity.WARNING, f"topic {topic}", problem, remedy)


def _unreadable(subject: str) -> Finding:
    problem = "its settings may not be read, so they were not looked at"
    return Finding(Severity.WARNING, subject, problem, "grant DescribeConfigs on the topic")


def _policies(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())


def _altering(topic: str, key: str, value: str) -> str:
    value = f"[{value}]" if "," in value else value
    return f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {key}={value}"
