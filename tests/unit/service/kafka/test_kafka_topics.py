"""Which topics a configuration needs and how they should be; what is wrong with those that exist."""

from collections.abc import Mapping
from typing import Any

import pytest

from service.app import KINDS
from service.config import Configuration, loads
from service.findings import Finding, Severity, merged, worst_first
from service.kafka.topic_faults import FoundTopic, durability_faults, source_faults, topic_faults, unwritable_faults
from service.kafka.topics import Role, Source, WantedTopic, source_topics, topics_of_lane, wanted_topics

KIB, DAY_MS = 1024, 86_400_000
LANE = "handler: np6.segments, account: main, target: data.identifiers.np6, join: data.segments.join"


def configuration(lanes: str, kafka: str = "") -> Configuration:
    text = f"""
kafka: {{bootstrap_servers: ["k:9092"], topic_prefix: p{kafka}}}
accounts: {{main: {{platform: np6, base_url: "https://a.example", api_key: {{env: KEY}}}}}}
lanes: {{{lanes}}}
"""
    return loads(text.encode(), KINDS)


TWO_LANES = configuration(f"a: {{{LANE}, topics: [s, t]}}, b: {{{LANE}, topics: [t]}}")
SOURCES = {"s": Source(6, 2_000_000), "t": Source(3, 1_000_000)}


def wanted_of_two_lanes() -> dict[str, WantedTopic]:
    return {topic.name: topic for topic in wanted_topics(TWO_LANES, SOURCES)}


WANTED = wanted_of_two_lanes()


def test_the_table_of_topics_is_kept() -> None:
    """Names, roles and partitions as DESIGN's table has them: those of a lane as many as its largest source."""
    assert {name: (topic.role, topic.partitions, topic.lane) for name, topic in wanted_of_two_lanes().items()} == {
        "p.results": (Role.RESULTS, 12, None),
        "p.status": (Role.STATUS, 1, None),
        "p.control": (Role.CONTROL, 1, None),
        "p.a.dead-letters": (Role.DEAD_LETTERS, 6, "a"),
        "p.a.replay": (Role.REPLAY, 6, "a"),
        "p.a.journal": (Role.JOURNAL, 6, "a"),
        "p.a.dead-letters.log": (Role.LOG, 6, "a"),
        "p.b.dead-letters": (Role.DEAD_LETTERS, 3, "b"),
        "p.b.replay": (Role.REPLAY, 3, "b"),
        "p.b.journal": (Role.JOURNAL, 3, "b"),
        "p.b.dead-letters.log": (Role.LOG, 3, "b"),
    }


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("p.results", {"cleanup.policy": "delete", "retention.ms": 30 * DAY_MS, "max.message.bytes": 2_065_536}),
        (
            "p.a.dead-letters",
            {"cleanup.policy": "delete", "retention.ms": 30 * DAY_MS, "max.message.bytes": 2_065_536},
        ),
        ("p.b.dead-letters", {"cleanup.policy": "delete", "retention.ms": 30 * DAY_MS, "max.message.bytes": 1_065_536}),
        ("p.a.replay", {"cleanup.policy": "delete", "retention.ms": 7 * DAY_MS, "max.message.bytes": 2_065_536}),
        (
            "p.a.journal",
            {
                "cleanup.policy": "compact",
                "segment.ms": 600_000,
                "segment.bytes": 16 * KIB * KIB,
                "min.cleanable.dirty.ratio": 0.1,
                "max.compaction.lag.ms": 600_000,
            },
        ),
        ("p.a.dead-letters.log", {"cleanup.policy": "compact"}),
        ("p.status", {"cleanup.policy": "compact,delete", "retention.ms": DAY_MS, "segment.ms": 600_000}),
        ("p.control", {"cleanup.policy": "compact"}),
    ],
)
def test_each_topic_has_exactly_these_settings(name: str, settings: Mapping[str, object]) -> None:
    """Sizes: the largest source's and 64 KiB for the headers, or for the key that a result carries."""
    assert wanted_of_two_lanes()[name].settings == {key: str(value) for key, value in settings.items()}


