"""What a chaos run does, from its seed alone: which fault befalls whom, when and for how long. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

LEAST_ALIVE = 2
# A process that was started is taken to be at work after so long.
_STARTS_IN_S = 3.0


class Kind(StrEnum):
    """What can go wrong."""

    KILL = "kill"  # SIGKILL, and a start after a while
    STOP = "stop"  # SIGTERM: exit code 0 within the drain, and a start after a while
    FREEZE = "freeze"  # SIGSTOP beyond the session, then SIGCONT
    SCALE = "scale"  # a replica more; it leaves in good order after a while
    WIRE = "wire"  # between one replica and the platform: slow, stalled, cut, refused
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
    Kind.WIRE: 10,
    Kind.STORM: 8,
    Kind.OUTAGE: 4,
    Kind.CLOCK: 5,
    Kind.BROKER: 3,
    Kind.BROKER_FREEZE: 2,
    Kind.REFUSAL: 1,
}
_OF_REPLICAS = frozenset({Kind.KILL, Kind.STOP, Kind.FREEZE, Kind.SCALE})
_OF_BROKERS = frozenset({Kind.BROKER, Kind.BROKER_FREEZE})
# While one of these lasts nothing else of them begins: each stops the whole group for a while.
_ALONE = _OF_BROKERS | {Kind.REFUSAL}
WIRES = ("slow", "stalled", "cut", "refused", "crumbs")
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

    @property
    def duration_s(self) -> float:
        return self.minutes * 60

    @property
    def count(self) -> int:
        """How many events are published."""
        return self.events if self.events is not None else int(self.duration_s * 150)

    @property
    def patient(self) -> bool:
        """Whether transactions must outlive a restart of the only broker (KAFKA.md 1): then sessions are long too."""
        return self.broker_faults and self.brokers == 1

    @property
    def session_s(self) -> float:
        return 90.0 if self.patient else 5.0

    @property
    def transaction_s(self) -> float:
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
    static = frozenset(range(options.replicas + 1)) if options.patient else _some(random, options.replicas + 1)
    kinds = [kind for kind in _WEIGHTS if _wanted(options, kind)]
    weights = [_WEIGHTS[kind] for kind in kinds]
    busy = dict.fromkeys(range(options.replicas), 0.0)  # until when a replica is away
    alone_until = scaled_until = 0.0
    faults: list[Fault] = []
    now = random.uniform(3.0, 5.0)
    while now < options.duration_s - 3:
        [kind] = random.choices(kinds, weights)
        fault = _fault(random, options, kind, now)
        ends = now + fault.for_s + _STARTS_IN_S
        free = [replica for replica, until in busy.items() if until <= now]
        if kind in _ALONE:
            if alone_until <= now and len(free) == options.replicas:
                faults.append(fault)
                alone_until = ends + _STARTS_IN_S
                if kind is Kind.REFUSAL:
                    busy = dict.fromkeys(busy, alone_until)
        elif kind is Kind.SCALE:
            if scaled_until <= now:
                faults.append(fault)
                scaled_until = ends + _STARTS_IN_S
        elif kind in _OF_REPLICAS:
            if len(free) > LEAST_ALIVE and alone_until <= now:
                victim = random.choice(free)
                faults.append(Fault(now, kind, fault.for_s, victim, fault.how))
                busy[victim] = ends
        else:
            faults.append(fault)
        now += random.uniform(*options.every_s)
    return Plan(options, tuple(faults), static)


def _wanted(options: Options, kind: Kind) -> bool:
    if options.only is not None:
        return kind in options.only
    if kind is Kind.FREEZE and options.patient:
        return False  # a session of 90 s would have to pass
    return kind not in _OF_BROKERS or options.broker_faults


def _some(random: Random, count: int) -> frozenset[int]:
    return frozenset(number for number in range(count) if random.random() < 0.5)


def _fault(random: Random, options: Options, kind: Kind, at_s: float) -> Fault:
    """One of a kind, with a replica for those that befall any."""
    replica = random.randrange(options.replicas)
    match kind:
        case Kind.KILL | Kind.STOP:
            # Back at once, or only when the others have taken over.
            return Fault(at_s, kind, random.choice([0.1, 1.0, options.session_s + 2 if not options.patient else 2.0]))
        case Kind.FREEZE:
            return Fault(at_s, kind, options.session_s + random.uniform(2, 5))
        case Kind.SCALE:
            return Fault(at_s, kind, random.uniform(8, 20), options.replicas)
        case Kind.WIRE:
            return Fault(at_s, kind, random.uniform(2, 8), replica, random.choice(WIRES))
        case Kind.STORM:
            return Fault(at_s, kind, random.uniform(4, 10))
        case Kind.OUTAGE:
            lane = random.choice(["segments", "workflows"])
            return Fault(at_s, kind, random.uniform(3, 8), how=f"{lane} {random.choice(OUTAGES)}")
        case Kind.CLOCK:
            return Fault(at_s, kind, random.uniform(5, 20), replica, str(random.choice([-300, -30, 45, 600])))
        case Kind.BROKER:
            return Fault(at_s, kind, random.uniform(0.5, 6), random.randrange(options.brokers))
        case Kind.BROKER_FREEZE:
            return Fault(at_s, kind, random.uniform(2, 12), random.randrange(options.brokers))
        case Kind.REFUSAL:
            return Fault(at_s, kind, 4.0)
