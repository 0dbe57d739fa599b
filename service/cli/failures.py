"""How a command ends: 0 done, 1 failed, 2 wrong use, configuration or an unreadable secret.

What goes wrong is told on standard error in a few words: what, where, what to do. A stack is shown for our own
faults alone, without the values that lie in its frames.
"""

import errno
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any

import typer
from aiokafka.errors import KafkaConnectionError
from typer.core import TyperGroup

from service.config import ConfigurationError, Fault, SecretError
from service.errors import FanlineError, StartError
from service.localkafka import LocalKafkaError
from service.telemetry import describe


class ExitCode(IntEnum):
    """What the shell is told."""

    DONE = 0
    FAILED = 1
    USAGE = 2


class CommandError(Exception):
    """A command cannot go on. The message says what is wrong, where, and what to do."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


class Commands(TyperGroup):
    """The group of all commands: the one place where what they raise becomes a text and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if _is_typers(error):
                raise
            text, code = ending(error)
            typer.echo(text, err=True)
            raise typer.Exit(code) from None


def _is_typers(error: Exception) -> bool:
    """Whether the framework tells of it by itself: wrong use, an exit, Ctrl-C, a reader that has gone."""
    broken_pipe = isinstance(error, OSError) and error.errno == errno.EPIPE
    return broken_pipe or isinstance(error, typer.Abort) or hasattr(error, "exit_code")


def ending(error: Exception) -> tuple[str, ExitCode]:
    """The text and the exit code; of several errors the fault of ours counts first."""
    told = [(each, told_of(each)) for each in leaves(error)]
    for each, known in told:
        if known is None:
            return stack_text(each), ExitCode.FAILED
    texts = dict.fromkeys(known for _, known in told if known is not None)
    return "\n".join(text for text, _ in texts), max(code for _, code in texts)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions of a group, of all its levels; one that is no group by itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def told_of(error: BaseException) -> tuple[str, ExitCode] | None:
    """The text and the exit code of an error that is expected; None for a fault of ours."""
    match error:
        case CommandError():
            return str(error), error.code
        case ConfigurationError():
            return faults_text(error.faults), ExitCode.USAGE
        case StartError() | SecretError():
            return str(error), ExitCode.USAGE
        case LocalKafkaError() | FanlineError():
            return str(error), ExitCode.FAILED
        case KafkaConnectionError():
            return f"Kafka cannot be reached: {error}", ExitCode.FAILED
        case _:
            return None


def faults_text(faults: Sequence[Fault]) -> str:
    """Every fault of a configuration on a line of its own, and how many there are."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return "\n".join([*map(str, faults), f"The configuration is refused: {count}."])


def stack_text(error: BaseException) -> str:
    """Where a fault of ours came from, for a report: types and lines of code, no values."""
    told = describe(error)
    head = f"internal error: {told['type']}. This is a fault of Fanline itself; please report it with these lines."
    return "\n".join([head, *(f"  {line}" for line in told["stack"])])
