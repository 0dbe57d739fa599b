"""What is wrong with a configuration, and where."""

from collections.abc import Mapping, Sequence

import msgspec

from service.errors import FanlineError


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong. ``line`` and ``column`` count from 1; None where no place in the file is to blame."""

    file: str
    line: int | None
    column: int | None
    path: str  # e.g. "lanes.vip-segment.where"; "" for the file as a whole
    problem: str  # what is wrong, and what is allowed

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"
        return f"{place} {self.path}: {self.problem}" if self.path else f"{place}: {self.problem}"


class ConfigurationError(FanlineError):
    """The configuration is refused; ``faults`` holds everything that was found, in the order of the file."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=_order))
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


class Places(msgspec.Struct, frozen=True):
    """Where each path of a configuration stands in its file."""

    file: str
    positions: Mapping[str, tuple[int, int]] = {}

    def fault(self, path: str, problem: str) -> Fault:
        """A fault at ``path``, or where its nearest written parent stands (the key itself may be left out)."""
        line, column = self._nearest(path)
        return Fault(self.file, line, column, path, problem)

    def describe(self, path: str) -> str:
        """A place for messages at run time, e.g. ``fanline.yaml:14:5 lanes.vip-segment.where``. No folders: the
        text is published in results."""
        name = self.file.replace("\\", "/").rsplit("/", 1)[-1]
        line, column = self._nearest(path)
        return f"{name} {path}" if line is None else f"{name}:{line}:{column} {path}"

    def _nearest(self, path: str) -> tuple[int | None, int | None]:
        while path:
            if (position := self.positions.get(path)) is not None:
                return position
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.positions.get("", (None, None))


def _order(fault: Fault) -> tuple[int, int, str]:
    return (fault.line or 0, fault.column or 0, fault.path)
