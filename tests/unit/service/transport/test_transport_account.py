"""An account's line, pace, breaker and credentials: no permit leaks, nobody is overtaken, nobody waits for ever."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.base import Failure, FailureKind, Reply, Request
from service.config.secrets import SecretError
from service.delivery.breaker import BreakerPolicy, BreakerState
from service.delivery.limiter import LimiterPolicy
from service.transport.account import Account, Permit, is_outage, is_success
from tests.support.dispatching import account_for
from tests.support.fakes import (
    DONE,
    FakeAccountObserver,
    FakeCredentials,
    FakePlatform,
    FakeTime,
    answer,
    run,
    settle_down,
)

REQUEST = Request("POST", "/targets/T/segments/1")
NOT_SENT = Failure(FailureKind.NOT_SENT, "no connection")
# A breaker that two failures open.
TOUCHY = BreakerPolicy(min_requests=2)


def always() -> bool:
    return True


async def call(account: Account, reply: Reply | BaseException, who: object = None) -> Reply:
    """One request from the line to the answer."""
    permit = await account.enter(always, who)
    assert permit is not None
    return await finish(account, permit, reply, who)


async def finish(account: Account, permit: Permit, reply: Reply | BaseException, who: object = None) -> Reply:
    platform: FakePlatform = account._transport  # type: ignore[assignment] # the fake that the test gave it
    platform.scripts["T"].append(reply)
    return await account.send(REQUEST, permit, FakeAccountObserver(), who)


# -- the line


def test_the_line_is_fair() -> None:
    """First come, first served, also against one who comes at the very moment in which a place becomes free."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, takes_s=1)
        account = account_for(time, platform, limits=LimiterPolicy(max_in_flight=2))
        served: list[int] = []

        async def one(number: int) -> None:
            permit = await account.enter(always)
            assert permit is not None
            served.append(number)
            await account.send(REQUEST, permit, FakeAccountObserver())

        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(one(number))
                # Some come together, some when a call ends, some between.
                await asyncio.sleep((0, 0.25, 0.5, 0)[number % 4])
        assert served == list(range(40))
        assert platform.most_in_flight == 2

    run(main)


def test_a_newcomer_does_not_overtake_while_the_line_moves_up() -> None:
    """Between one who got his permit and the next in line there is no gap to slip in."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time), limits=LimiterPolicy(max_in_flight=1))
        first = await account.enter(always)
        order: list[str] = []

        async def wait(name: str) -> None:
            assert await account.enter(always) is not None
            order.append(name)

        waiting = [asyncio.create_task(wait(name)) for name in ("a", "b")]
        await settle_down()
        assert first is not None
        account.limiter._concurrency.limit = 3.0  # there is room for all at once
        account.abandon(first)
        # The head has its permit; "b" has not been woken yet.
        while not order:  # noqa: ASYNC110 - the very turn matters
            await asyncio.sleep(0)
        await wait("newcomer")
        await asyncio.gather(*waiting)
        assert order == ["a", "b", "newcomer"]

    run(main)


def test_who_is_not_wanted_any_more_leaves_the_line_soon() -> None:
    """A lane that drains is not kept by a breaker, nor are those behind it."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time), limits=LimiterPolicy(max_in_flight=1))
        assert await account.enter(always) is not None
        wanted = [True] * 5
        waiting = [asyncio.create_task(account.enter(lambda n=n: wanted[n])) for n in range(5)]
        await asyncio.sleep(60)
        wanted[:] = [False] * 5
        began = time.monotonic()
        assert await asyncio.gather(*waiting) == [None] * 5
        assert time.monotonic() - began < 1.1
        assert account.limiter.in_flight == 1

    run(main)


def test_a_place_that_becomes_free_is_taken_at_once() -> None:
    """The one at the head is woken, not found by polling."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time, takes_s=0.3), limits=LimiterPolicy(max_in_flight=1))
        began = time.monotonic()
        await asyncio.gather(*(call(account, DONE) for _ in range(10)))
        assert time.monotonic() - began == pytest.approx(3.0, abs=0.01)

    run(main)


def test_the_pace_is_kept_and_used() -> None:
    """Fifty a second: a hundred requests take two seconds, one by one."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        account = account_for(time, platform, limits=LimiterPolicy(requests_per_second=50))
        began = time.monotonic()
        await asyncio.gather(*(call(account, DONE) for _ in range(100)))
        assert 1.85 <= time.monotonic() - began <= 2.05

    run(main)


