"""The rights that a running lane needs: pure. Nothing here is more than it uses; a test takes each away once.

Kafka gives Describe with each of Read and Write. Offsets and transactions need no right of their own: Read on the
group and Write on the transactional id are enough, and IdempotentWrite on the cluster is not asked for.
"""

from collections.abc import Mapping
from enum import IntEnum

from msgspec import Struct

from service.config import Configuration
from service.findings import Finding, Severity
from service.kafka.names import lane_names
from service.kafka.topics import Role, topics_of_lane


class Right(IntEnum):
    """Kafka's operations by their bit in the brokers' answers."""

    READ = 3
    WRITE = 4

    @property
    def word(self) -> str:
        """As ``kafka-acls.sh`` writes it."""
        return self.name.capitalize()


class Need(Struct, frozen=True):
    """A right that a lane needs. ``kind`` is ``topic``, ``group`` or ``transactional-id``; a transactional id is a
    prefix, everything else a whole name."""

    kind: str
    name: str
    right: Right

    @property
    def subject(self) -> str:
        """As findings name it."""
        return f"transactional ids {self.name}*" if self.kind == "transactional-id" else f"{self.kind} {self.name}"

    @property
    def finding(self) -> Finding:
        """That it is lacking, and the command that gives it."""
        problem = f"our user of Kafka lacks the right {self.right.word}"
        return Finding(Severity.ERROR, self.subject, problem, _granting(self))


TOPIC_RIGHTS: Mapping[Role, tuple[Right, ...]] = {
    Role.SOURCE: (Right.READ,),
    Role.RESULTS: (Right.WRITE,),
    Role.DEAD_LETTERS: (Right.WRITE,),
    Role.REPLAY: (Right.READ,),
    Role.JOURNAL: (Right.READ, Right.WRITE),
    Role.STATUS: (Right.WRITE,),
    Role.CONTROL: (Right.READ,),
}


def topic_needs(role: Role, name: str) -> list[Need]:
    """What the service needs of one topic."""
    return [Need("topic", name, right) for right in TOPIC_RIGHTS.get(role, ())]


def lane_needs(config: Configuration, lane: str) -> list[Need]:
    """All that a lane needs."""
    names = lane_names(config.kafka.topic_prefix, lane)
    needs = [need for name, role in topics_of_lane(config, lane).items() for need in topic_needs(role, name)]
    needs.append(Need("group", names.group, Right.READ))
    if config.kafka.delivery == "exactly_once":
        needs.append(Need("transactional-id", names.transactional_prefix, Right.WRITE))
    return needs


def hidden(role: Role, name: str) -> Finding:
    """Of a topic on which our user has no right at all, so that not even its existence is told."""
    words = [right.word for right in TOPIC_RIGHTS.get(role, ())]
    if not words:
        problem = "may not be seen by our user of Kafka; lanes run without it, commands on dead letters do not"
        return Finding(Severity.NOTE, f"topic {name}", problem)
    lacking = f"the right{'s' if len(words) > 1 else ''} {' and '.join(words)}"
    problem = f"our user of Kafka lacks {lacking}, and may not even see whether it exists"
    operations = " ".join(f"--operation {word}" for word in words)
    return Finding(Severity.ERROR, f"topic {name}", problem, f"kafka-acls.sh --add {operations} --topic {name}")


def _granting(need: Need) -> str:
    command = f"kafka-acls.sh --add --operation {need.right.word} --{need.kind} {need.name}"
    return f"{command} --resource-pattern-type prefixed" if need.kind == "transactional-id" else command