def test_without_any_source_the_results_are_sized_by_kafkas_default() -> None:
    """The topics of all lanes are made before those of the lanes can be."""
    wanted = {topic.name: topic for topic in wanted_topics(TWO_LANES, {})}
    assert set(wanted) == {"p.results", "p.status", "p.control"}
    assert wanted["p.results"].settings["max.message.bytes"] == str(1_048_588 + 64 * KIB)


def test_partitions_and_retention_come_from_the_configuration() -> None:
    """What an operator chose is what is made."""
    config = configuration(
        f"a: {{{LANE}, topics: [s]}}",
        ", topics: {results_partitions: 3, retention: {results: 2d, dead_letters: 90d, replay: 1h}}",
    )
    wanted = {topic.role: topic for topic in wanted_topics(config, SOURCES)}
    assert wanted[Role.RESULTS].partitions == 3
    assert wanted[Role.RESULTS].settings["retention.ms"] == str(2 * DAY_MS)
    assert wanted[Role.DEAD_LETTERS].settings["retention.ms"] == str(90 * DAY_MS)
    assert wanted[Role.REPLAY].settings["retention.ms"] == str(3_600_000)


def test_a_lane_without_any_source_gets_no_topics() -> None:
    """How many partitions they need is not known; the lane beside it gets its own."""
    names = {topic.name for topic in wanted_topics(TWO_LANES, {"s": SOURCES["s"]})}
    assert "p.a.journal" in names
    assert not any(name.startswith("p.b.") for name in names)


def test_what_a_lane_needs_to_run() -> None:
    """Its sources and what it writes; nothing of the other lane."""
    shared = ["p.results", "p.status", "p.control"]
    assert topics_of_lane(TWO_LANES, "a")["s"] is topics_of_lane(TWO_LANES, "b")["t"] is Role.SOURCE
    assert list(topics_of_lane(TWO_LANES, "b")) == ["t", *shared, "p.b.dead-letters", "p.b.replay", "p.b.journal"]
    assert source_topics(TWO_LANES) == ["s", "t"]


def found(wanted: WantedTopic, partitions: int | None = None, replication: int = 3, **settings: object) -> FoundTopic:
    """A topic as wanted, but for what is given; ``_`` in names stands for a point."""
    changed = {key.replace("_", "."): str(value) for key, value in settings.items()}
    return FoundTopic(wanted.name, partitions or wanted.partitions, replication, {**wanted.settings, **changed})


def faults(wanted: WantedTopic, found: FoundTopic, replication: int = 3) -> list[Finding]:
    return list(topic_faults(wanted, found, replication))


@pytest.mark.parametrize("name", WANTED)
def test_a_topic_as_it_should_be_has_no_fault(name: str) -> None:
    """Also where the broker writes the policies in another order."""
    wanted = WANTED[name]
    assert faults(wanted, found(wanted)) == []
    if name == "p.status":
        assert faults(wanted, found(wanted, cleanup_policy="delete, compact")) == []


@pytest.mark.parametrize(
    ("name", "policy", "severity"),
    [
        ("p.results", "compact", Severity.ERROR),
        ("p.results", "compact,delete", Severity.ERROR),
        ("p.a.dead-letters", "compact", Severity.ERROR),
        ("p.a.replay", "compact", Severity.ERROR),
        ("p.a.journal", "delete", Severity.ERROR),
        ("p.a.journal", "compact,delete", Severity.ERROR),
        ("p.a.dead-letters.log", "delete", Severity.ERROR),
        ("p.control", "delete", Severity.ERROR),
        ("p.status", "delete", Severity.WARNING),
    ],
)
def test_a_policy_that_forgets_breaks_a_guarantee(name: str, policy: str, severity: Severity) -> None:
    """And the finding says how to change it."""
    [fault] = faults(WANTED[name], found(WANTED[name], cleanup_policy=policy))
    assert fault.severity is severity
    assert f"cleanup.policy is {policy}" in fault.problem
    assert f"--entity-name {name} --add-config cleanup.policy=" in (fault.remedy or "")


