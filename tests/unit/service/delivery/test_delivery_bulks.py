"""Batches that must not be repeated blindly: each verdict, and what the journal says meanwhile."""

import asyncio
from math import ceil, log2

import pytest
from aiokafka.structs import TopicPartition

from handlers.base import Answer, Reply
from service.delivery.breaker import BreakerPolicy
from service.delivery.guard import Guard, GuardPolicy
from service.delivery.retry import RetryPolicy
from service.settling.settler import SettlePolicy
from tests.support.bulks import NOT_SENT, OK, RESET, TIMED_OUT, BulkBench, ids_of, offsets_named, running
from tests.support.fakes import Call, FakeBroker, FakeTime, Source, answer, eventually, run, settle_down

CONTACT = (
    b'{"specversion":"1.0","id":"a","source":"crm","type":"contact.changed.v1",'
    b'"data":{"contact_id":"c-1","change":"updated","attributes":{"name":"Lindqvist"}}}'
)


def test_a_batch_is_one_request_behind_its_entry() -> None:
    """While the call runs the journal names its records; with their settlement the entry goes."""

    async def main(time: FakeTime) -> None:
        seen: list[set[tuple[str, int, int]]] = []

        def reply(call: Call) -> Reply:
            seen.append(offsets_named(bench.open_entries().values()))
            return OK

        bench = BulkBench(time, reply)
        async with running(bench):
            items = bench.batch(["a", "b", "c"])
            await bench.until_settled(3)
            assert seen == [{("contacts", 0, 0), ("contacts", 0, 1), ("contacts", 0, 2)}]
            assert bench.carried() == [["a", "b", "c"]]
            assert set(bench.outcomes().values()) == {"delivered"}
            assert [item.operations[0].attempts for item in items] == [1, 1, 1]
            assert bench.operations == [("workflow.execute", "delivered", 3)]
            assert sorted(bench.released, key=str) == [b"a", b"b", b"c"]
            assert bench.nothing_is_left()

    run(main)


def test_an_entry_lies_in_each_partition_and_goes_with_the_last_record_there() -> None:
    """Events that end together may be settled in several transactions; the other partition does not wait."""

    async def main(time: FakeTime) -> None:
        tps = [TopicPartition("contacts", 0), TopicPartition("contacts", 1), TopicPartition("replay", 1)]
        bench = BulkBench(time, source=Source(*tps), settle=SettlePolicy(max_events=2))
        async with running(bench):
            items = [bench.item("a", tp=tps[0]), bench.item("b", tp=tps[1]), bench.item("c", tp=tps[2])]
            items.append(bench.item("d", tp=tps[0]))
            bench.deliver(*items)
            await eventually(lambda: bool(bench.platform.calls))
            entries = bench.open_entries()
            assert sorted(partition for partition, _ in entries) == [0, 1]
            (ranges,) = {str(sorted(entry.ranges.items())) for entry in entries.values()}
            assert ranges == "[('contacts', ((0, 0, 2), (1, 0, 1))), ('replay', ((1, 0, 1),))]"
            await bench.until_settled(2)
            # a and b are settled; c holds the entry of partition 1, d that of partition 0.
            assert sorted(partition for partition, _ in bench.open_entries()) == [0, 1]
            await bench.until_settled(4)
            assert bench.nothing_is_left()

    run(main)


@pytest.mark.parametrize("first", [answer(429), answer(503), NOT_SENT], ids=["429", "503", "not sent"])
def test_what_did_not_take_effect_is_out_of_the_journal_while_it_waits(first: Reply) -> None:
    """Taken out before the retry waits, written again before the next call; performed once."""

    async def main(time: FakeTime) -> None:
        replies = [first, OK]
        entered: list[int] = []

        def reply(call: Call) -> Reply:
            entered.append(len(bench.open_entries()))
            return replies.pop(0)

        bench = BulkBench(time, reply, retry=RetryPolicy(first_delay_s=60, max_delay_s=60))
        async with running(bench):
            bench.batch(["a", "b"])
            await eventually(lambda: bench.dispatcher.retrying == 1, every_s=0.001)
            assert bench.open_entries() == {}
            await bench.until_settled(2)
            assert entered == [1, 1]
            assert bench.performed == ["a", "b"]
            assert [item.operations[0].attempts for item in bench.ended] == [2, 2]
            assert bench.nothing_is_left()

    run(main)


