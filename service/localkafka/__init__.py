"""Apache Kafka on this machine, on Python packages alone: for ``fanline kafka``, the demo and the tests."""

from service.localkafka.broker import LocalKafka, serve
from service.localkafka.cluster import Cluster, Options
from service.localkafka.errors import LocalKafkaError
from service.localkafka.properties import Protocol, Security

__all__ = ["Cluster", "LocalKafka", "LocalKafkaError", "Options", "Protocol", "Security", "serve"]
