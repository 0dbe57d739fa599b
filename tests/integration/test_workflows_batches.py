"""Workflow executions on the real broker: what is refused is one notification's, what is odd is in doubt."""

import json
import time
from math import log2
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox import Match, Prescription, Step
from tests.support.harness import Stage, until_state
from tests.support.kafka import Message, produce
from tests.support.oracle import Result, read_results, read_sources
from tests.support.workflows import Notifications, judge, notification, performed

EXECUTIONS = Match(kind="executions")
LANE: dict[str, Any] = {
    "handler": "np6.workflows",
    "topics": ["notes"],
    "batch": {"max_events": 100, "linger": "300ms"},
    "guard": "off",
}


def stage_of(bootstrap_servers: str, prefix: str, tmp_path: Path, **keys: Any) -> Stage:
    """A stage with one lane of workflows on one partition."""
    return Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": LANE | keys}, sources={"notes": 1})


def configure(stage: Stage, **rules: Any) -> None:
    stage.sandbox.platforms["np6"].configure("lane", rules)


def outcomes(results: list[Result]) -> dict[str, tuple[str, str | None]]:
    return {str(result.document["subject"]): result.verdict for result in results}


async def settled(stage: Stage, count: int) -> list[Result]:
    """Run the service in this process until so many notifications have results; the results, checked."""
    async with stage.application():
        await stage.results.until({"lane": count}, within_s=40)
    results = await read_results(stage.bootstrap_servers, stage.results_topic)
    expected = {result.place: result.verdict for result in results}
    return await stage.check("lane", lambda place, _: expected[place], results=results)


@pytest.mark.parametrize(("rule", "answered"), [("bad_receivers", 400), ("refused_receivers", 200)])
async def test_one_bad_receiver_among_a_hundred(
    bootstrap_servers: str, prefix: str, tmp_path: Path, rule: str, answered: int
) -> None:
    """99 are delivered and one is rejected, none is performed twice. Where the platform refuses the whole request it
    is split, with at most 2·log2(100)+1 further requests; where it names the item, no further request is made."""
    async with stage_of(bootstrap_servers, prefix, tmp_path) as stage:
        configure(stage, **{rule: ["t-063"]})
        notes = [notification(f"e-{n:03d}", f"t-{n:03d}") for n in range(100)]
        await produce(bootstrap_servers, stage.topic("notes"), notes)
        results = await settled(stage, 100)
        found = outcomes(results)
        assert found.pop("e-063") == ("rejected", "refused")
        assert set(found.values()) == {("delivered", None)}
        requests = [call for call in stage.sandbox.log.calls() if call.kind == "executions"]
        further = len(requests) - 1
        assert further == 0 if answered == 200 else 1 <= further <= 2 * log2(100) + 1
        done = performed(stage.sandbox, "lane")
        assert sorted(one.receiver for one in done) == [f"t-{n:03d}" for n in range(100) if n != 63]
        rejected = next(result for result in results if result.data["outcome"] == "rejected")
        (operation,) = rejected.data["operations"]
        assert (operation["kind"], operation["target"], operation["entity"]) == ("workflow.execute", "t-063", "42")
        assert operation["status"] == answered
        assert rejected.data["dead_letter"]


async def test_a_request_too_large_is_split_until_it_fits(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """100 executions for a platform that takes 30 at most: four requests of 25, each performed once."""
    async with stage_of(bootstrap_servers, prefix, tmp_path) as stage:
        configure(stage, max_executions=30)
        notes = [notification(f"e-{n:03d}", f"t-{n:03d}") for n in range(100)]
        await produce(bootstrap_servers, stage.topic("notes"), notes)
        assert set(outcomes(await settled(stage, 100)).values()) == {("delivered", None)}
        assert sorted(one.receiver for one in performed(stage.sandbox, "lane")) == [f"t-{n:03d}" for n in range(100)]
        statuses = [call.status for call in stage.sandbox.log.calls()]
        assert (statuses.count(413), statuses.count(200)) == (3, 4)


async def test_an_unknown_workflow_of_the_configuration_holds_the_lane(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """It is nobody's fault but the file's: the lane says so, and nothing becomes a dead letter."""
    async with stage_of(bootstrap_servers, prefix, tmp_path) as stage:
        configure(stage, unknown_workflows=[42])
        await produce(bootstrap_servers, stage.topic("notes"), [notification("e-1", "t-1")])
        async with stage.application() as application:
            reason = await until_state(application.lanes["lane"], "holding", "workflow 42", within_s=30)
            assert "404" in reason
        await stage.results.look()
        assert not stage.results.found
        assert stage.sandbox.log.count == 1


async def test_results_name_the_execution(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """A delivered notification's reference is the id that the platform was sent; the request is of the vendor's media
    type."""
    async with stage_of(bootstrap_servers, prefix, tmp_path, batch={"max_events": 50, "linger": "20ms"}) as stage:
        await produce(bootstrap_servers, stage.topic("notes"), Notifications(40).take(300))
        async with stage.application():
            await stage.results.until({"lane": 300}, within_s=40)
        results = await stage.check("lane")
        done = {one.event: one.id for one in performed(stage.sandbox, "lane")}
        references = {str(result.document["subject"]): result.data["operations"][0]["reference"] for result in results}
        assert references == done
        media = "application/vnd.np6.cm.workflow-v4"
        for call in stage.sandbox.log.calls():
            assert (call.headers["Content-Type"], call.headers["Accept"]) == (media, media)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"items": "short"}, [("delivered", None)] * 4 + [("in_doubt", "interrupted")]),
        ({"items": "long"}, [("in_doubt", "interrupted")] * 5),
        ({"items": "other"}, [("in_doubt", "interrupted")] * 5),
    ],
)
async def test_answers_that_do_not_fit_leave_executions_in_doubt(
    bootstrap_servers: str, prefix: str, tmp_path: Path, rules: dict[str, Any], expected: list[tuple[str, str | None]]
) -> None:
    """Too few items: the rest is in doubt. Too many, or of an unknown type: all. Nothing is performed again."""
    async with stage_of(bootstrap_servers, prefix, tmp_path) as stage:
        configure(stage, **rules)
        notes = [notification(f"e-{n}", f"t-{n}") for n in range(5)]
        await produce(bootstrap_servers, stage.topic("notes"), notes)
        found = outcomes(await settled(stage, 5))
        assert [found[f"e-{n}"] for n in range(5)] == expected
        assert len(performed(stage.sandbox, "lane")) == 5