@pytest.mark.parametrize("where", ["line", "head", "call"])
def test_a_cancelled_caller_leaves_nothing_behind(where: str) -> None:
    """In line, at its head, in the call: the next one goes on."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time, takes_s=5), limits=LimiterPolicy(max_in_flight=1))
        if where != "call":
            first = await account.enter(always)
        tasks = [asyncio.create_task(call(account, DONE)) for _ in range(3)]
        await asyncio.sleep(1)
        tasks[1 if where == "line" else 0].cancel()
        await asyncio.sleep(1)
        if where != "call":
            assert first is not None
            account.abandon(first)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 1
        assert sum(result == DONE for result in results) == 2
        assert account.limiter.in_flight == 0

    run(main)


def test_a_transport_that_raises_gives_its_permit_back() -> None:
    """Whatever it raises."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time))
        with pytest.raises(ValueError, match="a header"):
            await call(account, ValueError("a header"))
        assert account.limiter.in_flight == 0

    run(main)


# -- the breaker


async def open_breaker(account: Account) -> None:
    for _ in range(2):
        await call(account, NOT_SENT)
    assert account.breaker.state is BreakerState.OPEN


def test_one_probe_finds_out() -> None:
    """Behind the open time one passes; its success lets all others go."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, takes_s=0.5)
        account = account_for(time, platform, breaker=TOUCHY)
        await open_breaker(account)
        platform.most_in_flight, began = 0, time.monotonic()
        waiting = [asyncio.create_task(call(account, DONE)) for _ in range(5)]
        await asyncio.sleep(5.3)
        assert (platform.in_flight, account.breaker.state) == (1, BreakerState.PROBING)
        await asyncio.gather(*waiting)
        assert time.monotonic() - began < 6.1
        assert account.breaker.state is BreakerState.CLOSED

    run(main)


@pytest.mark.parametrize("how", ["abandoned", "raised", "cancelled"])
def test_a_probe_that_told_nothing_is_given_back(how: str) -> None:
    """Not used, broken by us, cancelled: another one may find out at once."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time), breaker=TOUCHY)
        await open_breaker(account)
        permit = await account.enter(always)
        assert permit is Permit.PROBE
        began = time.monotonic()
        if how == "abandoned":
            account.abandon(permit)
        elif how == "raised":
            with pytest.raises(ValueError, match="ours"):
                await finish(account, permit, ValueError("ours"))
        else:
            task = asyncio.create_task(finish(account, permit, DONE))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await account.enter(always) is Permit.PROBE
        assert time.monotonic() - began < 0.1

    run(main)


def test_the_probe_is_another_operation_than_the_one_that_failed_last() -> None:
    """Whoever failed last steps back behind one that waits; alone it goes itself."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time), breaker=TOUCHY)
        poison, good = object(), object()
        for _ in range(2):
            await call(account, NOT_SENT, poison)
        order: list[object] = []

        async def one(who: object) -> None:
            permit = await account.enter(always, who)
            order.append((who, permit))
            assert permit is not None
            await finish(account, permit, NOT_SENT if who is poison else DONE, who)

        first = asyncio.create_task(one(poison))
        await asyncio.sleep(1)
        await asyncio.gather(first, one(good))
        assert order == [(good, Permit.PROBE), (poison, Permit.NORMAL)]
        await call(account, NOT_SENT, poison)
        assert account.breaker.state is BreakerState.OPEN
        await one(poison)
        assert order[-1] == (poison, Permit.PROBE)

    run(main)


def test_the_one_that_failed_last_does_not_wait_for_those_who_leave() -> None:
    """It steps back for one that is not wanted any more: then it goes itself."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time), breaker=TOUCHY)
        poison = object()
        for _ in range(2):
            await call(account, NOT_SENT, poison)
        wanted = True
        first = asyncio.create_task(account.enter(always, poison))
        await asyncio.sleep(0)
        other = asyncio.create_task(account.enter(lambda: wanted, object()))
        await asyncio.sleep(4.5)
        wanted = False
        assert await other is None
        assert await first is Permit.PROBE

    run(main)


# -- credentials


def test_credentials_that_are_read_anew_are_sent() -> None:
    """The trial carries what the file holds now, and so do all behind it."""

    async def main(time: FakeTime) -> None:
        platform, credentials = FakePlatform(time), FakeCredentials("old")
        account = account_for(time, platform, credentials=credentials)
        await call(account, answer(401))
        account.refuse("credentials refused (401)")
        credentials.content = "new"
        began = time.monotonic()
        permit = await account.enter(always)
        assert permit is Permit.TRIAL
        assert time.monotonic() - began == pytest.approx(30, abs=1)
        await finish(account, permit, DONE)
        assert account.refused is None
        await call(account, DONE)
        assert [entry.credentials["X-Key"] for entry in platform.calls] == ["old", "new", "new"]

    run(main)


