"""So that what goes wrong a thousand times is one line and a count."""

from collections import OrderedDict
from collections.abc import Hashable

_MAX_KEYS = 256


class Throttle:
    """Lets one line per key through each ``every_s`` seconds. ``now`` is monotonic."""

    def __init__(self, every_s: float = 10.0) -> None:
        self._every_s = every_s
        # When the key was last let through, and how many have been held back since.
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def passes(self, key: Hashable, now: float) -> int | None:
        """How many were held back since the last line of this key; None: hold this one back too."""
        last, held_back = self._seen.get(key, (float("-inf"), 0))
        if now - last < self._every_s:
            self._seen[key] = (last, held_back + 1)
            return None
        self._seen[key] = (now, 0)
        self._seen.move_to_end(key)
        if len(self._seen) > _MAX_KEYS:
            self._seen.popitem(last=False)
        return held_back
