"""Why a lane or its account holds, who may try whether that has ended, and how it goes on."""

import asyncio
from itertools import pairwise

import pytest

from contracts.outcomes import Outcome, Reason
from handlers.base import Answer, Failure, FailureKind, Reply
from service.delivery.breaker import BreakerPolicy, BreakerState
from service.delivery.guard import Guard, GuardPolicy
from service.delivery.holding import LaneHold
from service.delivery.limiter import LimiterPolicy
from service.delivery.retry import RetryPolicy
from tests.support.dispatching import Bench, account_for, running
from tests.support.fakes import (
    DONE,
    Call,
    FakeCredentials,
    FakePlatform,
    FakeTime,
    Source,
    answer,
    eventually,
    join,
    run,
)

BAD_CERTIFICATE = Failure(FailureKind.BAD_CERTIFICATE, "the certificate is not trusted")
FIVE_MINUTES = 300


class Fickle:
    """A platform's answer that can be changed while it runs."""

    def __init__(self, reply: Reply = DONE) -> None:
        self.reply = reply

    def __call__(self, call: Call) -> Reply:
        return self.reply


# -- the lane's hold


@pytest.mark.parametrize("reply", [answer(405), answer(411), answer(415), answer(302), BAD_CERTIFICATE], ids=str)
def test_a_wrong_request_or_address_holds_the_lane_and_one_operation_tries_each_five_minutes(reply: Reply) -> None:
    """All workers wait, nothing ends; once the cause has gone one try lets all go on."""

    async def main(time: FakeTime) -> None:
        fickle = Fickle(reply)
        platform = FakePlatform(time, fickle)
        async with running(Bench(time, platform)) as bench:
            items = bench.joins([f"T{n}" for n in range(10)])
            await asyncio.sleep(10)
            assert len(platform.calls) == 4  # those that were in flight together
            assert bench.holds[0] is not None
            assert bench.dispatcher.hold is not None
            await asyncio.sleep(3 * FIVE_MINUTES)
            later = [call.began_at for call in platform.calls[4:]]
            assert len(later) == 3
            assert all(FIVE_MINUTES <= b - a < FIVE_MINUTES + 2 for a, b in pairwise(later))
            assert all(item.outcome is None for item in items)
            fickle.reply = DONE
            began = time.monotonic()
            await bench.until(10)
            assert time.monotonic() - began < FIVE_MINUTES + 2
            assert bench.dispatcher.hold is None
            assert bench.holds[-1] is None
            await bench.all_workers_work()

    run(main)


def test_a_403_with_nobody_elses_success_holds_the_lane() -> None:
    """Its reason names the account; the operation is not refused."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, Fickle(answer(403)))
        async with running(Bench(time, platform, concurrency=1)) as bench:
            bench.joins(["A"])
            await asyncio.sleep(1)
            assert bench.dispatcher.hold is not None
            assert bench.dispatcher.hold.reason == "forbidden (403) by account np6-main"
            assert bench.item_done == []

    run(main)


@pytest.mark.parametrize(("pause_s", "refused"), [(59, True), (62, False)])
def test_a_403_is_the_items_own_if_another_operation_succeeded_within_sixty_seconds(
    pause_s: float, refused: bool
) -> None:
    """60 s back, and of another operation than itself."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        async with running(Bench(time, platform)) as bench:
            bench.joins(["B"])
            await bench.until(1)
            platform.scripts["A"] = [answer(403, b'{"message": "no right"}')] * 2
            await asyncio.sleep(pause_s)
            (item,) = bench.joins(["A"])
            await asyncio.sleep(1)
            if refused:
                assert (item.outcome, item.reason) == (Outcome.REJECTED, Reason.REFUSED)
                assert item.operations[0].status == 403
                assert bench.dispatcher.hold is None
            else:
                assert item.outcome is None
                assert bench.dispatcher.hold is not None

    run(main)


