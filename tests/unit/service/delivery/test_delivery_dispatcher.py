"""The dispatcher: order, retries, ends, deadlines, drains; with an account, a platform and a time that are ours."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest

from contracts.outcomes import Outcome, Reason
from contracts.results import Operation
from handlers.base import Answer, Confirm, Failure, FailureKind, Reply, Request, RetryCause, Verdict
from handlers.np6.segments import SegmentsHandler
from service.delivery.retry import RetryPolicy
from tests.support.dispatching import Bench, account_for, running
from tests.support.fakes import DONE, Call, FakePlatform, FakeTime, answer, eventually, join, leave, run, settle_down

TIMED_OUT = Failure(FailureKind.TIMED_OUT, "no answer in time")
RESET = Failure(FailureKind.RESET, "the connection broke")
NOT_SENT = Failure(FailureKind.NOT_SENT, "no connection")


def test_every_item_of_a_batch_ends_with_the_platforms_answer() -> None:
    """204 delivers, with status, attempts and outcome in the operation; each chain ends once."""

    async def main(time: FakeTime) -> None:
        async with running(Bench(time)) as bench:
            items = bench.joins(["T1", "T2", "T3"])
            await bench.until(3)
            assert [(item.outcome, item.reason) for item in items] == [(Outcome.DELIVERED, None)] * 3
            operation = items[0].operations[0]
            assert (operation.status, operation.attempts, operation.outcome) == (204, 1, Outcome.DELIVERED)
            assert all(item.called for item in items)
            assert len(bench.chain_done) == len(bench.unit_done) == 3
            await bench.all_workers_work()

    run(main)


def test_a_key_waits_for_its_retry_and_other_keys_go_on() -> None:
    """The second call of a key is made after the first has succeeded; others do not wait for it."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        platform.scripts["A1"] = [answer(500), TIMED_OUT, RESET, answer(503), NOT_SENT]
        async with running(Bench(time, platform, concurrency=1)) as bench:
            first = bench.source.item(b"a", join("A1"), join("A2"))
            second = bench.source.item(b"a", join("A3"))
            others = [bench.source.item(b"%d" % n, join(f"B{n}")) for n in range(20)]
            bench.deliver(first, second, *others)
            await bench.until(22)
            calls = [target for target in platform.targets() if target.startswith("A")]
            assert calls == ["A1"] * 6 + ["A2", "A3"]
            # One worker: had it kept the key's chain, nobody could have overtaken it.
            assert [item.record.key for item in bench.item_done[-2:]] == [b"a", b"a"]
            assert first.operations[0].attempts == 6
            causes = [RetryCause.SERVER_ERROR, RetryCause.TIMED_OUT, RetryCause.RESET, RetryCause.THROTTLED]
            assert bench.retries == [*causes, RetryCause.NOT_SENT]
            await bench.all_workers_work()

    run(main)


def test_a_parked_chain_frees_its_worker_and_comes_back_in_time() -> None:
    """All workers' chains are parked; new ones are taken at once; each retry comes no later than its delay says."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        retry = RetryPolicy(first_delay_s=10, max_delay_s=60, max_attempts=5)
        async with running(Bench(time, platform, concurrency=2, retry=retry)) as bench:
            for target in ("A", "B"):
                platform.scripts[target] = [answer(500)]
            bench.joins(["A", "B"])
            await eventually(lambda: bench.dispatcher.retrying == 2, every_s=0.01)
            parked = {chain.key: due for due, chain in bench.dispatcher.parked_loads()}
            bench.joins(["C"])
            began = time.monotonic()
            await bench.until(1)
            assert time.monotonic() - began < 0.1
            await bench.until(3)
            again = {call.target.encode(): call.began_at for call in platform.calls}
            for key, due in parked.items():
                assert due <= again[key] <= due + 0.05
            await bench.all_workers_work()

    run(main)


@asynccontextmanager
async def others_at_work(bench: Bench) -> AsyncIterator[None]:
    """The platform does its work for others meanwhile: between any two failures something succeeds."""

    async def work() -> None:
        while True:
            bench.joins(["B"])
            await asyncio.sleep(0.001)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
    await eventually(bench.nothing_is_left)


def test_what_succeeded_before_an_outage_exhausts_nothing_in_it() -> None:
    """An outage is not a dead letter, though the breaker needs a while to see it behind many successes."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        retry = RetryPolicy(first_delay_s=0.01, max_delay_s=0.02, max_attempts=3)
        async with running(Bench(time, platform, retry=retry)) as bench:
            bench.joins([f"before{n}" for n in range(200)])
            await bench.until(200)
            platform.scripts["A"] = [answer(500)] * 40
            (item,) = bench.joins(["A"])
            await eventually(lambda: len(platform.calls) >= 240)
            assert item.outcome is None
            await bench.until(201)
            assert item.outcome is Outcome.DELIVERED

    run(main)