@pytest.mark.parametrize("name", ["p.a.dead-letters", "p.a.replay", "p.a.journal", "p.a.dead-letters.log"])
def test_fewer_partitions_than_the_sources_break_a_guarantee(name: str) -> None:
    """Records of the others could not be written; more do no harm."""
    [fault] = faults(WANTED[name], found(WANTED[name], partitions=5))
    assert fault.severity is Severity.ERROR
    assert f"--topic {name} --partitions 6" in (fault.remedy or "")
    assert faults(WANTED[name], found(WANTED[name], partitions=7)) == []


@pytest.mark.parametrize(
    ("name", "severity"),
    [("p.a.dead-letters", Severity.ERROR), ("p.a.replay", Severity.ERROR), ("p.results", Severity.WARNING)],
)
def test_a_topic_that_takes_less_than_its_sources(name: str, severity: Severity) -> None:
    """One byte less than the largest dead letter is too little; more is as good."""
    [fault] = faults(WANTED[name], found(WANTED[name], max_message_bytes=2_065_535))
    assert (fault.severity, "max.message.bytes is 2065535" in fault.problem) == (severity, True)
    assert faults(WANTED[name], found(WANTED[name], max_message_bytes=9_000_000)) == []


@pytest.mark.parametrize(
    ("retention_ms", "severity"),
    [(30 * DAY_MS - 1, Severity.WARNING), (60 * DAY_MS, Severity.NOTE), (-1, Severity.NOTE)],
)
def test_another_retention_is_told(retention_ms: int, severity: Severity) -> None:
    """Shorter is a warning, longer a note; -1 is for ever."""
    wanted = WANTED["p.results"]
    [fault] = faults(wanted, found(wanted, retention_ms=retention_ms))
    assert fault.severity is severity


def test_fewer_replicas_than_asked_for_are_a_warning() -> None:
    """The key of the configuration is named."""
    wanted = WANTED["p.results"]
    [fault] = faults(wanted, found(wanted, replication=2))
    assert (fault.severity, "kafka.topics.replication says 3" in fault.problem) == (Severity.WARNING, True)


def test_settings_that_may_not_be_read_are_told() -> None:
    """Nothing is said of what was not seen."""
    wanted = WANTED["p.a.journal"]
    [fault] = faults(wanted, FoundTopic(wanted.name, 6, 3, None))
    assert (fault.severity, fault.remedy) == (Severity.WARNING, "grant DescribeConfigs on the topic")


@pytest.mark.parametrize(
    ("replication", "in_sync", "warned"), [(1, 1, True), (2, 1, True), (3, 1, False), (2, 2, False), (3, 2, False)]
)
def test_records_that_one_disk_can_take(replication: int, in_sync: int, warned: bool) -> None:
    """Replication below 3 with fewer than two in sync."""
    topic = FoundTopic("t", 1, replication, {"min.insync.replicas": str(in_sync)})
    assert bool(list(durability_faults([topic]))) is warned


@pytest.mark.parametrize(
    ("retention_ms", "policy", "warned"),
    [
        (8 * DAY_MS - 1, "delete", True),
        (8 * DAY_MS, "delete", False),
        (-1, "delete", False),
        (DAY_MS, "compact", False),
        (DAY_MS, "compact,delete", True),
    ],
)
def test_a_source_that_forgets_before_the_deadline(retention_ms: int, policy: str, warned: bool) -> None:
    """Deadline and one day; without a deadline nothing is said."""
    source = FoundTopic("s", 6, 3, {"retention.ms": str(retention_ms), "cleanup.policy": policy})
    with_deadline = configuration(f"a: {{{LANE}, topics: [s], deadline: 7d}}")
    told = list(source_faults(with_deadline, {"s": source}))
    assert [finding.severity for finding in told] == [Severity.WARNING] * warned
    assert not list(source_faults(configuration(f"a: {{{LANE}, topics: [s]}}"), {"s": source}))


