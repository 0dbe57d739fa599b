"""How to reach Kafka: the configuration's ``kafka`` section as arguments of aiokafka's client, consumer and admin."""

import ssl
from typing import Any

from aiokafka.client import AIOKafkaClient

from service.config import Kafka, Security
from service.errors import StartError
from service.kafka.tokens import ClientCredentials

# The client's own default of 40 s would hide a frozen broker.
REQUEST_TIMEOUT_MS = 10_000
METADATA_MAX_AGE_MS = 60_000


def connection_arguments(kafka: Kafka) -> dict[str, Any]:
    """Arguments that client, consumer and admin have in common; those who share them share the tokens too.

    Certificates and passwords are read now, once. Raises StartError, SecretError.
    """
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
        if security.token_url is not None and security.client_id is not None and security.client_secret is not None:
            tls = _trusting(security, others=True) if security.token_url.startswith("https:") else None
            tokens = ClientCredentials(security.token_url, security.client_id, security.client_secret, tls=tls)
            arguments["sasl_oauth_token_provider"] = tokens
    return arguments


def client_for(arguments: dict[str, Any]) -> AIOKafkaClient:
    """A client that is not yet connected."""
    return AIOKafkaClient(**arguments)


def _tls(security: Security) -> ssl.SSLContext:
    """How brokers are trusted, and with what we show ourselves. Raises StartError."""
    context = _trusting(security, others=False)
    if security.cert_file is None:
        return context
    try:
        # Without the callback OpenSSL would ask the terminal for a key's password.
        context.load_cert_chain(str(security.cert_file), str(security.key_file), password=_no_password)
    except (OSError, ValueError) as error:
        raise StartError(
            f"kafka.security.cert_file {security.cert_file} and key_file {security.key_file} cannot be used "
            f"({_reason(error)}): PEM files of a certificate (its chain behind it) and its key, without a password"
        ) from error
    return context


def _trusting(security: Security, *, others: bool) -> ssl.SSLContext:
    """A context that trusts ``ca_file``, with ``others`` beside the system's authorities; without a file those."""
    file = security.ca_file
    try:
        context = ssl.create_default_context(cafile=str(file) if file and not others else None)
        if file and others:
            context.load_verify_locations(str(file))
    except OSError as error:
        raise StartError(
            f"kafka.security.ca_file {file} cannot be used ({_reason(error)}): a PEM file of certificates is needed"
        ) from error
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")


def _reason(error: OSError | ValueError) -> str:
    """What OpenSSL or the system says; never a file's content."""
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "no PEM file").lower().replace("_", " ")
    return str(error) if isinstance(error, ValueError) else error.strerror or type(error).__name__
