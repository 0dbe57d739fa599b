"""What a chaos run does, from its seed alone: which fault befalls whom, when and for how long. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

LEAST_ALIVE = 2
# A process that was started is taken to be at work after so long.
_STARTS_IN_S = 3.0
_LONG_SESSION_S = 20.0
# From one fault that stops the whole group to the next.
_BETWEEN_ALONE_S = 40.0
# So often at the least does each kind of fault fall, spread over the run: once in so many minutes, up to so often.
_ONCE_IN_MINUTES, _OFTEN_ENOUGH = 4.0, 4
# With transactions that live so long the only broker can be killed for a moment.
_OUTLIVES_A_RESTART_S = 10.0


class Kind(StrEnum):
    """What can go wrong."""

    KILL = "kill"  # SIGKILL, and a start after a while
    STOP = "stop"  # SIGTERM: exit code 0 within the drain, and a start after a while
    FREEZE = "freeze"  # SIGSTOP beyond the session, then SIGCONT
    SCALE = "scale"  # a replica more; it leaves in good order after a while
    WIRE = "wire"  # between one replica and the platform: slow, stalled, cut, refused
    KAFKA_WIRE = "kafka-wire"  # between one replica and the brokers
    STORM = "storm"  # the platform fails more often, in all its ways
    OUTAGE = "outage"  # an account is dead
    CLOCK = "clock"  # one replica's clock is wrong
    BROKER = "broker"  # a broker is killed and comes back
    BROKER_FREEZE = "broker-freeze"  # a broker stands still
    REFUSAL = "refusal"  # the results topic takes nothing: lanes stop by design


# How often each of them, against the others.
_WEIGHTS = {
    Kind.KILL: 40,
    Kind.STOP: 8,
    Kind.FREEZE: 6,
    Kind.SCALE: 4,
    Kind.WIRE: 8,
    Kind.KAFKA_WIRE: 6,
    Kind.STORM: 7,
    Kind.OUTAGE: 4,
    Kind.CLOCK: 5,
    Kind.BROKER: 3,
    Kind.BROKER_FREEZE: 2,
    Kind.REFUSAL: 1,
}
OF_REPLICAS = frozenset({Kind.KILL, Kind.STOP, Kind.FREEZE, Kind.SCALE})
_OF_BROKERS = frozenset({Kind.BROKER, Kind.BROKER_FREEZE})
# While one of these lasts nothing else of them begins: each stops the whole group for a while.
_ALONE = _OF_BROKERS | {Kind.REFUSAL}
WIRES = ("slow", "stalled", "cut", "refused", "crumbs")
# The one replica whose connections to the brokers go through wires.
WIRED = 1
OUTAGES = ("unavailable", "reset", "hang")


@dataclass(frozen=True)
class Fault:
    """One fault. ``whom`` is the number of a replica, or of a broker; ``how`` says more, by kind."""

    at_s: float
    kind: Kind
    for_s: float
    whom: int = 0
    how: str = ""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run is asked for. ``broker_faults``: brokers are killed and frozen too."""

    seed: int
    minutes: float
    events: int | None = None
    replicas: int = 3
    brokers: int = 1
    broker_faults: bool = False
    every_s: tuple[float, float] = (3.0, 9.0)  # between two faults
    only: frozenset[Kind] | None = None
    sessions_s: float | None = None  # other than the usual ones

    @property
    def duration_s(self) -> float:
        return self.minutes * 60

    @property
    def count(self) -> int:
        """How many events are published."""
        return self.events if self.events is not None else int(self.duration_s * 150)

    @property
    def patient(self) -> bool:
        """Whether transactions must outlive a restart of the only broker, or it would show what was aborted (a fault of
        Kafka's): then sessions are long too, and who comes back in time is the same member."""
        return self.broker_faults and self.brokers == 1 and self.sessions_s is None

    @property
    def session_s(self) -> float:
        if self.sessions_s is not None:
            return self.sessions_s
        return 90.0 if self.patient else 5.0

    @property
    def transaction_s(self) -> float:
        if self.sessions_s is not None:
            return self.sessions_s * 0.6
        return 60.0 if self.patient else 3.0


@dataclass(frozen=True)
class Plan:
    """A run: the same options give the same plan."""

    options: Options
    faults: tuple[Fault, ...]
    static_members: frozenset[int] = field(default_factory=frozenset)


