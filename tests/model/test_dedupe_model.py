"""The dedupe window against a naive oracle that looks at the whole log: in disorder, read again, and rebuilt."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.dedupe import window as module
from service.dedupe.window import DedupeWindow

AROUND = 5


class Log:
    """Records (key, timestamp) by offset, with holes."""

    def __init__(self) -> None:
        self.records: dict[int, tuple[int, int]] = {}
        self.end = 0

    def append(self, key: int | None, timestamp_ms: int) -> None:
        if key is not None:
            self.records[self.end] = (key, timestamp_ms)
        self.end += 1

    def repeats(self, offset: int, window_ms: int, *, since: int = 0) -> bool:
        """The rule itself."""
        key, at_ms = self.records[offset]
        return any(
            self.records[other][0] == key and abs(self.records[other][1] - at_ms) <= window_ms
            for other in range(since, offset)
            if other in self.records
        )

    def lowest_around(self, offset: int, now_ms: int) -> int:
        near = [self.records[n][1] for n in range(offset - AROUND, offset + AROUND) if n in self.records]
        return min(near, default=now_ms)

    def first_at(self, time_ms: int, most: int) -> int:
        """The first offset of the time or later, as the broker finds it."""
        return next((n for n in range(most) if n in self.records and self.records[n][1] >= time_ms), most)


def _fill(log: Log, random: Random, count: int, window_ms: int, disorder_ms: int, keys: int) -> int:
    clock = 1_000_000
    for _ in range(count):
        clock += random.choice([0, 1, window_ms // 20, window_ms // 3])
        key = None if random.random() < 0.1 else random.randrange(keys)
        log.append(key, clock - random.randint(0, disorder_ms))
    return clock


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    window_ms=st.sampled_from([1, 2, 3, 7, 100, 1001]),
    in_order=st.booleans(),
    keys=st.sampled_from([1, 3, 30]),
)
def test_window_says_what_the_whole_log_says(seed: int, window_ms: int, in_order: bool, keys: int) -> None:
    """Also of records read again from any offset on, with the window that is there or one that is read back."""
    random, log = Random(seed), Log()
    disorder_ms = 0 if in_order else window_ms
    clock = _fill(log, random, 300, window_ms, disorder_ms, keys)
    reach_ms = window_ms + disorder_ms
    with pytest.MonkeyPatch.context() as patched:
        # Forgets as much as it ever may.
        patched.setattr(module, "_FORGOTTEN_AFTER", 0)
        patched.setattr(module, "_FORGOTTEN_SHARE", 1_000_000)
        patched.setattr(module, "_BLOCK", 4)
        patched.setattr(module, "_MOST_ENTRIES", 1_000)
        window = DedupeWindow(window_ms, begin=0, disorder_ms=disorder_ms)
        position = rebuilt = reused = 0
        for _ in range(40):
            for offset in range(position, min(log.end, position + random.randrange(40))):
                if offset in log.records:
                    key, at_ms = log.records[offset]
                    expected = log.repeats(offset, window_ms)
                    assert window.repeats(key, at_ms, offset) == expected, f"offset {offset} of {log.records}"
                position = offset + 1
            window.end = max(window.end, position)
            position = random.randint(max(0, position - 60), position)
            # What an assignment does.
            lowest_ms = window.lowest_ms_from(max(0, position - AROUND))
            if lowest_ms is not None and lowest_ms - reach_ms >= window.complete_from_ms:
                reused += 1
                continue
            rebuilt += 1
            from_ms = log.lowest_around(position, clock) - reach_ms
            begin = log.first_at(from_ms, position)
            window = DedupeWindow(window_ms, begin=begin, complete_from_ms=from_ms, disorder_ms=disorder_ms)
            for offset in range(begin, position):
                if offset in log.records:
                    window.repeats(*log.records[offset], offset)
            window.end = max(window.end, position)
    assert reused + rebuilt == 40
