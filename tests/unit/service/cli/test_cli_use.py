"""How every command behaves when it is used wrongly, asked for help, or its surroundings are broken."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from service.__main__ import main
from service.cli import failures
from service.errors import StartError
from tests.unit.service.cli.conftest import CONFIGURATION, SECRET, Run

COMMANDS = [
    ["run"],
    ["check"],
    ["topics", "ensure"],
    ["lanes", "list"],
    ["lanes", "pause"],
    ["lanes", "resume"],
    ["lanes", "accept-loss"],
    ["lanes", "seek"],
    ["lanes", "copy"],
    ["status"],
    ["validate"],
    ["publish"],
    ["contracts", "export"],
    ["kafka"],
    ["sandbox"],
]
PAUSE = ["lanes", "pause", "vip", "--reason", "why"]
WITH_CONFIG = [["run"], ["check"], ["topics", "ensure"], ["publish", "--topic", "t", "-"], ["lanes", "list"], PAUSE]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_has_help_for_a_stranger(run: Run, command: list[str]) -> None:
    """--help says what the command does, and of each option what it is for."""
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert f"Usage: fanline {' '.join(command)}" in result.stdout
    options = [line for line in result.stdout.splitlines() if "--" in line and "│" in line]
    assert options
    assert all(len(line.strip(" │*").split()) > 3 for line in options if "--help" not in line), options


def test_the_overview_names_every_command(run: Run) -> None:
    """fanline --help is where a stranger begins."""
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f" {command[0]} " in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["run"],
        ["run", "--config"],
        ["check", "--nope"],
        ["topics", "ensure", "--config", "f", "--sources", "0"],
        ["publish", "--config", "f", "x.ndjson"],
        ["validate"],
        ["kafka", "--port", "99999"],
        ["sandbox", "--listen", "nowhere"],
    ],
    ids=" ".join,
)
def test_wrong_use_ends_with_2(run: Run, arguments: list[str]) -> None:
    """A wrong option, a missing or an impossible value is said on standard error."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error" in result.stderr


def test_a_terminal_that_knows_no_check_mark_fails_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its encoding has no character for is shown escaped."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "argv", ["fanline", "validate", "--help"])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="latin-1", write_through=True))
    with pytest.raises(SystemExit):
        main()
    print("✓ grün")
    assert shown.getvalue().endswith(b"\\u2713 gr\xfcn\n")


@pytest.mark.parametrize("command", WITH_CONFIG, ids=" ".join)
def test_every_fault_of_the_configuration_is_told_at_once(run: Run, command: list[str], tmp_path: Path) -> None:
    """Two faults, two lines with their places, and how many there are."""
    file = tmp_path / "broken.yaml"
    file.write_text(CONFIGURATION.replace("np6.segments", "np6.nope").replace("bootstrap_servers", "bootstrap"))
    result = run(*command, "--config", file, stdin=b"")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"{file}:1:" in result.stderr
    assert f"{file}:6:5 lanes.vip.handler: there is no handler" in result.stderr
    assert "refused: 3 faults" in result.stderr


@pytest.mark.parametrize("command", WITH_CONFIG, ids=" ".join)
def test_a_missing_configuration_is_named(run: Run, command: list[str], tmp_path: Path) -> None:
    """The file that cannot be read is told by its name, with the system's reason."""
    result = run(*command, "--config", tmp_path / "nope.yaml", stdin=b"")
    assert result.exit_code == 2
    assert "nope.yaml: cannot be read: No such file or directory" in result.stderr


