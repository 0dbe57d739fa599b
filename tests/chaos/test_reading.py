"""What the oracle reads by itself: commits' metadata, results kept in small, and how a process ended."""

import subprocess
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.offsets.deferred import key_digest
from service.offsets.metadata import encode
from tests.chaos.books import Book, Settled
from tests.chaos.commits import decode
from tests.chaos.replicas import Replica
from tests.chaos.run import Run
from tests.chaos.verdict import Findings
from tests.support.harness import ROOT
from tests.support.oracle import Place

_STEPS = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=400)


@given(base=st.integers(1, 2**40), steps=_STEPS, keys=st.dictionaries(st.binary(max_size=8), st.integers(0, 10_000)))
def test_what_the_service_writes_is_read_alike(base: int, steps: list[tuple[int, int]], keys: dict[bytes, int]) -> None:
    """Runs, bitmaps, deflated or not, with deferred keys and without: the tests' own reader finds what was meant."""
    ranges, end = [], base
    for distance, length in steps:
        first = end + distance
        end = first + length
        ranges.append((first, end))
    deferred = {key_digest(key): base + distance for key, distance in list(keys.items())[:32]}
    found = decode(base, encode(base, ranges, deferred))
    assert found.ranges == ranges
    assert found.deferred == deferred
    inside = ranges[-1][0]
    assert found.covers(inside, None)
    assert not found.covers(ranges[0][0] - 1, None)
    for key, distance in list(keys.items())[:32]:
        assert found.covers(inside, key) == (inside < base + distance)


def test_metadata_of_another_offset_is_refused() -> None:
    """Its checksum holds the offset."""
    text = encode(10, [(12, 14)])
    assert decode(10, text).ranges == [(12, 14)]
    with pytest.raises(ValueError, match="checksum"):
        decode(11, text)


class Ended(Replica):
    """A process that had ended with exit code 1 when it was told to stop; ``log`` is what it said."""

    def __init__(self, log: Path) -> None:
        self.name = "r1"
        self.process: Any = SimpleNamespace(log=log, tail=lambda lines: log.read_text()[-100:])

    async def stop(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("former", "said", "blamed"),
    [
        ("service_started", "Kafka at b:1: connection refused; is the broker running?", False),
        ("is the broker running", "lane segments: topic contacts is missing", True),
        ("", '"event":"service_started"\nKafka at b:1: is the broker running?', True),
        ("", "killed", True),
    ],
)
async def test_a_process_that_found_no_brokers_at_its_start_is_not_blamed(
    tmp_path: Path, former: str, said: str, *, blamed: bool
) -> None:
    """Nor where it is told to stop just then; whatever it said in a former life, and any other end, is not excused."""
    log, findings = tmp_path / "log", Findings()
    log.write_text(former)
    replica = Ended(log)
    replica._log_before = len(former)
    log.write_text(former + said)
    run: Any = SimpleNamespace(findings=findings)
    await Run._stopped(run, replica)
    assert bool(findings.wrong) is blamed
    assert bool(findings.counts) is not blamed


def test_a_book_keeps_the_first_result_of_each_record() -> None:
    """Whatever the order in which they come; a second one is told and not kept."""
    book = Book()
    places = [Place("t", number % 3, number) for number in (7, 0, 40, 3)]
    results = {
        place: Settled(str(uuid.uuid4()), "delivered", None, False, b"key", 1.5 + place.offset, 2, place.offset * 2)
        for place in places
    }
    for place, one in results.items():
        assert book.add(place, one)
    assert not book.add(places[0], results[places[1]])
    assert dict(book) == results
    assert len(book) == 4
    assert Place("t", 0, 1) not in book
    assert Place("x", 0, 0) not in book


def test_every_bug_finds_what_it_changes() -> None:
    """What bugs replace in the service is still there: one that changes nothing would never be found."""
    put_all_back = "from tests.chaos.bugs import BUGS\nfor bug in BUGS.values(): bug.put_back()"
    done = subprocess.run([sys.executable, "-c", put_all_back], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-1000:]
