"""What a lane does with a contact that was deleted, for the handlers that have the key ``deleted``."""

from typing import Annotated, Literal

from msgspec import Meta

from contracts.events import ContactChanged, Event
from contracts.outcomes import Outcome, Reason
from handlers.base import Refusal

Deleted = Annotated[
    Literal["skip", "deliver"],
    Meta(
        description="What becomes of an event whose `change` is `deleted`: skipped/nothing_to_do, or delivered like "
        "any other.",
        extra={"hurts": "With `deliver` a message can go to a contact who has asked to be forgotten."},
    ),
]

DELETED = Refusal(Outcome.SKIPPED, Reason.NOTHING_TO_DO)


def is_deletion(event: Event) -> bool:
    """Whether the event says that the contact is no more."""
    data = event.data
    return type(data) is ContactChanged and data.change == "deleted"
