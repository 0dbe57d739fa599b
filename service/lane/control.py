"""What a lane sees of an operator's orders. Implemented by ``service.control``."""

from typing import Protocol

from aiokafka.structs import TopicPartition

from contracts.control import Loss
from service.control.orders import Pause


class LaneControl(Protocol):
    """The orders for one lane and its account."""

    async def read_to_end(self) -> None:
        """Return once every order given before this call is known. Raises KafkaError."""

    def pause(self) -> Pause | None:
        """Why the lane may start no call."""

    def missing(self) -> str | None:
        """Why no order would be heard: the topic is gone."""

    def accepted(self, tp: TopicPartition) -> Loss | None:
        """What an operator has given up of a partition."""
