"""No message twice: workflow executions through a platform that resets, SIGKILLs and takeovers at random points."""

import time
from pathlib import Path
from random import Random
from typing import Any

from handlers.sandbox import Match, Prescription, Step
from tests.support.harness import ServiceProcess, Stage
from tests.support.kafka import produce
from tests.support.oracle import Place, Result, Source, read_results, read_sources, until
from tests.support.patience import delays
from tests.support.workflows import Execution, Frozen, Notifications, check_order, judge, performed

PARTITIONS = 6
# Only who waits for a session to end needs it short. A static member that comes back in time keeps its partitions.
FAST = {"session_timeout": "3s", "transaction_timeout": "1s"}
LANE: dict[str, Any] = {
    "handler": "np6.workflows",
    "topics": ["notes"],
    "batch": {"max_events": 20, "linger": "20ms"},
    "concurrency": 8,
}
MEMBERS = ("a", "b")
ONCE, AGAIN = "once", "again"  # the lanes: what is in doubt is a dead letter, or repeated
KILLS, FREEZES, PER_ROUND = 20, 3, 435
EXECUTIONS = Match(kind="executions")


class Trial:
    """Two processes, and rounds in which a fault befalls one of them."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.random = Random(seed)
        self.feed = Notifications(2_000, seed=seed)
        self.frozen: list[Frozen] = []
        self.processes = {
            name: stage.process(name, account_suffix=f"-{name}", kafka={"instance_id": f"pod-{name}"})
            for name in MEMBERS
        }

    def start(self) -> None:
        for process in self.processes.values():
            process.start()

    async def publish(self) -> None:
        """The round's notifications, and how the platform behaves: slow here and there, and one call of each lane is
        reset before, after or in the middle of its executions."""
        server, random = self.stage.sandbox, self.random
        server.prescriptions.clear()
        resets = [
            Step(reset="after"),
            Step(reset="before"),
            Step(reset="after", items=random.randrange(1, 20)),
            Step(reset="after", delay_s=0.3),
            Step(status=500, effect=True),
        ]
        slow = [None, None, Step(delay_s=0.05), Step(delay_after_s=0.2), Step(delay_s=0.3, delay_after_s=0.1)]
        server.prescriptions.add(
            [
                *(Prescription([random.choice(resets)], EXECUTIONS, skip=random.randrange(1, 12)) for _ in range(2)),
                Prescription([random.choice(slow) for _ in range(40)], EXECUTIONS, repeat=True),
            ]
        )
        await produce(self.stage.bootstrap_servers, self.stage.topic("notes"), self.feed.take(PER_ROUND))

    async def until_called(self, more: int) -> None:
        """Wait for so many requests, but not for long: while the breaker is open there are none."""
        log = self.stage.sandbox.log
        wanted, deadline = log.count + more, time.monotonic() + 4
        while log.count < wanted and time.monotonic() < deadline:
            await self.stage.results.look()
        for process in self.processes.values():
            process.must_live()

    async def kill_one(self) -> None:
        """SIGKILL at a random point, and the process starts again."""
        victim = self.processes[self.random.choice(MEMBERS)]
        await self.stage.results.look(self.random.random() * 0.1)
        victim.kill()
        victim.start()

    async def freeze_one(self) -> None:
        """SIGSTOP at a random point until the other one has settled everything, then SIGCONT."""
        name = self.random.choice(MEMBERS)
        victim = self.processes[name]
        await self.stage.results.look(self.random.random() * 0.1)
        began = time.time()
        victim.freeze()
        other = next(process for key, process in self.processes.items() if key != name)
        await self.all_settled(other)
        victim.thaw()
        self.frozen += [Frozen(f"{lane}-{name}", began, time.time()) for lane in (ONCE, AGAIN)]

    async def all_settled(self, *alive: ServiceProcess) -> None:
        """Wait until everything published so far has a result."""

        def must_live() -> None:
            for process in alive:
                process.must_live()

        counts = dict.fromkeys((ONCE, AGAIN), self.feed.count)
        await self.stage.results.until(counts, within_s=90, alive=must_live)

    async def nothing_runs(self) -> None:
        """Wait until the platform has worked through all that it was sent."""
        log = self.stage.sandbox.log
        await until(lambda: not log.running, within_s=10, what="no request is under way")

    def performed(self, lane: str) -> list[Execution]:
        return performed(self.stage.sandbox, *(f"{lane}-{name}" for name in MEMBERS))


async def test_no_execution_twice_and_none_lost(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Two processes, 10,000 notifications through a lane of each kind, a platform that performs some batches and then
    resets, 20 SIGKILLs and 3 freezes past the session: every notification has one result in each lane, and it tells
    the truth. With ``in_doubt: dead_letter`` nothing is performed twice, but for a call on its way when its process
    froze; with ``repeat`` everything is performed, and what is performed again has the same id."""
    lanes = {ONCE: {**LANE, "in_doubt": "dead_letter"}, AGAIN: {**LANE, "in_doubt": "repeat"}}
    async with Stage(
        bootstrap_servers, prefix, tmp_path, lanes=lanes, sources={"notes": PARTITIONS}, kafka=FAST
    ) as stage:
        trial = Trial(stage, seed=4)
        trial.start()
        faults = [trial.kill_one] * KILLS + [trial.freeze_one] * FREEZES
        trial.random.shuffle(faults)
        async with delays() as machine:
            for fault in faults:
                await trial.publish()
                await trial.until_called(trial.random.randrange(2, 30))
                await fault()
            stage.sandbox.prescriptions.clear()
            await trial.all_settled(*trial.processes.values())
            await trial.nothing_runs()
        trial.frozen = [was._replace(late_s=machine.allowed_s) for was in trial.frozen]

        sources = await read_sources(bootstrap_servers, stage.topics_of(ONCE))
        assert len(sources) == trial.feed.count
        results = await read_results(bootstrap_servers, stage.results_topic)
        for lane in lanes:
            await check_told(stage, lane, sources, results)
        check_never_twice(trial, sources, results)
        check_repeated_by_id(trial, sources, results)


