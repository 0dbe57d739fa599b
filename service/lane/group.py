"""The lane's member of its consumer group: its consumer, its assignment, and its view of the topics."""

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from service.delivery.shares import part_of
from service.errors import JournalUnreadableError, TransactorLostError
from service.intake.assignment import Assignment
from service.intake.assignor import LaneAssignor, View, assignor_for
from service.journal.reading import read_journal
from service.journal.settled import refuse_undecided, trusted
from service.kafka.clients import start
from service.kafka.frames import read_whole_frames
from service.kafka.leaving import stop_member
from service.kafka.offsets import CommittedOffset, ToldOffsets, read_told_offsets
from service.kafka.private import Membership, forget_membership, membership, on_heartbeat, request_rejoin
from service.kafka.unpacking import unpack_aside
from service.lane.setup import LaneMeans, LaneSetup
from service.lane.silence import Silence

# Longer than a transaction that is pending on the offsets may take, with the coordinator's look for those that expired.
# Behind it the journal is asked.
_OFFSETS_WITHIN_S = 30.0
_STOP_S = 5.0


# A rebalance is told in the answer to a heartbeat: those that have heard of it stand still until all have.
_HEARTBEAT_MS = 1000
# How often the client looks what to fetch though nothing has happened: an assignment, an answer, what was taken of it
# and a partition that is read again wake it, so 200 ms, its default, are for nothing.
_FETCHER_LOOK_MS = 5000
# An answer is put together, and cut into its partitions, in one turn of the event loop: a millisecond a megabyte, and
# more where the system has to hand out memory anew. A record batch that is larger comes all the same.
_FETCH_MAX_BYTES = 4 * 1024 * 1024


def heartbeat_ms(session_timeout_s: float) -> int:
    """How often a member tells that it lives."""
    return max(100, min(_HEARTBEAT_MS, int(session_timeout_s * 1000 / 5)))


class Group:
    """``assignment`` is the newest one, also once it has ended; ``draining``: its partitions are being given back."""

    def __init__(self, setup: LaneSetup, means: LaneMeans) -> None:
        self._setup = setup
        self._connection = means.connection
        self._client = means.client
        self._clock = means.clock
        self._slots = None if setup.imports is None else setup.imports.slots
        # The other number of slots that was told last.
        self._told_slots: int | None = None
        self._assignor: type[LaneAssignor] = assignor_for(setup.name, setup.instance_id, self._slots)
        self._silence = Silence(setup.session_timeout_s, means.clock.monotonic())
        self.consumer: AIOKafkaConsumer | None = None
        self.assignment: Assignment | None = None
        self.draining = False

    async def start(self) -> AIOKafkaConsumer:
        """Start the consumer; it joins the group once it subscribes. Raises KafkaConnectionError."""
        consumer = self._new_consumer()
        await start(consumer, stop_within_s=_STOP_S)
        self.consumer = consumer
        read_whole_frames(consumer)
        unpack_aside(consumer)
        on_heartbeat(consumer, self._silence.heard, self._clock.monotonic)
        return consumer

    async def stop(self, *, within_s: float) -> None:
        """Stop the consumer and leave the group. Raises KafkaError, TimeoutError."""
        if self.consumer is not None:
            await stop_member(self.consumer, self._client, self._setup.names.group, within_s=within_s)

    def _new_consumer(self) -> AIOKafkaConsumer:
        setup = self._setup
        instance = f"{setup.instance_id}-{setup.name}" if setup.instance_id is not None else None
        return AIOKafkaConsumer(
            **self._connection,
            group_id=setup.names.group,
            group_instance_id=instance,
            partition_assignment_strategy=(self._assignor,),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=int(setup.session_timeout_s * 1000),
            heartbeat_interval_ms=heartbeat_ms(setup.session_timeout_s),
            rebalance_timeout_ms=int(setup.rebalance_timeout_s * 1000),
            max_partition_fetch_bytes=1024 * 1024,
            fetch_max_bytes=_FETCH_MAX_BYTES,
            consumer_timeout_ms=_FETCHER_LOOK_MS,
        )

    def joined(self) -> Membership:
        """The membership of this moment; to be called in ``on_partitions_assigned`` before its first await."""
        assert self.consumer is not None
        self._silence.heard(self._clock.monotonic())
        return membership(self.consumer, self._setup.names.group)

    def silent(self) -> str | None:
        """Why what the lane has read may be another's, though this process runs."""
        assignment = self.assignment
        if assignment is None or not assignment.active or not assignment.tps:
            return None
        return self._silence.reason(self._clock.monotonic())

    def has_lost(self, held: Membership) -> bool:
        """Whether the group does not know this member any more: its session ended, or another took its place."""
        return self.consumer is None or membership(self.consumer, held.group_id).member_id != held.member_id

    def joined_anew(self, held: Membership) -> bool:
        """Whether this process is another member by now."""
        assert self.consumer is not None
        return membership(self.consumer, held.group_id).member_id not in ("", held.member_id)

    def take_place(self) -> None:
        """Join again in the place of whoever the group knows by this one's instance id."""
        assert self.consumer is not None
        forget_membership(self.consumer)

    async def committed(self, assignment: Assignment) -> ToldOffsets:
        """Raises TransactorLostError if the brokers do not tell the offsets in time, RefusedError."""
        try:
            return await read_told_offsets(
                self._client, self._setup.names.group, assignment.tps, within_s=_OFFSETS_WITHIN_S
            )
        except TimeoutError as error:
            raise TransactorLostError(f"no committed offsets within {_OFFSETS_WITHIN_S:g} s") from error

    async def settled(self, assignment: Assignment) -> dict[TopicPartition, CommittedOffset]:
        """How far the partitions are settled, by the group and by the journal: whether a transaction whose end is not
        known was committed. Raises TransactorLostError, RefusedError."""
        told = await self.committed(assignment)
        numbers = {tp.partition for tp in assignment.tps}
        try:
            journal = await read_journal(self._connection, self._setup.names.journal, own=numbers)
        except (KafkaError, JournalUnreadableError) as error:
            raise TransactorLostError(str(error) or type(error).__name__) from error
        found = trusted(told, journal.settled, assignment.tps)
        refuse_undecided(found)
        return found.offsets

    # -- the view of the topics

    @property
    def view(self) -> View:
        """The leader's, on which the assignment stands."""
        return self._assignor.view

    @property
    def part(self) -> float:
        """What this process has of the lane's partitions, 0 to 1."""
        assignment = self.assignment
        mine = len(assignment.tps) if assignment is not None and assignment.active else 0
        return part_of(mine, sum(self.view.topics.values()))

    def compare_views(self) -> None:
        """A static member that restarts with other topics causes no rebalance, and after its leader's restart nobody
        watches the partition counts: each member compares, and raises its revision to have the group deal anew."""
        view = self.view.topics
        if self.consumer is None or self.assignment is None or not self.assignment.active or not view:
            return
        other = [
            topic
            for topic in self._setup.subscribed
            if (count := len(self._client.cluster.partitions_for_topic(topic) or ())) and count != view.get(topic)
        ]
        if other or self._slots_differ():
            data = self._assignor.data
            self._assignor.data = msgspec.structs.replace(data, revision=data.revision + 1)
            request_rejoin(self.consumer)

    def _slots_differ(self) -> bool:
        """A static member that restarts with another number of slots: told once for each number that is found, for
        another member may have the smaller one that counts."""
        if self.view.slots in (self._slots, self._told_slots):
            return False
        self._told_slots = self.view.slots
        return True
