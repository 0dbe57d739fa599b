"""One lane in one process: its parts, wired, started and stopped in order."""

from service.lane.lane import Lane, LaneSetup

__all__ = ["Lane", "LaneSetup"]
