"""Logging: structlog to standard error, one JSON object a line or for people, with everything redacted.

The libraries' own records go the same way. Below INFO aiokafka logs whole requests and answers, with every
record in them: so libraries are never heard below INFO, whatever the level.
"""

import asyncio
import logging
import sys
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal, TextIO

import msgspec
import structlog

from .events import LogEvent
from .redaction import TRUSTED_ERRORS, Redactor, SecretStrings, describe_errors

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_LIBRARIES = ("aiokafka", "aiohttp", "asyncio")


def configure_logging(
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["json", "console"] = "json",
    *,
    secrets: SecretStrings,
    stream: TextIO | None = None,
) -> None:
    """Set up logging for the process. ``secrets`` may be added to later.

    Libraries are heard from WARNING on; with ``level`` debug from INFO on.
    """
    stream = stream or sys.stderr
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _current_error,
            describe_errors,
            Redactor(secrets),
            _renderer(form, stream),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, LibraryHandler):
            root.removeHandler(handler)
    root.addHandler(LibraryHandler())
    root.setLevel(max(LEVELS[level], logging.INFO))
    for name in _LIBRARIES:
        floor = logging.INFO if level == "debug" else max(LEVELS[level], logging.WARNING)
        logging.getLogger(name).setLevel(floor)
    sys.excepthook = _log_crash


def lane_context(lane: str) -> AbstractContextManager[None]:
    """Within it, and in tasks begun within it, each line holds the lane's name."""
    return structlog.contextvars.bound_contextvars(lane=lane)


def log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's exception handler: asyncio's own prints the repr of futures, with what they hold."""
    structlog.get_logger().error(LogEvent.CRASHED, message=context.get("message"), exc_info=context.get("exception"))


class LibraryHandler(logging.Handler):
    """Sends a library's record the way of our own lines."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger().log(
                record.levelno,
                LogEvent.LIBRARY,
                logger=record.name,
                message=_message(record),
                exc_info=record.exc_info if record.exc_info and record.exc_info[1] else None,
            )
        except Exception:  # noqa: BLE001 - a line that cannot be written must not stop who logs it
            # The standard library's way would be to print the record's values, unredacted.
            return


def _message(record: logging.LogRecord) -> str:
    """The message, without what exceptions and bytes among its values say. Of several lines the first: in
    asyncio's the others are the repr of a future and what it holds.
    """
    args = record.args
    if isinstance(args, tuple):
        args = tuple(map(_harmless, args))
    elif args:
        args = {key: _harmless(value) for key, value in args.items()}
    template = str(record.msg) if not isinstance(record.msg, BaseException) else str(_harmless(record.msg))
    try:
        message = template % args if args else template
    except (TypeError, ValueError, KeyError):
        message = template
    return message.partition("\n")[0]


def _harmless(value: Any) -> Any:
    if isinstance(value, BaseException) and not isinstance(value, TRUSTED_ERRORS):
        return type(value).__name__
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return value


def _current_error(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if line.get("exc_info") is True:
        line["exc_info"] = sys.exc_info()
    return line


def _renderer(form: str, stream: TextIO) -> Any:
    if form == "console":
        console = structlog.dev.ConsoleRenderer(colors=stream.isatty())
        return lambda logger, method, line: console(logger, method, _stack_as_text(line))
    return structlog.processors.JSONRenderer(serializer=_to_json)


def _stack_as_text(line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The console's renderer takes the field for its own, a text, and fails on our list."""
    if isinstance(line.get("stack"), list):
        line["stack"] = "\n".join(line["stack"])
    return line


def _to_json(line: Any, **_: Any) -> str:
    return msgspec.json.encode(line).decode()


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().critical(LogEvent.CRASHED, exc_info=error.with_traceback(trace))
