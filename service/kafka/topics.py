"""The topics that the service needs (DESIGN's table of topics), as a pure plan, and what makes them so."""

from service.config import Configuration
from service.kafka.names import lane_names


def topics_of_lane(config: Configuration, lane: str) -> list[str]:
    """Every topic that a lane reads or writes while it runs."""
    names = lane_names(config.kafka.topic_prefix, lane)
    sources = config.lanes[lane].topics
    return [*sources, config.results.topic, names.dead_letters, names.replay, names.journal]
