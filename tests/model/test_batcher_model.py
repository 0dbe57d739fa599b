"""The batcher against a naive model: lists of what was added, what is under way and what has ended."""

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.batching.batcher import Batcher, BatchPolicy, Cause, OpenBatch
from service.intake.item import Item
from tests.support.fakes import Source

KEYS = st.sampled_from([None, None, b"a", b"b", b"c", b"d"])
GROUPS = st.sampled_from(["g", "g", "h", None])


class BatcherModel(RuleBasedStateMachine):
    """Adds, ends, lets time go by, drains; some batches end within their dispatch, as in a dry run."""

    @initialize(
        max_events=st.integers(1, 6), max_bytes=st.sampled_from([10, 1000]), linger=st.sampled_from([0.0, 1.0, 5.0])
    )
    def begin(self, max_events: int, max_bytes: int, linger: float) -> None:
        self.policy = BatchPolicy(max_events, max_bytes, linger)
        self.batcher = Batcher(self.policy, self.dispatch)
        self.source = Source()
        self.now = 100.0
        self.added: list[tuple[Item, str | None]] = []
        self.came_at: dict[int, float] = {}
        self.per_key: defaultdict[bytes | None, list[Item]] = defaultdict(list)
        self.dispatched: list[Item] = []
        self.under_way: dict[bytes, list[Item]] = {}
        self.ends_at_once = False
        self.draining = False

    def dispatch(self, batch: OpenBatch, cause: Cause) -> None:
        assert batch.items
        assert len(batch.items) <= self.policy.max_events
        groups = {id(item): group for item, group in self.added}
        size = sum(item.bytes for item in batch.items)
        match cause:
            case Cause.BYTES:
                last = batch.items[-1].bytes
                assert size >= self.policy.max_bytes > size - last
                assert len(batch.items) < self.policy.max_events
            case Cause.LINGER:
                assert self.now - batch.opened >= self.policy.linger_s
                # From the first record on, never from a later one.
                assert batch.opened >= min(self.came_at[item.offset] for item in batch.items)
            case Cause.DRAIN:
                assert self.draining
            case Cause.SIZE:
                # Full, or in front of a record of one of its keys that belongs into another group.
                last, group = self.added[-1]
                claimed = last.record.key in {item.record.key for item in batch.items} and group != batch.group
                assert len(batch.items) == self.policy.max_events or claimed or self.releasing
        for item in batch.items:
            assert groups[id(item)] == batch.group
            assert not any(item is other for other in self.dispatched), "dispatched twice"
            self.dispatched.append(item)
            key = item.record.key
            if key is not None:
                assert self.per_key[key].pop(0) is item, "out of order"
        keys = {item.record.key for item in batch.items} - {None}
        for key in keys:
            assert key not in self.under_way, "in two batches at once"
            self.under_way[key] = [item for item in batch.items if item.record.key == key]
        if self.ends_at_once:
            released = {item.record.key for item in batch.items}
            for key in released - {None}:
                self.under_way.pop(key, None)
            self.batcher.release_all(released, self.now)

    releasing = False

    @rule(key=KEYS, group=GROUPS, size=st.integers(0, 8), ends_at_once=st.booleans())
    def add(self, key: bytes | None, group: str | None, size: int, ends_at_once: bool) -> None:
        """A record is read and planned."""
        item = self.source.item(key, value=b"x" * size)
        self.added.append((item, group))
        self.came_at[item.offset] = self.now
        if key is not None:
            self.per_key[key].append(item)
        self.ends_at_once = ends_at_once
        self.batcher.add(item, group, self.now)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), ends_at_once=st.booleans())
    def release(self, data: st.DataObject, ends_at_once: bool) -> None:
        """All records of one key, or of several, in their batches have ended."""
        keys: set[bytes | None] = set(data.draw(st.sets(st.sampled_from(sorted(self.under_way)), min_size=1)))
        for key in keys:
            del self.under_way[key]  # type: ignore[arg-type] # None is not among them yet
        self.ends_at_once, self.releasing = ends_at_once, True
        if len(keys) == 1 and data.draw(st.booleans()):
            self.batcher.release(keys.pop(), self.now)
        else:
            self.batcher.release_all(keys | data.draw(st.sampled_from([set(), {None}])), self.now)
        self.releasing = False

    @rule()
    def release_null(self) -> None:
        """A record without a key has ended: nobody waited for it."""
        self.batcher.release(None, self.now)

    @rule(seconds=st.sampled_from([0.0, 0.4, 0.7, 6.0]), ends_at_once=st.booleans())
    def time_goes_by(self, seconds: float, ends_at_once: bool) -> None:
        """The lane looks again when it was told to, or later."""
        self.now += seconds
        self.ends_at_once, self.releasing = ends_at_once, True
        due_s = self.batcher.due(self.now)
        self.releasing = False
        undispatched = self.undispatched()
        if due_s is None:
            assert all(key in self.under_way for key in undispatched)
        elif not ends_at_once:
            assert 0 <= due_s <= self.policy.linger_s + 1e-9  # now + linger - now is not always linger
        for item in undispatched.get(None, []):
            # Without a key nothing is waited for but the linger.
            assert self.now - self.came_at[item.offset] < self.policy.linger_s

    @rule(ends_at_once=st.booleans())
    def drain(self, ends_at_once: bool) -> None:
        """All that is open is dispatched; what waits for its key is not."""
        self.ends_at_once, self.draining, self.releasing = ends_at_once, True, True
        self.batcher.flush()
        self.draining = self.releasing = False
        if not ends_at_once:
            assert all(key in self.under_way for key in self.undispatched())

    def undispatched(self) -> dict[bytes | None, list[Item]]:
        gone = {id(item) for item in self.dispatched}
        left: defaultdict[bytes | None, list[Item]] = defaultdict(list)
        for item, _ in self.added:
            if id(item) not in gone:
                left[item.record.key].append(item)
        return left

    @invariant()
    def what_waits_waits_for_its_key(self) -> None:
        if not hasattr(self, "batcher"):
            return
        waiting = [item for key, items in self.undispatched().items() if key in self.under_way for item in items]
        assert self.batcher.waiting == len(waiting)
        assert all(self.batcher.is_waiting(item) for item in waiting)
        assert all(self.batcher.closes_in_s(item, self.now) is None for item in waiting)
        open_ones = [item for key, items in self.undispatched().items() if key not in self.under_way for item in items]
        assert all(self.batcher.closes_in_s(item, self.now) is not None for item in open_ones)

    def teardown(self) -> None:
        """Nothing is lost: when all ends, all is dispatched once."""
        if not hasattr(self, "batcher"):
            return
        self.ends_at_once, self.draining, self.releasing = False, True, True
        for _ in range(len(self.added) + 1):
            self.batcher.flush()
            for key in list(self.under_way):
                del self.under_way[key]
                self.batcher.release(key, self.now)
        assert len(self.dispatched) == len(self.added)


TestBatcherModel = BatcherModel.TestCase
TestBatcherModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
