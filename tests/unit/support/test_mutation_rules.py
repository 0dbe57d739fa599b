"""The table of what is mutated: a module or a test that is gone from it would be a hole without a sign."""

from pathlib import Path

from tests.mutation.rules import NOT_MUTATED, RULES, unlisted

ROOT = Path(__file__).parents[3]


def test_what_is_mutated_is_there_with_its_tests() -> None:
    """A module or a test that is moved is moved in the table too."""
    named = {*RULES, *NOT_MUTATED, *(test for tests in RULES.values() for test in tests)}
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []


def test_every_pure_module_is_in_the_table() -> None:
    """With its tests, or with the reason why it is not."""
    assert unlisted(ROOT) == []


def test_a_new_pure_module_is_noticed(tmp_path: Path) -> None:
    """It is told of, until it is in the table with its tests, or with a reason why not."""
    for name, text in {"service/new.py": '"""A rule. Pure."""', "service/old.py": '"""Drives."""'}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert unlisted(tmp_path) == ["service/new.py"]
