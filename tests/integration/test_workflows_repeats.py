"""No message twice: workflow executions through a platform that resets, SIGKILLs and takeovers at random points."""

import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from handlers.sandbox import Match, Prescription, Step
from tests.support.harness import ServiceProcess, Stage
from tests.support.kafka import produce
from tests.support.oracle import read_results, read_sources, until
from tests.support.workflows import Frozen, Notifications, check_order, judge, performed

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
ACCOUNTS = [f"lane-{name}" for name in MEMBERS]
EXECUTIONS = Match(kind="executions")


class Trial:
    """Two processes of one lane, and rounds in which a fault befalls one of them."""

    def __init__(self, stage: Stage, seed: int, per_round: int) -> None:
        self.stage = stage
        self.random = Random(seed)
        self.feed = Notifications(2_000, seed=seed)
        self.per_round = per_round
        self.frozen: list[Frozen] = []
        self.processes = {
            name: stage.process(name, account_suffix=f"-{name}", kafka={"instance_id": f"pod-{name}"})
            for name in MEMBERS
        }

    def start(self) -> None:
        for process in self.processes.values():
            process.start()

    async def publish(self) -> None:
        """The round's notifications, and how the platform behaves: slow here and there, and one call is reset before,
        after or in the middle of its executions."""
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
                Prescription([random.choice(resets)], EXECUTIONS, skip=random.randrange(1, 12)),
                Prescription([random.choice(slow) for _ in range(40)], EXECUTIONS, repeat=True),
            ]
        )
        await produce(self.stage.bootstrap_servers, self.stage.topic("notes"), self.feed.take(self.per_round))

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
        self.frozen.append(Frozen(f"lane-{name}", began, time.time()))

    async def all_settled(self, *alive: ServiceProcess) -> None:
        """Wait until everything published so far has a result."""

        def must_live() -> None:
            for process in alive:
                process.must_live()

        await self.stage.results.until({"lane": self.feed.count}, within_s=90, alive=must_live)

    async def nothing_runs(self) -> None:
        """Wait until the platform has worked through all that it was sent."""
        log = self.stage.sandbox.log
        await until(lambda: not log.running, within_s=10, what="no request is under way")


@pytest.mark.parametrize(
    ("in_doubt", "seed", "kills", "freezes", "per_round"),
    [("dead_letter", 4, 20, 3, 435), ("repeat", 5, 6, 1, 300)],
)
async def test_no_execution_twice_and_none_lost(
    bootstrap_servers: str,
    prefix: str,
    tmp_path: Path,
    in_doubt: str,
    seed: int,
    kills: int,
    freezes: int,
    per_round: int,
) -> None:
    """Two processes, 10,000 notifications, a platform that performs some batches and then resets, 20 SIGKILLs and 3
    freezes past the session (fewer with ``repeat``): every notification has one result, and it tells the truth. With
    ``dead_letter`` nothing is performed twice, but for a call on its way when its process froze; with ``repeat``
    everything is performed, and what is performed again has the same id."""
    async with Stage(
        bootstrap_servers,
        prefix,
        tmp_path,
        lanes={"lane": {**LANE, "in_doubt": in_doubt}},
        sources={"notes": PARTITIONS},
        kafka=FAST,
    ) as stage:
        trial = Trial(stage, seed, per_round)
        trial.start()
        faults = [trial.kill_one] * kills + [trial.freeze_one] * freezes
        trial.random.shuffle(faults)
        for fault in faults:
            await trial.publish()
            await trial.until_called(trial.random.randrange(1, 15))
            await fault()
        stage.sandbox.prescriptions.clear()
        await trial.all_settled(*trial.processes.values())
        await trial.nothing_runs()

        sources = await read_sources(bootstrap_servers, stage.topics_of("lane"))
        results = await read_results(bootstrap_servers, stage.results_topic)
        assert len(sources) == trial.feed.count
        done = performed(stage.sandbox, *ACCOUNTS)
        verdict = judge("lane", sources, results, done, trial.frozen)
        print(f"{in_doubt}: {verdict}; {len(done)} executions of {len(sources)} notifications")
        expected = {result.place: result.verdict for result in results}
        await stage.check("lane", lambda place, _: expected[place], sources=sources, results=results)
        check_order(done)
        if in_doubt == "dead_letter":
            assert verdict.twice == 0, "executions were performed twice"
            most = LANE["concurrency"] * LANE["batch"]["max_events"] * freezes
            assert verdict.excused <= most, "more than a process has in flight when it freezes"
            assert verdict.in_doubt_performed, "no fault fell between an effect and its result: nothing was proven"
            assert len(done) == verdict.once + 2 * verdict.excused
        else:
            assert {outcome for outcome, _ in expected.values()} == {"delivered"}
            assert verdict.twice + verdict.excused, "nothing was repeated: nothing was proven"
            ids = {(execution.thread, execution.id) for execution in done}
            assert len(ids) == len(sources), "a repeat had another id"
