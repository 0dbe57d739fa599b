"""Fixtures that every test may use."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from service.localkafka import Cluster, Options
from tests.support.kafka import UNHURRIED, Broker, foreign_bootstrap, unique

# Hundreds of processes are started: where bytecode is not to be written beside the source, they find it in a folder of
# its own and do not compile everything each time: a quarter of what a start takes.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(__file__).parents[1] / ".cache" / "bytecode"))

# A busy machine is no failure: nothing here is timed.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings.get_current_profile_name() == "default":
    settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _logging_as_found() -> Iterator[None]:
    """A test that sets up logging, as a command does, leaves it to the next one as it was."""
    loggers = [logging.getLogger(name) for name in (None, "aiokafka", "aiohttp", "asyncio")]
    found = [(logger, logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    hook = sys.excepthook
    yield
    sys.excepthook = hook
    structlog.reset_defaults()
    for logger, level, handlers, propagate in found:
        logger.setLevel(level)
        logger.propagate = propagate
        # pytest's own come and go around us: only what the test has added is taken away.
        for handler in [handler for handler in logger.handlers if handler not in handlers]:
            if type(handler).__module__.startswith("service."):
                logger.removeHandler(handler)


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """One broker for the whole run; ``FANLINE_TEST_BOOTSTRAP`` names another one to use instead."""
    if bootstrap_servers := foreign_bootstrap():
        yield Broker(bootstrap_servers)
        return
    with Cluster(Options(properties=UNHURRIED)) as cluster:
        yield Broker(cluster.bootstrap_servers, cluster)


@pytest.fixture
def bootstrap_servers(broker: Broker) -> str:
    """The address of the run's broker."""
    return broker.bootstrap_servers


@pytest.fixture
def prefix() -> str:
    """The beginning of all names of topics, groups and transactional ids that this test makes."""
    return unique()
