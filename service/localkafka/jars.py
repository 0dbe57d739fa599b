"""The jars of Apache Kafka: our own list with a sha256 of each, and the user's cache that holds them.

The list (``jars.txt``) is what is trusted: each jar on the class path is hashed before every start, wherever
it came from. ``jgo`` knows the Maven repositories (its own configuration file may name mirrors) and downloads
what the cache lacks; afterwards nothing here touches the network.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from service.localkafka.errors import LocalKafkaError

DOWNLOADS_AT_ONCE = 8
DOWNLOAD_TIMEOUT_S = 30

# Called with (jars that are there, jars of the list) while jars are fetched.
Progress = Callable[[int, int], None]


class Jar(NamedTuple):
    """One jar: its Maven coordinates and the sha256 of its bytes, in hex."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where a Maven repository keeps the jar, relative to its root."""
        return Path(*self.group.split("."), self.artifact, self.version, f"{self.artifact}-{self.version}.jar")


def parse(text: str) -> list[Jar]:
    """Reads lines of ``group:artifact:version sha256``; empty lines and ``#`` comments are passed over."""
    jars = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, sha256 = line.split()
            group, artifact, version = name.split(":")
            jars.append(Jar(group, artifact, version, sha256))
    return jars


def listed() -> list[Jar]:
    """The jars that the local Kafka consists of."""
    return parse(resources.files("service.localkafka").joinpath("jars.txt").read_text("utf-8"))


def cache_dir() -> Path:
    """The user's cache: ``$XDG_CACHE_HOME/fanline`` or ``~/.cache/fanline``."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:  # neither HOME nor an entry in the system's list of users, as in some containers
        raise _nowhere("the home directory, which is not known", error) from error
    return Path(base) / "fanline"


def _nowhere(where: str, error: Exception) -> LocalKafkaError:
    said = error.strerror if isinstance(error, OSError) else str(error)
    return LocalKafkaError(
        f"the local Kafka's jars cannot be kept in {where}: {said}. "
        "XDG_CACHE_HOME names another folder for them, for example: export XDG_CACHE_HOME=/var/tmp/cache"
    )


def class_path(
    jars: Sequence[Jar] | None = None, *, root: Path | None = None, progress: Progress | None = None
) -> list[Path]:
    """The files of ``jars`` (default: the list), fetched where missing, each verified.

    ``root`` is laid out like a Maven repository (default: ``maven`` in the cache). Blocks: hashing takes some
    50 ms, a first download some seconds. Raises :class:`LocalKafkaError`.
    """
    jars = listed() if jars is None else jars
    root = cache_dir() / "maven" if root is None else root
    missing = [jar for jar in jars if not _is_sound(root / jar.path, jar)]
    if missing:
        with only_one(root):
            _fetch(jars, root, progress)
    return [root / jar.path for jar in jars]


def _is_sound(file: Path, jar: Jar) -> bool:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == jar.sha256
    except OSError:  # what cannot be read is not there; what cannot be fetched either is told then
        return False


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Makes the directory, and keeps two processes from filling it at once. Raises LocalKafkaError if it cannot."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        opened = (directory / ".lock").open("w")
    except OSError as error:
        raise _nowhere(str(directory), error) from error
    with opened as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(jars: Sequence[Jar], root: Path, progress: Progress | None) -> None:
    context = _maven(root)
    # Looked at again under the lock: another process may have fetched them while this one waited.
    missing = [jar for jar in jars if not _is_sound(root / jar.path, jar)]
    there = len(jars) - len(missing)
    if progress:
        progress(there, len(jars))

    def fetch(jar: Jar) -> None:
        # A file that is there and not sound is the rest of a broken download: jgo would take it as it is.
        (root / jar.path).unlink(missing_ok=True)
        context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()

    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        for jar, future in [(jar, pool.submit(fetch, jar)) for jar in missing]:
            name = f"{jar.group}:{jar.artifact}:{jar.version}"
            try:
                future.result()
            except Exception as error:  # jgo's errors and its HTTP client's have no common base
                raise LocalKafkaError(f"cannot download {name}: {error}") from error
            if not _is_sound(root / jar.path, jar):
                (root / jar.path).unlink(missing_ok=True)
                raise LocalKafkaError(
                    f"{name} is not the jar of our list: its sha256 is not {jar.sha256}; it was removed"
                )
            there += 1
            if progress:
                progress(there, len(jars))


def _maven(root: Path):  # type: ignore[no-untyped-def]  # jgo exports no usable types
    try:
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext
        from jgo.maven._core import DEFAULT_REMOTE_REPOS
    except ImportError as error:
        raise LocalKafkaError("the local Kafka needs the extra: pip install 'fanline[kafka]'") from error
    repositories = DEFAULT_REMOTE_REPOS | GlobalSettings.load().repositories
    return MavenContext(repo_cache=root, remote_repos=repositories, timeout=DOWNLOAD_TIMEOUT_S)