def test_a_success_on_another_lane_of_the_account_does_not_make_a_403_the_items() -> None:
    """A right can be missing for one lane alone."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        account = account_for(time, platform)
        async with (
            running(Bench(time, platform, account=account)) as one,
            running(Bench(time, platform, account=account)) as other,
        ):
            other.joins(["B"])
            await other.until(1)
            platform.scripts["A"] = [answer(403)]
            one.joins(["A"])
            await asyncio.sleep(1)
            assert one.dispatcher.hold is not None
            assert other.dispatcher.hold is None
            other.joins(["C"])
            await other.until(2)

    run(main)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_trial_is_not_the_operation_that_was_held_for_if_another_waits(concurrency: int) -> None:
    """One item's own 403 at the start costs five minutes, not for ever: another one's success makes it refused."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        platform.scripts["A"] = [answer(403)] * 50
        async with running(Bench(time, platform, concurrency=concurrency)) as bench:
            (bad,) = bench.joins(["A"])
            await asyncio.sleep(10)
            assert bench.dispatcher.hold is not None
            good = bench.joins(["B", "C"])
            await bench.until(3)
            assert time.monotonic() < 1000 + FIVE_MINUTES + 3
            assert bad.reason is Reason.REFUSED
            assert [item.outcome for item in good] == [Outcome.DELIVERED] * 2
            await bench.all_workers_work()

    run(main)


def test_the_operation_that_was_held_for_tries_if_no_other_waits() -> None:
    """A lane with one event finds out all the same."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        platform.scripts["A"] = [answer(405)] * 2
        async with running(Bench(time, platform)) as bench:
            bench.joins(["A"])
            await bench.until(1)
            assert 1000 + 2 * FIVE_MINUTES < time.monotonic() < 1000 + 2 * FIVE_MINUTES + 4

    run(main)


@pytest.mark.parametrize(
    "told_nothing",
    [answer(500), answer(503), Failure(FailureKind.TIMED_OUT, ""), Failure(FailureKind.NOT_SENT, "")],
    ids=str,
)
def test_a_trial_that_tells_nothing_leaves_the_hold(told_nothing: Reply) -> None:
    """A time-out does not say that the address is right now: the next try comes after the same pause."""

    async def main(time: FakeTime) -> None:
        fickle = Fickle(answer(405))
        platform = FakePlatform(time, fickle)
        async with running(Bench(time, platform)) as bench:
            bench.joins(["A", "B", "C"])
            await asyncio.sleep(1)
            fickle.reply = told_nothing
            before = len(platform.calls)
            await asyncio.sleep(FIVE_MINUTES + 2)
            assert len(platform.calls) == before + 1
            assert bench.dispatcher.hold is not None
            await asyncio.sleep(FIVE_MINUTES + 2)
            assert len(platform.calls) == before + 2
            fickle.reply = DONE
            await bench.until(3)
            await bench.all_workers_work()

    run(main)


def test_a_trial_whose_credentials_are_refused_can_be_made_again() -> None:
    """401 to the trial: the account holds too; once it is mended the lane finds its own way out."""

    async def main(time: FakeTime) -> None:
        fickle = Fickle(answer(405))
        platform = FakePlatform(time, fickle)
        async with running(Bench(time, platform)) as bench:
            bench.joins(["A", "B"])
            await asyncio.sleep(1)
            fickle.reply = answer(401)
            await asyncio.sleep(FIVE_MINUTES + 5)
            assert bench.account.refused is not None
            fickle.reply = DONE
            await bench.until(2)
            assert time.monotonic() < 1000 + 3 * FIVE_MINUTES
            assert (bench.account.refused, bench.dispatcher.hold) == (None, None)
            await bench.all_workers_work()

    run(main)


@pytest.mark.parametrize("how", ["drained", "ended"])
def test_a_trial_whose_assignment_goes_away_is_given_back(how: str) -> None:
    """While it is in line or in flight: the next assignment's operations find out when it is time."""

    async def main(time: FakeTime) -> None:
        fickle = Fickle(answer(405))
        platform = FakePlatform(time, fickle, takes_s=20)
        async with running(Bench(time, platform)) as bench:
            bench.joins(["A", "B"])
            await asyncio.sleep(FIVE_MINUTES + 30)
            assert bench.dispatcher.in_flight == 1  # the trial
            if how == "drained":
                bench.source.assignment.draining = True
            else:
                bench.source.assignment.end()
            fickle.reply = DONE if how == "ended" else answer(500)
            await asyncio.sleep(30)
            bench.source.assignment.end()
            bench.dispatcher.forget()
            bench.source = Source(generation=2)
            fickle.reply = DONE
            bench.joins(["C"])
            await bench.until(1)
            await bench.all_workers_work()

    run(main)


