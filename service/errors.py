"""Fanline's own errors.

FanlineError
├── SettleError            a settling transaction did not commit
│   ├── FencedError        not by a current member of the group: the work belongs to somebody else
│   ├── TransactorLostError  this transactor can do nothing more; a new one with the same id can
│   └── RefusedError       the broker will not take what the lane must write: the lane stops
├── TopicTooNarrowError    one of our own topics has fewer partitions than the sources: the lane holds meanwhile
├── JournalUnreadableError the journal is damaged or of a newer version: the lane holds
├── LocalKafkaError        the local Kafka of demo and tests (``service.localkafka``)
├── TokenError             no token for Kafka (``service.kafka.tokens``); its client tries again
├── ConfigurationError     the file is refused, with all faults (``service.config``)
├── ExpressionFault        an expression of it is (``service.config.expressions``)
├── SecretError            a secret cannot be read (``service.config.secrets``)
├── SpoolError             the disk does not take the file of an import (``service.uploading.spool``)
└── StartError             the service cannot start; the message says what to do

Commands have a few more below FanlineError, each beside what raises it.
"""


class FanlineError(Exception):
    """The root of our own errors."""


class SettleError(FanlineError):
    """A settling transaction did not commit, as far as we know."""


class FencedError(SettleError):
    """The group coordinator does not take offsets from this membership any more."""


class TransactorLostError(SettleError):
    """The outcome of the transaction is unknown or it was aborted; a new transactor finds out."""


class RefusedError(SettleError):
    """The broker refused a record, an offset or a right; sending it again changes nothing.

    ``what`` names the topic, group or transactional id.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.what = what
        self.why = why


class TopicTooNarrowError(FanlineError):
    """Partitions were added to a source and not yet to a topic of the lane."""


class JournalUnreadableError(FanlineError):
    """A journal record is damaged or was written by a newer version; going on would be a guess."""


class StartError(FanlineError):
    """The service cannot start."""
