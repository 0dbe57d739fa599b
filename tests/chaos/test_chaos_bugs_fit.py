"""A bug that is put back stands where the right thing stood: else it is caught for falling over, not for what it is."""

import inspect
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest

import service.app
import service.cli.run  # noqa: F401 - what bugs are put into has to be there before them
from tests.chaos.bugs import BUGS


def _functions() -> Iterator[tuple[Any, str, FunctionType]]:
    """Every function of ours: its module or class, its name there, and itself."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("contracts", "handlers", "service"):
            owners = [module, *(one for one in vars(module).values() if inspect.isclass(one))]
            for owner in owners:
                for key, value in list(vars(owner).items()):
                    if isinstance(value, FunctionType):
                        yield owner, key, value


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_takes_what_the_right_function_takes(name: str) -> None:
    """Each argument that it may be called with, by place or by name."""
    right = {(id(owner), key): (owner, function) for owner, key, function in _functions()}
    replaced: list[tuple[str, FunctionType, FunctionType]] = []
    BUGS[name].put_back()
    try:
        for owner, key, function in _functions():
            if (known := right.get((id(owner), key))) is not None and known[1] is not function:
                replaced.append((key, known[1], function))
    finally:
        for (_, key), (owner, function) in right.items():
            if vars(owner)[key] is not function:
                setattr(owner, key, function)
    assert replaced
    for key, ours, bug in replaced:
        parameters = inspect.signature(ours).parameters.values()
        places = [one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
        names = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
        try:
            inspect.signature(bug).bind(*places, **dict.fromkeys(names))
        except TypeError as error:
            pytest.fail(f"{key}: {error}")
