"""The topics that the service needs: which ones, and with what settings. Pure.

Results are keyed by the contact, and ``audit`` counts them: compaction would remove all but the newest of a
contact. So would it remove dead letters. Journal, log and control are read from their beginning to know what holds
now: a time-based retention would forget an entry that still holds.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

from msgspec import Struct

from service.config import Configuration
from service.kafka.names import control_topic, lane_names, status_topic

# A dead letter is its original and some headers more; a result carries the original's key, which may be almost as
# large as a record can be.
HEADER_ROOM = 64 * 1024
DEFAULT_MAX_MESSAGE_BYTES = 1_048_588  # Kafka's own
STATUS_RETENTION_MS = 86_400_000


class Role(StrEnum):
    """What a topic is for."""

    SOURCE = "source"
    RESULTS = "results"
    DEAD_LETTERS = "dead letters"
    REPLAY = "replay"
    JOURNAL = "journal"
    LOG = "dead-letters log"
    STATUS = "status"
    CONTROL = "control"


class Source(Struct, frozen=True):
    """A source topic as the cluster has it. None where the setting may not be read."""

    partitions: int
    max_message_bytes: int | None = None
    retention_ms: int | None = None  # -1: for ever
    cleanup: str | None = None


class WantedTopic(Struct, frozen=True):
    """One of our topics as it should be."""

    name: str
    role: Role
    partitions: int
    settings: Mapping[str, str]
    lane: str | None = None


def topics_of_lane(config: Configuration, lane: str) -> dict[str, Role]:
    """Every topic that a lane reads or writes while it runs, and what for."""
    prefix = config.kafka.topic_prefix
    names = lane_names(prefix, lane)
    return dict.fromkeys(config.lanes[lane].topics, Role.SOURCE) | {
        config.results.topic: Role.RESULTS,
        status_topic(prefix): Role.STATUS,
        control_topic(prefix): Role.CONTROL,
        names.dead_letters: Role.DEAD_LETTERS,
        names.replay: Role.REPLAY,
        names.journal: Role.JOURNAL,
    }


def source_topics(config: Configuration) -> list[str]:
    """The source topics of all lanes, each once."""
    return list(dict.fromkeys(topic for lane in config.lanes.values() for topic in lane.topics))


def wanted_topics(config: Configuration, sources: Mapping[str, Source]) -> list[WantedTopic]:
    """All of our topics. ``sources`` holds those that exist; a lane without any gets no topics of its own."""
    prefix, topics = config.kafka.topic_prefix, config.kafka.topics
    largest = _largest(sources.values())
    shared = [
        WantedTopic(
            config.results.topic,
            Role.RESULTS,
            topics.results_partitions,
            {**_kept(topics.retention.results_s), "max.message.bytes": str(largest + HEADER_ROOM)},
        ),
        WantedTopic(
            status_topic(prefix),
            Role.STATUS,
            1,
            {
                "cleanup.policy": "compact,delete",
                "retention.ms": str(STATUS_RETENTION_MS),
                # Only closed segments are compacted and deleted, and each process writes every 5 s.
                "segment.ms": str(10 * 60_000),
            },
        ),
        WantedTopic(control_topic(prefix), Role.CONTROL, 1, {"cleanup.policy": "compact"}),
    ]
    return [*shared, *(topic for lane in config.lanes for topic in _of_lane(config, lane, sources))]


def _of_lane(config: Configuration, lane: str, sources: Mapping[str, Source]) -> Iterator[WantedTopic]:
    own = [sources[topic] for topic in config.lanes[lane].topics if topic in sources]
    if not own:
        return
    names, retention = lane_names(config.kafka.topic_prefix, lane), config.kafka.topics.retention
    count = max(source.partitions for source in own)
    sized = {"max.message.bytes": str(_largest(own) + HEADER_ROOM)}
    dead, replay = _kept(retention.dead_letters_s) | sized, _kept(retention.replay_s) | sized
    yield WantedTopic(names.dead_letters, Role.DEAD_LETTERS, count, dead, lane)
    yield WantedTopic(names.replay, Role.REPLAY, count, replay, lane)
    yield WantedTopic(names.journal, Role.JOURNAL, count, _JOURNAL, lane)
    yield WantedTopic(names.dead_letters_log, Role.LOG, count, {"cleanup.policy": "compact"}, lane)


# Read whole at each assignment: small segments let compaction begin early.
_JOURNAL = {
    "cleanup.policy": "compact",
    "segment.ms": str(10 * 60_000),
    "segment.bytes": str(16 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": str(10 * 60_000),
}


def _kept(retention_s: float) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(round(retention_s * 1000))}


def _largest(sources: Iterable[Source]) -> int:
    """The largest record that a source takes; Kafka's default where it may not be read."""
    sizes = [source.max_message_bytes or DEFAULT_MAX_MESSAGE_BYTES for source in sources]
    return max(sizes, default=DEFAULT_MAX_MESSAGE_BYTES)
