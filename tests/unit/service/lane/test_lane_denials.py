"""Rights that are missing while a lane runs, as its reason."""

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    KafkaConnectionError,
    NodeNotReadyError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from service.kafka.codes import Code, refusal_in
from service.lane.denials import Denials, denial_of, unseen


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TopicAuthorizationFailedError("t"), "our user of Kafka lacks a right on topic t; `fanline check --online`"),
        (TopicAuthorizationFailedError({"t", "s"}), "lacks a right on topic s, t;"),
        (TopicAuthorizationFailedError(), "lacks a right on topic of the lane"),
        (GroupAuthorizationFailedError("g"), "lacks a right on group g;"),
        (TransactionalIdAuthorizationFailed(), "lacks a right on the transactional ids"),
        (InvalidSessionTimeoutError(), "change kafka.session_timeout"),
        (InconsistentGroupProtocolError(), "another program is in the lane's consumer group"),
    ],
)
def test_what_may_not_be_used_is_named(error: Exception, told: str) -> None:
    """As aiokafka tells it, with a name, names, or none."""
    assert told in str(denial_of(error))


def test_an_outage_is_no_missing_right() -> None:
    """Nothing is said of rights where nobody answered."""
    denials = Denials()
    denials.note(NodeNotReadyError("k"), 0.0)
    assert denials.reason(0.0) is None


def test_a_reason_lasts_while_it_is_met_again() -> None:
    """The consumer meets it several times a second; behind ten seconds of silence the right is there."""
    denials = Denials()
    for now in range(5):
        denials.note(GroupAuthorizationFailedError("g"), float(now))
    assert "group g" in str(denials.reason(13.9))
    assert denials.reason(14.1) is None


def test_a_topic_that_may_not_be_seen_has_no_partitions() -> None:
    """The advice to add some would be wrong."""
    assert "lacks a right on topic t" in unseen("t", {"t"}, "topic t has 0 partitions")
    assert unseen("t", set(), "topic t has 0 partitions") == "topic t has 0 partitions"


def test_a_refusal_is_known_by_its_code() -> None:
    """What asking again cannot change, also where aiokafka raises it; an outage is asked again."""
    assert refusal_in(TransactionalIdAuthorizationFailed()) == Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert refusal_in(GroupAuthorizationFailedError("g")) == Code.GROUP_AUTHORIZATION_FAILED
    assert refusal_in(KafkaConnectionError("k")) is None
    assert refusal_in(NodeNotReadyError("k")) is None
    assert refusal_in(AssertionError()) is None
