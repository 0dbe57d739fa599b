"""What is tried again, when, and what uses up its attempts: the parked loads, and who else succeeded."""

import asyncio
from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from service.delivery.retry import RetryPolicy
from service.delivery.success import Successes
from service.delivery.workers import Workers
from tests.support.fakes import FakeTime, run, settle_down
from tests.support.fuzzing import interleavings

LOOK_BACK_S = 60.0


class SuccessModel(RuleBasedStateMachine):
    """Operations of an account succeed; of any of them it is asked whether another one did lately."""

    @initialize(count=st.integers(1, 5))
    def begin(self, count: int) -> None:
        self.operations = [object() for _ in range(count)]
        self.successes = Successes()
        self.log: list[tuple[object, float]] = []
        self.now = 100.0

    @rule(index=st.integers(0, 4), seconds=st.sampled_from((0.0, 0.5, 20.0, 40.0, 59.0, 60.0, 61.0)))
    def succeed(self, index: int, seconds: float) -> None:
        """One succeeds, some time later."""
        self.now += seconds
        operation = self.operations[index % len(self.operations)]
        self.successes.record(operation, self.now)
        self.log.append((operation, self.now))

    @rule(
        index=st.integers(0, 4),
        later=st.sampled_from((0.0, 1.0, 59.5, 61.0)),
        ago=st.one_of(st.none(), st.floats(0, 90)),
    )
    def ask(self, index: int, later: float, ago: float | None) -> None:
        """Of one that has failed now, and perhaps some time ago for the first time."""
        operation, now = self.operations[index % len(self.operations)], self.now + later
        since = float("-inf") if ago is None else now - ago
        expected = any(other is not operation and now - at <= LOOK_BACK_S and at > since for other, at in self.log)
        assert self.successes.others_succeed(operation, now, since) == expected


TestSuccessModel = SuccessModel.TestCase
TestSuccessModel.settings = interleavings(40, steps=30)


@given(
    first_ms=st.integers(1, 10_000),
    longest_ms=st.integers(1, 600_000),
    attempts=st.integers(1, 80),
    parts=st.lists(st.integers(0, 999), min_size=1, max_size=5),
)
@interleavings(40)
def test_the_schedule_is_the_one_of_whole_numbers(
    first_ms: int, longest_ms: int, attempts: int, parts: list[int]
) -> None:
    """Each attempt waits a share of a bound that doubles until it is the longest: counted up, one by one."""
    policy = RetryPolicy(first_ms / 1000, longest_ms / 1000, attempts)
    bound_ms = first_ms
    for attempt in range(1, attempts + 1):
        for part in parts:
            delay_s = policy.delay_s(attempt, lambda part=part: part / 1000)  # type: ignore[misc]
            assert abs(delay_s - min(bound_ms, longest_ms) * part / 1_000_000) < 1e-6
        assert policy.exhausted(attempt) == (attempt == attempts)
        bound_ms *= 2


class Load:
    """Something to be carried: what becomes of it each time, until it ends."""

    def __init__(self, number: int, steps: list[tuple[str, float]]) -> None:
        self.number = number
        self.steps = steps
        self.due = float("-inf")
        self.carried_by = 0


class Yard:
    """Workers and their loads, and what is known of each."""

    def __init__(self, time: FakeTime, count: int) -> None:
        self.time, self.count = time, count
        self.workers: Workers[Load] = Workers(count, self.carry, time)
        self.ended: list[int] = []
        self.aside: set[int] = set()
        self.dropped: set[int] = set()
        self.carrying = 0

    async def carry(self, load: Load) -> None:
        assert self.time.monotonic() >= load.due - 1e-6, "carried before its time"
        assert load.number not in self.dropped, "carried after it was dropped"
        assert load.number not in self.aside, "carried while an operator kept it back"
        assert not load.carried_by, "carried by two"
        assert load.number not in self.ended
        load.carried_by += 1
        self.carrying += 1
        assert self.carrying <= self.count
        what, seconds = load.steps.pop(0) if load.steps else ("end", 0.0)
        await asyncio.sleep(seconds if what in ("end", "back") else 0)
        self.carrying -= 1
        load.carried_by -= 1
        match what:
            case "end":
                self.ended.append(load.number)
            case "back":
                self.workers.put_back(load)
            case "park":
                load.due = self.time.monotonic() + seconds
                self.workers.park(load, seconds)
            case "aside":
                self.aside.add(load.number)
                self.workers.put_aside(load)


LOADS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(("end", "back", "park", "park", "aside")), st.sampled_from((0.0, 0.1, 1.0, 7.5))),
        max_size=4,
    ),
    min_size=1,
    max_size=6,
)
STEPS = st.lists(
    st.one_of(
        LOADS,
        st.tuples(st.sampled_from(("wait", "bring back", "keep")), st.sampled_from((0.0, 0.05, 0.9, 3.0, 8.0))),
    ),
    max_size=14,
)


@given(steps=STEPS, count=st.integers(1, 3), seed=st.integers(0, 1000))
@interleavings(50)
def test_what_is_parked_comes_back_in_its_time_and_nothing_is_lost(
    steps: list[list[list[tuple[str, float]]] | tuple[str, float]], count: int, seed: int
) -> None:
    """Loads end, go back, are parked, put aside and dropped: each is carried to its end, by one worker at a time."""

    async def main(time: FakeTime) -> None:
        yard, chance, numbers = Yard(time, count), Random(seed), 0
        loads: dict[int, Load] = {}
        running = asyncio.create_task(yard.workers.run())
        for step in steps:
            if isinstance(step, list):
                new = [Load(numbers + place, list(plan)) for place, plan in enumerate(step)]
                numbers += len(new)
                loads.update({load.number: load for load in new})
                yard.workers.put(new)
            elif step[0] == "wait":
                await asyncio.sleep(step[1])
            elif step[0] == "bring back":
                yard.aside.clear()
                yard.workers.bring_back()
            else:
                carried = {load.number for load in yard.workers.carried_loads()}
                out = {n for n in loads if n not in carried and n not in yard.ended and chance.random() < 0.3}
                yard.dropped |= out
                yard.workers.keep(lambda load: load.number not in yard.dropped)
            await settle_down(20)
            known = Counter(load.number for load in yard.workers.ready_loads())
            known += Counter(load.number for _, load in yard.workers.parked_loads())
            known += Counter(load.number for load in yard.workers.carried_loads())
            # None twice, none missing.
            assert known + Counter(yard.ended) == Counter(n for n in loads if n not in yard.dropped)
            idle = count - yard.carrying
            assert not (idle and yard.workers.ready), "a worker is idle while a load is ready"
        for _ in range(8):
            yard.aside.clear()
            yard.workers.bring_back()
            await asyncio.sleep(200)
        assert sorted(yard.ended) == [n for n in loads if n not in yard.dropped]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(main)