async def check_told(stage: Stage, lane: str, sources: dict[Place, Source], results: list[Result]) -> None:
    """One result each, and its dead letter where it promises one."""
    told = {result.place: result.verdict for result in results if result.lane == lane}
    await stage.check(lane, lambda place, _: told[place], sources=sources, results=results)


def check_never_twice(trial: Trial, sources: dict[Place, Source], results: list[Result]) -> None:
    """What is in doubt is left alone."""
    done = trial.performed(ONCE)
    verdict = judge(ONCE, sources, [result for result in results if result.lane == ONCE], done, trial.frozen)
    print(f"{ONCE}: {verdict}; {len(done)} executions of {len(sources)} notifications")
    check_order(done)
    assert verdict.twice == 0, "executions were performed twice"
    most = LANE["concurrency"] * LANE["batch"]["max_events"] * FREEZES
    assert verdict.excused <= most, "more than a process has in flight when it freezes"
    assert verdict.in_doubt_performed, "no fault fell between an effect and its result: nothing was proven"
    assert len(done) == verdict.once + 2 * verdict.excused


def check_repeated_by_id(trial: Trial, sources: dict[Place, Source], results: list[Result]) -> None:
    """What is in doubt is sent again."""
    done, mine = trial.performed(AGAIN), [result for result in results if result.lane == AGAIN]
    verdict = judge(AGAIN, sources, mine, done, trial.frozen)
    print(f"{AGAIN}: {verdict}; {len(done)} executions of {len(sources)} notifications")
    check_order(done)
    assert {result.data["outcome"] for result in mine} == {"delivered"}
    assert verdict.once + verdict.twice + verdict.excused == len(sources), "an execution was lost"
    assert verdict.twice + verdict.excused, "nothing was repeated: nothing was proven"
    ids = {(execution.thread, execution.id) for execution in done}
    assert len(ids) == len(sources), "a repeat had another id"