def plan(options: Options) -> Plan:
    """The faults in order of time. At least two replicas are alive at each moment but during a refusal."""
    random = Random(options.seed)
    static = _static_members(random, options)
    kinds = [kind for kind in _WEIGHTS if _wanted(options, kind)]
    weights = [_WEIGHTS[kind] for kind in kinds]
    busy = dict.fromkeys(range(options.replicas), 0.0)  # until when a replica is away
    alone_until = scaled_until = next_alone_at = 0.0
    faults: list[Fault] = []
    now = random.uniform(3.0, 5.0)
    while now < options.duration_s - 3:
        [kind] = random.choices(kinds, weights)
        possible = kinds if now >= next_alone_at else [kind for kind in kinds if kind not in _ALONE]
        kind = _overdue(options, possible, faults, now) or kind
        fault = _fault(random, options, kind, now)
        ends = now + fault.for_s + _STARTS_IN_S
        free = [replica for replica, until in busy.items() if until <= now]
        if kind in _ALONE:
            if max(alone_until, scaled_until, next_alone_at) <= now and len(free) == options.replicas:
                faults.append(fault)
                alone_until = ends + _STARTS_IN_S
                next_alone_at = ends + _BETWEEN_ALONE_S
                if kind is Kind.REFUSAL:
                    busy = dict.fromkeys(busy, alone_until)
        elif kind is Kind.SCALE:
            if scaled_until <= now and alone_until <= now:
                faults.append(fault)
                scaled_until = ends + _STARTS_IN_S
        elif kind in OF_REPLICAS:
            if len(free) > LEAST_ALIVE and alone_until <= now:
                victim = random.choice(free)
                faults.append(Fault(now, kind, fault.for_s, victim, fault.how))
                busy[victim] = ends
        else:
            faults.append(fault)
        now += random.uniform(*options.every_s)
    return Plan(options, tuple(faults), static)


def _overdue(options: Options, kinds: list[Kind], faults: list[Fault], now: float) -> Kind | None:
    """The kind that lags most behind what is the least of each; one that cannot fall yet keeps the others away until
    it can."""
    least = min(_OFTEN_ENOUGH, int(options.minutes / _ONCE_IN_MINUTES))
    due = int(least * now / options.duration_s + 0.5)
    counts = Counter(fault.kind for fault in faults)
    lagging = [kind for kind in kinds if counts[kind] < due]
    return min(lagging, key=counts.__getitem__, default=None)


def _wanted(options: Options, kind: Kind) -> bool:
    if options.only is not None:
        return kind in options.only
    if kind is Kind.BROKER and options.brokers == 1:
        return options.broker_faults and options.transaction_s >= _OUTLIVES_A_RESTART_S
    if kind is Kind.KAFKA_WIRE and options.patient:
        return False
    if kind is Kind.FREEZE and options.patient:
        return False  # a session of 90 s would have to pass
    return kind not in _OF_BROKERS or options.broker_faults


def _static_members(random: Random, options: Options) -> frozenset[int]:
    """Who is the same member when it comes back. The group of one that is not stands still until its old session is
    over: with sessions that are long there is none of these."""
    members = frozenset(range(options.replicas + 1))
    if options.session_s >= _LONG_SESSION_S:
        return members
    return frozenset(number for number in members if random.random() < 0.5)


def _fault(random: Random, options: Options, kind: Kind, at_s: float) -> Fault:
    """One of a kind, with a replica for those that befall any."""
    replica = random.randrange(options.replicas)
    match kind:
        case Kind.KILL | Kind.STOP:
            # Back at once, or only when the others have taken over.
            away_s = 2.0 if options.patient else options.session_s + 2
            return Fault(at_s, kind, random.choice([0.1, 1.0, 1.0, away_s]))
        case Kind.FREEZE:
            return Fault(at_s, kind, options.session_s + random.uniform(2, 5))
        case Kind.SCALE:
            return Fault(at_s, kind, random.uniform(8, 20), options.replicas)
        case Kind.WIRE:
            return Fault(at_s, kind, random.uniform(2, 8), replica, random.choice(WIRES))
        case Kind.KAFKA_WIRE:
            return Fault(at_s, kind, random.uniform(2, options.session_s + 3), WIRED, random.choice(WIRES))
        case Kind.STORM:
            return Fault(at_s, kind, random.uniform(4, 10))
        case Kind.OUTAGE:
            lane = random.choice(["segments", "workflows"])
            return Fault(at_s, kind, random.uniform(3, 8), how=f"{lane} {random.choice(OUTAGES)}")
        case Kind.CLOCK:
            return Fault(at_s, kind, random.uniform(5, 20), replica, str(random.choice([-300, -30, 45, 600])))
        case Kind.BROKER:
            longest_s = 6.0 if options.brokers > 1 else 1.0
            return Fault(at_s, kind, random.uniform(0.5, longest_s), random.randrange(options.brokers))
        case Kind.BROKER_FREEZE:
            return Fault(at_s, kind, random.uniform(2, 12), random.randrange(options.brokers))
        case Kind.REFUSAL:
            return Fault(at_s, kind, 4.0)
