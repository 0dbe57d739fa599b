"""Which results are wanted. Pure."""

import msgspec

from contracts.ids import hashed_key
from contracts.outcomes import Outcome
from contracts.results import ATTRIBUTE_MAX, SyncResult


class ResultFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Every condition that is not None must hold. ``key`` is the input's key as it was published; with
    ``hashed_keys`` the results carry its hash."""

    event_id: str | None = None
    key: bytes | None = None
    lane: str | None = None
    outcome: Outcome | None = None
    hashed_keys: bool = False

    def takes_key(self, key: bytes | None) -> bool:
        """Whether a record with this key may be wanted: most need not be decoded."""
        if self.key is None:
            return True
        return key == (hashed_key(self.key) if self.hashed_keys else self.key)

    def takes(self, result: SyncResult) -> bool:
        """Whether a result is wanted, its key apart."""
        data = result.data
        return (
            (self.event_id is None or event_id_of(result) == self.event_id[:ATTRIBUTE_MAX])
            and (self.lane is None or data.lane == self.lane)
            and (self.outcome is None or data.outcome is self.outcome)
        )


def event_id_of(result: SyncResult) -> str | None:
    """The id of the event that the result is about; None where it could not be read."""
    if result.data.event is not None:
        return result.data.event.id
    return result.subject if isinstance(result.subject, str) else None
