"""The lines that are written."""

import asyncio
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiokafka.errors import KafkaConnectionError

from service.telemetry import LogEvent, SecretStrings, configure_logging, events, lane_context, log_loop_error
from service.telemetry.logging import LibraryHandler
from service.telemetry.throttle import Throttle


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is the process's: what a test sets up is taken back."""
    root, hook = logging.getLogger(), sys.excepthook
    level = root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    for handler in root.handlers[:]:
        if isinstance(handler, LibraryHandler):
            root.removeHandler(handler)
    root.setLevel(level)
    for name in ("aiokafka", "aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    sys.excepthook = hook


class Lines(io.StringIO):
    def read_all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


def configured(level: Any = "info", form: Any = "json", *secrets: str) -> Lines:
    lines, strings = Lines(), SecretStrings()
    configure_logging(level, form, secrets=strings, stream=lines)
    for secret in secrets:
        strings.add(secret)
    return lines


def test_a_line_is_one_json_object() -> None:
    """Event, level, time in RFC 3339 UTC and what was told, on one line."""
    lines = configured()
    structlog.get_logger().info(LogEvent.BATCH, events=3, text="two\nlines")
    (line,) = lines.read_all()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
    assert line == {"event": "batch", "level": "info", "events": 3, "text": "two\nlines"}


def test_the_level_is_obeyed() -> None:
    """What is below it is not written."""
    lines = configured("warning")
    structlog.get_logger().info(LogEvent.BATCH)
    structlog.get_logger().warning(LogEvent.FENCED)
    assert [line["event"] for line in lines.read_all()] == ["settlement_fenced"]


def test_people_can_read_the_console_form() -> None:
    """The other form is text, redacted alike."""
    lines = configured("info", "console", "hunter2")
    structlog.get_logger().info(LogEvent.BATCH, why="hunter2")
    assert "batch" in lines.getvalue()
    assert "hunter2" not in lines.getvalue()


def test_a_list_named_stack_does_not_break_the_console_form() -> None:
    """The renderer takes a field of that name for a text of its own; a fault of ours must be told, not raise."""
    lines = configured("info", "console")
    structlog.get_logger().error(LogEvent.HANDLER_FAULT, stack=["lane.py:1 run", "lane.py:2 take"])
    assert "lane.py:2 take" in lines.getvalue()


def test_secrets_added_later_are_masked_too() -> None:
    """Secrets are read after logging was set up."""
    lines = configured("info", "json", "hunter2")
    structlog.get_logger().info(LogEvent.KAFKA_ERROR, why="password hunter2 of anna@example.com")
    assert lines.read_all()[0]["why"] == "password ••• of •••"


def test_exceptions_are_told_without_their_messages() -> None:
    """With the stack, on the same line."""
    lines = configured()
    try:
        raise KeyError("Anna")
    except KeyError:
        structlog.get_logger().exception(LogEvent.HANDLER_FAULT)
    (line,) = lines.read_all()
    assert line["error"]["type"] == "KeyError"
    assert line["error"]["stack"]
    assert "Anna" not in lines.getvalue()


async def test_the_lane_is_on_each_line_within_its_context() -> None:
    """Also in tasks that begin there; not outside."""
    lines = configured()

    async def work() -> None:
        structlog.get_logger().info(LogEvent.BATCH)

    with lane_context("vip"):
        task = asyncio.create_task(work())
    await task
    await work()
    assert [line.get("lane") for line in lines.read_all()] == ["vip", None]


def test_libraries_records_go_the_same_way() -> None:
    """aiokafka's warnings are lines of the same form, redacted; what an exception among its values says is
    withheld, except where the type is trusted.
    """
    lines = configured("info", "json", "hunter2")
    logger = logging.getLogger("aiokafka.consumer.fetcher")
    logger.warning("Failed %s with %s: %r %s", "hunter2", b"Anna", KeyError("Anna"), KafkaConnectionError("no host"))
    (line,) = lines.read_all()
    assert line["event"] == "library"
    assert line["level"] == "warning"
    assert line["logger"] == "aiokafka.consumer.fetcher"
    assert line["message"] == "Failed ••• with <4 bytes>: 'KeyError' KafkaConnectionError: no host"


def test_a_librarys_exception_is_told_without_its_message() -> None:
    """aiokafka logs the exceptions of callbacks; they can quote a record."""
    lines = configured()
    try:
        raise KeyError("Anna")
    except KeyError as error:
        logging.getLogger("aiokafka").exception("User provided listener failed: %s", error)
    (line,) = lines.read_all()
    assert line["error"]["type"] == "KeyError"
    assert "Anna" not in lines.getvalue()


def test_a_librarys_record_that_cannot_be_formatted_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """Its values are not printed instead, as the standard library would."""
    lines = configured()
    LibraryHandler().handle(logging.LogRecord("aiokafka", logging.WARNING, "", 0, "%d left", ("Anna",), None))
    assert lines.read_all()[0]["message"] == "%d left"
    assert "Anna" not in lines.getvalue() + capsys.readouterr().err


def test_any_text_and_number_can_be_written() -> None:
    """Lone surrogates (of file names) and numbers beyond 64 bits are no reason to lose a line."""
    lines = configured()
    structlog.get_logger().error(LogEvent.KAFKA_ERROR, why="a\udc80b", size=10**30, share=float("nan"))
    (line,) = lines.read_all()
    assert (line["why"], line["size"], line["share"]) == ("a\\udc80b", str(10**30), None)


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_whole_requests_are_never_logged(level: str) -> None:
    """At DEBUG aiokafka prints requests and answers with every record in them: it is not heard there."""
    lines = configured(level)
    for name in ("aiokafka.conn", "aiohttp.client", "asyncio", "some.other.library"):
        logging.getLogger(name).debug("Response from %s: %s", "host", "Anna")
        assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)
    assert lines.getvalue() == ""


