"""The table of what is mutated: a rule that is left out, or a test that is gone, would be a hole without a sign."""

import ast
from pathlib import Path

import pytest

from tests.mutation.rules import NOT_MUTATED, RULES

ROOT = Path(__file__).parents[3]


def _calls_itself_pure(path: Path) -> bool:
    return "pure" in (ast.get_docstring(ast.parse(path.read_text())) or "").lower()


@pytest.mark.parametrize("module", RULES)
def test_what_is_mutated_is_there_with_its_tests(module: str) -> None:
    """A module or a test that is moved is moved in the table too."""
    assert [name for name in (module, *RULES[module]) if not (ROOT / name).is_file()] == []


def test_whatever_calls_itself_pure_is_mutated() -> None:
    """A new rule enters the table, or says why not."""
    pure = {
        str(path.relative_to(ROOT))
        for folder in ("contracts", "handlers", "service")
        for path in (ROOT / folder).rglob("*.py")
        if _calls_itself_pure(path)
    }
    assert pure
    assert pure - set(RULES) - set(NOT_MUTATED) == set()
    assert set(NOT_MUTATED) <= pure