def test_other_batches_go_on_while_one_waits_for_its_retry() -> None:
    """A parked bulk gives its worker free."""

    async def main(time: FakeTime) -> None:
        throttled = [True]

        def reply(call: Call) -> Reply:
            if "a" in ids_of(call) and throttled:
                throttled.pop()
                return NOT_SENT
            return OK

        bench = BulkBench(time, reply, concurrency=1, retry=RetryPolicy(first_delay_s=3600, max_delay_s=3600))
        async with running(bench):
            bench.batch(["a"])
            bench.batch(["b"])
            bench.batch(["c"])
            await bench.until_settled(3)
            assert bench.carried() == [["a"], ["b"], ["c"], ["a"]]

    run(main)


@pytest.mark.parametrize("failure", [RESET, TIMED_OUT, answer(500)], ids=["reset", "time-out", "500"])
def test_in_doubt_is_never_repeated(failure: Reply) -> None:
    """Each member is in_doubt/interrupted; the entry stays until they are settled, and goes with them."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time, lambda call: failure)
        async with running(bench):
            bench.batch(["a", "b"])
            await bench.until_settled(2)
            assert set(bench.outcomes().values()) == {"in_doubt/interrupted"}
            assert len(bench.platform.calls) == 1
            assert bench.nothing_is_left()

    run(main)


def test_one_batch_in_doubt_opens_the_breaker_and_one_event_probes() -> None:
    """An outage costs what was in flight, then one event per probe; then whole batches go again."""

    async def main(time: FakeTime) -> None:
        down = [True]
        bench = BulkBench(
            time, lambda call: RESET if down else OK, concurrency=2, breaker=BreakerPolicy(first_open_s=5)
        )
        async with running(bench):
            for number in range(4):
                bench.batch([f"{number}{letter}" for letter in "abc"])
            await asyncio.sleep(4)
            assert len(bench.platform.calls) == 2
            await eventually(lambda: len(bench.platform.calls) == 3)
            assert bench.carried()[2] == ["2a"]
            down.clear()
            await bench.until_settled(12)
            assert bench.carried()[3] in (["2b"], ["3a"])
            assert sorted(map(len, bench.carried())) == [1, 1, 2, 2, 3, 3] or len(bench.carried()) <= 6
            in_doubt = [name for name, outcome in bench.outcomes().items() if outcome.startswith("in_doubt")]
            assert len(in_doubt) == 7
            assert len(bench.performed) == len(set(bench.performed)) == 12
            assert bench.nothing_is_left()

    run(main)


@pytest.mark.parametrize("place", [0, 1, 37, 63, 98, 99])
def test_one_bad_event_among_a_hundred_is_found_by_halves(place: int) -> None:
    """At most 2·log2(100)+1 further requests; no good one is performed twice; order is kept."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time, lambda call: answer(400, b"no") if "bad" in ids_of(call) else OK)
        async with running(bench):
            names = [f"n{number:02}" for number in range(100)]
            names[place] = "bad"
            bench.batch(names)
            await bench.until_settled(100)
            outcomes = bench.outcomes()
            assert outcomes.pop("bad") == "rejected/refused"
            assert set(outcomes.values()) == {"delivered"}
            assert len(bench.platform.calls) - 1 <= 2 * ceil(log2(100)) + 1
            assert bench.performed == [name for name in names if name != "bad"]
            assert bench.nothing_is_left()

    run(main)


def test_a_request_that_is_too_large_is_halved_too() -> None:
    """413: the one that is too large alone is rejected with that reason."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time, lambda call: answer(413) if "bad" in ids_of(call) else OK)
        async with running(bench):
            bench.batch(["a", "bad", "c"])
            await bench.until_settled(3)
            assert bench.outcomes() == {"a": "delivered", "bad": "rejected/too_large", "c": "delivered"}

    run(main)


def test_each_item_of_an_answer_has_its_own_end() -> None:
    """An error is the item's, an item that nobody understands is in doubt, the others are delivered."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time, lambda call: answer(200, b'["ok", "bad", "what"]'))
        async with running(bench):
            items = bench.batch(["a", "b", "c"])
            await bench.until_settled(3)
            assert bench.outcomes() == {"a": "delivered", "b": "rejected/refused", "c": "in_doubt/interrupted"}
            assert [item.detail for item in items] == [None, "no such receiver", "unknown item"]
            assert bench.nothing_is_left()

    run(main)


