"""The part of an account's limits that one process may use.

Nobody counts requests over all processes: each takes of every lane as much as it has of the lane's partitions, and
Kafka's group protocol deals those out once. Lanes are weighed against all lanes of the file on the account, run here
or not, for a process cannot know which of them run elsewhere.
"""

from collections.abc import Callable, Mapping


class AccountShares:
    """What this process has of each lane on one account; tells ``changed`` the sum, between 0 and 1."""

    def __init__(self, weights: Mapping[str, float], changed: Callable[[float], None]) -> None:
        """``weights`` of all lanes of the file on the account."""
        self._weights = dict(weights)
        self._total = sum(weights.values())
        self._parts = dict.fromkeys(weights, 0.0)
        self._changed = changed

    def weight(self, lane: str) -> float:
        """The lane's weight."""
        return self._weights[lane]

    def take(self, lane: str, part: float) -> None:
        """This process now has ``part`` of the lane's partitions, 0 to 1."""
        if self._parts[lane] == part:
            return
        self._parts[lane] = part
        self._changed(sum(self._weights[name] * value for name, value in self._parts.items()) / self._total)


def part_of(mine: int, all_of_lane: int) -> float:
    """The part that ``mine`` partitions are of the lane's. A lane whose size is not known is taken for ours alone:
    too fast is mended by the platform's answers, too slow by nobody.
    """
    if mine == 0:
        return 0.0
    return min(1.0, mine / all_of_lane) if all_of_lane else 1.0
