"""The pace of an account."""

from email.utils import formatdate
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.delivery.limiter import AccountLimiter, LimiterPolicy
from service.delivery.quota import read_quota

NOW = 1_000.0
WALL_S = 1_767_225_600.0


def rate(limit: int | None, remaining: int, reset: float) -> dict[str, str]:
    headers = {"x-ratelimit-remaining": str(remaining), "x-ratelimit-reset": f"{reset:.0f}"}
    return headers if limit is None else headers | {"x-ratelimit-limit": str(limit)}


def answered(limiter: AccountLimiter, now: float, status: int = 204, headers: dict[str, str] | None = None) -> None:
    limiter.release()
    limiter.observe(headers or {}, status, now, WALL_S + now - NOW)


def admitted_within(limiter: AccountLimiter, seconds: float, step_s: float = 0.01) -> int:
    """How many start in this time, each answered at once and without headers."""
    count = 0
    for step in range(round(seconds / step_s)):
        while limiter.admit(NOW + step * step_s) == 0.0:
            limiter.release()
            count += 1
            assert count < 100_000
    return count


def test_without_limits_all_start() -> None:
    """No limit configured, none told: everything goes at once."""
    limiter = AccountLimiter(LimiterPolicy())
    assert [limiter.admit(NOW) for _ in range(1000)] == [0.0] * 1000
    assert limiter.in_flight == 1000


def test_no_more_than_max_in_flight() -> None:
    """The next one waits until one is released."""
    limiter = AccountLimiter(LimiterPolicy(max_in_flight=2))
    assert [limiter.admit(NOW) for _ in range(3)] == [0.0, 0.0, inf]
    limiter.release()
    assert [limiter.admit(NOW) for _ in range(2)] == [0.0, inf]


@pytest.mark.parametrize(("per_second", "most_at_once"), [(0.1, 1), (1.0, 1), (50.0, 5), (1000.0, 100)])
def test_requests_per_second(per_second: float, most_at_once: int) -> None:
    """The rate holds over 20 seconds, and no more start at once than a tenth of a second's."""
    limiter = AccountLimiter(LimiterPolicy(requests_per_second=per_second))
    at_once = 0
    while limiter.admit(NOW) == 0.0:
        at_once += 1
    assert at_once == pytest.approx(most_at_once, abs=1)
    limiter = AccountLimiter(LimiterPolicy(requests_per_second=per_second))
    expected = 20 * per_second
    assert expected - 1 <= admitted_within(limiter, 20) <= expected + most_at_once + 1


def test_the_wait_is_as_long_as_it_says() -> None:
    """Who waits as long as it was told goes on then."""
    limiter = AccountLimiter(LimiterPolicy(requests_per_second=2.0))
    assert limiter.admit(NOW) == 0.0
    wait_s = limiter.admit(NOW)
    assert wait_s == pytest.approx(0.5)
    assert limiter.admit(NOW + wait_s) == 0.0


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_stops_the_account(status: int) -> None:
    """As long as the platform asks nothing starts, then all goes on."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.admit(NOW)
    answered(limiter, NOW, status, {"retry-after": "7"})
    assert limiter.admit(NOW + 6) == pytest.approx(1.0)
    assert limiter.blocked_until(NOW + 6) == NOW + 7
    assert limiter.admit(NOW + 7) == 0.0
    assert limiter.in_flight == 1
    assert limiter.blocked_until(NOW + 7) is None


def test_a_longer_wait_is_not_cut_by_a_shorter_one() -> None:
    """Of several that were refused together the longest counts."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe({"retry-after": "30"}, 429, NOW, WALL_S)
    limiter.observe({"retry-after": "5"}, 429, NOW, WALL_S)
    assert limiter.admit(NOW) == pytest.approx(30.0)