def test_attempts_count_only_while_others_succeed() -> None:
    """An account that fails as a whole exhausts nothing, however often it fails; with others' success it does."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        retry = RetryPolicy(first_delay_s=0.1, max_delay_s=0.2, max_attempts=3)
        async with running(Bench(time, platform, retry=retry)) as bench:
            platform.scripts["A"] = [answer(500)] * 60
            (item,) = bench.joins(["A"])
            await eventually(lambda: len(platform.calls) >= 40)
            assert item.outcome is None
            async with others_at_work(bench):
                await eventually(lambda: item.outcome is not None)
            assert (item.outcome, item.reason) == (Outcome.REJECTED, Reason.EXHAUSTED)
            others_at = next(call.ended_at or 0.0 for call in platform.calls if call.target == "B")
            ends = [call.ended_at or 0.0 for call in platform.calls if call.target == "A"]
            assert len([end for end in ends if end >= others_at]) == 3
            assert item.operations[0].status == 500
            await bench.all_workers_work()

    run(main)


@pytest.mark.parametrize(
    ("reply", "exhausts"),
    [
        (answer(500), True),
        (answer(502), True),
        (answer(408), True),
        (TIMED_OUT, True),
        (RESET, True),
        (answer(429), False),
        (answer(503), False),
        (NOT_SENT, False),
    ],
    ids=str,
)
def test_only_what_may_be_the_items_own_doing_uses_up_attempts(reply: Reply, exhausts: bool) -> None:
    """Whatever certainly took no effect is tried for as long as it takes."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        retry = RetryPolicy(first_delay_s=0.1, max_delay_s=0.2, max_attempts=3)
        async with running(Bench(time, platform, retry=retry)) as bench:
            platform.scripts["A"] = [reply] * 8
            bench.joins(["B"])
            await bench.until(1)
            (item,) = bench.joins(["A"])
            while item.outcome is None:
                bench.joins(["B"])
                await asyncio.sleep(0.001 if exhausts else 0.5)
            assert item.reason is (Reason.EXHAUSTED if exhausts else None)
            assert item.operations[0].attempts == (3 if exhausts else 9)

    run(main)


def test_an_exhausted_operation_stops_none_of_the_others() -> None:
    """The event's other operations are carried out, and its outcome is the worst."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        retry = RetryPolicy(first_delay_s=0.1, max_delay_s=0.2, max_attempts=2)
        async with running(Bench(time, platform, retry=retry)) as bench:
            bench.joins(["B"])
            await bench.until(1)
            platform.scripts["A1"] = [answer(500, b'{"message": "down"}', x_request_id="r-1")] * 9
            platform.scripts["A2"] = [answer(404)]
            item = bench.source.item(b"a", join("A1"), join("A2"), join("A3"))
            bench.deliver(item)
            async with others_at_work(bench):
                await eventually(lambda: item.outcome is not None)
            ends = [(operation.outcome, operation.reason) for operation in item.operations]
            assert ends == [
                (Outcome.REJECTED, Reason.EXHAUSTED),
                (Outcome.REJECTED, Reason.NOT_FOUND),
                (Outcome.DELIVERED, None),
            ]
            assert (item.outcome, item.reason) == (Outcome.REJECTED, Reason.EXHAUSTED)
            assert item.operations[0].reference == "r-1"

    run(main)


def test_a_conflict_is_confirmed_and_only_the_reading_call_is_repeated() -> None:
    """409, then a GET that fails once: the POST is not sent again, and attempts count together."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        async with running(Bench(time, platform)) as bench:
            platform.scripts["A"] = [answer(409), answer(500), answer(200, b"[7, 1]")]
            (item,) = bench.joins(["A"])
            await bench.until(1)
            assert [call.request.method for call in platform.calls] == ["POST", "GET", "GET"]
            assert item.outcome is Outcome.DELIVERED
            assert item.operations[0].attempts == 3
            await bench.all_workers_work()

    run(main)