@pytest.mark.parametrize("command", [["run"], ["check"]], ids=" ".join)
def test_an_unreadable_secret_ends_with_2(
    run: Run, command: list[str], configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable is named, with the place in the file."""
    monkeypatch.delenv("FANLINE_TEST_KEY")
    result = run(*command, "--config", configuration)
    assert result.exit_code == 2
    assert "accounts.main.api_key: environment variable FANLINE_TEST_KEY is not set" in result.stderr


@pytest.mark.parametrize("command", [["run"], ["check"]], ids=" ".join)
@pytest.mark.parametrize(
    ("drain", "told"),
    [("15s", "accounts.main.timeouts.total"), ("30s", "kafka.rebalance_timeout"), ("25", "expected a duration")],
)
def test_a_drain_that_contradicts_the_file_ends_with_2(
    run: Run, command: list[str], drain: str, told: str, configuration: Path
) -> None:
    """Shorter than a call may take, or half the rebalance timeout and longer."""
    result = run(*command, "--config", configuration, "--drain", drain)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_lane_that_does_not_exist_ends_with_2(run: Run, configuration: Path) -> None:
    """The lanes that there are are listed."""
    result = run("run", "--config", configuration, "--lane", "vip", "--lane", "nope")
    assert result.exit_code == 2
    assert "--lane nope: there is no such lane" in result.stderr
    assert "it has: vip" in result.stderr


@pytest.mark.parametrize("command", WITH_CONFIG[2:], ids=" ".join)
def test_a_kafka_that_is_not_there_is_named(run: Run, command: list[str], configuration: Path) -> None:
    """The address, what went wrong there, and what to look at; exit 1."""
    result = run(*command, "--config", configuration, stdin=b"")
    assert result.exit_code == 1
    assert result.stderr.strip().splitlines()[-1] == (
        "Kafka at 127.0.0.1:1: connection refused; is the broker running, is kafka.bootstrap_servers right?"
    )


def test_certificates_that_cannot_be_used_end_with_2(run: Run, configuration: Path, tmp_path: Path) -> None:
    """A CA file that is none is told without Kafka."""
    (tmp_path / "ca.pem").write_text("no certificate")
    security = f'kafka: {{security: {{protocol: SSL, ca_file: "{tmp_path}/ca.pem"}}, '
    configuration.write_text(CONFIGURATION.replace("kafka: {", security))
    result = run("check", "--config", configuration)
    assert result.exit_code == 2
    assert f"kafka.security.ca_file {tmp_path}/ca.pem cannot be used" in result.stderr


def test_a_configuration_in_order_is_summed_up(run: Run, configuration: Path) -> None:
    """check without --online needs neither Kafka nor the platform, and shows no secret."""
    result = run("check", "--config", configuration)
    assert result.exit_code == 0
    assert result.stdout == "The configuration is in order: 1 lane, 1 account, 1 secret readable.\n"


def test_check_as_json_has_faults_with_their_places(
    run: Run, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program gets file, line, column, path and problem."""
    monkeypatch.delenv("FANLINE_TEST_KEY")
    result = run("check", "--config", configuration, "--json")
    assert result.exit_code == 2
    assert '"ok": false' in result.stdout
    assert '"path": "accounts.main.api_key"' in result.stdout
    assert '"line": 3' in result.stdout


def test_check_says_what_at_least_once_means(run: Run, configuration: Path) -> None:
    """And it stays exit 0: it is a choice."""
    configuration.write_text(CONFIGURATION.replace("kafka: {", "kafka: {delivery: at_least_once, "))
    result = run("check", "--config", configuration)
    assert result.exit_code == 0
    assert "note     kafka.delivery: at_least_once: after a crash" in result.stdout
    assert "journal writes of a former owner of a partition are not fenced" in result.stdout


def test_check_online_looks_at_everything_although_nothing_is_there(run: Run, configuration: Path) -> None:
    """Kafka and the account both fail: both are told, exit 1, and the key is not."""
    result = run("check", "--config", configuration, "--online")
    assert result.exit_code == 1
    assert "error    Kafka at 127.0.0.1:1: connection refused" in result.stdout
    assert "error    account main: http://127.0.0.1:1/np6/main: no connection" in result.stdout
    assert SECRET not in result.output


def test_errors_of_a_group_are_all_told_and_the_worst_code_counts() -> None:
    """What comes out of a task group is taken apart."""
    group = ExceptionGroup("", [failures.CommandError("a"), ExceptionGroup("", [StartError("b")])])
    assert failures.ending(group) == ("a\nb", failures.ExitCode.USAGE)


def test_a_fault_of_ours_shows_its_stack_and_no_value() -> None:
    """An error nobody expects is told with where it arose, without what it quotes; exit 1."""
    try:
        {}["personal data"]
    except KeyError as error:
        text, code = failures.ending(ExceptionGroup("", [StartError("b"), error]))
    assert code == failures.ExitCode.FAILED
    assert "internal error: KeyError" in text
    assert "test_cli_use.py" in text
    assert "personal data" not in text


def test_the_start_of_a_lanes_process_imports_no_other_command() -> None:
    """What starts often starts with what it needs: not the other commands, nor the command line of a library."""
    code = "import sys; from service.__main__ import main; sys.argv = ['fanline', 'run', '--help']; main()"
    listed = f"import atexit, sys; atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr)); {code}"
    told = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True, timeout=60)
    imported = set(told.stderr.split())
    assert {"service.app", "cel"} <= imported
    assert imported.isdisjoint({"prompt_toolkit", "service.demo", "handlers.sandbox", "service.cli.lanes", "jgo"})