def test_without_retry_after_the_pause_doubles_per_round() -> None:
    """1, 2, 4 ... 30 seconds; those that were in flight together count once; a success begins anew."""
    limiter = AccountLimiter(LimiterPolicy())
    now, pauses = NOW, []
    for _ in range(7):
        for _ in range(20):
            limiter.observe({}, 429, now, WALL_S)
        pauses.append(limiter.admit(now))
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    limiter.observe({}, 204, now, WALL_S)
    limiter.observe({}, 429, now, WALL_S)
    assert limiter.admit(now) == 1.0


def test_retry_after_of_other_answers_is_not_obeyed() -> None:
    """A 201 or a 500 that carries the header does not stop the account."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe({"retry-after": "30"}, 500, NOW, WALL_S)
    assert limiter.admit(NOW) == 0.0


def test_fewer_in_flight_while_throttled() -> None:
    """A 429 halves what may be in flight, once per second; answers raise it again, to the limit and no
    further.
    """
    limiter = AccountLimiter(LimiterPolicy(max_in_flight=32))
    for _ in range(10):
        limiter.observe({"retry-after": "0"}, 429, NOW, WALL_S)
    assert limiter.concurrency_limit == 16
    limiter.observe({"retry-after": "0"}, 429, NOW + 1, WALL_S)
    assert limiter.concurrency_limit == 8
    for _ in range(9):
        limiter.observe({}, 204, NOW + 2, WALL_S)
    assert 8.9 < limiter.concurrency_limit < 9.1
    for _ in range(20_000):
        limiter.observe({}, 204, NOW + 2, WALL_S)
    assert limiter.concurrency_limit == 32
    for second in range(100):
        limiter.observe({"retry-after": "0"}, 429, NOW + 3 + second, WALL_S)
    assert limiter.concurrency_limit == 1


def test_not_adaptive_keeps_its_limit() -> None:
    """With ``adaptive: false`` a 429 changes only when the next may start."""
    limiter = AccountLimiter(LimiterPolicy(max_in_flight=32, adaptive=False))
    limiter.observe({"retry-after": "0"}, 429, NOW, WALL_S)
    assert limiter.concurrency_limit == 32


@pytest.mark.parametrize(
    ("reset", "left_s"),
    [("30", 30), ("0", 0), ("1767225630", 30), ("1767225000", 0), ("86400", 300), ("1767999999", 300), ("2.5", 2.5)],
)
def test_both_readings_of_reset(reset: str, left_s: float) -> None:
    """Seconds left, or an epoch above 1,000,000,000; in the past is now, far ahead is five minutes."""
    quota = read_quota({"x-ratelimit-remaining": "5", "x-ratelimit-reset": reset}, WALL_S)
    assert quota is not None
    assert quota.left_s == pytest.approx(left_s)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-limit": "100"},
        {"x-ratelimit-remaining": "5"},
        {"x-ratelimit-remaining": "-1", "x-ratelimit-reset": "10"},
        {"x-ratelimit-remaining": "many", "x-ratelimit-reset": "10"},
        {"x-ratelimit-remaining": "5", "x-ratelimit-reset": "soon"},
    ],
)
def test_unreadable_rate_headers_say_nothing(headers: dict[str, str]) -> None:
    """Half of the headers, or nonsense in them, changes no pace."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe(headers, 204, NOW, WALL_S)
    assert [limiter.admit(NOW) for _ in range(100)] == [0.0] * 100
    assert limiter.remaining is None


def test_lists_in_rate_headers() -> None:
    """Some send the window behind the number."""
    headers = {"x-ratelimit-limit": "100, 100;w=60", "x-ratelimit-remaining": "5;w=60", "x-ratelimit-reset": "10"}
    quota = read_quota(headers, WALL_S)
    assert quota is not None
    assert (quota.limit, quota.remaining) == (100, 5)


