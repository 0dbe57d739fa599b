"""What a crash leaves of the deliveries that were begun: the journal read back, beside a plain list of what is open."""

from collections.abc import Sequence

from aiokafka.structs import TopicPartition
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.intake.item import Item, item_of
from service.intake.starts import Begin
from service.journal.deliveries import OpenDeliveries, OpenDelivery, OpenEntry
from service.journal.reading import Journal
from service.journal.recovery import Recovered, recover
from service.kafka.offsets import CommittedOffset
from service.settling.batches import PartitionWrite
from tests.support.fakes import START_WALL_MS, Source, record
from tests.support.fuzzing import interleavings

KIND = "np6.workflows"
# The lane reads two topics, whose partitions of one number share one partition of the journal.
TPS = tuple(TopicPartition(topic, number) for topic in ("notes", "replay") for number in (0, 1))
RECORDS = 12

# By (journal partition, delivery): records of that partition.
Open = dict[tuple[int, str], set[tuple[TopicPartition, int]]]


class RecoveryModel(RuleBasedStateMachine):
    """A process reads, begins deliveries, takes them out, settles in any order, and dies."""

    @initialize(starts=st.lists(st.integers(0, 2**40), min_size=4, max_size=4))
    def begin(self, starts: list[int]) -> None:
        self.offsets = {tp: CommittedOffset(start, "") for tp, start in zip(TPS, starts, strict=True)}
        self.ends = {tp: start + RECORDS for tp, start in zip(TPS, starts, strict=True)}
        self.journal = Journal()
        # What each entry that stands in the journal names and is not settled; and what has not left it since.
        self.named: Open = {}
        self.left: Open = {}
        self.numbers = 0
        self._start()

    def _start(self) -> None:
        """A new process: it knows what Kafka has."""
        self.deliveries = OpenDeliveries("journal")
        self.source = Source(*TPS, committed=self.offsets)
        self.items: list[Item] = []
        self.begun: list[OpenDelivery] = []
        begins = {tp: Begin(found.offset, found.metadata) for tp, found in self.offsets.items()}
        recovered = recover(self.journal.deliveries, begins, KIND)
        self._check(recovered)
        self.deliveries.found(recovered.entries)
        self.interrupted: dict[TopicPartition, dict[int, OpenEntry]] = recovered.interrupted
        self._write(self.deliveries.removal_writes(recovered.stale, START_WALL_MS))

    def _check(self, recovered: Recovered) -> None:
        mapped: Open = {}
        for tp, offsets in recovered.interrupted.items():
            for offset, entry in offsets.items():
                mapped.setdefault((entry.partition, entry.delivery_id), set()).add((tp, offset))
                assert entry.batch_id == "batch"
        places = [place for records in mapped.values() for place in records]
        assert set(places) == set().union(*self.named.values()), "begun and not ended, and the other way round"
        for name, records in mapped.items():
            assert records <= self.named[name]
        assert {(e.partition, e.delivery_id): e.left for e in recovered.entries} == {
            n: len(r) for n, r in mapped.items()
        }
        # Nothing of theirs is left, or what is left is another's too.
        assert {(e.partition, e.delivery_id) for e in recovered.stale} == self.named.keys() - mapped.keys()
        self.left = mapped
        self.named = {name: self.named[name] for name in mapped}

    def _write(self, writes: Sequence[PartitionWrite]) -> None:
        for write in writes:
            for _, key, value, _ in write.records:
                self.journal.take(write.partition, key, value)

    @rule(tp=st.sampled_from(TPS), most=st.integers(1, 6))
    def read(self, tp: TopicPartition, most: int) -> None:
        """The next records; what finished beyond the commit is not delivered again."""
        state, interrupted = self.source.state(tp), self.interrupted.get(tp, {})
        for offset in range(state.ledger.position, min(state.ledger.position + most, self.ends[tp])):
            if not state.ledger.read(offset):
                assert offset not in interrupted
                continue
            item = item_of(state, record(tp, offset, b"k", b""), offset, START_WALL_MS)
            item.entry = interrupted.pop(offset, None)
            state.items[offset] = item
            self.items.append(item)

    def _some(self, data: st.DataObject, items: list[Item]) -> list[Item]:
        return data.draw(st.lists(st.sampled_from(items), min_size=1, max_size=8, unique_by=id))

    @precondition(lambda self: self.items)
    @rule(data=st.data(), dies=st.sampled_from((None, None, "before", "behind")))
    def begin_delivery(self, data: st.DataObject, dies: str | None) -> None:
        """An entry for each partition; records that were begun before (they are repeated) leave their former one."""
        items = self._some(data, self.items)
        self.numbers += 1
        delivery = OpenDelivery(f"batch.{self.numbers}", KIND, items, START_WALL_MS)
        leaving = self.deliveries.leaving(items)
        if dies == "before":
            self._start()
            return
        self._write(self.deliveries.entry_writes([delivery], START_WALL_MS))
        self._write(self.deliveries.removal_writes(leaving.closing, START_WALL_MS))
        self._leave(items)
        for item in items:
            tp = item.partition.tp
            for entries in (self.named, self.left):
                entries.setdefault((tp.partition, delivery.id), set()).add((tp, item.offset))
        if dies == "behind":
            self._start()
            return
        self.deliveries.left(leaving)
        self.deliveries.begun(delivery)
        self.begun.append(delivery)

    @precondition(lambda self: self._untouched())
    @rule(data=st.data(), dies=st.booleans())
    def take_out(self, data: st.DataObject, dies: bool) -> None:
        """The answer says that nothing took effect."""
        delivery = data.draw(st.sampled_from(self._untouched()))
        self._write(self.deliveries.removal_writes(delivery.entries.values(), START_WALL_MS))
        for partition in delivery.entries:
            del self.named[partition, delivery.id], self.left[partition, delivery.id]
        if dies:
            self._start()
            return
        self.deliveries.taken_out(delivery)
        self.begun.remove(delivery)

    def _untouched(self) -> list[OpenDelivery]:
        """Deliveries all of whose records are as they were when it began."""
        return [
            one
            for one in self.begun
            if all(item.entry in one.entries.values() and item in self.items for item in one.items)
        ]

    @precondition(lambda self: self.items)
    @rule(data=st.data(), dies=st.sampled_from((None, None, None, "before", "between", "behind")))
    def settle(self, data: st.DataObject, dies: str | None) -> None:
        """Offsets, and the removal of each entry with the last of its records; without transactions it comes behind."""
        items = self._some(data, self.items)
        leaving = self.deliveries.leaving(items)
        plans = {}
        for tp in TPS:
            offsets = [item.offset for item in items if item.partition.tp == tp]
            if offsets:
                plans[tp] = self.source.state(tp).ledger.prepare(offsets)
        if dies == "before":
            self._start()
            return
        for tp, plan in plans.items():
            self.offsets[tp] = CommittedOffset(plan.commit_offset, plan.metadata)
        settled = {(item.partition.tp, item.offset) for item in items}
        self.named = {name: records - settled for name, records in self.named.items()}
        if dies == "between":
            self._start()
            return
        self._write(self.deliveries.removal_writes(leaving.closing, START_WALL_MS))
        self._leave(items)
        if dies == "behind":
            self._start()
            return
        for tp, plan in plans.items():
            self.source.state(tp).ledger.apply(plan)
        self.deliveries.left(leaving)
        gone = {id(item) for item in items}
        self.items = [item for item in self.items if id(item) not in gone]

    def _leave(self, items: list[Item]) -> None:
        """Entries go with the last of what they had."""
        places = {(item.partition.tp, item.offset) for item in items}
        for name, records in list(self.left.items()):
            records -= places
            if not records:
                del self.left[name], self.named[name]

    @rule()
    def dies(self) -> None:
        """At any moment."""
        self._start()

    @invariant()
    def the_journal_is_what_is_open(self) -> None:
        if hasattr(self, "journal"):
            assert self.journal.deliveries.keys() == self.named.keys() == self.left.keys()
            assert self.deliveries.count == len({delivery_id for _, delivery_id in self.left})


TestRecoveryModel = RecoveryModel.TestCase
TestRecoveryModel.settings = interleavings(60, steps=30)
