"""The settling transaction against a broker that answers what it is told: every code at every step."""

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import CoordinationType
from aiokafka.errors import NodeNotReadyError, TransactionalIdAuthorizationFailed
from aiokafka.structs import TopicPartition

from service.clock import SystemClock
from service.errors import FencedError, RefusedError, SettleError, TransactorLostError
from service.kafka.codes import COORDINATOR_MOVED, FENCED, LEADER_MOVED, REFUSED, Code
from service.kafka.groups import GroupBusyError
from service.kafka.private import Membership
from service.settling.batches import PackedWrite, PartitionWrite, Record
from service.settling.packing import Packer
from service.settling.producing import TransactorPolicy
from service.settling.transactor import Committed, Transactor
from service.turns import Turns

POLICY = TransactorPolicy(settle_deadline_s=0.5, open_deadline_s=0.5, short_backoff_s=0.001, max_backoff_s=0.002)
MEMBER = Membership("group", 7, "member-1", None)
SOURCE = TopicPartition("contacts", 0)
STEPS = ["AddPartitionsToTxn", "Produce", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn"]
_NAMES = {
    "InitProducerIdRequest": "InitProducerId",
    "AddPartitionsToTxnRequest": "AddPartitionsToTxn",
    "ProduceRequest": "Produce",
    "AddOffsetsToTxnRequest": "AddOffsetsToTxn",
    "TxnOffsetCommit": "TxnOffsetCommit",
    "EndTxnRequest": "EndTxn",
}


class FakeClient:
    """Answers each step with the scripted codes, one after the other, then with success."""

    def __init__(self, script: dict[str, list[int | Exception]] | None = None) -> None:
        self.script: dict[str, list[int | Exception]] = defaultdict(list, script or {})
        self.sent: list[tuple[str, Any]] = []
        self.lookups: list[str] = []
        self.cluster = SimpleNamespace(leader_for_partition=lambda tp: 1)

    async def coordinator_lookup(self, kind: CoordinationType, key: str) -> int:
        self.lookups.append(key)
        return 1

    def force_metadata_update(self) -> None:
        self.sent.append(("metadata", None))

    def add_topic(self, topic: str) -> None:
        self.sent.append(("add_topic", topic))

    async def send(self, node: int, request: Any, *, group: Any = None) -> Any:
        step = _NAMES[type(request).__name__]
        self.sent.append((step, request))
        code = self.script[step].pop(0) if self.script[step] else 0
        await asyncio.sleep(0)
        if isinstance(code, Exception):
            raise code
        return _answer(step, request, code)

    def steps(self) -> list[str]:
        return [step for step, _ in self.sent if step in _NAMES.values()]


def _answer(step: str, request: Any, code: int) -> Any:
    match step:
        case "InitProducerId":
            return SimpleNamespace(error_code=code, producer_id=5, producer_epoch=3)
        case "AddPartitionsToTxn":
            return SimpleNamespace(errors=[(t, [(p, code) for p in parts]) for t, parts in request._topics])
        case "Produce":
            return SimpleNamespace(topics=[(t, [(p, code, 0) for p, _ in parts]) for t, parts in request._topics])
        case "TxnOffsetCommit":
            topics = request._fields[7]
            return SimpleNamespace(topics=[(t, [(p[0], code, {}) for p in parts], {}) for t, parts, _ in topics])
        case _:
            return SimpleNamespace(error_code=code)


async def _open(script: dict[str, list[int | Exception]] | None = None) -> tuple[Transactor, FakeClient]:
    client = FakeClient(script)
    transactor = Transactor(client, "fanline.vip.x", POLICY)
    await transactor.open()
    return transactor, client


async def _commit(transactor: Transactor, records: int = 1) -> None:
    write = PartitionWrite("results", 0, [(1, b"k", b"v", [])] * records)
    await transactor.commit([write], {SOURCE: Committed(12, "")}, MEMBER)


async def test_a_commit_is_the_five_steps_and_ends_last() -> None:
    """Records and offsets are written before the transaction is ended."""
    transactor, client = await _open()
    await _commit(transactor)
    steps = client.steps()
    assert steps[:2] == ["InitProducerId", "AddPartitionsToTxn"]
    assert sorted(steps[2:4]) == ["AddOffsetsToTxn", "Produce"]
    assert steps[4:] == ["TxnOffsetCommit", "EndTxn"]
    assert client.sent[-1][1]._transaction_result is True
    assert transactor.healthy


async def test_no_offset_is_pending_before_each_record_is_acknowledged() -> None:
    """Whoever finds an offset pending finds the transaction's records in the journal, and waits there for its end."""
    transactor, client = await _open({"Produce": [Code.NOT_LEADER_OR_FOLLOWER, NodeNotReadyError("away")]})
    await _commit(transactor)
    steps = client.steps()
    assert steps.count("Produce") == 3
    assert steps.index("TxnOffsetCommit") > max(at for at, step in enumerate(steps) if step == "Produce")


async def test_offsets_carry_the_membership_that_was_captured() -> None:
    """The group coordinator can refuse a former owner only by generation and member id."""
    transactor, client = await _open()
    await _commit(transactor)
    request = next(request for step, request in client.sent if step == "TxnOffsetCommit")
    assert request._fields[1] == "group"
    assert request._fields[4:7] == (7, "member-1", None)


def _expected(step: str, code: Code) -> type[SettleError] | None:
    """What a code that is answered for ever must end in; None: it is tried again until the deadline."""
    if code in REFUSED:
        return RefusedError
    if step == "TxnOffsetCommit" and code in FENCED:
        return FencedError
    if code in COORDINATOR_MOVED and step != "Produce":
        return None
    if step == "Produce" and (code in LEADER_MOVED or code == Code.CONCURRENT_TRANSACTIONS):
        return None
    if code == Code.CONCURRENT_TRANSACTIONS and step != "TxnOffsetCommit":
        return None
    if code == Code.UNKNOWN_TOPIC_OR_PARTITION and step in ("AddPartitionsToTxn", "TxnOffsetCommit"):
        return None
    return TransactorLostError


_CASES = [
    (step, code)
    for step in STEPS
    for code in Code
    if code is not Code.NONE
    and not (step == "Produce" and code is Code.DUPLICATE_SEQUENCE_NUMBER)
    and not (step == "AddPartitionsToTxn" and code is Code.OPERATION_NOT_ATTEMPTED)
]


@pytest.mark.parametrize(("step", "code"), _CASES)
async def test_every_code_at_every_step_ends_as_its_own_kind_of_error_and_never_in_success(
    step: str, code: Code
) -> None:
    """A code is refused, fenced, lost, or tried again; none is success, and the transactor is not used again."""
    expected = _expected(step, code)
    if expected is None:
        # Answered once it is tried again, and the transaction commits.
        transactor, client = await _open({step: [code]})
        await _commit(transactor)
        assert transactor.healthy
        assert client.steps().count(step) == 2
        return
    transactor, client = await _open({step: [code] * 50})
    with pytest.raises(expected):
        await _commit(transactor)
    assert not transactor.healthy
    commits = [request for name, request in client.sent if name == "EndTxn" and request._transaction_result]
    assert step == "EndTxn" or not commits


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_is_never_answered_ends_at_the_deadline(step: str) -> None:
    """A broker that is away does not hold the lane's lock for ever."""
    transactor, _ = await _open({step: [NodeNotReadyError()] * 10_000})
    with pytest.raises(TransactorLostError, match="deadline"):
        await _commit(transactor)
    assert not transactor.healthy


@pytest.mark.parametrize("step", STEPS)
async def test_a_lost_answer_is_asked_for_again(step: str) -> None:
    """The connection breaks once in each step, and the transaction commits all the same."""
    transactor, client = await _open({step: [NodeNotReadyError()]})
    await _commit(transactor)
    assert transactor.healthy
    assert client.steps().count(step) == 2


async def test_a_repeated_batch_that_the_broker_has_already_counts_as_written() -> None:
    """After a lost answer the broker says DUPLICATE_SEQUENCE_NUMBER."""
    transactor, client = await _open({"Produce": [NodeNotReadyError(), Code.DUPLICATE_SEQUENCE_NUMBER]})
    await _commit(transactor)
    assert client.sent[-1][1]._transaction_result is True


async def test_a_refused_record_is_named_by_its_topic_and_aborts() -> None:
    """aiokafka's own producer would commit without the record."""
    transactor, client = await _open({"Produce": [Code.MESSAGE_TOO_LARGE]})
    with pytest.raises(RefusedError, match="results: MESSAGE_TOO_LARGE") as caught:
        await _commit(transactor)
    assert caught.value.what == "results"
    assert [request._transaction_result for step, request in client.sent if step == "EndTxn"] == [False]


async def test_a_fenced_member_aborts_at_once() -> None:
    """Nobody has to wait for the transaction's time-out."""
    transactor, client = await _open({"TxnOffsetCommit": [Code.ILLEGAL_GENERATION]})
    with pytest.raises(FencedError):
        await _commit(transactor)
    assert [request._transaction_result for step, request in client.sent if step == "EndTxn"] == [False]


async def test_who_does_not_agree_once_all_is_written_aborts_it() -> None:
    """A lane is moved only while nobody is in its group, who is asked about while the offsets are pending."""
    transactor, client = await _open()

    async def somebody_came() -> None:
        assert set(client.steps()) >= {"Produce", "TxnOffsetCommit"}
        raise GroupBusyError("group")

    write = PartitionWrite("results", 0, [(1, b"k", b"v", [])])
    with pytest.raises(GroupBusyError):
        await transactor.commit([write], {SOURCE: Committed(12, "")}, MEMBER, agreed=somebody_came)
    assert [request._transaction_result for step, request in client.sent if step == "EndTxn"] == [False]


async def test_a_transactor_that_failed_refuses_to_commit_until_it_is_opened_again() -> None:
    """One way of recovery for all failures."""
    transactor, _ = await _open({"EndTxn": [Code.INVALID_TXN_STATE]})
    with pytest.raises(TransactorLostError):
        await _commit(transactor)
    with pytest.raises(TransactorLostError, match="not open"):
        await _commit(transactor)
    await transactor.open()
    await _commit(transactor)


async def test_a_cancelled_commit_leaves_a_transactor_that_is_not_used_again() -> None:
    """What a cancellation left half done is found out by the next open."""
    transactor, client = await _open()
    gate = asyncio.Event()
    original = client.send

    async def stuck(node: int, request: Any, *, group: Any = None) -> Any:
        if _NAMES[type(request).__name__] == "Produce":
            gate.set()
            await asyncio.Event().wait()
        return await original(node, request, group=group)

    client.send = stuck  # type: ignore[method-assign] # the one step that must hang
    task = asyncio.create_task(_commit(transactor))
    await gate.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not transactor.healthy


async def test_sequence_numbers_go_on_from_one_transaction_to_the_next_and_begin_anew_with_an_epoch() -> None:
    """The broker refuses gaps and repeats within an epoch."""
    transactor, client = await _open()
    await _commit(transactor, records=3)
    await _commit(transactor, records=2)
    await transactor.open()
    await _commit(transactor)
    bases = [
        int.from_bytes(parts[0][1][53:57], "big")
        for step, request in client.sent
        if step == "Produce"
        for _, parts in request._topics
    ]
    assert bases == [0, 3, 0]


async def test_sequence_numbers_go_on_through_what_is_packed_and_what_is_not() -> None:
    """Of one partition, in one transaction and the next: packed batches first, each with the transaction's producer."""
    transactor, client = await _open()
    large: Record = (1, b"k", b"v" * 200_000, [])
    packer = Packer(Turns(SystemClock()))
    await packer.add([large] * 5)
    packed = await packer.packed()
    counts = [batch.count for batch in packed]
    assert counts == [2, 2, 1]
    writes = [PartitionWrite("results", 0, [(1, b"k", b"v", [])] * 3), PackedWrite("results", 0, packed)]
    for _ in range(2):
        await transactor.commit(writes, {SOURCE: Committed(12, "")}, MEMBER)
    data = [
        parts[0][1]
        for step, request in client.sent
        if step == "Produce"
        for _, parts in request._topics
        if len(request._topics) == len(parts) == 1
    ]
    each = [*counts, 3]
    assert [int.from_bytes(one[53:57], "big") for one in data] == [sum((each * 2)[:n]) for n in range(len(each) * 2)]
    assert {(one[22] & 0x10, one[43:51], one[51:53]) for one in data} == {
        (0x10, (5).to_bytes(8, "big"), (3).to_bytes(2, "big"))
    }
    (added,) = {str(request._topics) for step, request in client.sent if step == "AddPartitionsToTxn"}
    assert added.count("results") == 1


async def test_open_waits_for_a_predecessors_transaction_and_fails_in_time() -> None:
    """CONCURRENT_TRANSACTIONS ends within milliseconds, or the deadline does it."""
    transactor, client = await _open({"InitProducerId": [Code.CONCURRENT_TRANSACTIONS, Code.NOT_COORDINATOR]})
    assert client.steps() == ["InitProducerId"] * 3
    broken = Transactor(FakeClient({"InitProducerId": [Code.CONCURRENT_TRANSACTIONS] * 10_000}), "id", POLICY)
    with pytest.raises(TransactorLostError):
        await broken.open()
    assert not broken.healthy
    assert transactor.healthy


async def test_a_right_that_the_lookup_already_lacks() -> None:
    """Whoever may not use the transactional id learns it at once, and is told which."""
    client = FakeClient()

    async def refuse(kind: CoordinationType, key: str) -> int:
        raise TransactionalIdAuthorizationFailed

    client.coordinator_lookup = refuse  # type: ignore[method-assign] # the lookup alone is another
    transactor = Transactor(client, "fanline.vip.x", POLICY)
    with pytest.raises(RefusedError, match=r"fanline.vip.x: TRANSACTIONAL_ID_AUTHORIZATION_FAILED \(53\)"):
        await transactor.open()
    assert client.sent == []
