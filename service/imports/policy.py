"""What an import lane is told at start."""

import msgspec


class ImportPolicy(msgspec.Struct, frozen=True):
    """``slots``: the imports that the lane may have open at once, over all replicas. ``orphan_life_s``: for so long a
    slot counts as taken by an import whose create got no answer. ``max_file_bytes``: of one import."""

    slots: int
    orphan_life_s: float
    max_file_bytes: int
