"""What the parts of a lane work on together."""

import msgspec

from service.dedupe.deduper import Deduper
from service.delivery.held_time import HeldTimes
from service.intake.planner import Planner
from service.lane.buffer import Buffer
from service.lane.group import Group
from service.lane.setup import LaneMeans, LaneSetup
from service.lane.troubles import Troubles
from service.settling.settler import SettleHooks, Settler


class Core(msgspec.Struct, frozen=True):
    """One lane's: what it was given, and what it holds. ``hooks``: what the lane does when a transaction ends."""

    setup: LaneSetup
    means: LaneMeans
    group: Group
    buffer: Buffer
    troubles: Troubles
    planner: Planner
    held_times: HeldTimes
    deduper: Deduper | None
    settler: Settler
    hooks: SettleHooks