def test_nothing_left_stops_before_the_429() -> None:
    """With none left nothing starts before the reset; then no faster than on the average until an answer comes."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.admit(NOW)
    answered(limiter, NOW, 204, rate(10, 0, 20))
    assert limiter.remaining == 0
    assert limiter.admit(NOW) == pytest.approx(20)
    assert [limiter.admit(NOW + 20) for _ in range(2)] == [0.0, pytest.approx(2)]
    answered(limiter, NOW + 20, 204, rate(10, 9, 20))
    assert limiter.remaining == 9


def test_what_is_in_flight_is_not_counted_by_the_platform_yet() -> None:
    """Four are left and four in flight: a fifth would be the 429."""
    limiter = AccountLimiter(LimiterPolicy())
    for _ in range(5):
        assert limiter.admit(NOW) == 0.0
    answered(limiter, NOW, 204, rate(100, 4, 20))
    assert limiter.admit(NOW) == pytest.approx(20)
    limiter.release()
    assert limiter.admit(NOW) == 0.0


def test_the_second_half_of_a_window_is_spread() -> None:
    """Above one half all goes at once; below, what is left is spread over what is left of the window."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe(rate(100, 80, 60), 204, NOW, WALL_S)
    assert [limiter.admit(NOW) for _ in range(30)] == [0.0] * 30
    for _ in range(30):
        limiter.release()
    limiter.observe(rate(100, 10, 60), 204, NOW, WALL_S)
    assert limiter.admit(NOW) == pytest.approx(6.0)
    assert limiter.admit(NOW + 6.0) == 0.0


def test_without_a_limit_header_all_is_spread() -> None:
    """Where the platform does not tell how much there was, what is left is spread at once."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe(rate(None, 100, 50), 204, NOW, WALL_S)
    assert limiter.admit(NOW) == 0.0
    assert limiter.admit(NOW) == pytest.approx(50 / 99)
    assert limiter.admit(NOW + 50) == 0.0
    assert limiter.remaining is None


def test_answers_that_overtake_each_other() -> None:
    """An older answer of the same window does not give back what was used since."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe(rate(100, 3, 30), 204, NOW, WALL_S)
    limiter.observe(rate(100, 9, 30), 204, NOW, WALL_S)
    assert limiter.remaining == 3


def test_a_straggler_of_the_old_window_does_not_shut_the_new_one() -> None:
    """The last answer of a window may come behind the first of the next."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe(rate(100, 99, WALL_S + 60), 204, NOW, WALL_S)
    limiter.observe(rate(100, 0, WALL_S), 204, NOW, WALL_S)
    assert limiter.remaining == 99


def test_a_new_window_is_believed() -> None:
    """A later reset is a new window, with what is left in it."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe(rate(100, 0, 10), 204, NOW, WALL_S)
    limiter.observe(rate(100, 99, 70), 204, NOW, WALL_S)
    assert limiter.remaining == 99


def test_answers_without_headers_in_a_new_window_do_not_stop_it() -> None:
    """After a reset the platform may time out or stop sending headers: the account must not stand still for
    ever.
    """
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe(rate(4, 0, 1), 204, NOW, WALL_S)
    for second in range(1, 50):
        assert limiter.admit(NOW + second) == 0.0
        limiter.release()


def test_a_limit_that_only_a_refusal_told_is_forgotten() -> None:
    """The answers behind it say nothing of a limit: for a minute the average is kept to, then nothing is known."""
    limiter = AccountLimiter(LimiterPolicy())
    assert limiter.admit(NOW) == 0.0
    answered(limiter, NOW, 429, rate(limit=10, remaining=0, reset=1))
    started: list[float] = []
    for step in range(12_000):
        now = NOW + step / 100
        if limiter.admit(now) == 0.0:
            started.append(now - NOW)
            answered(limiter, now)
    assert sum(at < 60 for at in started) <= 10 * 60 + 1
    assert sum(at > 65 for at in started) > 2 * 10 * 55


