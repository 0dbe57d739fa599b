"""What a lane is told at start, and what it works with."""

from random import Random
from typing import Any

import msgspec
from aiokafka.client import AIOKafkaClient

from handlers.base import BatchHandler, Expression, Handler
from handlers.imports.rows import ImportHandler
from service.batching.batcher import BatchPolicy
from service.clock import Clock
from service.dedupe.deduper import DedupePolicy
from service.delivery.guard import GuardPolicy
from service.delivery.lane_delivery import DeliveryPolicy
from service.imports.policy import ImportPolicy
from service.imports.seams import FileWay, Uploads
from service.intake.planner import PlanningPolicy
from service.kafka.names import LaneNames
from service.lane.control import LaneControl
from service.lane.observer import LaneObserver
from service.settling.documents import Documents
from service.settling.settler import Committer, SettlePolicy
from service.transport.account import Account, AccountObserver


class LaneSetup(msgspec.Struct, frozen=True):
    """Everything a lane is told at start; times in seconds."""

    name: str
    names: LaneNames
    topics: tuple[str, ...]
    written: tuple[str, ...]  # the topics that it writes, whose leaders it has to know
    start: Any
    hold_on_gap: bool
    batch: BatchPolicy
    delivery: DeliveryPolicy
    planning: PlanningPolicy
    guard: GuardPolicy | None
    dedupe: DedupePolicy | None
    settle: SettlePolicy
    buffer_bytes: int
    dry_run: bool
    drain_s: float
    instance_id: str | None
    session_timeout_s: float
    rebalance_timeout_s: float
    imports: ImportPolicy | None = None  # of import lanes alone

    @property
    def subscribed(self) -> list[str]:
        """The topics that the lane reads: its sources and its replays."""
        return [*self.topics, self.names.replay]


class LaneMeans(msgspec.Struct, frozen=True):
    """What a lane works with. Its client and committer are its own; the account is shared with other lanes."""

    handler: Handler | BatchHandler | ImportHandler
    where: Expression | None
    account: Account
    documents: Documents
    committer: Committer
    client: AIOKafkaClient
    connection: dict[str, Any]
    observer: LaneObserver
    requests: AccountObserver
    control: LaneControl
    clock: Clock
    random: Random
    uploads: Uploads | None = None  # of import lanes whose files go another way than their creates
    way: FileWay | None = None  # of import lanes whose calls have files as their bodies
