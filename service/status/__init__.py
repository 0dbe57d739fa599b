"""What the service is doing, and why: the status document, the gauges of a scrape, liveness and readiness."""

from service.status.document import (
    BreakerStatus,
    ImportStatus,
    LaneStatus,
    PartitionStatus,
    SlotStatus,
    StatusDocument,
    decode_status,
    encode_status,
)
from service.status.gauges import set_gauges
from service.status.health import Health, live, ready
from service.status.snapshot import Status, settled_of

__all__ = [
    "BreakerStatus",
    "Health",
    "ImportStatus",
    "LaneStatus",
    "PartitionStatus",
    "SlotStatus",
    "Status",
    "StatusDocument",
    "decode_status",
    "encode_status",
    "live",
    "ready",
    "set_gauges",
    "settled_of",
]
