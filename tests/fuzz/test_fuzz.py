"""Whatever bytes come from outside: no crash, no hang, no memory without bound."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, MOST_BYTES, TARGETS, WORDS, corpus
from tests.support.fuzzing import MOST_BYTES as LARGEST_BYTES
from tests.support.fuzzing import TIMES, TooMuchMemoryError, TooSlowError, bounded, mutated

EXAMPLES = 40 * TIMES
# Measuring memory takes most of the time: one in so many of those that are not large.
MEASURED_ONE_IN = 10
LARGE_BYTES = 16 * 1024

KEPT = [(name, file, data) for name in TARGETS for file, data in corpus(name)]


def test_every_target_has_a_corpus_of_its_own() -> None:
    """A folder that no target reads would prove nothing."""
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS) == set(WORDS)
    assert all(list(corpus(name)) for name in TARGETS)


@pytest.mark.parametrize(("name", "data"), [pytest.param(n, d, id=f"{n}/{f}") for n, f, d in KEPT])
def test_what_was_kept_is_read(name: str, data: bytes) -> None:
    """Real examples, and what was once read wrongly."""
    bounded(TARGETS[name], data, measured=True)


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_is_read(name: str) -> None:
    """Mutations of what is kept; a failure's bytes belong into the corpus."""

    examples = EXAMPLES if name not in MOST_BYTES else EXAMPLES // 3
    inputs = mutated([data for _, data in corpus(name)], WORDS[name], MOST_BYTES.get(name, LARGEST_BYTES))

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
    @given(data=inputs, lot=st.integers(0, MEASURED_ONE_IN - 1))
    def fuzz(data: bytes, lot: int) -> None:
        bounded(TARGETS[name], data, measured=not lot or len(data) > LARGE_BYTES)

    fuzz()


def test_a_reader_that_hangs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on time is a bound."""

    def hangs(_: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr("tests.support.fuzzing.CPU_S", 0.05)
    with pytest.raises(TooSlowError):
        bounded(hangs, b"", measured=False)


def test_a_reader_that_takes_much_memory_is_seen() -> None:
    """The bound on memory is a bound."""
    with pytest.raises(TooMuchMemoryError):
        bounded(lambda data: [bytes(64 * 1024 * 1024)].clear(), b"x", measured=True)