def test_sources_with_different_partitions_are_a_note() -> None:
    """Order between them is not kept; one source alone is none."""
    sources = {name: FoundTopic(name, source.partitions, 3, {}) for name, source in SOURCES.items()}
    [note] = source_faults(TWO_LANES, sources)
    assert (note.severity, note.subject) == (Severity.NOTE, "lane a")
    assert "s 6, t 3" in note.problem


ALTERED = "kafka-configs.sh --alter --entity-type topics --entity-name {} --add-config {}"
GROWS = "it grows between compactions, and starting takes longer"


@pytest.mark.parametrize(
    ("name", "changes", "severity", "problem", "remedy"),
    [
        (
            "p.a.journal",
            {"partitions": 5},
            Severity.ERROR,
            "5 partitions, but a source topic of the lane has 6",
            "kafka-topics.sh --alter --topic p.a.journal --partitions 6",
        ),
        (
            "p.results",
            {"partitions": 13},
            Severity.NOTE,
            "13 partitions, kafka.topics.results_partitions says 12",
            "it works; a change moves keys to other partitions",
        ),
        *(
            (
                name,
                {"partitions": 2},
                Severity.WARNING,
                "2 partitions, expected 1",
                "it works; their order among each other is not kept",
            )
            for name in ("p.status", "p.control")
        ),
        (
            "p.control",
            {"replication": 2},
            Severity.WARNING,
            "replication factor 2, kafka.topics.replication says 3",
            "reassign it with kafka-reassign-partitions.sh",
        ),
        (
            "p.status",
            {"cleanup_policy": "compact"},
            Severity.WARNING,
            "cleanup.policy is compact, expected compact,delete",
            ALTERED.format("p.status", "cleanup.policy=[compact,delete]"),
        ),
        (
            "p.control",
            {"cleanup_policy": "delete"},
            Severity.ERROR,
            "cleanup.policy is delete, expected compact: it would be forgotten what an operator has paused",
            ALTERED.format("p.control", "cleanup.policy=compact"),
        ),
        (
            "p.a.replay",
            {"max_message_bytes": 1},
            Severity.ERROR,
            "max.message.bytes is 1, expected 2065536: a dead letter of the largest record would stop the lane",
            ALTERED.format("p.a.replay", "max.message.bytes=2065536"),
        ),
        (
            "p.results",
            {"max_message_bytes": 1},
            Severity.WARNING,
            "max.message.bytes is 1, expected 2065536: the result of an event with a very long key would stop its lane",
            ALTERED.format("p.results", "max.message.bytes=2065536"),
        ),
        (
            "p.a.replay",
            {"retention_ms": 1},
            Severity.WARNING,
            f"retention.ms is 1, expected {7 * DAY_MS}: records are kept shorter than the configuration says",
            ALTERED.format("p.a.replay", f"retention.ms={7 * DAY_MS}"),
        ),
        (
            "p.a.replay",
            {"retention_ms": -1},
            Severity.NOTE,
            f"retention.ms is -1, expected {7 * DAY_MS}: records are kept longer than the configuration says",
            ALTERED.format("p.a.replay", f"retention.ms={7 * DAY_MS}"),
        ),
        (
            "p.a.journal",
            {"segment_ms": 1},
            Severity.WARNING,
            f"segment.ms is 1, expected 600000: {GROWS}",
            ALTERED.format("p.a.journal", "segment.ms=600000"),
        ),
    ],
)
def test_a_fault_of_a_topic_says_what_to_do(
    name: str, changes: dict[str, Any], severity: Severity, problem: str, remedy: str
) -> None:
    """The topic, what is wrong, what it costs, and the command that mends it."""
    told = faults(WANTED[name], found(WANTED[name], **changes))
    assert told == [Finding(severity, f"topic {name}", problem, remedy)]


