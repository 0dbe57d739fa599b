"""Counters, gauges, histograms."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry.instruments import Definition, Family, FamilyCollector, Histogram, Kind

BOUNDS = (0.1, 1.0, 10.0)


def exposed(family: Family) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    registry = CollectorRegistry()
    registry.register(FamilyCollector([family]))
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }


def test_a_counter_is_exposed_with_its_labels() -> None:
    """Lane first, then what the definition names; no series of the library's own beside it."""
    family = Family(Definition("events_total", Kind.COUNTER, "Events.", ("outcome",)), "fanline")
    family.counter("vip", "delivered").inc(3)
    family.counter("vip", "delivered").inc()
    assert exposed(family) == {("fanline_events_total", (("lane", "vip"), ("outcome", "delivered"))): 4.0}


def test_an_unknown_gauge_is_no_zero() -> None:
    """A gauge that was never set, or that nobody knows any more, has no series."""
    family = Family(Definition("lag_records", Kind.GAUGE, "Lag."), "fanline")
    gauge = family.gauge("vip")
    assert exposed(family) == {}
    gauge.set(7)
    assert exposed(family) == {("fanline_lag_records", (("lane", "vip"),)): 7.0}
    gauge.set(None)
    assert exposed(family) == {}


def test_a_histogram_is_exposed_cumulated() -> None:
    """Each bucket holds those below it, a value on a bound belongs to it."""
    family = Family(Definition("settle_seconds", Kind.HISTOGRAM, "Settle.", (), BOUNDS), "fanline")
    family.histogram("vip").observe_many([0.05, 0.1, 0.5, 20.0])
    lane = ("lane", "vip")
    assert exposed(family) == {
        ("fanline_settle_seconds_bucket", (lane, ("le", "0.1"))): 2.0,
        ("fanline_settle_seconds_bucket", (lane, ("le", "1.0"))): 3.0,
        ("fanline_settle_seconds_bucket", (lane, ("le", "10.0"))): 3.0,
        ("fanline_settle_seconds_bucket", (lane, ("le", "+Inf"))): 4.0,
        ("fanline_settle_seconds_count", (lane,)): 4.0,
        ("fanline_settle_seconds_sum", (lane,)): 20.65,
    }


@pytest.mark.parametrize("times", [1, 100])
def test_a_value_on_a_bound_belongs_to_it(times: int) -> None:
    """Prometheus' buckets hold what is less or equal, however many values come at once."""
    histogram = Histogram(BOUNDS)
    histogram.observe_many([1.0] * times)
    assert histogram.counts == [0, times, 0, 0]


@given(st.lists(st.floats(0, 100) | st.sampled_from(BOUNDS), max_size=200))
def test_many_at_once_are_as_many_one_by_one(values: list[float]) -> None:
    """The bulk way counts the same."""
    together, alone = Histogram(BOUNDS), Histogram(BOUNDS)
    together.observe_many(values)
    for value in values:
        alone.observe(value)
    assert together.counts == alone.counts
    assert math.isclose(together.sum, alone.sum, abs_tol=1e-6)


def test_labels_are_counted() -> None:
    """A label too many or too few is our fault, and is told at once."""
    family = Family(Definition("events_total", Kind.COUNTER, "Events.", ("outcome",)), "fanline")
    with pytest.raises(ValueError, match="has the labels lane, outcome"):
        family.counter("vip")


def test_gauges_are_refreshed_before_a_scrape() -> None:
    """Who knows the number sets it when somebody asks."""
    family = Family(Definition("in_flight", Kind.GAUGE, "In flight."), "fanline")
    collector = FamilyCollector([family])
    collector.refresh.append(lambda: family.gauge("vip").set(3))
    registry = CollectorRegistry()
    registry.register(collector)
    assert 'fanline_in_flight{lane="vip"} 3.0' in generate_latest(registry).decode()
