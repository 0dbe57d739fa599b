"""The names of a lane's topics and group."""

import msgspec


class LaneNames(msgspec.Struct, frozen=True):
    """Names of one lane. The lane's name is its identity: another name is another lane."""

    group: str
    dead_letters: str
    replay: str
    journal: str
    dead_letters_log: str
    transactional_prefix: str


def lane_names(prefix: str, lane: str) -> LaneNames:
    """All names of a lane under a topic prefix."""
    base = f"{prefix}.{lane}"
    return LaneNames(
        group=base,
        dead_letters=f"{base}.dead-letters",
        replay=f"{base}.replay",
        journal=f"{base}.journal",
        dead_letters_log=f"{base}.dead-letters.log",
        transactional_prefix=f"{base}.",
    )


def control_topic(prefix: str) -> str:
    """Where operators' orders stand."""
    return f"{prefix}.control"


def status_topic(prefix: str) -> str:
    """Where every process tells what its lanes are doing."""
    return f"{prefix}.status"
