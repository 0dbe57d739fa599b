"""Orders reach the lanes and accounts that they are for, as soon as they are read."""

from collections.abc import Callable

from contracts.control import (
    AccountKey,
    Action,
    GuardKey,
    Key,
    LaneKey,
    Loss,
    LossKey,
    Order,
    Release,
    Switch,
    encode_key,
    encode_order,
)
from service.control.control import Control, Obeyed
from tests.support.fakes import FakeTime

BY = ("ops@host", "mending", 1_795_312_800_123)
PAUSE, RESUME, RELEASE = Switch(Action.PAUSE, *BY), Switch(Action.RESUME, *BY), Release(*BY)


class Desk:
    """Two lanes on one account and one on another; ``done`` is what they were told."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.control = Control({}, "p.control", FakeTime())
        for lane, account in (("one", "main"), ("two", "main"), ("other", "second")):
            obeyed = Obeyed(self._note(f"{lane} switched"), self._note(f"{lane} released"), self._note(f"{lane} loss"))
            self.control.obey(lane, account, obeyed, retry_account=self._note(f"{account} retried"))

    def _note(self, what: str) -> Callable[[], None]:
        return lambda: self.done.append(what)

    def order(self, key: Key, order: Order | None, *, old: bool = False) -> list[str]:
        """What an order brings about."""
        self.done.clear()
        self.control._apply(encode_key(key), None if order is None else encode_order(order), old)
        return self.done


def test_a_lanes_order_reaches_that_lane() -> None:
    """And one for a lane that does not run here nobody."""
    desk = Desk()
    assert desk.order(LaneKey("one"), PAUSE) == ["one switched"]
    assert desk.order(LaneKey("one"), None) == ["one switched"]
    assert desk.order(LaneKey("elsewhere"), PAUSE) == []
    assert desk.order(LossKey("two", "t", 0), Loss(0, 1, *BY)) == ["two loss"]


def test_an_accounts_order_reaches_all_its_lanes() -> None:
    """Resumed, what was refused is tried at once."""
    desk = Desk()
    assert desk.order(AccountKey("main"), PAUSE) == ["one switched", "two switched"]
    assert desk.order(AccountKey("main"), RESUME) == ["one switched", "two switched", "main retried"]
    assert desk.order(AccountKey("nowhere"), RESUME) == []


def test_a_release_ends_holds_and_tries_credentials() -> None:
    """Of that lane and its account alone."""
    assert Desk().order(GuardKey("other"), RELEASE) == ["other released", "second retried"]


def test_what_was_ordered_before_the_process_began_is_no_answer_to_its_holds() -> None:
    """Pauses hold, releases have been used up by the processes of their time."""
    desk = Desk()
    assert desk.order(GuardKey("one"), RELEASE, old=True) == []
    assert desk.order(AccountKey("main"), RESUME, old=True) == ["one switched", "two switched"]
    assert desk.order(LaneKey("one"), PAUSE, old=True) == ["one switched"]
    pause = desk.control.of_lane("one", "main").pause()
    assert pause is not None
    assert pause.by == "ops@host"
