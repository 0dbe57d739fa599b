"""The metrics' names are an interface."""

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry import metrics
from service.telemetry.instruments import Kind

# Names and labels as the design promises them, in its order.
PROMISED = {
    "events_total": ("outcome",),
    "operations_total": ("kind", "outcome"),
    "requests_total": ("account", "status"),
    "request_seconds": ("account",),
    "batch_events": ("cause",),
    "retries_total": ("cause",),
    "dead_letters_total": ("reason",),
    "replays_total": (),
    "lost_records_total": (),
    "lag_records": (),
    "useful_lag_records": (),
    "oldest_unfinished_seconds": (),
    "in_flight": (),
    "lane_state": ("state",),
    "breaker_open": ("account",),
    "open_imports": ("account",),
    "rate_limit_remaining": ("account",),
    "end_to_end_seconds": (),
    "settle_seconds": (),
    "event_loop_lag_seconds": (),
    "concurrency_limit": ("account",),
}


def test_the_names_and_labels_are_those_promised() -> None:
    """None is missing, none was added, none has another label."""
    assert {definition.name: definition.labels for definition in metrics.ALL} == PROMISED


def test_each_metric_is_explained() -> None:
    """A sentence for each; counters end in _total and nothing else does; histograms have ascending bounds."""
    for definition in metrics.ALL:
        assert definition.help[0].isupper() or definition.help[0].isdigit()
        assert definition.help.endswith((".", "drain."))
        assert (definition.kind is Kind.COUNTER) == definition.name.endswith("_total")
        assert (definition.kind is Kind.HISTOGRAM) == bool(definition.buckets)
        assert list(definition.buckets) == sorted(set(definition.buckets))


def test_the_registry_is_our_own() -> None:
    """Two services in one process do not add up, and the library's global registry stays empty of ours."""
    first, second = metrics.Metrics(), metrics.Metrics()
    first[metrics.EVENTS].counter("vip", "delivered").inc()
    assert b'fanline_events_total{lane="vip"' in first.render()
    assert b'fanline_events_total{lane="vip"' not in second.render()
    assert not any(family.name.startswith("fanline") for family in REGISTRY.collect())


def test_every_family_is_announced() -> None:
    """Also before anything happened a scrape names each metric, and can be parsed."""
    text = metrics.Metrics().render().decode()
    announced = {family.name for family in text_string_to_metric_families(text)}
    assert announced == {f"fanline_{name.removesuffix('_total')}" for name in PROMISED}
