"""A bulk and its parts against the plain list of what has not ended; and how many requests a culprit costs."""

from math import ceil, log2

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.delivery.bulk import Bulk
from service.intake.item import Item
from tests.support.fakes import Source
from tests.support.fuzzing import interleavings

KEYS = st.sampled_from([None, None, b"a", b"b", b"c"])


class SplitterModel(RuleBasedStateMachine):
    """What a dispatcher does with a bulk: the first part is called, refused, tried as a probe, expires in places."""

    left: list[Item]

    @initialize(keys=st.lists(KEYS, min_size=1, max_size=24))
    def begin(self, keys: list[bytes | None]) -> None:
        """A new bulk."""
        source = Source()
        self.left = [source.item(key) for key in keys]
        self.bulk = Bulk("b", list(self.left))
        self.attempts: dict[int, int] = dict.fromkeys(range(len(keys)), 0)
        self.ended_of_key: dict[bytes, int] = {}

    @precondition(lambda self: not self.left)
    @rule(keys=st.lists(KEYS, min_size=1, max_size=24))
    def the_next_one(self, keys: list[bytes | None]) -> None:
        """All has ended."""
        assert not self.bulk.parts
        self.begin(keys)

    def _call(self) -> list[Item]:
        """One request for the first part; each of its records counts it."""
        part = self.bulk.current
        part.attempts += 1
        for item in part.items:
            self.attempts[item.offset] = part.attempts
        return part.items

    def _end(self, items: list[Item]) -> None:
        for item in items:
            key = item.record.key
            if key is not None:
                assert item.offset > self.ended_of_key.get(key, -1), "a later one of its key ended before it"
                self.ended_of_key[key] = item.offset
            self.left.remove(item)

    @precondition(lambda self: self.left)
    @rule()
    def all_end(self) -> None:
        """The request is answered, each of its records with an end."""
        items = list(self._call())
        self.bulk.keep([])
        self._end(items)

    @precondition(lambda self: self.left)
    @rule(data=st.data())
    def some_end(self, data: st.DataObject) -> None:
        """Some of a part end (expired, or answered one by one), the rest goes on: nobody of a key behind one left."""
        items = self.bulk.current.items
        keeps: list[Item] = []
        for item in items:
            barred = item.record.key is not None and any(item.record.key == one.record.key for one in keeps)
            if barred or data.draw(st.booleans()):
                keeps.append(item)
        ends = [item for item in items if item not in keeps]
        self.bulk.keep(keeps)
        self._end(ends)

    @precondition(lambda self: self.left)
    @rule()
    def refused(self) -> None:
        """The request as a whole: halves of it, or the end of the one at fault."""
        items = list(self._call())
        if len(items) > 1:
            self.bulk.halve()
            first, second = self.bulk.parts[0], self.bulk.parts[1]
            assert [*first.items, *second.items] == items
            assert 0 <= len(first.items) - len(second.items) <= 1
            assert first.attempts == second.attempts == self.attempts[items[0].offset]
        else:
            self.bulk.keep([])
            self._end(items)

    @precondition(lambda self: self.left)
    @rule(told=st.sampled_from(("nothing", "done", "in doubt")))
    def probe(self, told: str) -> None:
        """One of them finds out whether the account works again."""
        part = self.bulk.split_probe()
        assert part is self.bulk.current
        assert len(part.items) == 1
        items = list(self._call())
        if told == "nothing":
            self.bulk.rejoin_probe()
        elif told == "done":
            self.bulk.keep([])
            self._end(items)
        else:
            self.bulk.let_others_pass()

    @precondition(lambda self: self.left)
    @rule()
    def others_first(self) -> None:
        """It failed, and is tried behind the others, unless one of them has its key."""
        before = [part.items for part in self.bulk.parts]
        first = before[0]
        key = first[0].record.key
        may = len(first) == 1 and (key is None or all(key != one.record.key for p in before[1:] for one in p))
        self.bulk.let_others_pass()
        after = [part.items for part in self.bulk.parts]
        assert after == ([*before[1:], first] if may else before)

    @invariant()
    def parts_are_what_is_left(self) -> None:
        if not hasattr(self, "bulk"):
            return
        parts = list(self.bulk.parts)
        items = [item for part in parts for item in part.items]
        assert all(part.items for part in parts)
        assert sorted(items, key=lambda item: item.offset) == self.left
        assert self.bulk.unfinished == len(self.left)
        assert self.bulk.keys() == {item.record.key for item in self.left}
        for key in self.bulk.keys() - {None}:
            offsets = [item.offset for item in items if item.record.key == key]
            assert offsets == sorted(offsets), "the parts have turned round the order of a key"


TestSplitterModel = SplitterModel.TestCase
TestSplitterModel.settings = interleavings(60, steps=25)


@given(size=st.integers(1, 300), data=st.data())
@interleavings(60)
def test_one_culprit_costs_two_requests_a_level(size: int, data: st.DataObject) -> None:
    """All others are in exactly one request that is taken, and there are at most 2·log2(n)+1 further ones."""
    source = Source()
    items = [source.item(None) for _ in range(size)]
    culprit = items[data.draw(st.integers(0, size - 1))]
    bulk = Bulk("b", list(items))
    requests, done = 0, []
    while bulk.parts:
        requests += 1
        part = bulk.current
        if culprit not in part.items:
            done += part.items
        elif len(part.items) > 1:
            bulk.halve()
            continue
        bulk.keep([])
    assert done == [item for item in items if item is not culprit]
    assert requests - 1 <= 2 * ceil(log2(size)) + 1
