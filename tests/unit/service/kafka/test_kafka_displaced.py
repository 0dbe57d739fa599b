"""Whether another process has this one's instance id is asked of the coordinator, and never guessed."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import CoordinationType
from aiokafka.errors import NodeNotReadyError

from service.kafka.codes import Code
from service.kafka.displaced import displaced_text, doubted_text, is_displaced
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


@pytest.mark.parametrize(
    ("script", "displaced"),
    [
        ([Code.FENCED_INSTANCE_ID] * 150, True),
        ([NodeNotReadyError(), Code.COORDINATOR_LOAD_IN_PROGRESS, *[Code.FENCED_INSTANCE_ID] * 150], True),
        # A coordinator that is still reading its log.
        ([Code.FENCED_INSTANCE_ID] * 60 + [Code.UNKNOWN_MEMBER_ID], False),
        # 14.5 s and then its end: a former life, whose session lasted longer than from when we asked.
        ([Code.FENCED_INSTANCE_ID] * 58 + [Code.UNKNOWN_MEMBER_ID], False),
        ([Code.FENCED_INSTANCE_ID, Code.COORDINATOR_LOAD_IN_PROGRESS] * 20, False),
        # Each coordinator counts the session from its own beginning.
        (
            [
                *[Code.FENCED_INSTANCE_ID] * 50,
                NodeNotReadyError(),
                *[Code.FENCED_INSTANCE_ID] * 50,
                Code.UNKNOWN_MEMBER_ID,
            ],
            False,
        ),
        ([Code.NONE], False),
        ([Code.UNKNOWN_MEMBER_ID], False),  # its session ended
        ([Code.ILLEGAL_GENERATION], False),
        ([Code.REBALANCE_IN_PROGRESS], False),
        ([], False),  # nobody tells
    ],
)
def test_only_the_coordinators_lasting_word_for_it_counts(script: list[int | Exception], displaced: bool) -> None:
    """A member whose session has ended joins again; one whose place is taken must not."""

    async def main(time: FakeTime) -> None:
        client = Client(*script)
        doubts = 0

        def doubted() -> None:
            nonlocal doubts
            doubts += 1

        asked = is_displaced(client, STATIC, session_timeout_s=10, doubted=doubted)  # type: ignore[arg-type] # the fake
        assert await asked is displaced
        assert bool(doubts) is (Code.FENCED_INSTANCE_ID in script)

    run(main)


async def test_a_dynamic_member_asks_nobody() -> None:
    """It has no place that another one could take."""
    client = Client()
    dynamic = Membership("fanline.vip", 3, "m", None)
    asked = is_displaced(client, dynamic, session_timeout_s=10, doubted=lambda: None)  # type: ignore[arg-type] # the fake
    assert not await asked
    assert not client.asked


def test_the_reason_says_what_happened_and_what_to_do() -> None:
    """Whoever reads it has to find the other process."""
    told = displaced_text(STATIC)
    assert "pod-0-vip" in told
    assert "kafka.instance_id" in told


def test_the_doubt_says_both_that_it_can_be() -> None:
    """It ends by itself, or there is something to mend."""
    told = doubted_text(STATIC, 30.0)
    assert "pod-0-vip" in told
    assert "(30 s)" in told
    assert "kafka.instance_id" in told
