"""Java's ahead-of-time cache of Kafka's classes: made once for each list of jars, it halves every later start.

It is made by one short life of a broker that ends in good order. Java itself checks that a cache fits and goes
without one that does not, so that nothing here can fail a start.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from service.localkafka.errors import LocalKafkaError
from service.localkafka.jars import cache_dir, only_one
from service.localkafka.process import JAVA_OPTIONS, java

_KEPT_S = 7 * 86_400.0

# Runs a broker with these further Java options until it serves clients, then ends it in good order.
OneLife = Callable[[Sequence[str]], None]


def options(class_path: Sequence[Path], one_life: OneLife, *, directory: Path | None = None) -> list[str]:
    """The Java options that use the cache, which is made first if there is none (some 10 s, once).

    ``directory`` is where caches lie (default: ``aot`` in the user's cache). Empty if none can be made.
    """
    directory = cache_dir() / "aot" if directory is None else directory
    cache = directory / f"kafka-{_key(class_path)}.aot"
    if not os.path.isfile(cache):  # which raises nothing, also where the folder may not be read
        with suppress(LocalKafkaError), only_one(directory):  # nothing can be kept there: starts go without
            if not cache.exists():
                _make(cache, one_life)
    # Java's warnings about parts of the cache that it does without are no part of a broker's log.
    return [f"-XX:AOTCache={cache}", "-Xlog:aot*=off"] if os.path.isfile(cache) else []


def _key(class_path: Sequence[Path]) -> str:
    """Names what Java compares before it takes a cache: the runtime, its options, the jars and their times."""
    jars = [f"{jar} {jar.stat().st_mtime_ns}" for jar in class_path]
    text = "\n".join([str(java()), *JAVA_OPTIONS, *jars])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _make(cache: Path, one_life: OneLife) -> None:
    unfinished = cache.with_suffix(f".{os.getpid()}.tmp")
    try:
        one_life([f"-XX:AOTCacheOutput={unfinished}"])
        for old in cache.parent.glob("kafka-*.aot"):
            # Another checkout has a runtime, and so a cache, of its own: taken away, each would make its anew for ever.
            if old.stat().st_mtime < time.time() - _KEPT_S:
                old.unlink(missing_ok=True)
        unfinished.rename(cache)
    except (OSError, LocalKafkaError):
        return  # starts are slower without it, and right
    finally:
        unfinished.unlink(missing_ok=True)
