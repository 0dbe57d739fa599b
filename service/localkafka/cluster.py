"""The brokers of a local Kafka as processes: the part that knows no event loop.

``LocalKafka`` drives it from asyncio, a synchronous test fixture by ``with Cluster(...)``.
"""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from service.localkafka import aot, jars
from service.localkafka.errors import LocalKafkaError
from service.localkafka.ports import NodePorts, free_ports
from service.localkafka.process import BrokerProcess, java_command
from service.localkafka.properties import Security, java_options, render, server_properties

# Two seconds on an idle machine; one with much other work needed more than sixty. A broker that ends is told at once.
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.02
CLUSTER_ID = "ZmFubGluZS1sb2NhbC1rZg"  # the same for all: every cluster is alone on its ports


@dataclass(frozen=True, kw_only=True)
class Options:
    """What may be chosen of a local Kafka.

    ``port`` is the first broker's port for clients (0: a free one); all others are free ones. ``data_dir``
    is kept, and started again from what it holds; without one the data lie in a temporary directory that is
    removed at the end. ``properties`` are added to every broker's configuration and override ours.
    """

    brokers: int = 1
    port: int = 0
    data_dir: Path | None = None
    security: Security = field(default_factory=Security)
    properties: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.brokers not in (1, 3):
            raise ValueError("a local Kafka has 1 or 3 brokers")


class Remembered(msgspec.Struct):
    """What a data directory keeps of its cluster, beside the brokers' own data."""

    client_ports: list[int]


