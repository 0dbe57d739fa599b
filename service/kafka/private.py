"""The private names of aiokafka on which the fence and the end of a client stand, in one place; a test checks that they
exist."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient

# The last one is that of a consumer without a group.
_OF_COORDINATOR = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")


class Membership(msgspec.Struct, frozen=True):
    """What the group coordinator knows a member by, captured once at assignment.

    It travels with the work of that assignment and is never looked up again at commit time: a process that
    was frozen and has meanwhile joined anew would otherwise commit its old work with its new papers.
    """

    group_id: str
    generation: int
    member_id: str
    instance_id: str | None


def membership(consumer: AIOKafkaConsumer, group_id: str) -> Membership:
    """The membership of this moment; to be called in ``on_partitions_assigned`` before its first await."""
    coordinator: Any = consumer._coordinator
    return Membership(
        group_id=group_id,
        generation=coordinator.generation,
        member_id=coordinator.member_id,
        instance_id=coordinator._group_instance_id,
    )


def request_rejoin(consumer: AIOKafkaConsumer) -> None:
    """Ask for a rebalance. With unchanged member metadata the coordinator answers it without one."""
    coordinator: Any = consumer._coordinator
    coordinator.request_rejoin()


def forget_membership(consumer: AIOKafkaConsumer) -> None:
    """Join as a new member: under an instance id, in the place of the one that the group knows by it."""
    coordinator: Any = consumer._coordinator
    coordinator.reset_generation()


def on_heartbeat(consumer: AIOKafkaConsumer, answered: Callable[[float], None], monotonic: Callable[[], float]) -> None:
    """Have ``answered`` told of each heartbeat that proves the membership, with the time at which it was sent. The
    consumer has started."""
    coordinator: Any = consumer._coordinator
    beat = coordinator._do_heartbeat

    async def watched() -> bool:
        sent = monotonic()
        proved: bool = await beat()
        if proved:
            answered(sent)
        return proved

    coordinator._do_heartbeat = watched


def tasks_of(client: AIOKafkaConsumer | AIOKafkaProducer) -> tuple[set["asyncio.Task[Any]"], AIOKafkaClient]:
    """What still runs of a client, and what has its connections. One that never started has no tasks."""
    of: Any = client
    if isinstance(client, AIOKafkaProducer):
        tasks, connections = {getattr(of._sender, "sender_task", None)}, client.client
    else:
        tasks, connections = {getattr(of._coordinator, name, None) for name in _OF_COORDINATOR}, of._client
        if of._fetcher is not None:
            tasks |= {of._fetcher._fetch_task, *of._fetcher._pending_tasks}
    return {task for task in tasks if task is not None and not task.done()}, connections
