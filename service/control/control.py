"""Carries an operator's orders to the lanes and accounts of one process, as soon as the control topic has them."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog
from aiokafka.structs import TopicPartition

from contracts.control import AccountKey, GuardKey, Key, LaneKey, Loss, LossKey, Switch
from service.clock import Clock
from service.control.following import Follower
from service.control.orders import Change, Effect, Orders, Pause
from service.telemetry import LogEvent
from service.telemetry.throttle import Throttle


class Obeyed(msgspec.Struct, frozen=True):
    """What happens in a lane when an order for it, or for its account, arrives."""

    switched: Callable[[], None]  # its pause may have begun or ended
    released: Callable[[], None]  # holds of its own end
    loss_accepted: Callable[[], None]


class Control:
    """The orders of one process and who obeys them. ``run`` follows the topic."""

    def __init__(self, connection: Mapping[str, Any], topic: str, clock: Clock) -> None:
        self.orders = Orders()
        self._clock = clock
        self._lanes: dict[str, tuple[str, Obeyed]] = {}
        self._accounts: dict[str, Callable[[], None]] = {}
        self._log = structlog.get_logger()
        self._throttle = Throttle()
        self._follower = Follower(connection, topic, self._apply, self._failed)
        self.run = self._follower.run
        self.read_to_end = self._follower.read_to_end

    def obey(self, lane: str, account: str, obeyed: Obeyed, *, retry_account: Callable[[], None]) -> None:
        """From now on orders for the lane and for its account are carried out. ``retry_account`` has what the account
        was refused tried at once."""
        self._lanes[lane] = (account, obeyed)
        self._accounts[account] = retry_account

    @property
    def missing(self) -> str | None:
        """Why no order can be read, where that ends by a person."""
        return self._follower.missing

    def of_lane(self, lane: str, account: str) -> "OrdersOfLane":
        """The orders as one lane sees them."""
        return OrdersOfLane(self, lane, account)

    def _apply(self, key: bytes | None, value: bytes | None, old: bool) -> None:
        change = self.orders.apply(key, value)
        if change is None:
            return
        if not old:
            self._tell(change)
        match change.key:
            case LaneKey(lane) | LossKey(lane=lane):
                if lane in self._lanes:
                    self._carry_out(change, self._lanes[lane][1])
            case GuardKey(lane):
                # What was ordered before this process began is no answer to what it holds for.
                if lane in self._lanes and not old:
                    account, obeyed = self._lanes[lane]
                    obeyed.released()
                    self._accounts[account]()
            case AccountKey(account):
                for of_account, obeyed in self._lanes.values():
                    if of_account == account:
                        obeyed.switched()
                if change.effect is Effect.RESUMED and not old and account in self._accounts:
                    self._accounts[account]()

    def _carry_out(self, change: Change, obeyed: Obeyed) -> None:
        if change.effect is Effect.LOSS_ACCEPTED:
            obeyed.loss_accepted()
        else:
            obeyed.switched()

    def _tell(self, change: Change) -> None:
        order = change.order
        what = order.action.value if isinstance(order, Switch) else change.effect.name.lower()
        by, why = (order.by, order.why) if order is not None else (None, None)
        self._log.info(LogEvent.ORDER, order=what, of=_named(change.key), by=by, why=why)

    def _failed(self, kind: str) -> None:
        held_back = self._throttle.passes(kind, self._clock.monotonic())
        if held_back is not None:
            self._log.warning(LogEvent.KAFKA_ERROR, kind=kind, of="control", held_back=held_back)


class OrdersOfLane:
    """``service.lane.control.LaneControl``"""

    def __init__(self, control: Control, lane: str, account: str) -> None:
        self._control = control
        self._lane = lane
        self._account = account

    async def read_to_end(self) -> None:
        await self._control.read_to_end()

    def pause(self) -> Pause | None:
        return self._control.orders.pause_of(self._lane, self._account)

    def missing(self) -> str | None:
        return self._control.missing

    def accepted(self, tp: TopicPartition) -> Loss | None:
        return self._control.orders.loss_of(self._lane, tp)


def _named(key: Key) -> str:
    match key:
        case AccountKey(account):
            return f"account {account}"
        case LossKey(lane, topic, partition):
            return f"lane {lane}, {topic}-{partition}"
        case LaneKey(lane) | GuardKey(lane):
            return f"lane {lane}"