def test_other_faults_that_say_what_to_do() -> None:
    """Of settings that nobody may read, of sources, and of what one broken disk can take or none can hold."""
    unread = "its settings may not be read, so they were not looked at"
    grant = "grant DescribeConfigs on the topic"
    wanted = WANTED["p.results"]
    assert faults(wanted, FoundTopic("p.results", 13, 3)) == [
        *faults(wanted, found(wanted, partitions=13)),
        Finding(Severity.WARNING, "topic p.results", unread, grant),
    ]
    unlike = {"s": FoundTopic("s", 6, 3), "t": FoundTopic("t", 3, 3, {})}
    assert list(source_faults(TWO_LANES, unlike)) == [
        Finding(
            Severity.NOTE,
            "lane a",
            "its source topics have different partition counts (s 6, t 3)",
            "order between topics holds only where they are partitioned alike; within each it holds",
        ),
        Finding(Severity.WARNING, "topic s", unread, grant),
    ]
    with_deadline = configuration(f"a: {{{LANE}, topics: [s], deadline: 7d}}")
    assert list(source_faults(with_deadline, {"s": FoundTopic("s", 6, 3, {"retention.ms": "5"})})) == [
        Finding(
            Severity.WARNING,
            "topic s",
            "retention.ms is 5, shorter than the deadline of lane a and one day",
            f"events could be lost before they expire; {ALTERED.format('s', f'retention.ms={8 * DAY_MS}')}",
        )
    ]
    assert list(source_faults(with_deadline, {"s": FoundTopic("s", 6, 3, {})})) == []
    thin = FoundTopic("t", 1, 2, {"min.insync.replicas": "1"})
    assert list(durability_faults([FoundTopic("u", 1, 1), thin])) == [
        Finding(
            Severity.WARNING,
            "topic t",
            "replication factor 2 with min.insync.replicas 1",
            "one broken disk can take acknowledged records; use 3 and 2 where events matter",
        )
    ]
    for replication, wanted_in_sync in ((1, 1), (2, 1), (3, 2)):
        stuck = FoundTopic("t", 1, replication, {"min.insync.replicas": "4"})
        assert list(unwritable_faults([FoundTopic("u", 1, 1), stuck])) == [
            Finding(
                Severity.ERROR,
                "topic t",
                f"min.insync.replicas is 4 with {replication} replicas: it takes no record of ours",
                ALTERED.format("t", f"min.insync.replicas={wanted_in_sync}"),
            )
        ]
    assert not list(unwritable_faults([FoundTopic("t", 1, 2, {"min.insync.replicas": "2"})]))


def test_findings_of_equal_words_are_merged_and_sorted() -> None:
    """For people one line names all topics; the worst comes first."""
    a, b = (Finding(Severity.WARNING, f"topic {name}", "p", "r") for name in "ab")
    c = Finding(Severity.ERROR, "account x", "p")
    assert merged([a, c, b]) == [Finding(Severity.WARNING, "topics a, b", "p", "r"), c]
    assert worst_first([a, c, b]) == [c, a, b]


@pytest.mark.parametrize(("replicas", "in_sync", "told"), [(1, "2", True), (2, "2", False), (3, "2", False)])
def test_more_replicas_in_sync_than_there_are(replicas: int, in_sync: str, told: bool) -> None:
    """Such a topic refuses every record, and the lane would wait for ever."""
    found = list(unwritable_faults([FoundTopic("t", 1, replicas, {"min.insync.replicas": in_sync})]))
    assert bool(found) is told
    assert all(finding.severity is Severity.ERROR for finding in found)
