"""What operators have ordered, as the control topic says: pure state, fed with its records in order.

What cannot be read, damaged or of a newer version, pauses: an order to stop must not be lost to an old process.
"""

from enum import Enum, auto

import msgspec
from aiokafka.structs import TopicPartition

from contracts.control import (
    AccountKey,
    Action,
    ControlError,
    GuardKey,
    Key,
    LaneKey,
    Loss,
    LossKey,
    Newer,
    Release,
    Switch,
    decode_key,
    decode_order,
)
from contracts.timestamps import instant_text


class Pause(msgspec.Struct, frozen=True):
    """Why a lane may start no call. ``account`` is None where the order is for the lane itself."""

    by: str
    why: str
    at_ms: int
    account: str | None = None

    def describe(self) -> str:
        """For the lane's reason."""
        of_account = "" if self.account is None else f"account {self.account} "
        since = instant_text(self.at_ms)
        return f"{of_account}paused by {self.by}: {self.why}" + ("" if since is None else f" (ordered {since})")


class Effect(Enum):
    """What an order changes."""

    SWITCHED = auto()  # pauses may have begun or ended
    RELEASED = auto()  # holds of a lane's own end
    RESUMED = auto()  # an account goes on: what was refused is tried at once
    LOSS_ACCEPTED = auto()


class Change(msgspec.Struct, frozen=True):
    """What one record has changed, and for whom."""

    effect: Effect
    key: Key
    order: Switch | Release | Loss | None  # None: taken back, or not to be read


_UNREADABLE = "an order that cannot be read; give it anew"


class Orders:
    """The newest order for each lane, account and partition."""

    def __init__(self) -> None:
        self._lanes: dict[str, Pause] = {}
        self._accounts: dict[str, Pause] = {}
        self._losses: dict[tuple[str, str, int], Loss] = {}

    def apply(self, key_bytes: bytes | None, value: bytes | None) -> Change | None:
        """Take the next record of the topic; what it changes, if anything."""
        key = decode_key(key_bytes)
        if key is None:
            return None
        order: Switch | Release | Loss | None = None
        unreadable: str | None = None
        if value is not None:
            try:
                read = decode_order(key, value)
            except ControlError:
                unreadable = _UNREADABLE
            else:
                if isinstance(read, Newer):
                    unreadable = f"an order of version {read.version}, newer than this process knows"
                else:
                    order = read
        match key:
            case LaneKey(lane):
                _switch(self._lanes, lane, order, unreadable, account=None)
                return Change(Effect.SWITCHED, key, order)
            case AccountKey(account):
                _switch(self._accounts, account, order, unreadable, account=account)
                resumed = isinstance(order, Switch) and order.action is Action.RESUME
                return Change(Effect.RESUMED if resumed else Effect.SWITCHED, key, order)
            case GuardKey():
                return Change(Effect.RELEASED, key, order) if isinstance(order, Release) else None
            case LossKey(lane, topic, partition):
                if isinstance(order, Loss):
                    self._losses[lane, topic, partition] = order
                    return Change(Effect.LOSS_ACCEPTED, key, order)
                self._losses.pop((lane, topic, partition), None)
                return None

    def pause_of(self, lane: str, account: str) -> Pause | None:
        """Why the lane may start no call: its own pause before its account's."""
        return self._lanes.get(lane) or self._accounts.get(account)

    def account_pause(self, account: str) -> Pause | None:
        """Why no lane on the account may start a call."""
        return self._accounts.get(account)

    def loss_of(self, lane: str, tp: TopicPartition) -> Loss | None:
        """What was given up last of a partition."""
        return self._losses.get((lane, tp.topic, tp.partition))


def _switch(
    pauses: dict[str, Pause],
    name: str,
    order: Switch | Release | Loss | None,
    unreadable: str | None,
    *,
    account: str | None,
) -> None:
    if unreadable is not None:
        pauses[name] = Pause("unknown", unreadable, -1, account)
    elif isinstance(order, Switch) and order.action is Action.PAUSE:
        pauses[name] = Pause(order.by, order.why, order.at_ms, account)
    else:
        pauses.pop(name, None)
