"""Loopback ports that are free."""

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from service.localkafka.errors import LocalKafkaError


@dataclass(frozen=True, kw_only=True)
class NodePorts:
    """The loopback ports of one broker: for clients, for the other brokers, for the controllers."""

    client: int
    internal: int
    controller: int


def free_ports(wanted: Sequence[int], *, required: int) -> list[NodePorts]:
    """Three ports for each broker, all free now; a client port is the wanted one if that is free.

    Raises LocalKafkaError if ``required`` (0: none) is taken.
    """
    with ExitStack() as held:

        def bind(port: int) -> int:
            listener = held.enter_context(socket.socket())
            # As the broker itself binds: connections of a predecessor that linger do not hold the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            number: int = listener.getsockname()[1]
            return number

        def client(port: int) -> int:
            try:
                return bind(port)
            except OSError as error:
                if port == required:
                    raise LocalKafkaError(f"port {port} of 127.0.0.1 is taken: {error.strerror}") from error
                return bind(0)

        return [NodePorts(client=client(port), internal=bind(0), controller=bind(0)) for port in wanted]