@pytest.mark.parametrize("status", [200, 400])
def test_what_the_platform_quotes_of_an_event_is_masked(status: int) -> None:
    """The event is held no longer by then: it is read again, be the end its own or the whole request's."""

    async def main(time: FakeTime) -> None:
        words = b'["quoted"]' if status == 200 else b"no such receiver: Lindqvist"
        bench = BulkBench(time, lambda call: answer(status, words))
        async with running(bench):
            item = bench.item("a", value=CONTACT)
            bench.deliver(item)
            await bench.until_settled(1)
            assert bench.outcomes() == {"a": "rejected/refused"}
            assert item.detail == "no such receiver: •••"

    run(main)


def test_forbidden_is_the_items_fault_only_if_others_succeed() -> None:
    """Behind a success it is split, and alone rejected; without one the lane holds, and nothing is open."""

    async def main(time: FakeTime) -> None:
        everything = [True]

        def reply(call: Call) -> Reply:
            return answer(403) if everything or "bad" in ids_of(call) else OK

        bench = BulkBench(time, reply)
        async with running(bench):
            bench.batch(["a", "bad", "c"])
            await eventually(lambda: bench.dispatcher.hold is not None)
            await eventually(lambda: not bench.open_entries(), every_s=0.001)
            assert bench.ended == []
            everything.clear()
            bench.batch(["d"])  # it tries next, not the one that was forbidden last
            await bench.until_settled(4)
            assert bench.outcomes() == {"a": "delivered", "bad": "rejected/refused", "c": "delivered", "d": "delivered"}
            assert sorted(bench.performed) == ["a", "c", "d"]
            assert bench.nothing_is_left()

    run(main)


@pytest.mark.parametrize("status", [401, 404])
def test_a_hold_leaves_nothing_in_the_journal(status: int) -> None:
    """Neither credentials nor a wrong workflow are an event's fault: it stays unfinished, and was not begun."""

    async def main(time: FakeTime) -> None:
        replies: list[Reply] = [answer(status)]
        bench = BulkBench(time, lambda call: replies.pop() if replies else OK)
        async with running(bench):
            bench.batch(["a", "b"])
            await asyncio.sleep(60)
            assert len(bench.platform.calls) == 1
            assert bench.open_entries() == {}
            bench.dispatcher.resume()
            bench.account.resume()
            await bench.until_settled(2)
            assert set(bench.outcomes().values()) == {"delivered"}
            assert bench.nothing_is_left()

    run(main)


