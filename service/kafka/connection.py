"""How to reach Kafka: the configuration's ``kafka`` section as arguments of aiokafka's client, consumer and admin."""

import ssl
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.client import AIOKafkaClient

from service.config import Kafka, Security
from service.errors import StartError

# The client's own default of 40 s would hide a frozen broker.
REQUEST_TIMEOUT_MS = 10_000
METADATA_MAX_AGE_MS = 60_000


def connection_arguments(kafka: Kafka, token_provider: AbstractTokenProvider | None = None) -> dict[str, Any]:
    """Arguments that client, consumer and admin have in common. Raises StartError, SecretError."""
    security = kafka.security
    arguments: dict[str, Any] = {
        "bootstrap_servers": list(kafka.bootstrap_servers),
        "client_id": kafka.client_id,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
        "security_protocol": security.protocol,
    }
    if "SSL" in security.protocol:
        arguments["ssl_context"] = _tls(security)
    if security.protocol.startswith("SASL"):
        arguments["sasl_mechanism"] = security.mechanism
        if security.username is not None and security.password is not None:
            arguments["sasl_plain_username"] = security.username.read()
            arguments["sasl_plain_password"] = security.password.read()
        arguments["sasl_oauth_token_provider"] = token_provider
    return arguments


def client_for(arguments: dict[str, Any]) -> AIOKafkaClient:
    """A client that is not yet connected."""
    return AIOKafkaClient(**arguments)


def _tls(security: Security) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(security.ca_file) if security.ca_file else None)
        if security.cert_file:
            key = str(security.key_file) if security.key_file else None
            context.load_cert_chain(str(security.cert_file), key)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"kafka.security: the certificate files cannot be used: {error}") from error
    return context
