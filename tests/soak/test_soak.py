"""A soak run of seconds: that everything is sampled, and that what has a bound keeps to it. Growth takes minutes."""

from pathlib import Path

from tests.soak.run import MEASURES, Soak
from tests.support.kafka import Broker


async def test_everything_is_looked_at(broker: Broker, tmp_path: Path) -> None:
    """Each measure is seen, each event settled, and one member, producer id and status key of a lane is there."""
    report = await Soak(broker.bootstrap_servers, tmp_path, minutes=0.1, per_s=100).run()
    assert list(report.faults) == []
    assert report.settled == report.published > 500
    assert {measure.name for measure in MEASURES} == {name for name, found in report.samples.items() if found}
    assert [one.fault for one in report.verdicts if one.fault and not one.fault.startswith(("only", "rises"))] == []
