"""All metrics, a sentence each. Names and labels are an interface: dashboards and alerts hold on to them.

Each name is prefixed with ``fanline_`` and has the label ``lane``. What belongs to an account or to the
process as a whole and was not told for a lane has an empty ``lane``, which to Prometheus is none.
"""

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from .instruments import Definition, Family, FamilyCollector, Kind

NAMESPACE = "fanline"
CONTENT_TYPE = CONTENT_TYPE_LATEST

_REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_END_TO_END_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
_SETTLE_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LOOP_LAG_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_BATCH_EVENTS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 5000.0, 10000.0, 50000.0)

EVENTS = Definition("events_total", Kind.COUNTER, "Events settled, by outcome.", ("outcome",))
OPERATIONS = Definition(
    "operations_total",
    Kind.COUNTER,
    "Operations that reached their end, by kind and outcome.",
    ("kind", "outcome"),
)
REQUESTS = Definition(
    "requests_total",
    Kind.COUNTER,
    "Requests to the platform, by HTTP status, or by the failure's kind where there was no answer.",
    ("account", "status"),
)
REQUEST_SECONDS = Definition(
    "request_seconds",
    Kind.HISTOGRAM,
    "How long requests to the platform took, without waiting for their turn.",
    ("account",),
    _REQUEST_S,
)
BATCH_EVENTS = Definition(
    "batch_events",
    Kind.HISTOGRAM,
    "Events per batch, by why the batch was closed: size, bytes, linger, drain.",
    ("cause",),
    _BATCH_EVENTS,
)
RETRIES = Definition("retries_total", Kind.COUNTER, "Operations to be tried again, by cause.", ("cause",))
DEAD_LETTERS = Definition("dead_letters_total", Kind.COUNTER, "Dead letters written, by reason.", ("reason",))
REPLAYS = Definition("replays_total", Kind.COUNTER, "Events settled that came from the replay topic.")
LOST_RECORDS = Definition(
    "lost_records_total", Kind.COUNTER, "Offsets that were gone from a source topic before they were read."
)
LAG_RECORDS = Definition(
    "lag_records", Kind.GAUGE, "Offsets from the position to the end, over the partitions of this process."
)
USEFUL_LAG_RECORDS = Definition(
    "useful_lag_records",
    Kind.GAUGE,
    "The part of the lag that one more replica could reduce: none while the lane holds or is limited by its account.",
)
OLDEST_UNFINISHED_SECONDS = Definition(
    "oldest_unfinished_seconds",
    Kind.GAUGE,
    "Age of the oldest event that was read and is not settled, by its record timestamp; 0 if there is none.",
)
IN_FLIGHT = Definition("in_flight", Kind.GAUGE, "Requests of the lane that are under way.")
LANE_STATE = Definition("lane_state", Kind.GAUGE, "1 for the state that the lane is in, 0 for others.", ("state",))
BREAKER_OPEN = Definition(
    "breaker_open", Kind.GAUGE, "1 while the account fails as a whole and its lanes hold.", ("account",)
)
OPEN_IMPORTS = Definition("open_imports", Kind.GAUGE, "Imports that the lane has open.", ("account",))
RATE_LIMIT_REMAINING = Definition(
    "rate_limit_remaining",
    Kind.GAUGE,
    "Requests left in the platform's window, as its last answer said; absent if it says nothing.",
    ("account",),
)
END_TO_END_SECONDS = Definition(
    "end_to_end_seconds",
    Kind.HISTOGRAM,
    "From the record's timestamp to its settlement.",
    (),
    _END_TO_END_S,
)
SETTLE_SECONDS = Definition(
    "settle_seconds",
    Kind.HISTOGRAM,
    "How long a settling transaction took.",
    (),
    _SETTLE_S,
)
EVENT_LOOP_LAG_SECONDS = Definition(
    "event_loop_lag_seconds",
    Kind.HISTOGRAM,
    "How late the process's event loop wakes up what is due.",
    (),
    _LOOP_LAG_S,
)
CONCURRENCY_LIMIT = Definition(
    "concurrency_limit",
    Kind.GAUGE,
    "Requests that may be in flight on the account now; lowered while the platform throttles.",
    ("account",),
)

ALL = (
    EVENTS,
    OPERATIONS,
    REQUESTS,
    REQUEST_SECONDS,
    BATCH_EVENTS,
    RETRIES,
    DEAD_LETTERS,
    REPLAYS,
    LOST_RECORDS,
    LAG_RECORDS,
    USEFUL_LAG_RECORDS,
    OLDEST_UNFINISHED_SECONDS,
    IN_FLIGHT,
    LANE_STATE,
    BREAKER_OPEN,
    OPEN_IMPORTS,
    RATE_LIMIT_REMAINING,
    END_TO_END_SECONDS,
    SETTLE_SECONDS,
    EVENT_LOOP_LAG_SECONDS,
    CONCURRENCY_LIMIT,
)


class Metrics:
    """All families in a registry of their own."""

    def __init__(self) -> None:
        self._families = {definition.name: Family(definition, NAMESPACE) for definition in ALL}
        self._collector = FamilyCollector(list(self._families.values()))
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self._collector)

    def __getitem__(self, definition: Definition) -> Family:
        return self._families[definition.name]

    def before_scrape(self, refresh: Callable[[], None]) -> None:
        """Call ``refresh`` before each scrape; it sets gauges, is quick and does not raise."""
        self._collector.refresh.append(refresh)

    def render(self) -> bytes:
        """The text that ``/metrics`` answers, of type CONTENT_TYPE."""
        return generate_latest(self.registry)
