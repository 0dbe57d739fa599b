"""Where the time between two owners of a partition goes."""

from service.lane.takeover import Takeover
from tests.support.fakes import FakeTime


def test_each_step_counts_from_the_end_of_the_one_before() -> None:
    """What is made again after a failure counts together; the whole counts from the assignment."""
    clock = FakeTime()
    takeover = Takeover(clock)
    for step, seconds in (("fenced", 0.5), ("offsets", 2.0), ("fenced", 0.25), ("offsets", 1.0)):
        clock.advance(seconds)
        takeover.done(step)
    clock.advance(4.0)
    assert takeover.steps_s == {"fenced_s": 0.75, "offsets_s": 3.0}
    assert takeover.seconds == 7.75