def test_merged_calls_give_each_event_its_own_end() -> None:
    """Two events with the same assignment: one call, two results, both masked with the data of both."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        async with running(Bench(time, platform)) as bench:
            platform.scripts["A"] = [answer(400, b'{"message": "no"}')]
            items = [bench.source.item(b"a", join("A")), bench.source.item(b"a", join("A"))]
            bench.deliver(*items)
            await bench.until(2)
            assert len(platform.calls) == 1
            assert [item.outcome for item in items] == [Outcome.REJECTED] * 2
            assert items[0].operations[0] is not items[1].operations[0]
            assert len(bench.unit_done) == len(bench.chain_done) == 1

    run(main)


# -- deadlines


def test_what_is_past_its_deadline_ends_without_a_call() -> None:
    """Expired at the moment of its turn, exactly behind the deadline."""

    async def main(time: FakeTime) -> None:
        async with running(Bench(time)) as bench:
            items = [bench.source.item(key, join(key.decode())) for key in (b"a", b"b")]
            bench.deadline_ms = {0: time.wall_ms() - 1, 1: time.wall_ms()}
            bench.deliver(*items)
            await bench.until(2)
            assert [(item.outcome, item.reason) for item in items] == [
                (Outcome.EXPIRED, Reason.DEADLINE),
                (Outcome.DELIVERED, None),
            ]
            assert bench.platform.targets() == ["b"]
            assert items[0].operations[0].attempts == 0

    run(main)


def test_a_deadline_that_passes_in_the_accounts_line_counts() -> None:
    """A long rate limit: what waited for it past its deadline is not delivered after all."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        async with running(Bench(time, platform, concurrency=3)) as bench:
            platform.scripts["A"] = [answer(429, retry_after="120")]
            items = bench.joins(["A", "B", "C"])
            await settle_down()
            late = bench.source.item(b"d", join("D"))
            bench.deadline_ms[late.offset] = time.wall_ms() + 60_000
            await asyncio.sleep(1)
            bench.deliver(late)
            await bench.until(4)
            assert (late.outcome, late.reason) == (Outcome.EXPIRED, Reason.DEADLINE)
            assert "D" not in platform.targets()
            assert [item.outcome for item in items] == [Outcome.DELIVERED] * 3
            await bench.all_workers_work()

    run(main)


def test_a_merged_call_lives_as_long_as_its_last_member() -> None:
    """One member expired: the call is made for the other, and is the end of both."""

    async def main(time: FakeTime) -> None:
        async with running(Bench(time)) as bench:
            items = [bench.source.item(b"a", join("A")), bench.source.item(b"a", join("A"))]
            bench.deadline_ms = {0: time.wall_ms() - 1, 1: time.wall_ms() + 1}
            bench.deliver(*items)
            await bench.until(2)
            assert [item.outcome for item in items] == [Outcome.DELIVERED] * 2
            assert len(bench.platform.calls) == 1

    run(main)


def test_a_confirmation_is_not_cut_off_by_the_deadline() -> None:
    """The call was made in time: what became of it is still found out."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, takes_s=1)
        async with running(Bench(time, platform)) as bench:
            platform.scripts["A"] = [answer(409), answer(500), answer(200, b"[1]")]
            bench.deadline_ms = {0: time.wall_ms() + 500}
            (item,) = bench.joins(["A"])
            await bench.until(1)
            assert item.outcome is Outcome.DELIVERED

    run(main)


# -- a handler that errs


class Erring(SegmentsHandler):
    """Raises in one method for targets that begin with X."""

    def __init__(self, method: str) -> None:
        super().__init__(lambda *_: None, lambda *_: None, lambda *_: None)
        self._method = method

    def _check(self, method: str, operation: Operation) -> None:
        if method == self._method and (operation.target or "").startswith("X"):
            raise LookupError("a secret of the event")

    def request(self, operation: Operation) -> Request:
        self._check("request", operation)
        return super().request(operation)

    def judge(self, operation: Operation, reply: Reply) -> Verdict:
        self._check("judge", operation)
        if self._method in ("confirmation", "judge_confirmation"):
            return Confirm()
        return super().judge(operation, reply)

    def confirmation(self, operation: Operation) -> Request:
        self._check("confirmation", operation)
        return super().confirmation(operation)

    def judge_confirmation(self, operation: Operation, reply: Reply) -> Verdict:
        self._check("judge_confirmation", operation)
        return super().judge(operation, reply)


@pytest.mark.parametrize("method", ["request", "judge", "confirmation", "judge_confirmation"])
@pytest.mark.parametrize("others", [False, True], ids=["alone", "others succeed"])
def test_a_handler_that_raises_ends_its_event_as_exhausted(method: str, others: bool) -> None:
    """Our own fault is counted once per try, whoever else succeeds; the error's text appears nowhere."""

    async def main(time: FakeTime) -> None:
        retry = RetryPolicy(first_delay_s=0.1, max_delay_s=0.2, max_attempts=6)
        async with running(Bench(time, handler=Erring(method), retry=retry)) as bench:
            if others:
                bench.joins(["B0"])
                await bench.until(1)
            item = bench.source.item(b"x", join("X"), join("Y"))
            bench.deliver(item)
            await bench.until(1 + others)
            assert (item.outcome, item.reason) == (Outcome.REJECTED, Reason.EXHAUSTED)
            assert item.detail == "handler error: LookupError"
            assert item.operations[1].outcome is Outcome.DELIVERED
            assert [type(fault) for fault in bench.faults] == [LookupError] * 6
            assert item.operations[0].status is None
            await bench.all_workers_work()

    run(main)