def test_unchanged_credentials_are_tried_each_five_minutes() -> None:
    """Once, and then again after another five minutes."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time))
        account.refuse("credentials refused (401)")
        for number in (1, 2, 3):
            permit = await account.enter(always)
            assert permit is Permit.TRIAL
            assert time.monotonic() == pytest.approx(1000 + number * 300, abs=2)
            await finish(account, permit, answer(401))
            account.refuse("credentials refused (401)")

    run(main)


@pytest.mark.parametrize("reply", [answer(500), answer(503), answer(429), answer(408), NOT_SENT], ids=str)
def test_a_trial_that_tells_nothing_of_the_credentials_is_made_again(reply: Reply) -> None:
    """An outage neither ends the hold nor costs five minutes."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time))
        account.refuse("credentials refused (401)")
        permit = await account.enter(always)
        assert permit is Permit.TRIAL
        began = time.monotonic()
        await finish(account, permit, reply)
        assert account.holding() == "credentials refused (401)"
        assert await account.enter(always) is Permit.TRIAL
        assert 29 < time.monotonic() - began < 32

    run(main)


@pytest.mark.parametrize("reply", [DONE, answer(404), answer(400), answer(409), answer(403)], ids=str)
def test_any_answer_but_a_refusal_of_the_credentials_ends_the_hold(reply: Reply) -> None:
    """Whoever is told that a target is unknown was let in."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time))
        account.refuse("credentials refused (401)")
        permit = await account.enter(always)
        assert permit is not None
        await finish(account, permit, reply)
        assert account.holding() is None
        assert await account.enter(always) is Permit.NORMAL

    run(main)


@pytest.mark.parametrize("how", ["abandoned", "cancelled"])
def test_a_trial_that_was_not_made_is_given_back_at_once(how: str) -> None:
    """The lane that had it drained: the others do not wait five minutes for that."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time))
        account.refuse("credentials refused (401)")
        permit = await account.enter(always)
        assert permit is Permit.TRIAL
        began = time.monotonic()
        if how == "abandoned":
            account.abandon(permit)
        else:
            task = asyncio.create_task(finish(account, permit, DONE))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await account.enter(always) is Permit.TRIAL
        assert time.monotonic() - began < 2

    run(main)


def test_an_operator_can_have_the_credentials_tried_now() -> None:
    """A resume does not wait for the five minutes."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time))
        account.resume()  # nothing to resume: nothing happens
        account.refuse("credentials refused (401)")
        waiting = asyncio.create_task(account.enter(always))
        await asyncio.sleep(10)
        began = time.monotonic()
        account.resume()
        assert await waiting is Permit.TRIAL
        assert time.monotonic() == began

    run(main)


def test_a_secret_that_cannot_be_read_is_named() -> None:
    """At the start it is an error; later the account holds with the source's name, and comes back by itself."""

    async def main(time: FakeTime) -> None:
        credentials = FakeCredentials(None)
        with pytest.raises(SecretError):
            account_for(time, FakePlatform(time), credentials=credentials)
        credentials.content = "old"
        account = account_for(time, FakePlatform(time), credentials=credentials)
        account.refuse("credentials refused (401)")
        credentials.content = None
        waiting = asyncio.create_task(account.enter(always))
        await asyncio.sleep(301)
        assert account.holding() == "file /secret cannot be read"
        credentials.content = "new"
        began = time.monotonic()
        assert await waiting is Permit.TRIAL
        assert time.monotonic() - began < 32

    run(main)


# -- what a reply tells


def test_what_counts_as_an_outage_and_as_a_success() -> None:
    """The whole table of statuses and failures."""
    outages = {status for status in range(100, 600) if is_outage(answer(status))}
    assert outages == set(range(500, 600)) - {503}
    successes = {status for status in range(100, 600) if is_success(answer(status))}
    assert successes == set(range(100, 500)) - {401, 403, 408, 429}
    kinds = {kind for kind in FailureKind if is_outage(Failure(kind, ""))}
    assert kinds == set(FailureKind) - {FailureKind.BAD_CERTIFICATE}
    assert not any(is_success(Failure(kind, "")) for kind in FailureKind)


