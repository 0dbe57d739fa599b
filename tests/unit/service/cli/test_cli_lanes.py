"""``fanline lanes …`` used wrongly: told before Kafka is asked, which is not there."""

from pathlib import Path

import pytest
from aiokafka.structs import TopicPartition

from service.cli.positions import target_of
from service.control.moving import Target
from tests.unit.service.cli.conftest import Run

WHY = ["--reason", "why"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pause", *WHY], "give one lane, or --account"),
        (["pause", "vip", "--account", "main", *WHY], "give one lane, or --account"),
        (["pause", "nope", *WHY], "nope: there is no such lane; the file has: vip"),
        (["resume", "--account", "nope", *WHY], "--account nope: there is no such account; the file has: main"),
        (["pause", "vip"], "Missing option '--reason'"),
        (["pause", "vip", "--reason", "  "], "--reason: a text of 1 to 500 printable characters"),
        (["pause", "vip", "--reason", "x" * 501], "--reason: a text of 1 to 500"),
        (["pause", "vip", "--reason", "\x1b[2J"], "--reason: a text of 1 to 500"),
        (["accept-loss", "nope", *WHY], "nope: there is no such lane"),
        (["seek", "nope", "--to", "latest", *WHY], "nope: there is no such lane"),
        (["seek", "vip", "--to", "now", *WHY], "--to now: expected earliest, latest, a time with its zone"),
        (["seek", "vip", "--to", "latest", "--to", "earliest", *WHY], "--to latest: expected"),
        (["seek", "vip", "--to", "2026-11-22T08:00:00", *WHY], "expected earliest, latest, a time with its zone"),
        (["copy", "old", "nope", *WHY], "nope: there is no such lane"),
        (["copy", "vip", "vip", *WHY], "vip: not the name of another lane"),
        (["copy", "../vip", "vip", *WHY], "../vip: not the name of another lane"),
    ],
)
def test_wrong_use_ends_with_2(run: Run, configuration: Path, arguments: list[str], told: str) -> None:
    """A lane is validated against the configuration, a reason is one line that a terminal may show."""
    result = run("lanes", *arguments, "--config", configuration)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_kafka_that_is_not_there_is_named_by_each_of_them(run: Run, configuration: Path) -> None:
    """And whether anything was done is no question."""
    for arguments in (["accept-loss", "vip"], ["seek", "vip", "--to", "latest"], ["copy", "old", "vip"]):
        result = run("lanes", *arguments, *WHY, "--config", configuration)
        assert result.exit_code == 1
        assert "Kafka at 127.0.0.1:1: connection refused" in result.stderr


def test_where_to() -> None:
    """Words, a time, or offsets of some partitions."""
    assert target_of(["earliest"]) == Target("earliest")
    assert target_of(["2026-11-22T08:00:00+01:00"]) == Target("time", 1_795_330_800_000)
    places = {TopicPartition("a.b-c", 3): 17, TopicPartition("a.b-c", 4): 0}
    assert target_of(["a.b-c:3:17", "a.b-c:4:0"]) == Target("offset", offsets=places)
