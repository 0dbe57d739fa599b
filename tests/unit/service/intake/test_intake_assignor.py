"""Who gets which partitions: whole groups n, to every member an entry, nothing of what it does not subscribe to."""

from collections.abc import Iterable, Mapping
from types import SimpleNamespace

import msgspec
import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from service.intake.assignor import LaneAssignor, View, assignor_for

Shares = dict[str, dict[str, list[int]]]


def cluster(counts: Mapping[str, int]) -> ClusterMetadata:
    """What the assignor asks of the cluster."""
    return SimpleNamespace(  # type: ignore[return-value] # the one method that it uses
        partitions_for_topic=lambda topic: set(range(counts[topic])) if counts.get(topic) else None
    )


def member(*topics: str, instance: str | None = None) -> ConsumerProtocolMemberMetadata:
    return assignor_for("vip", instance).metadata(topics)


def assign(counts: Mapping[str, int], members: Mapping[str, ConsumerProtocolMemberMetadata]) -> Shares:
    """Each member's partitions, after a way over the wire."""
    found = LaneAssignor.assign(cluster(counts), members)
    shares: Shares = {}
    for member_id, assignment in found.items():
        wire = ConsumerProtocolMemberAssignment.decode(assignment.encode())
        shares[member_id] = {topic: list(numbers) for topic, numbers in wire.assignment}
    return shares


def test_partition_n_of_all_topics_goes_to_one_member() -> None:
    """Sources and replay alike; groups are dealt out in turn."""
    members = {"m1": member("a", "b", "replay"), "m2": member("a", "b", "replay")}
    assert assign({"a": 4, "b": 2, "replay": 4}, members) == {
        "m1": {"a": [0, 2], "b": [0], "replay": [0, 2]},
        "m2": {"a": [1, 3], "b": [1], "replay": [1, 3]},
    }


def test_every_member_has_an_entry() -> None:
    """Also one for which nothing is left: without it its coordination task would die."""
    members = {f"m{n}": member("a") for n in range(5)}
    shares = assign({"a": 2}, members)
    assert shares.keys() == members.keys()
    assert [sum(len(numbers) for numbers in share.values()) for share in shares.values()] == [1, 1, 0, 0, 0]


def test_a_member_gets_nothing_of_a_topic_that_it_does_not_subscribe_to() -> None:
    """Its client would fail on it; a group goes whole to a member that reads all of it, however few these are."""
    shares = assign({"a": 6, "b": 4}, {"m1": member("a"), "m2": member("a", "b")})
    assert shares == {"m1": {"a": [4]}, "m2": {"a": [0, 1, 2, 3, 5], "b": [0, 1, 2, 3]}}


def test_no_partition_is_left_to_nobody_while_members_differ() -> None:
    """A rollout that replaces a topic: nobody reads all three, and each partition of each has its reader."""
    members = {"m1": member("a", "b"), "m2": member("a", "c"), "m3": member("a", "c")}
    shares = assign({"a": 3, "b": 3, "c": 2}, members)
    for topic, count in {"a": 3, "b": 3, "c": 2}.items():
        assert sorted(n for share in shares.values() for n in share.get(topic, [])) == list(range(count))


def test_without_one_topics_metadata_nobody_gets_anything() -> None:
    """The view names what is missing; every member has its entry."""
    members = {"m1": member("a", "gone"), "m2": member("a", "gone")}
    found = LaneAssignor.assign(cluster({"a": 4}), members)
    assert {member_id: list(assignment.assignment) for member_id, assignment in found.items()} == {"m1": [], "m2": []}
    lane = assignor_for("vip", None)
    lane.on_assignment(found["m1"])
    assert lane.view == View(topics={"a": 4, "gone": 0}, missing=["gone"])


def test_the_view_travels_to_every_member() -> None:
    """Each lane in the process has its own."""
    found = LaneAssignor.assign(cluster({"a": 4}), {"m1": member("a")})
    one, other = assignor_for("one", None), assignor_for("other", None)
    one.on_assignment(ConsumerProtocolMemberAssignment.decode(found["m1"].encode()))
    assert one.view == View(topics={"a": 4})
    assert other.view == View()


@pytest.mark.parametrize("data", [b"", b"garbage", b"[]", b'{"topics": 7}', None])
def test_an_unreadable_view_is_none(data: bytes | None) -> None:
    """A member of another version does not stop ours: an exception here would be swallowed."""
    lane = assignor_for("vip", None)
    lane.view = View(topics={"a": 1})
    lane.on_assignment(ConsumerProtocolMemberAssignment(0, [], data))
    assert lane.view == View()


