"""A pytest plugin: runs the collected tests once as they are, and then each mutant in a process of its own.

A process is forked for every mutant from one that has collected the tests but run none, so that a mutant costs the
time of those tests that reach it, and no start of pytest. It runs them until the first one fails, the quickest first.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase, settings
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.utils.format_utils import mangled_name_from_mutant_name

# Hypothesis has to find a mistake, and need not make it small. State machines get fewer examples: each is a long one.
EXAMPLES, RUNS_OF_A_MACHINE = 25, 10
settings.register_profile(
    "mutants", max_examples=EXAMPLES, phases=(Phase.explicit, Phase.generate), database=None, deadline=None
)
settings.load_profile("mutants")

# Tests that take longer, which measure memory or time, would be most of what a survivor costs: they are left out.
_LONGEST_TEST_S = 0.7

# A mutant may run without end: CPU seconds (of a busy machine it may get few) and seconds on the wall.
_CPU_S, _CPU_TIMES = 1.0, 4.0
_WALL_S, _WALL_TIMES = 20.0, 20.0

SURVIVED, KILLED = 0, 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that ask for more examples of their own get no more than others."""
    for item in items:
        test: Any = getattr(item, "obj", None)
        machine: Any = getattr(item, "cls", None)
        asked = getattr(test, "_hypothesis_internal_use_settings", None)
        if asked is not None:
            test._hypothesis_internal_use_settings = settings(asked, max_examples=EXAMPLES)
        if isinstance(getattr(machine, "settings", None), settings):
            machine.settings = settings(machine.settings, max_examples=RUNS_OF_A_MACHINE)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """``FANLINE_MUTANTS`` names a file: {"mutants": names, "processes": n}; the ends are written beside it."""
    if session.testsfailed:
        raise session.Failed("the tests cannot be collected")
    path = Path(os.environ["FANLINE_MUTANTS"])
    given = json.loads(path.read_text())
    reached = _reached(session.items)
    ends = _try_all(given["mutants"], given["processes"], reached)
    path.with_suffix(".ends").write_text(json.dumps(ends))
    return True


Reached = dict[str, list[tuple[float, pytest.Item]]]


def _reached(items: list[pytest.Item]) -> Reached:
    """By function: the tests that reach it, with the CPU seconds that each takes, the quickest first."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with os.fdopen(writing, "w") as pipe:
            json.dump(_run_clean(items), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = json.loads(pipe.read() or "null")
    os.waitpid(child, 0)
    if told is None or told["failed"]:
        pytest.exit(f"without any mutation these fail: {told and told['failed']}", returncode=2)
    reached: Reached = {}
    for item, seconds, functions in zip(items, told["seconds"], told["functions"], strict=True):
        for function in functions if seconds <= _LONGEST_TEST_S else ():
            reached.setdefault(function, []).append((seconds, item))
    for tests in reached.values():
        tests.sort(key=lambda test: test[0])
    return reached


def _run_clean(items: list[pytest.Item]) -> dict[str, list[Any]]:
    told: dict[str, list[Any]] = {"failed": [], "seconds": [], "functions": []}
    set_mutant_under_test("stats")
    for item in items:
        state()._stats.clear()
        began = time.process_time()
        if _fails(item):
            told["failed"].append(item.nodeid)
        told["seconds"].append(time.process_time() - began)
        told["functions"].append(sorted(state()._stats))
    return told


def _fails(item: pytest.Item) -> bool:
    return any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


def _try_all(mutants: list[str], processes: int, reached: Reached) -> dict[str, int]:
    """How each mutant's process ended: SURVIVED, KILLED, or minus the signal that ended it."""
    ends: dict[str, int] = {}
    running: dict[int, str] = {}
    for mutant in mutants:
        tests = reached.get(mangled_name_from_mutant_name(mutant), [])
        if len(running) == processes:
            _wait(running, ends)
        running[_forked(lambda: _try(mutant, tests))] = mutant  # noqa: B023  (called at once, in the child)
    while running:
        _wait(running, ends)
    return ends


def _forked(work: Callable[[], int]) -> int:
    child = os.fork()
    if not child:
        end = KILLED
        try:
            end = work()
        finally:
            os._exit(end)
    return child


def _wait(running: dict[int, str], ends: dict[str, int]) -> None:
    child, status = os.wait()
    ends[running.pop(child)] = os.waitstatus_to_exitcode(status)


def _try(mutant: str, tests: list[tuple[float, pytest.Item]]) -> int:
    seconds = sum(seconds for seconds, _ in tests)
    # The default of both signals ends the process.
    signal.setitimer(signal.ITIMER_PROF, _CPU_S + _CPU_TIMES * seconds)
    signal.setitimer(signal.ITIMER_REAL, _WALL_S + _WALL_TIMES * seconds)
    set_mutant_under_test(mutant)
    return KILLED if any(_fails(item) for _, item in tests) else SURVIVED
