"""Ids are the same however often and wherever they are computed."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from contracts import ids
from contracts.ids import NAMESPACE, ResultIds, batch_id, hashed_key, result_id

_RESULT = "0e3c1c6e-65e6-5a39-b4a0-2f4f6b6bd0a5"


def uuid5(name: str) -> str:
    return str(uuid.uuid5(uuid.UUID("a06f0ca3-e230-4067-9938-b01c7eb393a8"), name))


@given(
    st.text("abc-é", min_size=1),
    st.lists(
        st.tuples(
            st.sampled_from(["t", "t\n1", "contacts.changed"]),
            st.integers(0, 3),
            st.integers(0, 2**63),
            st.integers(-1, 2**63),
        ),
        max_size=8,
    ),
)
def test_result_ids_are_uuids_of_version_5(lane: str, records: list[tuple[str, int, int, int]]) -> None:
    """The fast way, whatever it has hashed before, and the plain one give what the standard library gives."""
    fast = ResultIds(lane)
    for topic, partition, offset, timestamp_ms in records:
        expected = uuid5(f"{lane}\n{topic}\n{partition}\n{offset}\n{timestamp_ms}")
        assert fast.of(topic, partition, offset, timestamp_ms) == expected
        assert result_id(lane, topic, partition, offset, timestamp_ms) == expected
        assert ResultIds(lane).many([(topic, partition)], [(offset, timestamp_ms)]) == [expected]


def test_the_namespace_is_the_contracts() -> None:
    """Another namespace would be other ids for ever."""
    assert str(NAMESPACE) == "a06f0ca3-e230-4067-9938-b01c7eb393a8"


def test_batch_ids_do_not_depend_on_the_order() -> None:
    """Its lines are sorted."""
    starts = [("b", 0, 7), ("a", 10, 1), ("a", 2, 5)]
    assert batch_id("vip", starts) == batch_id("vip", starts[::-1]) == uuid5("batch\nvip\na/10/1\na/2/5\nb/0/7")


def test_ids_derived_from_a_result() -> None:
    """Each kind has a line of its own before it, so that no two are equal."""
    assert ids.execution_id(_RESULT) == uuid5(f"execution\n{_RESULT}")
    assert ids.stamp_id(_RESULT) == uuid5(f"stamp\n{_RESULT}")
    assert ids.thread_id("/crm", "e-1") == uuid5("thread\n/crm\ne-1")
    assert ids.notification_id("np6-main", 12, "000PKXK4", "activation", "2026-11-22T02:03:04Z") == uuid5(
        "notification\nnp6-main\n12\n000PKXK4\nactivation\n2026-11-22T02:03:04Z"
    )


def test_hashed_keys() -> None:
    """SHA-256, as other tools compute it."""
    assert hashed_key(b"abc") == b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_ids_of_executions_at_once_are_those_one_by_one() -> None:
    """Whichever way they are computed, and whatever the texts hold."""
    events = [("r", "crm", "e"), ("", "é\n", "x" * 300), *((f"r{n}", "crm", f"e{n}") for n in range(700))]
    executions, stamps, threads = ids.executions_stamps_and_threads(events)
    assert executions == [ids.execution_id(result).encode() for result, _, _ in events]
    assert stamps == [ids.stamp_id(result).encode() for result, _, _ in events]
    assert threads == [ids.thread_id(source, event).encode() for _, source, event in events]
    assert executions[1] == str(uuid.uuid5(ids.NAMESPACE, "execution\n")).encode()
    assert ids.executions_stamps_and_threads([]) == ([], [], [])


def test_many_result_ids_at_once_are_those_one_by_one() -> None:
    """Of several partitions in turn; as the standard library computes them."""
    places = [("contacts", partition) for partition in range(7)]
    records = [(places[n // 3 % 7], n, 1_767_225_600_000 + n if n % 5 else -1) for n in range(3_000)]
    expected = [str(uuid.uuid5(ids.NAMESPACE, f"lane\n{t}\n{p}\n{o}\n{ms}")) for (t, p), o, ms in records]
    numbers = [(offset, timestamp_ms) for _, offset, timestamp_ms in records]
    assert ids.ResultIds("lane").many([place for place, _, _ in records], numbers) == expected
    assert ids.ResultIds("lane").many(places[:1], numbers[:1]) == expected[:1]
    assert ids.ResultIds("lane").many([], []) == []
