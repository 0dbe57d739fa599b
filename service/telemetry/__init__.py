"""What the service tells of itself: metrics for machines, log lines for people; nothing personal in either."""

from .events import LogEvent
from .lane import AccountTelemetry, LaneTelemetry, Telemetry
from .logging import configure_logging, lane_context, log_loop_error
from .metrics import CONTENT_TYPE, Metrics
from .redaction import SecretStrings, describe

__all__ = [
    "CONTENT_TYPE",
    "AccountTelemetry",
    "LaneTelemetry",
    "LogEvent",
    "Metrics",
    "SecretStrings",
    "Telemetry",
    "configure_logging",
    "describe",
    "lane_context",
    "log_loop_error",
]
