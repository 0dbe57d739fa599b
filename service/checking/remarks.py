"""What a correct configuration means, where it is worth a sentence."""

from collections.abc import Iterator

from service.config import Configuration
from service.config.checks import is_loopback
from service.findings import Finding, Severity


def remarks(config: Configuration) -> Iterator[Finding]:
    """Notes and warnings that need no look at Kafka or a platform."""
    if config.kafka.delivery == "at_least_once":
        problem = (
            "at_least_once: after a crash or a rebalance a result may appear again, with the same id, and journal "
            "writes of a former owner of a partition are not fenced"
        )
        remedy = "readers keep the first result of an id; use exactly_once where the brokers have transactions"
        yield Finding(Severity.NOTE, "kafka.delivery", problem, remedy)
    if config.http is not None and not is_loopback(config.http.listen.rpartition(":")[0].strip("[]")):
        problem = f"{config.http.listen} is not loopback: whoever reaches it can read lanes, topics and counts"
        yield Finding(Severity.NOTE, "http.listen", problem)
    for lane in config.lanes.values():
        if lane.dry_run:
            problem = "dry_run: nothing is called, and what it reports as delivered is not delivered later"
            yield Finding(Severity.NOTE, f"lane {lane.name}", problem)
