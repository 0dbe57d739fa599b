"""The names of all log events, a sentence each. A name is an interface: alerts and searches hold on to it."""

from enum import StrEnum


class LogEvent(StrEnum):
    """``event`` in each log line. None of them is logged once per event of the source topics."""

    STARTED = "service_started"
    """The process runs; the line holds version, instance and lanes."""

    STOPPING = "service_stopping"
    """SIGTERM came, or a lane died of a fault of ours; the lanes drain."""

    STOPPED = "service_stopped"
    """All lanes have been given back; the process ends."""

    BATCH = "batch"
    """The canonical line of one batch: how many events and operations, why it was closed, how they ended."""

    LANE_STATE = "lane_state"
    """A lane's state or its reason changed."""

    ASSIGNED = "partitions_assigned"
    """The lane reads partitions, ``seconds`` after they were dealt to it; ``fresh`` of them have no committed offset.
    ``fenced_s`` (no predecessor can commit any more), ``offsets_s``, ``orders_s``, ``journal_s``, ``places_s``,
    ``begun_s`` are the steps."""

    READ_BACK = "dedupe_read_back"
    """The dedupe windows of partitions had to be read back from the source before they were read on."""

    REVOKED = "partitions_revoked"
    """The lane gave its partitions back; ``unfinished`` events are left to their next owner."""

    FENCED = "settlement_fenced"
    """The group has a newer generation: this process's unsettled work belongs to somebody else."""

    PLACE_TAKEN_BACK = "place_taken_back"
    """The group knew another member under the lane's instance id: a former life of this process, or another process.
    Once the place is taken back; the lane stops if it is taken again soon."""

    TRANSACTION_LOST = "transaction_lost"
    """The outcome of a settling transaction is unknown; the lane learns it from the offsets and goes on."""

    RECORDS_LOST = "records_lost"
    """Offsets that were not read are gone from the source topic."""

    OFFSET_BEHIND = "committed_offset_behind"
    """The group's offset lies behind what the lane's journal says is settled, or its coordinator calls a commit
    undecided: the lane goes on from the further one."""

    DEDUPE_SHORTENED = "dedupe_window_shortened"
    """The dedupe windows would take more memory than the lane's ``buffer``: the oldest ids were forgotten early."""

    METADATA_IGNORED = "commit_metadata_ignored"
    """What finished beyond the committed offset cannot be read; those events are delivered again."""

    UNPARSABLE = "record_unparsable"
    """The Kafka client cannot parse a record; it is settled as invalid/malformed and passed."""

    STALLED = "lane_stalled"
    """A lane stood still and waited for nothing: what its first such event does, and where every task stands. It is
    restarted, or, soon after a restart, ``/livez`` fails."""

    HANDLER_FAULT = "handler_fault"
    """Our own code failed on an event; the stack says where, the message is withheld, it may quote the event.
    """

    KAFKA_ERROR = "kafka_error"
    """The Kafka client failed; the lane tries again."""

    ORDER = "operators_order"
    """An operator paused or resumed a lane or an account, or gave lost records up: by whom and why."""

    ACCOUNT_STATE = "account_state"
    """An account's breaker, credentials or pace changed."""

    LIBRARY = "library"
    """A line of a library (``logger`` says whose), its values redacted."""

    CRASHED = "crashed"
    """An exception that nobody caught."""
