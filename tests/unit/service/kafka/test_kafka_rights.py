"""The rights in the documentation are those of the code."""

from pathlib import Path

from service.app import KINDS
from service.config import loads
from service.findings import Finding, Severity
from service.kafka.rights import TOPIC_RIGHTS, Need, Right, hidden, lane_needs, topic_needs
from service.kafka.topics import Role

ROOT = Path(__file__).parents[4]
TEXT = """
kafka: {{bootstrap_servers: ["k:9092"], topic_prefix: <p>, delivery: {delivery}}}
accounts: {{main: {{platform: np6, base_url: "https://a.example", api_key: {{env: KEY}}}}}}
lanes: {{a: {{handler: np6.segments, account: main, topics: [source], target: data.identifiers.np6, join: 5}}}}
"""


def needs(delivery: str = "exactly_once") -> list[Need]:
    return lane_needs(loads(TEXT.format(delivery=delivery).replace("<p>", "p").encode(), KINDS), "a")


def rows() -> set[tuple[str, str, str]]:
    """Kind, name and right of each row of the table, with the names of a lane ``a`` under the prefix ``p``."""
    text = (ROOT / "docs" / "kafka.md").read_text()
    begin = text.index("| resource | name | right |")
    lines = text[begin : text.index("\n\n", begin)].splitlines()[2:]
    found = set()
    for line in lines:
        kind, name, rights, _ = (cell.strip() for cell in line.strip("|").split("|"))
        name = name.split("`")[1].replace("<p>", "p").replace("<lane>", "a") if "`" in name else "source"
        found |= {(kind.replace(" ", "-"), name, right) for right in rights.split(", ")}
    return found


def test_the_documented_rights_are_those_that_are_checked() -> None:
    """No more and no less; the service runs with exactly these in an integration test."""
    assert rows() == {(need.kind, need.name, need.right.word) for need in needs()}


def test_without_transactions_no_transactional_id_is_needed() -> None:
    """At least once: everything else is the same."""
    assert set(needs()) - set(needs("at_least_once")) == {needs()[-1]}
    assert needs()[-1].kind == "transactional-id"


def test_what_lacks_a_right_is_told_with_the_command_that_gives_it() -> None:
    """Word by word: it is copied into a shell. A transactional id is a prefix."""
    assert Need("group", "p.a", Right.READ).finding == Finding(
        Severity.ERROR,
        "group p.a",
        "our user of Kafka lacks the right Read",
        "kafka-acls.sh --add --operation Read --group p.a",
    )
    assert Need("transactional-id", "p.a.", Right.WRITE).finding == Finding(
        Severity.ERROR,
        "transactional ids p.a.*",
        "our user of Kafka lacks the right Write",
        "kafka-acls.sh --add --operation Write --transactional-id p.a. --resource-pattern-type prefixed",
    )


def test_a_topic_that_is_hidden_is_told_with_all_rights_that_it_takes() -> None:
    """One, two, or none: what no lane needs is a note."""
    assert hidden(Role.SOURCE, "s") == Finding(
        Severity.ERROR,
        "topic s",
        "our user of Kafka lacks the right Read, and may not even see whether it exists",
        "kafka-acls.sh --add --operation Read --topic s",
    )
    assert hidden(Role.JOURNAL, "j") == Finding(
        Severity.ERROR,
        "topic j",
        "our user of Kafka lacks the rights Read and Write, and may not even see whether it exists",
        "kafka-acls.sh --add --operation Read --operation Write --topic j",
    )
    [other] = set(Role) - set(TOPIC_RIGHTS)
    assert topic_needs(other, "o") == []
    assert hidden(other, "o") == Finding(
        Severity.NOTE,
        "topic o",
        "may not be seen by our user of Kafka; lanes run without it, commands on dead letters do not",
    )