def test_expired_members_leave_the_batch_before_the_call() -> None:
    """The others go on; an entry never names what is not sent."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time)
        async with running(bench):
            bench.deadline_ms = {"a": time.wall_ms() - 1, "b": time.wall_ms() + 60_000, "c": time.wall_ms() - 1}
            bench.batch(["a", "b", "c", "d"])
            await bench.until_settled(4)
            assert bench.carried() == [["b", "d"]]
            assert bench.outcomes() == {
                "a": "expired/deadline", "b": "delivered", "c": "expired/deadline", "d": "delivered",
            }  # fmt: skip

    run(main)


def test_the_guard_counts_members() -> None:
    """One batch of which most are refused is enough to hold the lane."""

    async def main(time: FakeTime) -> None:
        words = ["ok"] * 40 + ["bad"] * 20
        bench = BulkBench(
            time,
            lambda call: Answer(200, {}, str(words).replace("'", '"').encode()),
            guard=Guard(GuardPolicy(0.2, 200)),
        )
        async with running(bench):
            bench.batch([f"n{number}" for number in range(60)])
            await bench.until_settled(60)
            assert bench.dispatcher.hold is not None
            assert "guard" in bench.dispatcher.hold.reason

    run(main)


def test_keys_are_released_when_none_of_their_records_is_left() -> None:
    """A key whose second event waits in the other half is not given free by its first."""

    async def main(time: FakeTime) -> None:
        released: list[list[str]] = []

        def reply(call: Call) -> Reply:
            released.append(sorted(str(key) for key in bench.released))
            return answer(400) if len(ids_of(call)) == 4 else OK

        bench = BulkBench(time, reply)
        async with running(bench):
            bench.deliver(
                *[bench.item(name, key=key) for name, key in zip("abcd", [b"k", b"x", b"k", b"y"], strict=True)]
            )
            await bench.until_settled(4)
            assert bench.carried() == [["a", "b", "c", "d"], ["a", "b"], ["c", "d"]]
            assert released[2] == [str(b"x")]
            assert sorted(map(str, bench.released)) == sorted(map(str, [b"k", b"x", b"y"]))

    run(main)


def test_a_pause_lets_what_runs_end_and_starts_nothing() -> None:
    """And leaves no entry of what it kept from starting."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time, takes_s=1, concurrency=1)
        async with running(bench):
            bench.batch(["a"])
            bench.batch(["b"])
            await eventually(lambda: len(bench.platform.calls) == 1)
            bench.dispatcher.pause("by ops: because")
            await asyncio.sleep(60)
            assert bench.carried() == [["a"]]
            assert bench.nothing_is_left() is False
            assert bench.open_entries() == {}
            bench.dispatcher.unpause()
            await bench.until_settled(2)
            assert bench.nothing_is_left()

    run(main)


def test_a_pause_that_begins_behind_the_entry_stops_the_call() -> None:
    """The entry was written for a call that does not come: it is taken out."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time, broker=FakeBroker(takes_s=1))
        async with running(bench):
            bench.batch(["a"])
            await asyncio.sleep(0.5)
            bench.dispatcher.pause("by ops: because")
            await asyncio.sleep(60)
            assert bench.platform.calls == []
            assert bench.open_entries() == {}
            bench.dispatcher.unpause()
            await bench.until_settled(1)
            assert bench.performed == ["a"]

    run(main)


def test_what_was_refused_is_out_of_the_journal_before_its_halves_wait() -> None:
    """Nothing of it took effect: a crash now must not leave a hundred in doubt for one."""

    async def main(time: FakeTime) -> None:
        def reply(call: Call) -> Reply:
            bench.dispatcher.pause("by ops: because")
            return answer(400) if len(ids_of(call)) > 1 else OK

        bench = BulkBench(time, reply)
        async with running(bench):
            bench.batch(["a", "b"])
            await asyncio.sleep(60)
            assert bench.carried() == [["a", "b"]]
            assert bench.open_entries() == {}

    run(main)


def test_an_event_that_the_handler_cannot_write_ends_alone() -> None:
    """Halves find it; the others are delivered; nothing was called with it, so nothing is in doubt."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time)
        async with running(bench):
            bench.batch(["a", "b", "unwritable", "d"])
            await bench.until_settled(4)
            assert bench.outcomes()["unwritable"] == "invalid/handler_error"
            assert bench.performed == ["a", "b", "d"]
            assert bench.faults
            assert bench.nothing_is_left()

    run(main)


def test_an_answer_that_the_handler_cannot_judge_is_in_doubt() -> None:
    """Our fault, and the messages may have gone out."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time, lambda call: answer(299))
        async with running(bench):
            bench.batch(["a", "b"])
            await bench.until_settled(2)
            assert set(bench.outcomes().values()) == {"in_doubt/interrupted"}
            assert len(bench.faults) == 1

    run(main)


def test_drained_work_is_unfinished_and_not_in_the_journal() -> None:
    """A bulk that waits for pace when partitions are given back leaves no trace."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time, takes_s=2, concurrency=2)
        async with running(bench):
            bench.batch(["a"])
            bench.broker.takes_s = 1.0
            await settle_down()
            bench.batch(["b"])
            await eventually(lambda: len(bench.platform.calls) == 1)
            bench.source.assignment.draining = True
            await bench.dispatcher.quiet()
            await bench.settler.drained()
            assert set(bench.outcomes()) == {"a"}
            assert bench.open_entries() == {}

    run(main)