def test_why_nobody_may_send_is_told() -> None:
    """The reason names the account, and goes with its cause."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time), breaker=TOUCHY)
        assert account.holding() is None
        await call(account, answer(429, retry_after="7"))
        assert account.holding() == "rate limit: account np6-main asked us to wait"
        await asyncio.sleep(8)
        assert account.holding() is None
        await open_breaker(account)
        assert account.holding() == "breaker open: account np6-main fails as a whole"
        account.refuse("credentials refused (401)")
        assert account.holding() == "credentials refused (401)"

    run(main)


def test_every_request_is_counted_by_its_status() -> None:
    """An answer by its number, a failure by its word; one that was cancelled is none."""

    async def main(time: FakeTime) -> None:
        platform, observer = FakePlatform(time), FakeAccountObserver()
        account = account_for(time, platform)
        platform.scripts["T"] = [DONE, answer(404), NOT_SENT]
        for _ in range(3):
            permit = await account.enter(always)
            assert permit is not None
            await account.send(REQUEST, permit, observer)
        assert observer.ended == ["204", "404", "not_sent"]

    run(main)


# -- nothing leaks

REPLIES: list[Reply | BaseException] = [
    DONE,
    answer(404),
    answer(500),
    answer(503),
    answer(429, retry_after="3"),
    answer(401),
    answer(403),
    *(Failure(kind, "") for kind in FailureKind),
    ValueError("ours"),
]
ACTIONS = st.tuples(
    st.sampled_from(["send", "abandon", "cancel", "leave"]),
    st.integers(0, len(REPLIES) - 1),
    st.sampled_from([0.0, 0.1, 2.0, 40.0]),
)


@given(
    actions=st.lists(ACTIONS, max_size=40),
    in_flight=st.sampled_from([None, 1, 3]),
    per_second=st.sampled_from([None, 1.0, 50.0]),
)
@settings(max_examples=150, deadline=None)
def test_no_permit_leaks_and_nobody_waits_for_ever(
    actions: list[tuple[str, int, float]], in_flight: int | None, per_second: float | None
) -> None:
    """Whatever is sent, answered, abandoned, cancelled and refused: afterwards all is as at first, and open."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, takes_s=0.5)
        limits = LimiterPolicy(max_in_flight=in_flight, requests_per_second=per_second)
        account = account_for(time, platform, limits=limits, breaker=TOUCHY)
        tasks: list[asyncio.Task[None]] = []
        wanted = True

        async def one(action: str, reply: Reply | BaseException) -> None:
            who = object()
            permit = await account.enter(lambda: wanted, who)
            if permit is None:
                return
            if action == "abandon":
                account.abandon(permit)
                return
            try:
                answered = await finish(account, permit, reply, who)
            except ValueError:
                return
            if answered == answer(401):
                account.refuse("credentials refused (401)")

        for action, number, pause_s in actions:
            task = asyncio.create_task(one(action, REPLIES[number]))
            tasks.append(task)
            await asyncio.sleep(pause_s)
            if action == "cancel":
                task.cancel()
            assert in_flight is None or platform.in_flight <= in_flight
        wanted = False
        await asyncio.gather(*tasks, return_exceptions=True)
        assert account.limiter.in_flight == 0
        assert account.breaker.state is not BreakerState.PROBING
        assert account.refused is None or not account.refused.trying
        platform.scripts["T"].clear()
        for _ in range(2):  # the first of them may still be counted together with failures
            await asyncio.gather(*(call(account, DONE) for _ in range(5)))
            await asyncio.sleep(11)
        assert account.holding() is None
        assert account.limiter.in_flight == 0
        assert not account.is_waited_for

    run(main)


def test_who_enters_at_once_passes_by_nobody_and_nothing() -> None:
    """Nobody waits, nothing is refused, broken or paced: then a permit like any other; else one waits like the rest."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time), limits=LimiterPolicy(max_in_flight=2), breaker=TOUCHY)
        assert [account.enter_at_once() for _ in range(3)] == [Permit.NORMAL, Permit.NORMAL, None]
        assert account.limiter.in_flight == 2
        waiting = asyncio.create_task(account.enter(always))
        await settle_down()
        account.limiter.release()
        account.limiter.release()
        assert account.enter_at_once() is None  # one waits, although there is room
        assert await waiting is Permit.NORMAL
        account.abandon(Permit.NORMAL)
        account.refuse("credentials refused (401)")
        assert account.enter_at_once() is None
        account.refused = None
        await open_breaker(account)
        assert account.enter_at_once() is None
        await asyncio.sleep(6)
        assert account.enter_at_once() is None  # the probe is given in line
        assert account.limiter.in_flight == 0

    run(main)
