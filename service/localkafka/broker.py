"""The local Kafka for asyncio: Apache Kafka itself, on a Java runtime and jars that Python packages bring."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from service.localkafka.cluster import POLL_S, START_TIMEOUT_S, Cluster, Options
from service.localkafka.errors import LocalKafkaError
from service.localkafka.jars import Progress
from service.localkafka.properties import Security

WATCH_S = 0.5


class LocalKafka:
    """One or three brokers on loopback, ready inside ``async with``; see ``Options`` for the arguments.

    Start it on a thread that lives on (an event loop's is): the brokers die with the thread. Raises
    LocalKafkaError, with the last lines of the broker's log, if it cannot start.
    """

    def __init__(
        self,
        *,
        brokers: int = 1,
        port: int = 0,
        data_dir: Path | None = None,
        security: Security | None = None,
        properties: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._progress = progress
        self.cluster = Cluster(
            Options(
                brokers=brokers,
                port=port,
                data_dir=data_dir,
                security=security or Security(),
                properties=properties or {},
            )
        )

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` of every broker, separated by commas."""
        return self.cluster.bootstrap_servers

    @property
    def data_dir(self) -> Path:
        """Where data, configuration and logs (``broker-<n>/server.log``) lie."""
        return self.cluster.data_dir

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self.cluster.fetch, self._progress)
            formatters = self.cluster.prepare()
            await _until(lambda: self.cluster.check_formatted(formatters))
            for node in self.cluster.nodes:
                self.cluster.spawn(node)
            await _until(self.cluster.is_ready)
        except BaseException:
            self.cluster.close(kill=True)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Ending is no spawning: another thread may do it.
        await asyncio.shield(asyncio.to_thread(self.cluster.close))

    def kill(self, node: int = 0) -> None:
        """SIGKILL, at once."""
        self.cluster.kill(node)

    def pause(self, node: int = 0) -> None:
        """SIGSTOP: frozen, with its connections open."""
        self.cluster.pause(node)

    def resume(self, node: int = 0) -> None:
        """SIGCONT."""
        self.cluster.resume(node)

    async def stop(self, node: int = 0) -> None:
        """Stops a broker in good order."""
        await asyncio.to_thread(self.cluster.stop, node)

    async def restart(self, node: int = 0) -> None:
        """Starts a broker again that was killed or stopped; returns when it serves clients."""
        self.cluster.spawn(node)
        await _until(lambda: self.cluster.is_ready(node))


async def _until(condition: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not condition():  # noqa: ASYNC110 - a process and its log announce nothing
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        raise LocalKafkaError("the local Kafka was not ready in time") from error


async def serve(
    port: int,
    data_dir: Path | None,
    *,
    on_ready: Callable[[str], None],
    progress: Progress | None = None,
) -> None:
    """Runs one broker until cancelled; ``on_ready`` is given its address. Prints nothing.

    Raises LocalKafkaError if it cannot start, or ends by itself.
    """
    async with LocalKafka(port=port, data_dir=data_dir, progress=progress) as kafka:
        on_ready(kafka.bootstrap_servers)
        while kafka.cluster.is_ready():  # noqa: ASYNC110 - raises when the broker has ended
            await asyncio.sleep(WATCH_S)
