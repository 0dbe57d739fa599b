"""What can go wrong with the local Kafka, said so that the reader knows what to do."""

from service.errors import FanlineError


class LocalKafkaError(FanlineError):
    """The local Kafka cannot be got, started or kept running; the message says why."""
