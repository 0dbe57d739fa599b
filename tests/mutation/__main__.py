"""``python -m tests.mutation``: puts mistakes into the pure rules, one at a time, and counts those that a test notices.

mutmut makes the mistakes; each module's are tried with the tests that :mod:`tests.mutation.rules` names for it, in a
copy. Exit code 1 if fewer than 90 % of all mutants are killed, 2 if the tests fail without any.
"""

import argparse
import difflib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from mutmut.mutation.file_mutation import MutatedFile, mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name

from tests.mutation.rules import RULES, unlisted

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".cache" / "mutants"
COPIED = ("contracts", "docs", "handlers", "service", "tests")
WANTED = 0.9

# A mutant may ask for memory without end; it gets this much, and is killed by the MemoryError.
_MEMORY_BYTES = 4 << 30

# pytest with what the tests of pure rules need, and nothing that makes a failure's text.
_PLUGINS = ("pytest_asyncio.plugin", "_hypothesis_pytestplugin", "tests.mutation.trials")
_WITHOUT = ("cacheprovider", "unraisableexception", "threadexception")
_PYTEST = (
    *(part for plugin in _PLUGINS for part in ("-p", plugin)),
    *(part for plugin in _WITHOUT for part in ("-p", f"no:{plugin}")),
    *("-q", "--tb=native", "--assert=plain", "--hypothesis-seed=0"),
)


class Score(NamedTuple):
    """What became of one module's mutants: those that no test notices, or reaches, have survived."""

    module: str
    killed: int
    timed_out: int
    survivors: dict[str, list[str]]  # by name, the lines that are taken out and put in
    seconds: float
    cpu_s: float

    @property
    def all(self) -> int:
        return self.killed + self.timed_out + len(self.survivors)


def main() -> int:
    """0 if enough of them are killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[""], help="parts of paths: delivery np6/verdicts")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--report", type=Path, help="a file for the scores and survivors, as JSON")
    parser.add_argument("--again", type=Path, help="an earlier report: only what survived in it is tried anew")
    given = parser.parse_args()
    earlier = {one["module"]: Score(**one) for one in json.loads(given.again.read_text())} if given.again else {}
    chosen = [module for module in RULES if any(part in module for part in given.only)]
    if not chosen:
        parser.error(f"no pure rule has {given.only} in its path: see tests/mutation/rules.py")
    os.chdir(ROOT)  # where mutmut finds its settings
    for name in COPIED:
        shutil.rmtree(WORK / name, ignore_errors=True)
        shutil.copytree(name, WORK / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy("pyproject.toml", WORK)
    scores = []
    for module in chosen:
        score = _mutate(module, given.processes, earlier.get(module))
        if score is not None:
            scores.append(score)
            _tell(score)
    if given.only == [""] and (missing := unlisted(ROOT)):
        print(f"\nPure by their own word, and not in tests/mutation/rules.py: {', '.join(missing)}")
    if given.report:
        given.report.write_text(json.dumps([score._asdict() for score in scores], indent=1))
    mutants, killed = sum(score.all for score in scores), sum(score.all - len(score.survivors) for score in scores)
    share = killed / mutants if mutants else 1.0
    seconds, cpu_s = sum(score.seconds for score in scores), sum(score.cpu_s for score in scores)
    print(f"\n{killed} of {mutants} mutants killed: {share:.1%}, in {seconds:.0f} s ({cpu_s:.0f} s of CPU)")
    if len(scores) < len(chosen):
        return 2
    return 0 if share >= WANTED else 1


def _mutate(module: str, processes: int, earlier: Score | None) -> Score | None:
    started, used = time.monotonic(), _cpu_s()
    source = (WORK / module).read_text()
    mutated = mutate_file_contents(module, source)
    names = {get_mutant_name(Path(module), name): name for name in mutated.mutant_names}
    if (
        earlier is None
        or earlier.all != len(names)
        or any(
            name not in names or _changed(mutated, names[name]) != lines for name, lines in earlier.survivors.items()
        )
    ):  # unknown, or of another state of the module: all are tried
        earlier = Score(module, 0, 0, {name: [] for name in names}, 0.0, 0.0)
    (WORK / module).write_text(mutated.code)
    try:
        ends = _try(module, list(earlier.survivors), processes)
    finally:
        (WORK / module).write_text(source)
    if ends is None:
        return None
    survivors = {name: _changed(mutated, names[name]) for name, end in ends.items() if end == 0}
    # Out of time; of memory too, if the kernel had to see to it.
    timed_out = sum(end < 0 for end in ends.values())
    killed, timed_out = earlier.killed + len(ends) - timed_out - len(survivors), earlier.timed_out + timed_out
    return Score(module, killed, timed_out, survivors, time.monotonic() - started, _cpu_s() - used)


def _cpu_s() -> float:
    """Of this process and of all those that it has waited for, and they for theirs."""
    return sum(os.times()[:4])


def _try(module: str, mutants: list[str], processes: int) -> dict[str, int] | None:
    """How each mutant ended; None if the tests fail without any."""
    given = WORK / "mutants.json"
    given.write_text(json.dumps({"mutants": mutants, "processes": processes}))
    ends = given.with_suffix(".ends")
    ends.unlink(missing_ok=True)
    ran = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", *_PYTEST, *RULES[module]],
        cwd=WORK,
        env={**os.environ, "FANLINE_MUTANTS": str(given), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if not ends.exists():
        print(f"{module}: the tests do not run without a mutant\n{ran.stdout}", file=sys.stderr)
        return None
    tried: dict[str, int] = json.loads(ends.read_text())
    return tried


def _changed(mutated: MutatedFile, mutant: str) -> list[str]:
    """The lines that a mutant takes out and puts in. All versions of a function stand in the mutated module."""
    lines = mutated.code.splitlines()
    spans = [
        mutated.line_span_by_function_name[name]
        for name in (mutant.partition("__mutmut_")[0] + "__mutmut_orig", mutant)
    ]
    versions = [
        [line.strip() for line in lines[span.start - 1 : span.end] if "__mutmut_" not in line] for span in spans
    ]
    return [line for line in difflib.ndiff(*versions) if line[0] in "+-"]


def _tell(score: Score) -> None:
    slow = f", {score.timed_out} of them by the clock" if score.timed_out else ""
    killed = score.killed + score.timed_out
    took = f"{score.seconds:.0f} s ({score.cpu_s:.0f} s of CPU)"
    print(f"{score.module}: {killed} of {score.all} killed{slow}, {took}", flush=True)
    for name, lines in score.survivors.items():
        print("\n".join([f"  {name}", *(f"    {line}" for line in lines)]), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
