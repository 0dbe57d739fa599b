"""The jars of the local Kafka: nothing is started that is not on our list, byte for byte."""

import gc
import hashlib
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from service.localkafka import LocalKafkaError, aot, jars

CONTENT = b"a jar"
JAR = jars.Jar("org.example", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest())


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Maven repository on loopback that stands for all others; gives its folder."""
    folder = tmp_path / "repository"
    (folder / JAR.path).parent.mkdir(parents=True)
    (folder / JAR.path).write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        settings = tmp_path / "jgo.conf"
        settings.write_text(f"[repositories]\ncentral = http://127.0.0.1:{server.server_port}\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
        yield folder
        server.shutdown()
        thread.join()


def test_the_list_names_each_jar_once() -> None:
    """Kafka is there, no jar stands twice, and each has a whole sha256."""
    listed = jars.listed()
    assert len({(jar.group, jar.artifact) for jar in listed}) == len(listed)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in listed)
    assert ("org.apache.kafka", "kafka_2.13") in {(jar.group, jar.artifact) for jar in listed}


def test_a_missing_jar_is_fetched_and_then_never_again(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call downloads and counts; the second needs no repository."""
    seen: list[tuple[int, int]] = []
    [file] = jars.class_path([JAR], root=tmp_path / "m", progress=lambda *counts: seen.append(counts))
    assert file.read_bytes() == CONTENT
    assert seen == [(0, 1), (1, 1)]
    monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "absent"))
    (repository / JAR.path).unlink()
    assert jars.class_path([JAR], root=tmp_path / "m") == [file]


def test_a_broken_download_is_fetched_again(repository: Path, tmp_path: Path) -> None:
    """What an interrupted download left behind is not taken for the jar."""
    file = tmp_path / "m" / JAR.path
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT[:2])
    assert jars.class_path([JAR], root=tmp_path / "m") == [file]
    assert file.read_bytes() == CONTENT


def test_a_jar_with_other_bytes_is_refused(repository: Path, tmp_path: Path) -> None:
    """A repository that serves something else under the name is found out, and nothing of it is kept."""
    (repository / JAR.path).write_bytes(b"another jar")
    with pytest.raises(LocalKafkaError, match=r"org\.example:thing:1\.0 is not the jar of our list"):
        jars.class_path([JAR], root=tmp_path / "m")
    assert not (tmp_path / "m" / JAR.path).exists()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # jgo leaves the refused answer's connection open
def test_a_jar_that_cannot_be_had_is_named(repository: Path, tmp_path: Path) -> None:
    """The error says which jar is missing."""
    (repository / JAR.path).unlink()
    with pytest.raises(LocalKafkaError, match=r"cannot download org\.example:thing:1\.0"):
        jars.class_path([JAR], root=tmp_path / "m")
    gc.collect()


def test_the_cache_follows_the_users_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``XDG_CACHE_HOME`` moves the cache; without it the home directory has it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jars.cache_dir() == tmp_path / "fanline"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert jars.cache_dir() == tmp_path / ".cache" / "fanline"


def test_a_cache_that_cannot_be_written_is_told(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where, and which setting names another place; Java's cache is done without."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(LocalKafkaError, match=r"kept in .*file/fanline/maven: Not a directory\. XDG_CACHE_HOME names"):
        jars.class_path([JAR])
    assert aot.options([], lambda _: None) == []


def test_a_home_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user of whom the system knows nothing, without HOME."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with pytest.raises(LocalKafkaError, match=r"the home directory, which is not known: .* XDG_CACHE_HOME names"):
        jars.cache_dir()