def test_a_hold_is_not_changed_by_what_was_in_flight_when_it_began() -> None:
    """Late successes of others end their events and leave the hold."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, Fickle(DONE), takes_s=5)
        platform.scripts["A"] = [answer(405)]
        async with running(Bench(time, platform, concurrency=2)) as bench:
            bench.joins(["B"])
            await asyncio.sleep(3)
            bench.joins(["A"])
            await asyncio.sleep(1)
            bench.joins(["C"])
            await asyncio.sleep(10)
            assert [item.record.key for item in bench.item_done] == [b"B", b"C"]
            assert bench.dispatcher.hold is not None

    run(main)


def test_a_trial_that_is_refused_for_its_own_sake_ends_the_hold() -> None:
    """A 403 while another one has just succeeded: it is the item's, and the lane may go on."""

    async def main(time: FakeTime) -> None:
        async def slow(call: Call) -> Reply:
            if call.target == "B":
                await asyncio.sleep(FIVE_MINUTES - 20)
                return DONE
            return answer(405) if time.monotonic() < 1010 else answer(403)

        platform = FakePlatform(time, slow)
        async with running(Bench(time, platform, concurrency=2)) as bench:
            bench.joins(["B", "A"])
            await asyncio.sleep(FIVE_MINUTES + 5)
            assert bench.dispatcher.hold is None
            assert [item.reason for item in bench.item_done] == [None, Reason.REFUSED]

    run(main)


# -- the guard


def guarded(time: FakeTime, platform: FakePlatform, concurrency: int = 1) -> Bench:
    return Bench(time, platform, concurrency=concurrency, guard=Guard(GuardPolicy(dead_letters=0.2, of_last=200)))


def test_the_guard_holds_for_ever_until_it_is_resumed() -> None:
    """More than a fifth refused, from the fiftieth on: no try of its own, whatever the time; then all go on."""

    async def main(time: FakeTime) -> None:
        fickle = Fickle(answer(404))
        platform = FakePlatform(time, fickle)
        async with running(guarded(time, platform)) as bench:
            bench.joins([f"T{n}" for n in range(70)])
            await asyncio.sleep(20_000)
            assert len(bench.item_done) == 50
            assert bench.dispatcher.hold is not None
            assert bench.dispatcher.hold.reason == "guard: 50 of the last 50 operations were refused or not found"
            fickle.reply = DONE
            began = time.monotonic()
            bench.dispatcher.resume()
            await bench.until(70)
            assert time.monotonic() - began < 0.5  # 20 calls; nobody is found by polling only
            await bench.all_workers_work()

    run(main)


def test_a_trial_that_trips_the_guard_leaves_the_guards_hold() -> None:
    """The end of one hold does not take away the one that began by it."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, Fickle(answer(404)))
        async with running(guarded(time, platform, concurrency=2)) as bench:
            bench.joins([f"T{n}" for n in range(48)])
            await bench.until(48)
            platform.replies = Fickle(answer(405))
            bench.joins(["X"])
            await asyncio.sleep(1)
            bench.joins(["Y", "Z"])
            platform.replies = Fickle(answer(404))
            await asyncio.sleep(10 * FIVE_MINUTES)
            assert bench.dispatcher.hold is not None
            assert bench.dispatcher.hold.reason.startswith("guard")
            assert len(bench.item_done) < 51 + 1

    run(main)


def test_a_refused_403_that_trips_the_guard_holds_at_once() -> None:
    """Not even one more call is made."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, Fickle(answer(403)))
        for n in range(40):
            platform.scripts[f"G{n}"] = [DONE]
        async with running(guarded(time, platform)) as bench:
            bench.joins([f"G{n}" for n in range(40)])
            await bench.until(40)
            bench.joins([f"T{n}" for n in range(30)])
            await asyncio.sleep(10_000)
            assert len(platform.calls) == 51  # eleven of fifty-one are more than a fifth
            assert bench.dispatcher.hold is not None
            assert bench.dispatcher.hold.tries_at is None

    run(main)


