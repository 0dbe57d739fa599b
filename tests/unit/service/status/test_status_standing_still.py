"""What an event waits for, of a lane that stands still: everything in its place, and nobody runs."""

from types import SimpleNamespace
from typing import Any

import pytest

from service.delivery.breaker import Breaker
from service.delivery.bulk import Bulk
from service.delivery.chain import Chain, Stage, chains_of
from service.delivery.holding import LaneHold
from service.delivery.limiter import AccountLimiter, LimiterPolicy
from service.intake.item import Item
from service.status.waiting import Wait, Waits, account_waits_for, next_of, under_way
from service.transport.account import CredentialPolicy, Refused
from tests.support.dispatching import segments_handler
from tests.support.fakes import Source, join, leave

NOW = 1_000.0


class StillLane:
    """What a lane's status is made of, set by the test: which loads are where, and what holds them."""

    def __init__(self, limits: LimiterPolicy | None = None) -> None:
        self.source = Source()
        self.open_until: dict[int, float] = {}
        self.carried: list[Any] = []
        self.parked: list[tuple[float, Any]] = []
        self.ready: list[Any] = []
        self.dispatcher: Any = SimpleNamespace(
            carried_loads=lambda: self.carried,
            parked_loads=lambda: self.parked,
            ready_loads=lambda: self.ready,
            paused=None,
            hold=None,
        )
        self.limiter = AccountLimiter(limits or LimiterPolicy())
        self.account: Any = SimpleNamespace(name="main", refused=None, breaker=Breaker(), limiter=self.limiter)
        self.batcher = SimpleNamespace(closes_in_s=self._closes_in_s)
        self.kafka_trouble = None
        self.setup = SimpleNamespace(delivery=SimpleNamespace(concurrency=3))

    def _closes_in_s(self, item: Item, now: float) -> float | None:
        until = self.open_until.get(item.offset)
        return None if until is None else until - now

    def of(self, item: Item) -> Wait:
        lane: Any = self
        return Waits(lane, NOW).of(item)

    def batched(self, *items: Item) -> list[Item]:
        for item in items:
            item.batch_id = "b"
        return list(items)

    def chain(self, *keys: bytes | None) -> Chain:
        """One of two events of one key: join and leave of a target, which are two calls."""
        items = [self.source.item(key, join("T") if n % 2 == 0 else leave("T")) for n, key in enumerate(keys)]
        (chain,) = chains_of(self.batched(*items), segments_handler())
        return chain

    def bulk(self, *keys: bytes | None) -> Bulk:
        return Bulk("b", self.batched(*(self.source.item(key, join("T")) for key in keys)))


def test_a_chain_in_flight_and_who_is_behind_its_call() -> None:
    """The call that is under way has an age and an attempt; the next unit's event waits behind it."""
    lane = StillLane()
    chain = lane.chain(b"k", b"k")
    lane.carried = [chain]
    chain.current.called_at, chain.current.attempts = NOW - 2.5, 2
    first, second = chain.items
    assert lane.of(first) == Wait("in flight for 2.5 s, attempt 2", 2)
    assert lane.of(second) == Wait("behind an earlier event of its key at offset 0")
    chain.current.stage = Stage.CONFIRM
    assert lane.of(first).words == "in flight for 2.5 s, attempt 2, asking the platform for the state"


def test_what_a_worker_carries_and_did_not_send_waits_for_the_account() -> None:
    """For its turn where nothing else is in the way; the attempt is the one that comes."""
    lane = StillLane()
    chain = lane.chain(b"k")
    lane.carried = [chain]
    chain.current.attempts = 1
    assert lane.of(chain.items[0]) == Wait("its turn on account main", 2)
    lane.dispatcher.paused = "paused by ops: a look"
    assert lane.of(chain.items[0]) == Wait("paused by ops: a look", 2)