@pytest.mark.parametrize(
    "step",
    [Step(body='\x00{"\x7f<'), Step(endless=True), Step(cut=True), Step(status=502, effect=True), Step(reset="after")],
    ids=["garbage", "endless", "cut", "502", "reset"],
)
async def test_an_effect_without_an_answer_is_in_doubt_and_never_tried_again(
    bootstrap_servers: str, prefix: str, tmp_path: Path, step: Step
) -> None:
    """All were performed and nobody was told: dead letters, and one request."""
    async with stage_of(bootstrap_servers, prefix, tmp_path) as stage:
        stage.sandbox.prescriptions.add([Prescription([step], EXECUTIONS)])
        notes = [notification(f"e-{n}", f"t-{n}") for n in range(5)]
        await produce(bootstrap_servers, stage.topic("notes"), notes)
        results = await settled(stage, 5)
        assert set(outcomes(results).values()) == {("in_doubt", "interrupted")}
        sources = await read_sources(bootstrap_servers, stage.topics_of("lane"))
        verdict = judge("lane", sources, results, performed(stage.sandbox, "lane"))
        assert (verdict.once, verdict.in_doubt_performed) == (5, 5)
        assert stage.sandbox.log.count == 1


async def test_what_was_throttled_is_sent_again_and_performed_once(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """429 and 503 took no effect: the lane waits as long as it is told, and delivers."""
    async with stage_of(bootstrap_servers, prefix, tmp_path) as stage:
        throttled = [Step(status=429, headers={"Retry-After": "1"}), Step(status=503, headers={"Retry-After": "1"})]
        stage.sandbox.prescriptions.add([Prescription(throttled, EXECUTIONS)])
        await produce(bootstrap_servers, stage.topic("notes"), [notification("e-1", "t-1")])
        began = time.monotonic()
        assert outcomes(await settled(stage, 1)) == {"e-1": ("delivered", None)}
        assert time.monotonic() - began >= 2
        assert len(performed(stage.sandbox, "lane")) == 1
        assert stage.sandbox.log.count == 3


async def test_batches_are_formed_per_workflow_that_an_expression_chooses(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """Two workflows, two requests; one that the platform does not know is the notifications' own fault, and the other
    goes on; a deleted contact gets nothing."""
    keys = {
        "workflow": "event.type == 'contact.changed.v1' ? 9 : data.notification_key",
        "receiver": {"type": "id", "value": "key"},
        "data": {"event": "event.id"},
    }
    async with stage_of(bootstrap_servers, prefix, tmp_path, **keys) as stage:
        configure(stage, unknown_workflows=[8])
        notes = [notification(f"e-{n}", f"t-{n}", notification_key=7 + n % 2) for n in range(10)]
        contact = {"contact_id": "c", "change": "deleted"}
        envelope = {"specversion": "1.0", "id": "gone", "source": "crm", "type": "contact.changed.v1", "data": contact}
        notes.append(Message(json.dumps(envelope).encode(), key=b"c"))
        await produce(bootstrap_servers, stage.topic("notes"), notes)
        found = outcomes(await settled(stage, 11))
        assert found.pop("gone") == ("skipped", "nothing_to_do")
        assert [found[f"e-{n}"] for n in range(10)] == [("delivered", None), ("rejected", "not_found")] * 5
        calls = stage.sandbox.log.calls()
        assert sorted(call.entity or "" for call in calls) == ["7", "8"]