@pytest.mark.parametrize("data", [b"", b"garbage", None, b'{"instance": 7}'])
def test_an_unreadable_member_takes_part(data: bytes | None) -> None:
    """It is dealt with like one without an instance."""
    members = {"m1": ConsumerProtocolMemberMetadata(0, ["a"], data), "m2": member("a", instance="pod-0")}
    assert assign({"a": 2}, members) == {"m1": {"a": [0]}, "m2": {"a": [1]}}


def test_static_members_keep_their_place_through_a_restart() -> None:
    """The member id changes, the instance does not, and neither does what it gets."""
    counts = {"a": 5}
    before = assign(counts, {f"id-{9 - n}": member("a", instance=f"pod-{n}") for n in range(3)})
    after = assign(
        counts,
        {
            "id-9": member("a", instance="pod-0"),
            "aaa-restarted": member("a", instance="pod-1"),
            "id-7": member("a", instance="pod-2"),
        },
    )
    assert after["aaa-restarted"] == before["id-8"]
    assert (after["id-9"], after["id-7"]) == (before["id-9"], before["id-7"])


@pytest.mark.parametrize("instance", [None, "pod-0"])
def test_whoever_leads_deals_out_the_same(instance: str | None) -> None:
    """In the order of the ids, however the coordinator lists the members; also where an instance is there twice."""
    members = {f"m{n}": member("a", instance=instance) for n in (2, 0, 1)}
    assert assign({"a": 3}, members) == {"m0": {"a": [0]}, "m1": {"a": [1]}, "m2": {"a": [2]}}


def test_what_a_member_says_goes_over_the_wire() -> None:
    """Topics in one order, and the version that all members of the group know."""
    said = ConsumerProtocolMemberMetadata.decode(member("b", "a", instance="pod-0").encode())
    assert (said.version, said.subscription) == (0, ["a", "b"])


def test_the_protocols_name_never_changes() -> None:
    """Members with another one could not join: a fatal error in a running group."""
    assert LaneAssignor.name == "fanline"
    assert assignor_for("vip", None).name == "fanline"


def test_a_raised_revision_changes_a_members_bytes() -> None:
    """With the same bytes a rejoin causes no rebalance."""
    lane = assignor_for("vip", "pod-0")
    before = lane.metadata(["a"]).user_data
    lane.data = msgspec.structs.replace(lane.data, revision=lane.data.revision + 1)
    assert lane.metadata(["a"]).user_data != before
    assert lane.metadata(["b", "a"]).subscription == ["a", "b"]


COUNTS = st.dictionaries(st.sampled_from(["a", "b", "replay"]), st.integers(1, 12), min_size=1)


def all_numbers(shares: Iterable[Mapping[str, list[int]]]) -> list[tuple[str, int]]:
    return sorted((topic, n) for share in shares for topic, numbers in share.items() for n in numbers)


@given(counts=COUNTS, members=st.lists(st.sampled_from([None, "x", "y", "z"]), min_size=1, max_size=6))
def test_everything_is_dealt_out_once_and_evenly(counts: dict[str, int], members: list[str | None]) -> None:
    """With the same subscription of all: each partition once, groups whole, shares that differ by one group at most."""
    shares = assign(counts, {f"m{n}": member(*counts, instance=who) for n, who in enumerate(members)})
    assert all_numbers(shares.values()) == sorted((topic, n) for topic, count in counts.items() for n in range(count))
    owner: dict[int, str] = {}
    for member_id, share in shares.items():
        for numbers in share.values():
            for n in numbers:
                assert owner.setdefault(n, member_id) == member_id
    sizes = [sum(1 for who in owner.values() if who == member_id) for member_id in shares]
    assert max(sizes) - min(sizes) <= 1


@given(
    counts=COUNTS,
    subscriptions=st.lists(st.sets(st.sampled_from(["a", "b", "replay"]), min_size=1), min_size=1, max_size=5),
)
def test_no_member_gets_what_it_did_not_ask_for(counts: dict[str, int], subscriptions: list[set[str]]) -> None:
    """Whatever each subscribes to, known to the cluster or not; and nothing twice."""
    shares = assign(counts, {f"m{n}": member(*topics) for n, topics in enumerate(subscriptions)})
    assert len(shares) == len(subscriptions)
    for n, topics in enumerate(subscriptions):
        assert shares[f"m{n}"].keys() <= topics
    dealt = all_numbers(shares.values())
    assert len(dealt) == len(set(dealt))
