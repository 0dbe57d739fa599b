"""``fanline audit`` used wrongly: told before Kafka is asked, which is not there."""

from pathlib import Path

import pytest

from tests.unit.service.cli.conftest import Run


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--lane", "nope"], "--lane nope: there is no such lane; the file has: vip"),
        (["--from", "yesterday"], "expected how long ago, such as 90s, 2h or 7d"),
        (["--from", "2h", "--from", "1h"], "one time at the most"),
        (["--from", "orders:0:7"], "orders: no source topic of these lanes; they have: contacts.changed"),
        (["--from", "1h", "--to", "2h"], "the time has to be later than that of --from"),
        (
            ["--from", "contacts.changed:0:7", "--to", "contacts.changed:0:7"],
            "contacts.changed:0: the offset has to be greater than that of --from",
        ),
    ],
)
def test_wrong_use_ends_with_2(run: Run, configuration: Path, arguments: list[str], told: str) -> None:
    """An end that lies before the beginning would prove something of nothing."""
    result = run("audit", *arguments, "--config", configuration)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", " ").split())


def test_what_can_be_compared_is_asked_of_kafka(run: Run, configuration: Path) -> None:
    """Offsets of several partitions, with a time for the others."""
    places = ["--from", "contacts.changed:0:7", "--from", "contacts.changed:1:9", "--from", "2h"]
    result = run("audit", *places, "--to", "contacts.changed:0:8", "--to", "1h", "--config", configuration)
    assert result.exit_code == 1
    assert "Kafka at 127.0.0.1:1: connection refused" in result.stderr
