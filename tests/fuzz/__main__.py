"""``python -m tests.fuzz``: the fuzz targets and the models, with other seeds each round, for as long as there is time.

A failure is told with its seed, and its input by hypothesis, shrunk. The input belongs into ``corpus/<target>``.
"""

import argparse
import os
import secrets
import subprocess
import sys
import time

TIMES = 10


def main() -> int:
    """Exit code 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="one round with this seed; default: another seed each round")
    parser.add_argument("tests", nargs="*", default=["tests/fuzz", "tests/model"])
    given = parser.parse_args()
    until = time.monotonic() + given.minutes * 60
    rounds = 0
    while (left_s := until - time.monotonic()) > 0:
        seed = secrets.randbelow(2**32) if given.seed is None else given.seed
        print(f"round {rounds + 1}, seed {seed}", flush=True)
        code = _round(given.tests, seed, left_s)
        if code is None:
            print("\nthe time is over in the middle of this round: nothing found in it so far")
            break
        if code:
            print(f"found with seed {seed}: python -m tests.fuzz --seed {seed} repeats it")
            return 1
        rounds += 1
        if given.seed is not None:
            break
    print(f"{rounds} whole rounds, nothing found")
    return 0


def _round(tests: list[str], seed: int, left_s: float) -> int | None:
    """pytest's exit code; None if the round did not come to its end."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", f"--hypothesis-seed={seed}", *tests]
    try:
        return subprocess.run(
            command, env=os.environ | {"FANLINE_FUZZ_TIMES": str(TIMES)}, timeout=left_s, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return None


if __name__ == "__main__":
    sys.exit(main())
