import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.config import quantities


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("200ms", 0.2), ("30s", 30.0), ("60m", 3600.0), ("24h", 86_400.0), ("7d", 604_800.0), ("0s", 0.0)],
)
def test_durations_are_read_as_seconds(text: str, seconds: float) -> None:
    """Each unit of a duration counts as it should."""
    assert quantities.duration_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("5B", 5), ("2KiB", 2048), ("1MiB", 1_048_576), ("3kB", 3000), ("50MB", 50_000_000)]
)
def test_sizes_are_read_as_bytes(text: str, size: int) -> None:
    """Binary and decimal units are told apart."""
    assert quantities.size_bytes(text) == size


@pytest.mark.parametrize("text", ["200", "1.5s", "-1s", "1 s", "s", "", "1S", "1ms ", "1w", "٣s", "1s\n", "99999d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A bare number, a fraction, a sign, foreign digits and unknown units are no durations."""
    with pytest.raises(ValueError, match="duration"):
        quantities.duration_s(text)


@pytest.mark.parametrize("text", ["5", "1.5MiB", "1MIB", "1GB", "-1B", "1 MiB", "", "9999999999MiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """A bare number and unknown units are no sizes."""
    with pytest.raises(ValueError, match="size"):
        quantities.size_bytes(text)


def test_shares_are_read_as_fractions() -> None:
    """A percentage is a fraction of one; more than all is refused, and so is a bare number."""
    assert quantities.fraction("20%") == 0.2
    assert quantities.fraction("0.5%") == 0.005
    for text in ("101%", "0.2", "20", "%", "-1%"):
        with pytest.raises(ValueError, match="%"):
            quantities.fraction(text)


@given(st.integers(0, 10**9))
def test_written_durations_are_read_back(milliseconds: int) -> None:
    """What the reference page shows as a default means that default."""
    assert quantities.duration_s(quantities.duration_text(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(0, 2**50))
def test_written_sizes_are_read_back(size: int) -> None:
    """What the reference page shows as a default means that default."""
    assert quantities.size_bytes(quantities.size_text(size)) == size
