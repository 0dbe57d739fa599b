"""What brokers are too old for, and which rights are missing."""

import pytest

from service.app import KINDS
from service.checking.kafka import certificate_ending, features
from service.checking.rights import topic_rights
from service.config import Configuration, loads
from service.findings import Severity
from service.kafka.rights import Right, hidden
from service.kafka.topics import Role

OFFSET_FETCH, TXN_OFFSET_COMMIT = 9, 28
EVERYTHING = 0b1111111111000


def configuration(delivery: str) -> Configuration:
    text = f"""
kafka: {{bootstrap_servers: ["k:9092"], delivery: {delivery}}}
accounts: {{main: {{platform: np6, base_url: "https://a.example", api_key: {{env: KEY}}}}}}
lanes: {{a: {{handler: np6.segments, account: main, topics: [s], target: data.identifiers.np6, join: 5}}}}
"""
    return loads(text.encode(), KINDS)


@pytest.mark.parametrize(
    ("delivery", "versions", "severity", "told"),
    [
        ("exactly_once", {9: 7, 28: 3}, Severity.FINE, "exactly_once"),
        ("exactly_once", {9: 10, 28: 5}, Severity.FINE, "exactly_once"),
        ("exactly_once", {9: 7, 28: 2}, Severity.ERROR, "kafka.delivery: at_least_once"),
        ("exactly_once", {9: 7}, Severity.ERROR, "kafka.delivery: at_least_once"),
        ("exactly_once", {9: 6, 28: 3}, Severity.ERROR, "2.5"),
        ("at_least_once", {9: 7}, Severity.FINE, "at_least_once"),
        ("at_least_once", {9: 6}, Severity.ERROR, "2.5"),
        ("at_least_once", {}, Severity.ERROR, "2.5"),
    ],
)
def test_brokers_must_know_two_requests(delivery: str, versions: dict[int, int], severity: Severity, told: str) -> None:
    """TxnOffsetCommit with the membership, OffsetFetch of stable offsets: by the version of each."""
    [finding] = features(configuration(delivery), versions)
    assert finding.severity is severity
    assert told in str(finding)


@pytest.mark.parametrize(
    ("role", "needed"),
    [
        (Role.SOURCE, {Right.READ}),
        (Role.RESULTS, {Right.WRITE}),
        (Role.DEAD_LETTERS, {Right.WRITE}),
        (Role.REPLAY, {Right.READ}),
        (Role.JOURNAL, {Right.READ, Right.WRITE}),
        (Role.STATUS, {Right.WRITE}),
        (Role.CONTROL, {Right.READ}),
        (Role.LOG, set()),
    ],
)
def test_each_use_of_a_topic_needs_its_rights(role: Role, needed: set[Right]) -> None:
    """Each right that is missing is an error of its own, with the command that grants it."""
    assert list(topic_rights("t", role, EVERYTHING)) == []
    told = list(topic_rights("t", role, 0))
    assert {finding.severity for finding in told} <= {Severity.ERROR}
    assert {finding.remedy for finding in told} == {
        f"kafka-acls.sh --add --operation {right.name.capitalize()} --topic t" for right in needed
    }


def test_what_a_broker_does_not_tell_is_not_missing() -> None:
    """The protocol has a number of its own for that."""
    assert list(topic_rights("t", Role.JOURNAL, -(2**31))) == []


def test_a_topic_that_may_not_be_seen() -> None:
    """All rights on it are named at once; where lanes run without it, it is no fault."""
    finding = hidden(Role.JOURNAL, "t")
    assert finding.severity is Severity.ERROR
    assert "lacks the rights Read and Write" in finding.problem
    assert finding.remedy == "kafka-acls.sh --add --operation Read --operation Write --topic t"
    assert hidden(Role.LOG, "t").severity is Severity.NOTE


@pytest.mark.parametrize(("days", "told"), [(15, None), (13, "ends in 13 days"), (-1, "ends in 0 days")])
def test_a_certificate_that_ends_soon(days: float, told: str | None) -> None:
    """Two weeks before nobody gets in any more; without TLS there is none."""
    found = [finding.problem for finding in certificate_ending("k", 1e9 + days * 86_400, 1e9)]
    assert found == ([] if told is None else [f"its certificate {told}"])
    assert list(certificate_ending("k", None, 1e9)) == []
