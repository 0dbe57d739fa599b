"""Bugs that are put back on purpose, by name: the detectors of a chaos run have to find each of them."""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple


class Bug(NamedTuple):
    """``put_back`` changes the service in this process; ``scene``: what has to happen for it to show;
    ``caught_as``: names in ``Findings.wrong``, one of which has to come; ``each_time``: shown in each run of the
    tests, not only when all are asked for."""

    put_back: Callable[[], None]
    scene: str
    caught_as: frozenset[str]
    each_time: bool = False


def _commit_before_settle() -> None:
    from service.settling.transactor import Transactor

    right = Transactor.commit

    async def commit(
        self: Any, writes: Any, offsets: Any, membership: Any, *, after: Any = (), agreed: Any = None
    ) -> None:
        await right(self, (), offsets, membership, agreed=agreed)
        await right(self, writes, {}, membership, after=after)

    Transactor.commit = commit  # type: ignore[method-assign] # the bug


def _send_not_awaited() -> None:
    from service.settling.producing import BatchSender

    right = BatchSender.send
    tasks = set()

    async def later(self: Any, batches: Any) -> None:
        await asyncio.sleep(0.05)
        await right(self, batches)

    async def send(self: Any, batches: Any) -> None:
        task = asyncio.create_task(later(self, batches))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        tasks.add(task)

    BatchSender.send = send  # type: ignore[method-assign] # the bug


def _revoked_acknowledged() -> None:
    from service.lane.assigning import Assigning
    from service.settling.transactor import Committed

    right = Assigning.give_back

    async def give_back(self: Any) -> None:
        assignment = self._group.assignment
        if assignment is not None and assignment.active and assignment.ready:
            assignment.draining = True
            read = {tp: Committed(state.ledger.position, "") for tp, state in assignment.partitions.items()}
            async with self._settler.lock:
                await self._settler._committer.commit((), read, assignment.membership)
            assignment.end()
        await right(self)

    Assigning.give_back = give_back  # type: ignore[method-assign] # the bug


def _commit_past_a_gap() -> None:
    from service.offsets.ledger import PartitionLedger

    right = PartitionLedger.prepare

    def prepare(self: Any, called: Any, uncalled: Any = ()) -> Any:
        import msgspec

        found = right(self, called, uncalled)
        beyond = max([*called, *uncalled], default=found.commit_offset - 1) + 1
        return msgspec.structs.replace(found, commit_offset=max(beyond, found.commit_offset), metadata="")

    PartitionLedger.prepare = prepare  # type: ignore[method-assign] # the bug


def _journal_after_the_call() -> None:
    from service.journal.writer import JournalWriter

    right = JournalWriter.enter
    tasks = set()

    async def later(self: Any, delivery: Any) -> None:
        await asyncio.sleep(5.0)
        await right(self, delivery)

    async def enter(self: Any, delivery: Any) -> float:
        task = asyncio.create_task(later(self, delivery))
        tasks.add(task)
        return time.monotonic()

    JournalWriter.enter = enter  # type: ignore[method-assign] # the bug


def _journal_removed_outside() -> None:
    from service.settling.batches import PartitionWrite
    from service.settling.transactor import Transactor

    right = Transactor.commit

    async def commit(
        self: Any, writes: Any, offsets: Any, membership: Any, *, after: Any = (), agreed: Any = None
    ) -> None:
        # What the journal says of settled offsets goes with these: else it would tell of the bug.
        removals, rest = (
            [
                PartitionWrite(one.topic, one.partition, [r for r in one.records if (r[2] is None) is gone])
                for one in after
            ]
            for gone in (True, False)
        )
        if any(one.records for one in removals):
            await right(self, (), {}, membership, after=[one for one in removals if one.records])
        rest = [one for one in rest if one.records]
        await right(self, writes, offsets, membership, after=rest, agreed=agreed)

    Transactor.commit = commit  # type: ignore[method-assign] # the bug


def _order_lost() -> None:
    from service.delivery import chain
    from service.lane import delivering

    def chains_of(items: Any, handler: Any) -> list[Any]:
        return [
            chain.Chain(None, [item], [chain.Unit(item, operation) for operation in item.operations]) for item in items
        ]

    assert delivering.chains_of, "it is called there"
    delivering.chains_of = chains_of  # type: ignore[assignment] # the bug


def _drop_on_full() -> None:
    from service.settling.documents import Documents

    right = Documents.writes

    def writes(self: Any, items: Any, now_ms: int, numbers: Any) -> Any:
        return right(self, items[:20], now_ms, numbers[:20])

    Documents.writes = writes  # type: ignore[method-assign] # the bug


def _cancelled_is_failed() -> None:
    from contracts.outcomes import Outcome, Reason
    from service.lane.assigning import Assigning

    right = Assigning.give_back

    async def give_back(self: Any) -> None:
        assignment = self._group.assignment
        if assignment is not None and assignment.active and assignment.ready:
            assignment.draining = True
            for state in assignment.partitions.values():
                for item in state.items.values():
                    if item.outcome is None:
                        item.outcome, item.reason = Outcome.REJECTED, Reason.EXHAUSTED
                        self._settler.add(item)
            await self._settler.drained()
            assignment.end()
        await right(self)

    Assigning.give_back = give_back  # type: ignore[method-assign] # the bug


def _original_timestamp() -> None:
    from service.settling.documents import Documents

    right = Documents._dead_letter

    def dead_letter(self: Any, item: Any, now_ms: int) -> Any:
        return (item.record.timestamp, *right(self, item, now_ms)[1:])

    Documents._dead_letter = dead_letter  # type: ignore[method-assign] # the bug