def test_a_transport_that_raises_is_our_fault_too() -> None:
    """An error that the transport does not know ends its event, and gives its permit back."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        retry = RetryPolicy(first_delay_s=0.1, max_delay_s=0.2, max_attempts=2)
        async with running(Bench(time, platform, retry=retry)) as bench:
            platform.scripts["A"] = [ValueError("a header")] * 2
            (item,) = bench.joins(["A"])
            await bench.until(1)
            assert item.reason is Reason.EXHAUSTED
            await bench.all_workers_work()

    run(main)


# -- drain, end


def held_back(gate: asyncio.Event) -> FakePlatform:
    """A platform that answers once the gate is opened."""

    async def reply(call: Call) -> Reply:
        await gate.wait()
        return DONE

    return FakePlatform(FakeTime(), reply, takes_s=0)


def test_a_drained_assignment_starts_no_call_and_brings_home_what_runs() -> None:
    """Neither the next call of a chain nor a chain that is ready; what runs ends, and is told."""

    async def main(time: FakeTime) -> None:
        gate = asyncio.Event()
        platform = held_back(gate)
        platform.time = time
        async with running(Bench(time, platform, concurrency=2)) as bench:
            running_ones = [bench.source.item(b"a", join("A1"), join("A2")), bench.source.item(b"b", join("B"))]
            bench.deliver(*running_ones, bench.source.item(b"c", join("C")))
            await settle_down()
            assert bench.dispatcher.in_flight == 2
            bench.source.assignment.draining = True
            quiet = asyncio.create_task(bench.dispatcher.quiet())
            await settle_down()
            assert not quiet.done()
            gate.set()
            await quiet
            assert sorted(platform.targets()) == ["A1", "B"]
            assert bench.item_done == [running_ones[1]]
            assert running_ones[0].operations[0].outcome is Outcome.DELIVERED
            assert running_ones[0].outcome is None
            await asyncio.sleep(5)
            assert sorted(platform.targets()) == ["A1", "B"]
            bench.source.assignment.end()
            bench.dispatcher.forget()
            bench.source = type(bench.source)()
            await bench.all_workers_work()

    run(main)


def test_it_is_quiet_when_the_last_call_has_ended() -> None:
    """Not when the first of two has."""

    async def main(time: FakeTime) -> None:
        async def reply(call: Call) -> Reply:
            await asyncio.sleep(5 if call.target == "B" else 1)
            return DONE

        async with running(Bench(time, FakePlatform(time, reply, takes_s=0))) as bench:
            bench.joins(["A", "B"])
            await settle_down()
            began = time.monotonic()
            bench.source.assignment.draining = True
            await bench.dispatcher.quiet()
            assert time.monotonic() - began == pytest.approx(5)

    run(main)


def test_a_dispatcher_that_has_ended_leaves_no_timer() -> None:
    """What was parked stays where it was."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        platform.scripts["A"] = [answer(500)]
        async with running(Bench(time, platform)) as bench:
            bench.joins(["A"])
            await eventually(lambda: bench.dispatcher.retrying == 1, every_s=0.001)
        await asyncio.sleep(100)
        assert (bench.dispatcher.retrying, bench.dispatcher.ready) == (1, 0)

    run(main)


