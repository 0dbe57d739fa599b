"""One lane in one process: its parts, wired, started and stopped in order."""

from service.lane.lane import Lane
from service.lane.setup import LaneMeans, LaneSetup

__all__ = ["Lane", "LaneMeans", "LaneSetup"]
