"""Fixtures that every test may use."""

from collections.abc import Iterator

import pytest

from service.localkafka import Cluster
from tests.support.kafka import Broker, foreign_bootstrap, unique


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """One broker for the whole run; ``FANLINE_TEST_BOOTSTRAP`` names another one to use instead."""
    if bootstrap_servers := foreign_bootstrap():
        yield Broker(bootstrap_servers)
        return
    with Cluster() as cluster:
        yield Broker(cluster.bootstrap_servers, cluster)


@pytest.fixture
def bootstrap_servers(broker: Broker) -> str:
    """The address of the run's broker."""
    return broker.bootstrap_servers


@pytest.fixture
def prefix() -> str:
    """The beginning of all names of topics, groups and transactional ids that this test makes."""
    return unique()
