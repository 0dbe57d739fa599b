"""What an import lane is told at start."""

import msgspec

# What is over by our clock may not be by another's: a slot is free so much later.
CLOCKS_APART_S = 5.0


class Turns(msgspec.Struct, frozen=True):
    """A lane's part in taking turns: of so many ``slots`` of the account its own are ``first`` and those that follow;
    each has a turn of ``turn_s``."""

    first: int
    slots: int
    turn_s: float


class ImportPolicy(msgspec.Struct, frozen=True):
    """``slots``: the imports that the lane may have open at once, over all replicas. ``orphan_life_s``: for so long a
    slot counts as taken by an import whose create got no answer. ``max_file_bytes``: of one import. ``under_way_s``:
    so long after its entry was made up a create can still reach the platform, at most. ``create_every_s``: so far the
    creates of one slot lie apart; None: they need not, or there are more slots than creates, and ``create_turns`` are
    taken."""

    slots: int
    orphan_life_s: float
    max_file_bytes: int
    under_way_s: float = 0.0
    create_every_s: float | None = None
    create_turns: Turns | None = None

    def lapses_at_ms(self, begun_at_ms: int) -> int:
        """When nothing can be open any more of a create of which only its entry is known, by our clock: the address
        lives from when the platform gave it, and the entry's clock may have been behind."""
        return begun_at_ms + int((self.under_way_s + self.orphan_life_s + CLOCKS_APART_S) * 1000)