def test_a_platform_with_a_window_never_has_to_refuse() -> None:
    """20 requests per 10 seconds, 8 in flight, an answer after 0.2 s: the headers alone keep us under it."""
    limiter = AccountLimiter(LimiterPolicy(max_in_flight=8))
    used = served = 0
    window = int(NOW // 10)
    running: list[tuple[float, dict[str, str]]] = []
    for step in range(10_000):
        now = NOW + step / 100
        if int(now // 10) != window:
            window, used = int(now // 10), 0
        while running and running[0][0] <= now:
            answered(limiter, now, 204, running.pop(0)[1])
        while limiter.admit(now) == 0.0:
            used += 1
            assert used <= 20
            served += 1
            running.append((now + 0.2, rate(20, 20 - used, WALL_S - NOW + (window + 1) * 10)))
    assert served >= 150  # of 200


def test_a_share_of_what_is_left() -> None:
    """Half of the account: twice as long between two requests, and what one has in flight the other has too."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.set_share(0.5)
    limiter.observe(rate(100, 20, 60), 204, NOW, WALL_S)
    assert limiter.admit(NOW) == 0.0
    assert limiter.admit(NOW) == pytest.approx(60 / (0.5 * (20 - 2)))


def test_it_slows_down_when_another_process_spends_more() -> None:
    """What is left is the platform's count of all processes."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.set_share(0.5)
    waits = []
    for remaining in (40, 20, 10, 4):
        limiter.observe(rate(100, remaining, 60), 204, NOW, WALL_S)
        limiter.admit(NOW)
        waits.append(limiter.admit(NOW))
        answered(limiter, NOW, 204, rate(100, remaining, 60))
    assert waits == sorted(waits)
    assert waits[-1] > 3 * waits[0]


def test_it_says_until_when_nothing_is_left() -> None:
    """Of a window that lasts; one that ends within a second is not worth a word."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe(rate(100, 5, 60), 204, NOW, WALL_S)
    assert limiter.used_up_until(NOW) is None
    limiter.observe(rate(100, 0, 60), 204, NOW + 1, WALL_S)
    assert limiter.used_up_until(NOW + 1) == NOW + 60
    assert limiter.used_up_until(NOW + 59.5) is None
    assert limiter.used_up_until(NOW + 60) is None


def test_a_429_that_tells_the_reset_waits_for_it() -> None:
    """Not for the pause of ours, which is longer here."""
    limiter = AccountLimiter(LimiterPolicy())
    for _ in range(4):
        limiter.observe({}, 429, NOW, WALL_S)
        limiter._blocked_until = NOW
    limiter.observe(rate(100, 0, 3), 429, NOW, WALL_S)
    assert limiter.blocked_until(NOW) == pytest.approx(NOW + 4)  # a quarter of 16 s


@pytest.mark.parametrize("skew_s", [-600, -30, 30, 600])
def test_an_epoch_is_compared_with_the_platforms_clock(skew_s: float) -> None:
    """Where the answer's Date tells that ours is wrong; the same holds for Retry-After."""
    server_s = WALL_S + skew_s
    date = formatdate(server_s, usegmt=True)
    headers = {"date": date, "x-ratelimit-remaining": "5", "x-ratelimit-reset": f"{server_s + 20:.0f}"}
    quota = read_quota(headers, WALL_S)
    assert quota is not None
    assert quota.left_s == pytest.approx(20, abs=1)
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe({"date": date, "retry-after": formatdate(server_s + 20, usegmt=True)}, 429, NOW, WALL_S)
    assert limiter.admit(NOW) == pytest.approx(20, abs=1)


def test_a_share_keeps_at_least_one_request() -> None:
    """However small the share: one in flight, and one request in ten seconds."""
    limiter = AccountLimiter(LimiterPolicy(max_in_flight=8, requests_per_second=50.0))
    limiter.set_share(0.5)
    assert limiter.concurrency_limit == 4
    limiter.set_share(0.0001)
    assert limiter.concurrency_limit == 1
    assert limiter.admit(NOW) == 0.0
    limiter.release()
    assert limiter.admit(NOW) == pytest.approx(10.0)


@pytest.mark.parametrize(("share", "most"), [(1.0, 10), (0.29, 2), (0.19999999999999998, 2), (0.1999, 1), (0.0, 1)])
def test_the_share_of_what_may_be_in_flight_is_rounded_down(share: float, most: int) -> None:
    """But for what arithmetic loses of a sum of parts; one is the least."""
    limiter = AccountLimiter(LimiterPolicy(max_in_flight=10))
    limiter.set_share(share)
    assert [limiter.admit(NOW) for _ in range(most + 1)] == [0.0] * most + [inf]


@pytest.mark.parametrize(("share", "waits_s"), [(1.0, 1.0), (0.2, 5.0), (0.0, 10.0), (0.0001, 10.0)])
def test_the_share_of_the_platforms_rate_is_never_nothing(share: float, waits_s: float) -> None:
    """None at all would be no request for ever: one in ten seconds is the least."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.set_share(share)
    limiter.observe(rate(None, 60, 60), 204, NOW, WALL_S)
    assert limiter.admit(NOW) == 0.0
    limiter.release()
    assert limiter.admit(NOW) == pytest.approx(waits_s)


@pytest.mark.parametrize(("per_second", "at_once", "then_s"), [(50.0, 5, 0.02), (20.0, 2, 0.05), (8.0, 1, 0.125)])
def test_no_more_start_at_once_than_a_tenth_of_a_seconds(per_second: float, at_once: int, then_s: float) -> None:
    """Also after a long silence; a quarter of the rate has its own tenth."""
    limiter = AccountLimiter(LimiterPolicy(requests_per_second=per_second))
    for now in (NOW, NOW + 60):
        waits = [limiter.admit(now) for _ in range(at_once + 1)]
        assert waits == [0.0] * at_once + [pytest.approx(then_s)]
    limiter.set_share(0.25)
    assert limiter.admit(NOW + 120) == 0.0
    assert limiter.admit(NOW + 120) == pytest.approx(max(0.0, 4 * then_s - max(0.0, 0.1 - 4 * then_s)))


@pytest.mark.parametrize(
    ("remaining", "reset", "waits_s"), [(0, 3, 4), (0, 4, 4), (0, 10, 10), (0, 100, 16), (5, 3, 16), (0, 0, 4)]
)
def test_a_429_without_a_time_waits_for_the_reset_between_a_quarter_and_all_of_our_pause(
    remaining: int, reset: float, waits_s: float
) -> None:
    """If nothing is left by its own words; a reset says nothing of why something else was refused."""
    limiter, now = AccountLimiter(LimiterPolicy()), NOW
    for _ in range(4):  # 1, 2, 4, 8
        limiter.observe({}, 429, now, WALL_S)
        now += limiter.admit(now)
    limiter.observe(rate(100, remaining, reset), 429, now, WALL_S)
    assert limiter.blocked_until(now) == pytest.approx(now + waits_s)


def test_an_answer_during_a_pause_does_not_end_it() -> None:
    """It was on its way before; behind the pause an answer lets everything go, and pauses begin anew."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe({}, 429, NOW, WALL_S)
    limiter.observe({}, 429, NOW + 1, WALL_S)
    limiter.observe({}, 204, NOW + 2, WALL_S)
    assert limiter.blocked_until(NOW + 2) == NOW + 3
    limiter.observe({}, 429, NOW + 3, WALL_S)
    assert limiter.blocked_until(NOW + 3) == NOW + 7
    limiter.observe({}, 204, NOW + 7, WALL_S)
    assert limiter.blocked_until(NOW + 6) is None
    limiter.observe({}, 429, NOW + 8, WALL_S)
    assert limiter.blocked_until(NOW + 8) == NOW + 9


def test_a_shorter_wait_than_ours_is_believed_and_changes_no_pause() -> None:
    """What the platform asks for goes before what we would do; the next round of ours goes on where it was."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe({}, 429, NOW, WALL_S)
    limiter.observe({"retry-after": "5"}, 429, NOW, WALL_S)
    assert limiter.blocked_until(NOW) == NOW + 5
    limiter.observe({}, 503, NOW + 5, WALL_S)
    assert limiter.blocked_until(NOW + 5) == NOW + 7


def test_answers_that_take_longer_hold_back_what_may_be_in_flight() -> None:
    """Where it is known when their requests began; without that only refusals count."""
    for slow_s, grows in ((0.1, True), (5.0, False), (None, True)):
        limiter = AccountLimiter(LimiterPolicy(max_in_flight=32))
        limiter.timed_out(NOW)
        limiter.observe({}, 204, NOW + 1, WALL_S, NOW + 0.9)
        for second in range(2, 5):
            began = None if slow_s is None else NOW + second - slow_s
            limiter.observe({}, 204, NOW + second, WALL_S, began)
        before = limiter.concurrency_limit
        limiter.observe({}, 204, NOW + 5, WALL_S)
        assert (limiter.concurrency_limit > before) is grows


def test_more_in_flight_than_may_be_wait_for_those_to_end() -> None:
    """After a refusal: nobody is called back, and nobody starts before there is room for one."""
    limiter = AccountLimiter(LimiterPolicy(max_in_flight=4))
    for _ in range(4):
        limiter.admit(NOW)
    limiter.timed_out(NOW)
    for _ in range(3):
        assert limiter.admit(NOW) == inf
        limiter.release()
    assert limiter.admit(NOW) == 0.0


def test_the_age_of_an_answer_is_the_middle_of_its_request() -> None:
    """One that began before is not believed behind one that began later, though it came later."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe(rate(100, 40, 30), 204, NOW + 2, WALL_S, NOW + 1)
    limiter.observe(rate(100, 50, 30), 204, NOW + 2.5, WALL_S, NOW)
    assert limiter.remaining == 40
    limiter.observe(rate(100, 30, 30), 204, NOW + 3, WALL_S)
    assert limiter.remaining == 30


def test_refusals_do_not_forget_what_is_known_of_the_window() -> None:
    """Only answers that could have told of it, and did not."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe(rate(10, 0, 1), 204, NOW, WALL_S)
    limiter.observe({"retry-after": "0"}, 503, NOW + 61, WALL_S)
    assert limiter.remaining == 0
    limiter.observe({}, 500, NOW + 61, WALL_S)
    assert limiter.remaining is None
    assert [limiter.admit(NOW + 61) for _ in range(50)] == [0.0] * 50


@pytest.mark.parametrize(("at", "told"), [(58.9, True), (59.0, False)])
def test_of_a_wait_of_a_second_nothing_is_said(at: float, told: bool) -> None:
    """Windows of a second end all the time."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.observe(rate(100, 0, 60), 204, NOW, WALL_S)
    assert limiter.used_up_until(NOW + at) == (NOW + 60 if told else None)


def test_what_is_in_flight_uses_up_the_window_too() -> None:
    """Of this process, and of the others for their shares."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.set_share(0.5)
    for _ in range(2):
        limiter.admit(NOW)
    limiter.observe(rate(100, 4, 60), 204, NOW, WALL_S)
    assert limiter.used_up_until(NOW) == NOW + 60
    limiter.release()
    assert limiter.used_up_until(NOW) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["admit", "answer", "lost"]),
            st.sampled_from([204, 429, 500, 503]),
            st.integers(0, 3),
            st.integers(0, 40),
            st.floats(0, 3),
        ),
        max_size=80,
    )
)
def test_it_never_stands_still_for_ever(
    steps: list[tuple[str, int, int, int, float]],
) -> None:
    """Whatever the platform says: with nothing in flight a request starts within the longest wait."""
    limiter = AccountLimiter(LimiterPolicy(max_in_flight=4, requests_per_second=10.0))
    now, running = NOW, 0
    for step, status, remaining, reset, pause_s in steps:
        now += pause_s
        if step == "admit":
            running += limiter.admit(now) == 0.0
        elif running:
            running -= 1
            limiter.release()
            if step == "answer":
                limiter.observe(rate(3, remaining, reset), status, now, WALL_S)
        assert limiter.in_flight == running <= 4
    for _ in range(running):
        limiter.release()
    for _ in range(5):
        wait_s = limiter.admit(now)
        if wait_s == 0.0:
            return
        assert wait_s <= 300
        now += wait_s
    raise AssertionError("told to wait again and again")