def test_what_comes_after_the_guard_does_not_shorten_its_hold() -> None:
    """A late 405 of a call that was in flight changes neither reason nor end."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, Fickle(answer(404)))
        async with running(guarded(time, platform, concurrency=2)) as bench:
            bench.joins([f"T{n}" for n in range(49)])
            await bench.until(49)

            async def late(call: Call) -> Reply:
                await asyncio.sleep(5)
                return answer(405)

            platform.replies = late
            platform.scripts["Y"] = [answer(404)]
            bench.joins(["X", "Y"])
            await asyncio.sleep(10 * FIVE_MINUTES)
            assert bench.dispatcher.hold is not None
            assert bench.dispatcher.hold.reason.startswith("guard")
            assert bench.dispatcher.hold.tries_at is None
            assert len(platform.calls) == 51

    run(main)


def test_expired_events_do_not_count_for_the_guard() -> None:
    """They say nothing about targets or rights."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        async with running(guarded(time, platform)) as bench:
            late = [bench.source.item(b"%d" % n, join(f"L{n}")) for n in range(100)]
            bench.deadline_ms = dict.fromkeys((item.offset for item in late), time.wall_ms() - 1)
            for n in range(11):
                platform.scripts[f"T{n}"] = [answer(404)]
            bench.deliver(*late)
            bench.joins([f"T{n}" for n in range(50)])
            await asyncio.sleep(100)
            # Eleven of fifty trip it: with the expired ones in the window they would not.
            assert bench.dispatcher.hold is not None

    run(main)


# -- the account's hold


def test_a_401_holds_the_account_and_one_trial_passes_each_five_minutes() -> None:
    """Of all its lanes; nothing ends, and nothing is counted."""

    async def main(time: FakeTime) -> None:
        fickle = Fickle(answer(401))
        platform = FakePlatform(time, fickle)
        account = account_for(time, platform)
        async with (
            running(Bench(time, platform, account=account)) as one,
            running(Bench(time, platform, account=account)) as other,
        ):
            one.joins(["A", "B", "C", "D"])
            await asyncio.sleep(1)
            other.joins(["E", "F"])
            assert account.refused is not None
            assert account.holding() == "credentials refused (401)"
            before = len(platform.calls)
            await asyncio.sleep(3 * FIVE_MINUTES)
            assert len(platform.calls) - before == 3
            assert one.dispatcher.hold is None
            fickle.reply = DONE
            await one.until(4)
            await other.until(2)
            assert account.holding() is None
            await one.all_workers_work()

    run(main)


def test_a_changed_secret_is_tried_within_thirty_seconds() -> None:
    """The file is looked at every 30 s; what it holds then is sent."""

    async def main(time: FakeTime) -> None:
        credentials = FakeCredentials("old")

        def reply(call: Call) -> Answer:
            return DONE if call.credentials["X-Key"] == "new" else answer(401)

        platform = FakePlatform(time, reply)
        account = account_for(time, platform, credentials=credentials)
        async with running(Bench(time, platform, account=account)) as bench:
            bench.joins(["A", "B", "C"])
            await asyncio.sleep(100)
            calls = len(platform.calls)
            credentials.content = None
            await asyncio.sleep(60)
            assert len(platform.calls) == calls
            credentials.content = "new"
            began = time.monotonic()
            await bench.until(3)
            assert time.monotonic() - began < 32
            await bench.all_workers_work()

    run(main)