async def test_what_asyncio_says_of_a_lost_task_holds_no_content() -> None:
    """Its message goes on with the repr of the task and its exception."""
    lines = configured()
    loop = asyncio.get_running_loop()

    async def fail() -> None:
        raise KeyError("Anna")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    loop.call_exception_handler({"message": "lost\nsecond line", "future": task, "exception": task.exception()})
    loop.set_exception_handler(log_loop_error)
    loop.call_exception_handler({"message": "lost", "future": task, "exception": task.exception()})
    first, second = lines.read_all()
    assert (first["event"], first["message"], first["error"]["type"]) == ("library", "lost", "KeyError")
    assert (second["event"], second["message"], second["error"]["type"]) == ("crashed", "lost", "KeyError")
    assert "Anna" not in lines.getvalue()


def test_a_crash_is_a_line_without_content() -> None:
    """What nobody caught is logged the same way, not as a traceback with its message."""
    lines = configured()
    error = KeyError("Anna")
    sys.excepthook(KeyError, error, None)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    (line,) = lines.read_all()
    assert (line["event"], line["level"], line["error"]["type"]) == ("crashed", "critical", "KeyError")
    assert "Anna" not in lines.getvalue()


def test_setting_up_again_does_not_double_the_lines() -> None:
    """A second set-up replaces the first."""
    configured()
    lines = configured()
    logging.getLogger("aiokafka").warning("once")
    assert len(lines.read_all()) == 1


def test_each_log_event_has_a_sentence() -> None:
    """The names stand in one file, each followed by what it means; none is used twice."""
    text = Path(events.__file__).read_text(encoding="utf-8")
    for event in LogEvent:
        assert re.search(rf'    {event.name} = "{event.value}"\n    """[A-Z`][^"]+\.\s*"""', text), event
    assert len({event.value for event in LogEvent}) == len(LogEvent)


def test_the_throttle_lets_one_through() -> None:
    """One line in ten seconds per key, and then how many were held back."""
    throttle = Throttle(every_s=10.0)
    assert throttle.passes("a", 0.0) == 0
    assert throttle.passes("b", 0.0) == 0
    assert [throttle.passes("a", second) for second in (1.0, 2.0, 9.9)] == [None] * 3
    assert throttle.passes("a", 10.0) == 3
    assert throttle.passes("a", 20.0) == 0


def test_the_throttle_remembers_a_bounded_number_of_keys() -> None:
    """However many faults there are."""
    throttle = Throttle()
    for key in range(10_000):
        assert throttle.passes(key, 0.0) == 0
    assert len(throttle._seen) <= 256