def test_a_pause_does_not_keep_a_question_from_being_asked() -> None:
    """A confirming call changes nothing on the platform: it waits for the account alone."""
    lane = StillLane()
    chain = lane.chain(b"k")
    lane.carried = [chain]
    lane.dispatcher.paused = "paused by ops: a look"
    chain.current.stage = Stage.CONFIRM
    assert lane.of(chain.items[0]) == Wait("its turn on account main", 1)
    lane.carried, lane.parked = [], [(NOW + 2, chain)]
    assert lane.of(chain.items[0]) == Wait("retrying, attempt 1 in 2.0 s", 1, NOW + 2)


def test_parts_of_a_bulk_wait_for_each_other() -> None:
    """Whoever is in the first part has its call; the others are behind it, however many these are."""
    lane = StillLane()
    bulk = lane.bulk(b"a", b"b", b"c")
    bulk.halve()
    lane.carried = [bulk]
    bulk.current.called_at, bulk.current.attempts = NOW - 1, 1
    a, b, c = (item for part in bulk.parts for item in part.items)
    assert lane.of(a) == lane.of(b) == Wait("in flight for 1.0 s, attempt 1", 1)
    assert lane.of(c) == Wait("behind another part of its batch, with 2 events")
    lane.dispatcher.paused = "paused by ops: a look"
    bulk.current.called_at = None
    assert lane.of(a) == Wait("paused by ops: a look", 2)


@pytest.mark.parametrize("kind", ["chain", "bulk"])
def test_a_retry_tells_why_and_when_and_what_keeps_it_beyond_that(kind: str) -> None:
    """With the moment itself; without a reason where none is known; overdue is 0 seconds."""
    lane = StillLane()
    load: Chain | Bulk = lane.chain(b"k") if kind == "chain" else lane.bulk(b"k")
    (item,) = under_way(load)
    lane.parked = [(NOW + 7, load)]
    load.current.attempts, load.current.last = 3, "HTTP 500"
    assert lane.of(item) == Wait("retrying (HTTP 500), attempt 4 in 7.0 s", 4, NOW + 7)
    load.current.last = None
    lane.dispatcher.paused = "paused by ops: a look"
    lane.parked = [(NOW - 7, load)]
    assert lane.of(item) == Wait("retrying, attempt 4 in 0.0 s; paused by ops: a look", 4, NOW - 7)


def test_behind_a_retry() -> None:
    """Neither the attempt nor the time is that of the event which waits behind."""
    lane = StillLane()
    chain, bulk = lane.chain(b"k", b"k"), lane.bulk(b"a", b"b")
    bulk.halve()
    lane.parked = [(NOW + 7, chain), (NOW + 8, bulk)]
    assert lane.of(chain.items[1]) == Wait("behind an earlier event of its key at offset 0")
    assert lane.of(bulk.parts[1].items[0]) == Wait("behind another part of its batch, with 1 event")


def test_what_no_worker_has_waits_for_one_or_for_what_keeps_them_all() -> None:
    """Its batch was closed; it was called by nobody."""
    lane = StillLane()
    chain = lane.chain(b"k")
    lane.ready = [chain]
    assert lane.of(chain.items[0]) == Wait("one of the lane's 3 workers, all are busy")
    lane.dispatcher.paused = "paused by ops: a look"
    assert lane.of(chain.items[0]) == Wait("paused by ops: a look")


@pytest.mark.parametrize("where", ["carried", "parked", "ready"])
@pytest.mark.parametrize("kind", ["chain", "bulk"])
def test_what_is_in_no_batch_is_behind_the_next_of_its_key(where: str, kind: str) -> None:
    """Wherever that is: with a worker, waiting for its retry or for a worker."""
    lane = StillLane()
    load: Chain | Bulk = lane.chain(b"k", b"k") if kind == "chain" else lane.bulk(b"x", b"k", None, b"k")
    if where == "parked":
        lane.parked = [(NOW, load)]
    else:
        setattr(lane, where, [load])
    first = next(item for item in under_way(load) if item.record.key == b"k")
    later, other, keyless = (lane.source.item(key, join("T")) for key in (b"k", b"other", None))
    assert lane.of(later) == Wait(f"behind an earlier event of its key at offset {first.offset}")
    assert lane.of(other) == lane.of(keyless) == Wait("behind an earlier event of its key")
    lane.open_until[later.offset] = NOW + 0.15
    assert lane.of(later) == Wait("in a batch that closes in 0.1 s")


