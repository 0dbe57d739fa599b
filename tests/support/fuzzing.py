"""Bytes that are nearly right: real examples, cut, spliced, repeated, and with words in them that have hurt others.

And the bounds within which whoever reads them has to stay: processor time, and memory for each byte read.
"""

import os
import signal
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from hypothesis import settings
from hypothesis import strategies as st

# How many times as many examples as the suite has time for: `make fuzz` sets it.
TIMES = int(os.environ.get("FANLINE_FUZZ_TIMES", "1"))

MOST_BYTES = 256 * 1024
# Far over what any of these needs, far under what a lane could bear.
CPU_S = 5.0
BASE_BYTES = 16 * 1024 * 1024
BYTES_PER_BYTE = 256

# What parsers stumble over, whatever they parse.
TOKENS: tuple[bytes, ...] = (
    b"",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\xd9\xa3",  # a digit, but none of ASCII
    b"\\ud800",
    b"\\u0000",
    b"\\",
    b'"',
    b"\n",
    b"\n\n",
    b"-1",
    b"0",
    b"1e999",
    b"-0.0",
    b"7.0",
    b"NaN",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"[",
    b"{",
    b'{"a":',
    b"]",
    b"}",
    b",",
    b": ",
    b"*a",
    b"&a ",
    b"<<: ",
    b"!!python/object ",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"1" + b"0" * 30,
    b"9" * 5_000,
)


def interleavings(examples: int, *, steps: int = 50) -> settings:
    """So many examples of a model, each of so many steps; more of them where there is time."""
    return settings(max_examples=examples * TIMES, stateful_step_count=steps, deadline=None)


class TooSlowError(Exception):
    """More processor time than any input may take."""


class TooMuchMemoryError(Exception):
    """More memory than an input of its size may take."""


def mutated(
    seeds: Sequence[bytes], words: Sequence[bytes] = (), most_bytes: int = MOST_BYTES
) -> st.SearchStrategy[bytes]:
    """One of the seeds, changed in a few places; sometimes any bytes. ``words`` are the format's own."""
    tokens = st.sampled_from([*TOKENS, *words])

    @st.composite
    def draw_one(draw: st.DrawFn) -> bytes:
        data = draw(st.sampled_from(seeds))
        for _ in range(draw(st.integers(0, 6))):
            data = _change(draw, data, tokens, seeds)[:most_bytes]
        return data

    return st.one_of(draw_one(), draw_one(), draw_one(), st.binary(max_size=200))


def _change(draw: st.DrawFn, data: bytes, tokens: st.SearchStrategy[bytes], seeds: Sequence[bytes]) -> bytes:
    start = draw(st.integers(0, len(data)))
    end = min(len(data), start + draw(st.integers(0, 40)))
    match draw(st.integers(0, 6)):
        case 0:  # cut out
            return data[:start] + data[end:]
        case 1:  # replace
            return data[:start] + draw(tokens) + data[end:]
        case 2:  # put in
            return data[:start] + draw(tokens) + data[start:]
        case 3:  # repeat, a few times or very often
            return data[:end] + data[start:end] * draw(st.sampled_from((1, 2, 70, 3_000))) + data[end:]
        case 4:  # nest
            return data[:start] + draw(tokens) * draw(st.sampled_from((2, 66, 1_100, 40_000))) + data[start:]
        case 5:  # splice
            other = draw(st.sampled_from(seeds))
            return data[:start] + other[draw(st.integers(0, len(other))) :]
        case _:  # any byte
            return data[:start] + bytes([draw(st.integers(0, 255))]) + data[start + 1 :]


@contextmanager
def within_cpu_s(seconds: float) -> Iterator[None]:
    """Raise TooSlowError where the block takes more processor time; also in the middle of a loop that never ends."""

    def alarm(number: int, frame: FrameType | None) -> None:
        raise TooSlowError(f"over {seconds:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, alarm)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def bounded(target: Callable[[bytes], None], data: bytes, *, measured: bool) -> None:
    """Feed the target. Raises what it raises, TooSlowError, and, if it is to be ``measured``, TooMuchMemoryError."""
    if not measured:
        with within_cpu_s(CPU_S):
            target(data)
        return
    tracemalloc.start()
    try:
        with within_cpu_s(4 * CPU_S):  # measuring takes its time
            target(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    allowed = BASE_BYTES + BYTES_PER_BYTE * len(data)
    if peak > allowed:
        raise TooMuchMemoryError(f"{peak:,} bytes for an input of {len(data):,}, {allowed:,} allowed")
