"""When a process may no longer take what it has read for its own."""

from service.lane.silence import SILENCE, Silence


def test_heartbeats_prove_the_membership_for_a_part_of_the_session() -> None:
    """From when the last answered one was sent, not from its answer; the coordinator has counted no longer by then."""
    silence = Silence(10.0, 100.0)
    assert silence.reason(107.9) is None
    assert silence.reason(108.0) == SILENCE
    silence.heard(104.0)
    assert silence.reason(111.9) is None
    silence.heard(101.0)  # overtaken by a later one
    assert silence.reason(111.9) is None
    assert silence.reason(112.0) == SILENCE