def _by_hash() -> None:
    from service.settling.documents import Documents
    from service.settling.partitioner import partitions

    def partition(self: Any, item: Any) -> int:
        [number] = partitions([item.record.key], [item.partition.tp.partition], 6)
        return int(number)

    Documents._dead_letter_partition = partition  # type: ignore[method-assign] # the bug


def _id_not_stable() -> None:
    from contracts.ids import ResultIds

    def many(self: Any, places: Any, numbers: Any) -> list[str]:
        return [str(uuid.uuid4()) for _ in numbers]

    ResultIds.of = lambda self, *place: str(uuid.uuid4())  # type: ignore[assignment, method-assign] # the bug
    ResultIds.many = many  # type: ignore[method-assign] # the bug


def _no_fencing() -> None:
    import msgspec

    from service.settling.transactor import Transactor

    right = Transactor._commit_offsets

    async def commit_offsets(self: Any, offsets: Any, membership: Any) -> None:
        nobody = msgspec.structs.replace(membership, generation=-1, member_id="", instance_id=None)
        await right(self, offsets, nobody)

    Transactor._commit_offsets = commit_offsets  # type: ignore[method-assign] # the bug


def _settled_not_believed() -> None:
    """The journal knows how far the lane has settled, and would put right what is wrong with the group's offsets: a bug
    that reads these wrongly shows without it alone."""
    from service.journal.settled import Trusted
    from service.lane import group, preparing

    def trusted(told: Any, settled: Any, partitions: Any) -> Trusted:
        return Trusted(dict(told.offsets), {}, frozenset())

    group.trusted = preparing.trusted = trusted  # type: ignore[attr-defined] # the bug


def _offsets_before_fencing() -> None:
    from service.lane.group import Group
    from service.lane.preparing import Preparing

    prepare, read = Preparing.prepare, Group.committed
    early: dict[Any, Any] = {}

    async def prepare_once(self: Any, assignment: Any, takeover: Any) -> None:
        early[assignment] = await read(self._group, assignment)
        await prepare(self, assignment, takeover)

    async def committed_of(self: Any, assignment: Any) -> Any:
        return early.pop(assignment, None) or await read(self, assignment)

    _settled_not_believed()
    Preparing.prepare = prepare_once  # type: ignore[method-assign] # the bug
    Group.committed = committed_of  # type: ignore[method-assign] # the bug


def _unstable_offsets() -> None:
    from service.kafka import requests

    right = requests.OffsetFetch.__init__

    def init(self: Any, *, group_id: str, topics: Any, require_stable: bool = True) -> None:
        right(self, group_id=group_id, topics=topics, require_stable=False)

    _settled_not_believed()
    requests.OffsetFetch.__init__ = init  # type: ignore[method-assign] # the bug


def _expired_is_lost_ownership() -> None:
    from service.errors import FencedError, TransactorLostError
    from service.settling.transactor import Transactor

    right = Transactor.commit

    async def commit(self: Any, *writes: Any, **more: Any) -> None:
        try:
            await right(self, *writes, **more)
        except TransactorLostError as error:
            if any(name in str(error) for name in ("EPOCH", "FENCED", "INVALID_TXN_STATE")):
                raise FencedError(str(error)) from error
            raise

    Transactor.commit = commit  # type: ignore[method-assign] # the bug


def _silence_ignored() -> None:
    from service.lane.silence import Silence

    Silence.reason = lambda self, now: None  # type: ignore[assignment, method-assign] # the bug


_LOST = frozenset({"commit beyond unfinished", "missing"})

# Each has to be found by its name. A replay by the key's hash instead of the origin's partition is
# shown by the dead letter, which is written to the partition from which it is replayed.
BUGS: dict[str, Bug] = {
    "commit before settle": Bug(_commit_before_settle, "killed before its results", _LOST, each_time=True),
    "no fencing": Bug(_no_fencing, "zombie", frozenset({"duplicate"}), each_time=True),
    "send future not awaited": Bug(_send_not_awaited, "load", _LOST),
    "offsets read before fencing": Bug(_offsets_before_fencing, "stood still", frozenset({"duplicate"})),
    "unstable offsets read": Bug(_unstable_offsets, "unfinished transaction", frozenset({"duplicate"})),
    "revoked work acknowledged": Bug(_revoked_acknowledged, "given back in the middle", _LOST),
    "commit past a gap": Bug(_commit_past_a_gap, "killed behind a gap", _LOST),
    "journal written after the call": Bug(
        _journal_after_the_call, "killed before its results", frozenset({"executed twice"})
    ),
    "journal removed outside the transaction": Bug(
        _journal_removed_outside, "killed before its results", frozenset({"executed twice"}), each_time=True
    ),
    "order lost on retry": Bug(_order_lost, "storm", frozenset({"order lost"})),
    "drop on full queue": Bug(_drop_on_full, "load", _LOST),
    "cancelled counted as failed": Bug(_cancelled_is_failed, "given back in the middle", frozenset({"wrong outcome"})),
    "expired transaction taken for lost ownership": Bug(
        _expired_is_lost_ownership, "transaction expired", frozenset({"not settled in time"})
    ),
    "dead letter with the original timestamp": Bug(
        _original_timestamp, "load", frozenset({"dead letter's time"}), each_time=True
    ),
    "dead letter by hash instead of origin partition": Bug(_by_hash, "load", frozenset({"dead letters"})),
    "calls without the brokers": Bug(_silence_ignored, "cut off", frozenset({"called after its result"})),
    "result id not stable": Bug(_id_not_stable, "load", frozenset({"wrong id"}), each_time=True),
}