def test_a_trial_of_credentials_is_one_at_a_time() -> None:
    """While it is in flight nobody else sends."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, Fickle(answer(401)), takes_s=10)
        async with running(Bench(time, platform, concurrency=8)) as bench:
            bench.joins([f"T{n}" for n in range(8)])
            await asyncio.sleep(20)
            platform.most_in_flight = 0
            await asyncio.sleep(4 * FIVE_MINUTES)
            assert platform.most_in_flight == 1

    run(main)


def test_an_outage_opens_the_breaker_and_nothing_ends_until_it_is_over() -> None:
    """A minute without the platform: no event is given up, afterwards all are delivered, in order per key."""

    async def main(time: FakeTime) -> None:
        fickle = Fickle(DONE)
        platform = FakePlatform(time, fickle)
        account = account_for(time, platform, breaker=BreakerPolicy())
        retry = RetryPolicy(first_delay_s=0.1, max_delay_s=1, max_attempts=3)
        async with running(Bench(time, platform, account=account, retry=retry, concurrency=8)) as bench:
            bench.joins([f"G{n}" for n in range(30)])
            await bench.until(30)
            await asyncio.sleep(61)
            fickle.reply = answer(500)
            items = bench.joins([f"T{n}" for n in range(100)])
            await asyncio.sleep(30)
            assert account.breaker.state is not BreakerState.CLOSED
            assert account.holding() == "breaker open: account np6-main fails as a whole"
            during = len(platform.calls)
            await asyncio.sleep(30)
            assert len(platform.calls) - during <= 3  # probes only
            assert all(item.outcome is None for item in items)
            fickle.reply = DONE
            await bench.until(130)
            assert all(item.outcome is Outcome.DELIVERED for item in items)
            await bench.all_workers_work()

    run(main)


def test_a_poisonous_operation_is_not_the_probe_while_another_waits() -> None:
    """What failed last lets another one find out; alone it probes itself."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        platform.scripts["X"] = [answer(500)] * 1000
        breaker = BreakerPolicy(min_requests=2)
        account = account_for(time, platform, breaker=breaker)
        retry = RetryPolicy(first_delay_s=0.01, max_delay_s=0.01, max_attempts=1000)
        async with running(Bench(time, platform, account=account, retry=retry)) as bench:
            bench.joins(["X"])
            await eventually(lambda: account.breaker.until is not None, every_s=0.001)
            until = account.breaker.until or 0.0
            await asyncio.sleep(1)
            bench.joins(["G"])  # behind X, which waits in line by now
            await eventually(lambda: time.monotonic() >= until + 0.5)
            assert next(call.target for call in platform.calls if call.began_at >= until) == "G"

    run(main)


# -- the rule


def test_who_may_try() -> None:
    """When it is time, one at a time, and not the one that failed if others wait."""
    hold = LaneHold("why", 10.0, failed="a")
    assert not hold.may_try(9.9, "b")
    assert hold.may_try(10.0, "a")
    assert not hold.may_try(10.0, "a", others=True)
    assert hold.may_try(10.0, "b", others=True)
    hold.trying = True
    assert not hold.may_try(10.0, "b")
    assert not LaneHold("guard", None).may_try(1e9, "b")


def test_who_waits_in_the_accounts_line_when_the_lane_begins_to_hold_is_not_called() -> None:
    """The permit is given back, for other lanes to use."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, Fickle(answer(405)))
        account = account_for(time, platform, limits=LimiterPolicy(max_in_flight=1))
        async with (
            running(Bench(time, platform, account=account)) as one,
            running(Bench(time, platform, account=account)) as other,
        ):
            one.joins(["A", "B", "C", "D"])
            await asyncio.sleep(FIVE_MINUTES - 10)
            assert len(platform.calls) == 1
            platform.replies = None
            other.joins(["E"])
            await other.until(1)
            assert time.monotonic() < 1000 + FIVE_MINUTES

    run(main)
