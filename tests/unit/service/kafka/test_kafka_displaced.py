"""Whether another process has this one's instance id is asked of the coordinator, and never guessed."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import CoordinationType
from aiokafka.errors import NodeNotReadyError

from service.kafka.codes import Code
from service.kafka.displaced import Place, TakingBack, displaced_text, doubted_text, place_of
from service.kafka.private import Membership
from tests.support.fakes import FakeTime, run

STATIC = Membership("fanline.vip", 3, "pod-0-vip-1234", "pod-0-vip")


class Client:
    """Answers heartbeats by a script; behind its end, with silence."""

    def __init__(self, *script: int | Exception) -> None:
        self._script = list(script)
        self.asked: list[Any] = []

    async def coordinator_lookup(self, kind: CoordinationType, key: str) -> int:
        assert (kind, key) == (CoordinationType.GROUP, "fanline.vip")
        return 1

    async def send(self, node: int, request: Any, *, group: Any = None) -> Any:
        self.asked.append(request)
        if not self._script:
            await asyncio.Event().wait()
        said = self._script.pop(0)
        if isinstance(said, Exception):
            raise said
        return SimpleNamespace(error_code=said)


FENCED = Code.FENCED_INSTANCE_ID


@pytest.mark.parametrize(
    ("script", "place"),
    [
        ([FENCED] * 60, Place.TAKEN),
        ([NodeNotReadyError(), Code.COORDINATOR_LOAD_IN_PROGRESS, *[FENCED] * 60], Place.TAKEN),
        # A coordinator that is still reading its log.
        ([FENCED] * 40 + [Code.UNKNOWN_MEMBER_ID], Place.FREE),
        ([FENCED] * 40 + [Code.NONE], Place.OURS),
        ([FENCED, Code.COORDINATOR_LOAD_IN_PROGRESS] * 20, Place.UNTOLD),
        ([*[FENCED] * 40, NodeNotReadyError(), *[FENCED] * 40, Code.UNKNOWN_MEMBER_ID], Place.FREE),
        ([Code.NONE], Place.OURS),
        ([Code.UNKNOWN_MEMBER_ID], Place.FREE),  # its session ended
        ([Code.ILLEGAL_GENERATION], Place.OURS),
        ([Code.REBALANCE_IN_PROGRESS], Place.OURS),
        ([], Place.UNTOLD),  # nobody tells
    ],
)
def test_only_the_coordinators_lasting_word_for_it_counts(script: list[int | Exception], place: Place) -> None:
    """A member whose session has ended joins again; one whose place is taken must not."""

    async def main(time: FakeTime) -> None:
        client, doubts = Client(*script), 0

        def doubted() -> None:
            nonlocal doubts
            doubts += 1

        asked = place_of(client, STATIC, doubted=doubted, wanted=lambda: True)  # type: ignore[arg-type] # the fake
        assert await asked is place
        assert bool(doubts) is (FENCED in script)

    run(main)


def test_an_answer_that_nobody_wants_is_not_waited_for() -> None:
    """The process has joined again meanwhile: it would be told of itself."""

    async def main(time: FakeTime) -> None:
        client = Client(*[FENCED] * 60)
        asked = place_of(client, STATIC, doubted=lambda: None, wanted=lambda: len(client.asked) < 3)  # type: ignore[arg-type] # the fake
        assert await asked is Place.UNTOLD
        assert len(client.asked) == 3

    run(main)


async def test_a_dynamic_member_asks_nobody() -> None:
    """It has no place that another one could take."""
    client = Client()
    dynamic = Membership("fanline.vip", 3, "m", None)
    asked = place_of(client, dynamic, doubted=lambda: None, wanted=lambda: True)  # type: ignore[arg-type] # the fake
    assert await asked is Place.OURS
    assert not client.asked


def test_a_place_is_taken_back_once_in_three_minutes() -> None:
    """A former life does not come back; another process asks for twelve seconds and takes it back again."""
    taking_back = TakingBack()
    assert taking_back.may(1_000.0)
    assert not taking_back.may(1_040.0)
    assert not taking_back.may(1_179.9)
    assert taking_back.may(1_180.0)
    assert not taking_back.may(1_359.9)


def test_the_reason_says_what_happened_and_what_to_do() -> None:
    """Whoever reads it has to find the other process."""
    told = displaced_text(STATIC)
    assert "pod-0-vip" in told
    assert "kafka.instance_id" in told


def test_the_doubt_says_both_that_it_can_be() -> None:
    """It ends by itself, or there is something to mend."""
    told = doubted_text(STATIC)
    assert "pod-0-vip" in told
    assert "kafka.instance_id" in told
