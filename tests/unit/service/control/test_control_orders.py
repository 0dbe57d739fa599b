"""What operators have ordered, as the topic's records say."""

import pytest
from aiokafka.structs import TopicPartition

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
    decode_key,
    encode_key,
    encode_order,
)
from service.control.orders import Change, Effect, Orders, Pause

AT = 1_795_312_800_123
BY = ("ops@host", "mending", AT)
PAUSE, RESUME = Switch(Action.PAUSE, *BY), Switch(Action.RESUME, *BY)


def after(*records: tuple[Key, Order | None]) -> Orders:
    orders = Orders()
    for key, order in records:
        orders.apply(encode_key(key), None if order is None else encode_order(order))
    return orders


def test_a_lane_is_paused_until_it_is_resumed() -> None:
    """By its own order; other lanes are not meant."""
    orders = after((LaneKey("vip"), PAUSE))
    assert orders.pause_of("vip", "main") == Pause(*BY)
    assert orders.pause_of("news", "main") is None
    assert after((LaneKey("vip"), PAUSE), (LaneKey("vip"), RESUME)).pause_of("vip", "main") is None
    assert after((LaneKey("vip"), PAUSE), (LaneKey("vip"), None)).pause_of("vip", "main") is None


@pytest.mark.parametrize("key", [LaneKey("vip"), AccountKey("main")])
@pytest.mark.parametrize("order", [RESUME, None])
def test_who_was_not_paused_can_be_resumed(key: Key, order: Order | None) -> None:
    """A compacted topic holds a resume long after the pause before it is gone."""
    assert after((key, order)).pause_of("vip", "main") is None


def test_a_paused_account_pauses_all_its_lanes() -> None:
    """A lane's own pause is told before its account's, and outlives it."""
    both = [(AccountKey("main"), PAUSE), (LaneKey("vip"), PAUSE)]
    orders = after(*both)
    assert orders.pause_of("news", "main") == Pause(*BY, account="main")
    assert orders.pause_of("vip", "main") == Pause(*BY)
    assert orders.pause_of("vip", "other") == Pause(*BY)
    assert orders.pause_of("news", "other") is None
    resumed = after(*both, (AccountKey("main"), RESUME))
    assert resumed.pause_of("news", "main") is None
    assert resumed.pause_of("vip", "main") == Pause(*BY)


def test_who_and_why_are_told() -> None:
    """The lane's reason says all that a person has to know."""
    assert Pause(*BY).describe() == "paused by ops@host: mending (ordered 2026-11-22T02:00:00.123Z)"
    assert Pause(*BY, account="main").describe().startswith("account main paused by ops@host: mending")


UNREADABLE = "paused by unknown: an order that cannot be read; give it anew"
NEWER = "paused by unknown: an order of version 2, newer than this process knows"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b'{"version":2}', NEWER),
        *((value, UNREADABLE) for value in (b"{", b'{"version":1,"action":"halt"}', b"\xff", b"[]")),
    ],
)
@pytest.mark.parametrize(("key", "whose"), [(LaneKey("vip"), ""), (AccountKey("main"), "account main ")])
def test_an_order_that_cannot_be_read_pauses(key: Key, whose: str, value: bytes, why: str) -> None:
    """Of a newer version, or damaged: it may have been one to stop, and nobody is harmed by a lane that asks."""
    orders = Orders()
    assert orders.apply(encode_key(key), value) == Change(Effect.SWITCHED, key, None)
    pause = orders.pause_of("vip", "main")
    assert pause is not None
    assert pause.describe() == whose + why
    assert orders.account_pause("main") == (pause if whose else None)
    orders.apply(encode_key(key), encode_order(RESUME))
    assert orders.pause_of("vip", "main") is None


@pytest.mark.parametrize("value", [b"{", b'{"version":2}', None])
def test_a_release_or_a_loss_that_cannot_be_read_changes_nothing(value: bytes | None) -> None:
    """Leave to go on has to be understood."""
    orders = Orders()
    assert orders.apply(encode_key(GuardKey("vip")), value) is None
    assert orders.apply(encode_key(LossKey("vip", "t", 0)), value) is None
    assert orders.loss_of("vip", TopicPartition("t", 0)) is None


def test_losses_are_known_by_lane_and_partition() -> None:
    """The last order counts; a tombstone takes it back."""
    first, second = Loss(1, 2, *BY), Loss(5, 9, *BY)
    key = LossKey("vip", "contacts.changed-v1", 3)
    orders = after((key, first), (key, second))
    assert orders.loss_of("vip", TopicPartition("contacts.changed-v1", 3)) == second
    assert orders.loss_of("news", TopicPartition("contacts.changed-v1", 3)) is None
    assert after((key, first), (key, None)).loss_of("vip", TopicPartition("contacts.changed-v1", 3)) is None


def test_what_a_record_changes_is_told() -> None:
    """So that it can be carried out at once."""
    orders = Orders()
    assert orders.apply(b"lane/vip", encode_order(PAUSE)) == Change(Effect.SWITCHED, LaneKey("vip"), PAUSE)
    assert orders.apply(b"account/a", encode_order(PAUSE)) == Change(Effect.SWITCHED, AccountKey("a"), PAUSE)
    assert orders.apply(b"account/a", encode_order(RESUME)) == Change(Effect.RESUMED, AccountKey("a"), RESUME)
    release = Release(*BY)
    assert orders.apply(b"guard/vip", encode_order(release)) == Change(Effect.RELEASED, GuardKey("vip"), release)
    loss, key = Loss(1, 2, *BY), LossKey("vip", "t", 0)
    assert orders.apply(encode_key(key), encode_order(loss)) == Change(Effect.LOSS_ACCEPTED, key, loss)
    assert orders.apply(b"something/else", b"{}") is None
    assert orders.apply(None, b"{}") is None


@pytest.mark.parametrize(
    "key", [LaneKey("vip"), AccountKey("np6.main/x"), GuardKey("vip"), LossKey("vip", "a-b.c_1-2", 11)]
)
def test_keys_are_read_as_they_were_written(key: Key) -> None:
    """A topic's name may hold dashes and digits of its own; an account's, whatever a file can say."""
    assert decode_key(encode_key(key)) == key


@pytest.mark.parametrize(
    "key", [None, b"", b"lane", b"lane/", b"loss/vip/topic", b"loss/vip/-1", b"loss/vip/t-x", b"\xff"]
)
def test_foreign_keys_are_none(key: bytes | None) -> None:
    """Another version, or another writer."""
    assert decode_key(key) is None
