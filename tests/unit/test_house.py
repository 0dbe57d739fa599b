"""The house: which folder may know which. Read from the source, so that no import can hide in a function."""

import ast
import builtins
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("contracts", "handlers", "service", "tests")
# The sandboxes are imitated platforms and not part of a lane: who starts them has to name them.
SANDBOXES = frozenset({"service/cli/sandbox.py", "service/demo/platforms.py"})
# The commands that call a platform by hand are that platform's own.
PLATFORM_COMMANDS = ("service/cli/np6/", "service/cli/apsis/", "service/cli/copernica/")


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """(level, dotted name) of each import in a file; level 0 is absolute."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def _files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_the_walk_sees_files() -> None:
    """A walk over nothing would prove nothing."""
    assert all(len(_files(folder)) > 5 for folder in OURS)


def test_contracts_know_only_themselves_and_do_it_relatively() -> None:
    """Contracts can be built as a package of their own for other teams."""
    wrong = [
        f"{path.name}: {name}"
        for path in _files("contracts")
        for level, name in _imports(path)
        if (not level and name.split(".")[0] in OURS) or level > 1
    ]
    assert wrong == []


@pytest.mark.parametrize("module", ["asyncio", "aiohttp", "aiokafka", "socket", "http", "subprocess"])
def test_contracts_do_no_io(module: str) -> None:
    """Whoever imports them gets data, not connections."""
    assert [path for path in _files("contracts") for _, name in _imports(path) if name.split(".")[0] == module] == []


def test_handlers_do_not_know_the_service() -> None:
    """A handler is pure: it plans and judges; who sends is not its business."""
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in _files("handlers")
        for _, name in _imports(path)
        if name.split(".")[0] in ("service", "tests")
    ]
    assert wrong == []


def test_only_the_app_names_concrete_handlers() -> None:
    """A platform is added in one place."""
    concrete = {f"handlers.{path.parent.name}" for path in (ROOT / "handlers").glob("*/client.py")} - {
        "handlers.sandbox"
    }
    assert concrete
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in _files("service")
        for _, name in _imports(path)
        if any(name == package or name.startswith(package + ".") for package in concrete)
        and str(path.relative_to(ROOT)) not in SANDBOXES | {"service/app.py"}
        and not str(path.relative_to(ROOT)).startswith(PLATFORM_COMMANDS)
    ]
    assert wrong == []


def test_nothing_of_ours_imports_the_tests() -> None:
    """The wheel holds no tests."""
    assert [
        str(path)
        for folder in ("contracts", "handlers", "service")
        for path in _files(folder)
        for _, name in _imports(path)
        if name.split(".")[0] == "tests"
    ] == []


def test_our_errors_have_one_root() -> None:
    """Whoever catches FanlineError catches all of ours. A command's own end is no error of the service."""
    foreign = {name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    roots = {
        node.name
        for path in _files("service")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and (bases := {ast.unparse(base) for base in node.bases}) and bases <= foreign
    }
    assert roots == {"FanlineError", "CommandError"}


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports them by their names alone, and leaves out the second one with an error."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
