"""Records of the control topic: keys and orders, there and back, and what is none."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    Order,
    Release,
    Switch,
    decode_key,
    decode_order,
    encode_key,
    encode_order,
)

PAUSE = Switch(Action.PAUSE, "anna@host", "why", 7)
RELEASE = Release("anna@host", "why", 7)
LOSS = Loss(5, 9, "anna@host", "why", 7)
ORDERS: list[tuple[Key, bytes, Order]] = [
    (LaneKey("vip"), b"lane/vip", PAUSE),
    (AccountKey("main"), b"account/main", Switch(Action.RESUME, "b", "", 0)),
    (GuardKey("vip"), b"guard/vip", RELEASE),
    (LossKey("vip", "contacts-changed", 2147483647), b"loss/vip/contacts-changed-2147483647", LOSS),
    (LossKey("vip", "a.b", 0), b"loss/vip/a.b-0", Loss(5, 9, "b", "", 0, offsets_lost=True)),
]


@pytest.mark.parametrize(("key", "written", "order"), ORDERS)
def test_an_order_comes_back(key: Key, written: bytes, order: Order) -> None:
    """Key and value, each as it was; the key as the contract writes it."""
    assert encode_key(key) == written
    assert decode_key(written) == key
    assert decode_order(key, encode_order(order)) == order


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"",
        b"\xff",
        b"lane",
        b"lane/",
        b"/vip",
        b"lanes/vip",
        b"LANE/vip",
        b"loss/vip",
        b"loss/vip/topic",
        b"loss/vip/topic-",
        b"loss/vip/topic-x",
        b"loss/vip/topic--",
        b"loss/vip/-3",
        b"loss//topic-3",
        b"loss/vip/topic-\xc2\xb2",
        b"loss/vip/topic-\xd9\xa2",
        b"loss/vip/topic-" + b"1" * 11,
        b"loss/vip/topic-" + b"1" * 5000,
    ],
)
def test_a_key_that_is_none_of_ours(key: bytes | None) -> None:
    """It concerns nobody; whatever it is, nothing raises."""
    assert decode_key(key) is None


@given(st.binary(max_size=30))
def test_no_key_makes_reading_raise(key: bytes) -> None:
    """And what is read is written alike."""
    for begin in (b"", b"lane/", b"loss/vip/"):
        read = decode_key(begin + key)
        assert read is None or decode_key(encode_key(read)) == read


def test_an_order_of_a_newer_version_is_told_from_a_damaged_one() -> None:
    """Neither is leave to go on; of the damaged one only its kind is said."""
    assert decode_order(LaneKey("vip"), b'{"version":2,"action":{}}') == Newer(2)
    assert decode_order(GuardKey("vip"), msgspec.json.encode(RELEASE)) == RELEASE
    wrong = [b"", b"{}", b"\xff", b'{"version":1}', b'{"version":"1"}', b"[" * 100_000, encode_order(RELEASE)]
    for value in wrong:
        with pytest.raises(ControlError, match=r"^a control record that cannot be read: LaneKey$"):
            decode_order(LaneKey("vip"), value)
    with pytest.raises(ControlError, match="LossKey"):
        decode_order(LossKey("vip", "t", 0), encode_order(PAUSE))