@pytest.mark.parametrize("reply", [DONE, answer(500), answer(409), answer(404), answer(405), answer(403), answer(401)])
def test_a_reply_to_an_ended_assignment_changes_nothing(reply: Reply) -> None:
    """The partitions are somebody else's: no end, no retry, no hold."""

    async def main(time: FakeTime) -> None:
        gate = asyncio.Event()

        async def late(call: Call) -> Reply:
            await gate.wait()
            return reply

        platform = FakePlatform(time, late)
        async with running(Bench(time, platform)) as bench:
            items = bench.joins(["A", "B"])
            await asyncio.sleep(1)
            bench.source.assignment.end()
            bench.dispatcher.forget()
            gate.set()
            await asyncio.sleep(1)
            assert [item.outcome for item in items] == [None, None]
            assert [item.operations[0].outcome for item in items] == [None, None]
            assert (bench.item_done, bench.chain_done, bench.retries, bench.holds) == ([], [], [], [])
            assert bench.account.refused is None
            assert bench.nothing_is_left()
            platform.replies = None
            bench.source = type(bench.source)()
            await bench.all_workers_work()

    run(main)


def test_chains_of_an_ended_assignment_are_forgotten_and_others_stay() -> None:
    """Those that are ready and those that are parked; the next assignment's are delivered."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        platform.scripts["A"] = [answer(500)] * 3
        retry = RetryPolicy(first_delay_s=100, max_delay_s=100)
        async with running(Bench(time, platform, concurrency=1, retry=retry)) as bench:
            bench.joins(["A"])
            await asyncio.sleep(0.5)
            assert bench.dispatcher.retrying == 1
            old, bench.source = bench.source, type(bench.source)()
            old.assignment.end()
            bench.joins(["B"])
            bench.dispatcher.forget()
            assert bench.dispatcher.retrying == 0
            await bench.until(1)
            await asyncio.sleep(200)
            assert platform.targets() == ["A", "B"]
            await bench.all_workers_work()

    run(main)


# -- order under load


@pytest.mark.parametrize("seed", range(6))
def test_order_holds_per_key_whatever_is_answered(seed: int) -> None:
    """Random answers and durations: per key every operation ends before the next one is called; nothing is lost."""

    async def main(time: FakeTime) -> None:
        chance = Random(seed)
        answers = [DONE] * 8 + [answer(500), TIMED_OUT, RESET, NOT_SENT, answer(429), answer(404), answer(409)]

        async def reply(call: Call) -> Reply:
            await asyncio.sleep(chance.random())
            if call.request.method == "GET":
                return answer(200, b"[1]")
            return chance.choice(answers)

        platform = FakePlatform(time, reply, takes_s=0)
        account = account_for(time, platform)
        retry = RetryPolicy(first_delay_s=0.2, max_delay_s=1, max_attempts=4)
        async with running(Bench(time, platform, account=account, concurrency=5, retry=retry, seed=seed)) as bench:
            items = []
            for number in range(120):
                key = b"%d" % chance.randrange(12)
                name = f"{key.decode()}n{number}"
                items.append(bench.source.item(key, *[leave(f"{name}o{n}") for n in range(chance.randrange(1, 4))]))
            bench.deliver(*items)
            await bench.until(120)
            assert all(item.outcome is not None for item in items)
            ended: dict[bytes, float] = {}
            planned: dict[bytes, list[str]] = {}
            for item in items:
                planned.setdefault(item.record.key or b"", []).extend(_targets(item.operations))
            for key, targets in planned.items():
                calls = [call for call in platform.calls if call.target.split("n")[0] == key.decode()]
                assert list(dict.fromkeys(call.target for call in calls)) == targets
                for call in calls:
                    assert call.began_at >= ended.get(key, 0.0)
                    ended[key] = call.ended_at or 0.0
            await bench.all_workers_work()

    run(main)


def _targets(operations: Sequence[Operation]) -> list[str]:
    return [operation.target or "" for operation in operations]


def test_a_request_uses_the_answers_status_alone_for_its_own_end() -> None:
    """The status of an operation is that of its last call; a failure has none."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        retry = RetryPolicy(first_delay_s=0.1, max_attempts=1)
        async with running(Bench(time, platform, retry=retry)) as bench:
            bench.joins(["B"])
            await bench.until(1)
            platform.scripts["A"] = [TIMED_OUT]
            platform.scripts["C"] = [Answer(413, {}, b"")]
            first, second = bench.joins(["A", "C"])
            await bench.until(3)
            assert first.operations[0].status is None
            assert second.operations[0].status == 413

    run(main)