class Cluster:
    """One or three brokers. For one thread; see :class:`BrokerProcess` about the one that starts them.

    ``fetch``, ``prepare``, then ``spawn`` and poll ``is_ready``; or ``start``, which does it all and waits; at
    the end ``close``.
    """

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()
        self._class_path: Sequence[Path] = ()
        self._java_options: Sequence[str] = ()
        self._temporary = self._options.data_dir is None
        self._dir = self._options.data_dir
        self._ports: list[NodePorts] = []
        self._brokers: dict[int, BrokerProcess] = {}

    @property
    def nodes(self) -> range:
        """The brokers' numbers, from 0 (Kafka's ``node.id`` is one more)."""
        return range(self._options.brokers)

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` of every broker, separated by commas."""
        return ",".join(f"127.0.0.1:{ports.client}" for ports in self._ports)

    @property
    def internal_servers(self) -> str:
        """As ``bootstrap_servers``, but in plain text, without a name and with all rights, whatever ``security`` is."""
        return ",".join(f"127.0.0.1:{ports.internal}" for ports in self._ports)

    @property
    def data_dir(self) -> Path:
        if self._dir is None:
            raise LocalKafkaError("the local Kafka has not been started")
        return self._dir

    def pid(self, node: int = 0) -> int:
        return self._brokers[node].pid

    def fetch(self, progress: jars.Progress | None = None) -> None:
        """Sees to the jars: verifies them, downloads what is missing, makes Java's cache of their classes.

        Blocks: 50 ms, the first time some 15 s. Any thread may do it.
        """
        self._class_path = jars.class_path(progress=progress)
        self._java_options = aot.options(self._class_path, self._one_life)

    def _one_life(self, java_options: Sequence[str]) -> None:
        trainee = Cluster()
        trainee._class_path = self._class_path
        deadline = time.monotonic() + START_TIMEOUT_S
        try:
            trainee._await_formatted(deadline)
            trainee._java_options = java_options
            trainee._await_ready(deadline)
        finally:
            # Java writes the cache at the end of its life.
            trainee.close(kill=False, timeout_s=START_TIMEOUT_S)

    def prepare(self) -> list[subprocess.Popen[bytes]]:
        """Chooses directory and ports, writes the configuration, and starts the formatting of new data.

        Gives the running formatters, whose ends ``check_formatted`` takes.
        """
        if self._dir is None:
            self._dir = Path(tempfile.mkdtemp(prefix="fanline-kafka-"))
        # Readable to nobody else: the configuration can hold passwords.
        self._dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        memory = self._dir / "cluster.json"
        wanted = [self._options.port] + [0] * (self._options.brokers - 1)
        if memory.exists():
            known = msgspec.json.decode(memory.read_bytes(), type=Remembered).client_ports
            if len(known) != self._options.brokers:
                raise LocalKafkaError(f"{self._dir} holds a Kafka of {len(known)} brokers: start as many")
            wanted = [port or before for port, before in zip(wanted, known, strict=True)]
        self._ports = free_ports(wanted, required=self._options.port)
        memory.write_bytes(msgspec.json.encode(Remembered([ports.client for ports in self._ports])))
        return [self._format(node) for node in self.nodes if self._configure(node)]

    def _node_dir(self, node: int) -> Path:
        return self.data_dir / f"broker-{node + 1}"

    def _configure(self, node: int) -> bool:
        """Writes the broker's configuration; says whether its data are still to be formatted."""
        directory = self._node_dir(node)
        directory.mkdir(exist_ok=True, mode=0o700)
        properties = server_properties(
            node=node,
            ports=self._ports,
            log_dir=directory / "data",
            security=self._options.security,
            extra=self._options.properties,
        )
        (directory / "server.properties").write_text(render(properties), "utf-8")
        return not (directory / "data" / "meta.properties").exists()

    def _format(self, node: int) -> subprocess.Popen[bytes]:
        directory = self._node_dir(node)
        arguments = ["format", "-t", CLUSTER_ID, "-c", str(directory / "server.properties")]
        for name, password in self._options.security.scram_users.items():
            for mechanism in self._options.security.scram_mechanisms:
                arguments += ["--add-scram", f"{mechanism}=[name={name},password={password}]"]
        with (directory / "format.log").open("wb") as log:
            return subprocess.Popen(
                self._java("kafka.tools.StorageTool", arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def check_formatted(self, formatters: Sequence[subprocess.Popen[bytes]]) -> bool:
        """Whether all have ended. Raises LocalKafkaError if one has failed."""
        codes = [formatter.poll() for formatter in formatters]
        if any(codes):  # neither running (None) nor well (0)
            logs = [path.read_text("utf-8", "replace") for path in self.data_dir.glob("*/format.log")]
            raise LocalKafkaError("the data directory could not be formatted:\n" + "\n".join(logs))
        return None not in codes

    def spawn(self, node: int = 0) -> None:
        """Starts a broker that is not running; it is ready when ``is_ready`` says so."""
        broker = self._brokers.get(node)
        if broker and broker.running:
            raise LocalKafkaError(f"broker {node} is running")
        directory = self._node_dir(node)
        command = self._java(
            "kafka.Kafka", [str(directory / "server.properties")], java_options(self._options.security)
        )
        self._brokers[node] = BrokerProcess(command, directory / "server.log")

    def _java(self, main: str, arguments: Sequence[str], options: Sequence[str] = ()) -> list[str]:
        return java_command(self._class_path, main, arguments, java_options=[*self._java_options, *options])

    def is_ready(self, node: int | None = None) -> bool:
        """Whether a broker (None: every one) serves clients. Raises LocalKafkaError if it has ended."""
        nodes = self.nodes if node is None else [node]
        return all(self._brokers[each].is_ready() for each in nodes)

    def is_running(self, node: int = 0) -> bool:
        return node in self._brokers and self._brokers[node].running

    def kill(self, node: int = 0) -> None:
        """SIGKILL: as if the machine had lost its power, but for what the kernel still writes."""
        self._brokers[node].signal(signal.SIGKILL)
        self._brokers[node].wait(STOP_TIMEOUT_S)

    def terminate(self, node: int = 0) -> None:
        """Asks a broker to stop in good order, and does not wait."""
        self._brokers[node].signal(signal.SIGTERM)
        self._brokers[node].signal(signal.SIGCONT)

    def pause(self, node: int = 0) -> None:
        """SIGSTOP: the broker is frozen when this returns; its connections stay open."""
        self._brokers[node].freeze()

    def resume(self, node: int = 0) -> None:
        """SIGCONT: the broker goes on where it was frozen."""
        self._brokers[node].signal(signal.SIGCONT)

    def stop(self, node: int = 0) -> None:
        """Stops a broker in good order and waits; after 15 s it is killed."""
        self.terminate(node)
        self._brokers[node].wait(STOP_TIMEOUT_S)

    def close(self, *, kill: bool | None = None, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Ends all brokers and removes temporary data.

        ``kill`` (default: with temporary data, which need no good order) ends them at once.
        """
        kill = self._temporary if kill is None else kill
        with ExitStack() as stack:
            stack.callback(self._remove)
            for broker in self._brokers.values():
                broker.signal(signal.SIGKILL if kill else signal.SIGTERM)
                broker.signal(signal.SIGCONT)
                stack.callback(broker.wait, timeout_s)

    def _remove(self) -> None:
        if self._temporary and self._dir is not None:
            shutil.rmtree(self._dir, ignore_errors=True)
            self._dir = None

    # The synchronous driver.

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Starts all brokers and waits until they serve clients. Raises LocalKafkaError."""
        self.fetch()
        deadline = time.monotonic() + timeout_s
        self._await_formatted(deadline)
        self._await_ready(deadline)

    def _await_formatted(self, deadline: float) -> None:
        formatters = self.prepare()
        while not self.check_formatted(formatters):
            _wait(deadline)

    def _await_ready(self, deadline: float) -> None:
        for node in self.nodes:
            self.spawn(node)
        while not self.is_ready():
            _wait(deadline)

    def restart(self, node: int = 0, timeout_s: float = START_TIMEOUT_S) -> None:
        """Starts a broker again that was killed or stopped, and waits until it serves clients."""
        deadline = time.monotonic() + timeout_s
        self.spawn(node)
        while not self.is_ready(node):
            _wait(deadline)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close(kill=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _wait(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise LocalKafkaError("the local Kafka was not ready in time")
    time.sleep(POLL_S)