def test_of_several_loads_of_one_key_the_worker_has_the_first() -> None:
    """What waits for a worker comes after it."""
    lane = StillLane()
    carried, ready = lane.bulk(b"k"), lane.bulk(b"k")
    lane.carried, lane.ready = [carried], [ready]
    later = lane.source.item(b"k", join("T"))
    assert lane.of(later) == Wait("behind an earlier event of its key at offset 0")


def test_a_load_that_has_ended_has_nothing_under_way_and_nothing_next() -> None:
    """A worker has it for a moment longer; nobody is behind it."""
    lane = StillLane()
    chain, bulk = lane.chain(b"k"), lane.bulk(b"b")
    assert under_way(chain) == next_of(chain) == chain.items
    assert under_way(bulk) == next_of(bulk) == bulk.current.items
    chain.position = 1
    bulk.keep([])
    assert under_way(chain) == next_of(chain) == under_way(bulk) == next_of(bulk) == []
    lane.carried = [chain, bulk]
    later = lane.source.item(b"k", join("T"))
    assert lane.of(later) == Wait("behind an earlier event of its key")


def test_next_is_the_call_alone() -> None:
    """Of a bulk its first part, of a chain its unit; the rest is under way."""
    lane = StillLane()
    chain, bulk = lane.chain(b"k", b"k"), lane.bulk(b"a", b"b", b"c")
    bulk.halve()
    assert (next_of(chain), under_way(chain)) == (chain.items[:1], chain.items)
    assert [item.record.key for item in next_of(bulk)] == [b"a", b"b"]
    assert [item.record.key for item in under_way(bulk)] == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("tries_at", "trying", "words"),
    [
        (NOW + 30, False, "guard: why; next try in 30.0 s"),
        (NOW + 30, True, "guard: why; one request is finding out"),
        (None, False, "guard: why; until it is resumed"),
        (None, True, "guard: why; one request is finding out"),
    ],
)
def test_a_lanes_own_hold_goes_before_its_accounts(tries_at: float | None, trying: bool, words: str) -> None:
    """And a pause before both."""
    lane = StillLane()
    chain = lane.chain(b"k")
    lane.ready = [chain]
    lane.dispatcher.hold = LaneHold("guard: why", tries_at)
    lane.dispatcher.hold.trying = trying
    lane.account.refused = Refused("credentials refused", NOW, CredentialPolicy())
    assert lane.of(chain.items[0]).words == words
    lane.dispatcher.paused = "paused by ops: a look"
    assert lane.of(chain.items[0]).words == "paused by ops: a look"


def test_what_keeps_an_account_is_told_by_its_weight() -> None:
    """Credentials, breaker, a wait that was asked for, a window that is used up, places in flight; or nothing."""
    lane = StillLane(LimiterPolicy(max_in_flight=2))
    account, limiter = lane.account, lane.limiter
    assert account_waits_for(account, NOW) is None
    limiter.admit(NOW)
    assert account_waits_for(account, NOW) is None
    limiter.admit(NOW)
    assert account_waits_for(account, NOW) == "account main: all 2 requests that may be in flight are"
    limiter.observe({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "40", "x-ratelimit-limit": "9"}, 204, NOW, 0.0)
    assert account_waits_for(account, NOW + 10) == "account main: rate limit, nothing is left for 30.0 s"
    limiter.observe({"retry-after": "20"}, 429, NOW, 0.0)
    assert account_waits_for(account, NOW + 5) == "account main: asked us to wait, 15.0 s left"
    account.breaker.trip(NOW)
    assert account_waits_for(account, NOW + 1) == "account main: breaker open, next try in 4.0 s"
    assert account_waits_for(account, NOW + 9) == "account main: breaker open, next try in 0.0 s"
    account.breaker.start(NOW + 9)
    assert account_waits_for(account, NOW + 9) == "account main: breaker open, one request is finding out"
    account.refused = Refused("credentials refused (401)", NOW, CredentialPolicy())
    assert account_waits_for(account, NOW + 9) == "account main: credentials refused (401)"
