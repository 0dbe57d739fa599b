"""What keeps a lane from its work on Kafka's side."""

from service.lane.denials import Denials


class Troubles:
    """Each is a reason for a person, None while it does not apply.

    ``kafka``: nothing can be settled at this moment. ``gap``: records are lost, or the journal cannot be read: nothing
    begins until somebody says so. ``narrow``: a topic has too few partitions. ``place``: the group knows another member
    under this one's instance id.
    """

    def __init__(self) -> None:
        self.kafka: str | None = None
        self.gap: str | None = None
        self.narrow: str | None = None
        self.place: str | None = None
        self.denials = Denials()

    @property
    def beginning(self) -> str | None:
        """Why partitions cannot be begun."""
        return self.gap or self.narrow

    def reason(self, now: float) -> str | None:
        """Why the lane cannot go on at this moment; ``now`` is monotonic, in seconds."""
        return self.kafka or self.place or self.beginning or self.denials.reason(now)

    def forget(self) -> None:
        """The partitions are others now."""
        self.gap = self.narrow = None
