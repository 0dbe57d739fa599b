"""What keeps us from a broker: each error once, in the words that an operator reads."""

import asyncio
import socket
import ssl

import pytest
from aiokafka import errors

from service.kafka.obstacles import obstacle, speaks_plain_text, wants_a_name
from service.kafka.tokens import TokenError


def certificate(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, message
    return error


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError()
    error.reason = reason
    return error


def answered(begin: bytes) -> asyncio.IncompleteReadError:
    """The end of a connection in the middle of an answer, whose length was read from its first four bytes."""
    return asyncio.IncompleteReadError(b"", int.from_bytes(begin, "big"))


def closed(cause: BaseException | None = None) -> errors.KafkaConnectionError:
    """As aiokafka tells of a connection that ended."""
    error = errors.KafkaConnectionError("Connection at 127.0.0.1:1 closed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (certificate(10, "certificate has expired"), "renewed on the broker (does this machine's clock go right?)"),
        (
            certificate(9, "certificate is not yet valid"),
            "its certificate is not valid yet; does this machine's clock go right?",
        ),
        (certificate(62, "Hostname mismatch."), "made for another name; name the broker in kafka.bootstrap_servers"),
        (certificate(64, "IP address mismatch."), "as its certificate does (IP address mismatch)"),
        (certificate(18, "self-signed certificate"), "an authority that we do not know; kafka.security.ca_file"),
        (certificate(19, "self-signed certificate in certificate chain"), "an authority that we do not know"),
        (certificate(20, "unable to get local issuer certificate"), "an authority that we do not know"),
        (certificate(99, "something new"), "(something new)"),
        (closed(alert("TLSV13_ALERT_CERTIFICATE_REQUIRED")), "wants a certificate of ours"),
        (closed(alert("SSLV3_ALERT_CERTIFICATE_UNKNOWN")), "does not accept our certificate"),
        (closed(alert("SSLV3_ALERT_CERTIFICATE_EXPIRED")), "does not accept our certificate"),
        (
            closed(alert("TLSV1_ALERT_UNKNOWN_CA")),
            "kafka.security.cert_file expired, does the broker's trust store hold the authority that signed it?",
        ),
        (alert("SSLV3_ALERT_HANDSHAKE_FAILURE"), "ended the TLS handshake"),
        (alert("WRONG_VERSION_NUMBER"), "does not speak TLS, and kafka.security.protocol is SASL_PLAINTEXT"),
        (alert("RECORD_LAYER_FAILURE"), "does not speak TLS"),
        (alert("HTTP_REQUEST"), "does not speak TLS"),
        (alert(""), "no TLS connection (no reason given); does that port speak SASL_PLAINTEXT?"),
        (alert("UNSUPPORTED_PROTOCOL"), "no TLS connection (unsupported protocol)"),
        (
            closed(answered(b"\x15\x03\x03\x00")),
            "that port speaks TLS, and kafka.security.protocol is SASL_PLAINTEXT: use SASL_SSL",
        ),
        (closed(answered(b"HTTP")), "a web server answers there, no Kafka broker; see kafka.bootstrap_servers"),
        (closed(answered(b"\x00\x00\x00\x04")), "the broker closed the connection"),
        (closed(), "the broker closed the connection"),
        (ConnectionResetError(), "the broker closed the connection"),
        (ConnectionRefusedError(), "connection refused; is the broker running, is kafka.bootstrap_servers right?"),
        (TimeoutError(), "no answer within 5 s"),
        (socket.gaierror(-2, "Name or service not known"), "its name is not known here (Name or service not known)"),
        (OSError(113, "No route to host"), "No route to host; see kafka.bootstrap_servers"),
        (errors.SaslAuthenticationFailed(), "refuse user name or password; see kafka.security.username and password"),
        (errors.UnsupportedSaslMechanismError(), "do not offer kafka.security.mechanism PLAIN"),
        (
            errors.IllegalSaslStateError(),
            "kafka.security.protocol is SASL_PLAINTEXT: use another port, or PLAINTEXT",
        ),
        (OSError(), "OSError; see kafka.bootstrap_servers"),
        (MemoryError(), "MemoryError: is that a Kafka broker?"),
        (TokenError("no token from idp: why"), "no token from idp: why"),
        (
            ValueError("Server sent wrong signature!"),
            "did not prove that it knows our user; is that the right cluster?",
        ),
    ],
)
def test_each_error_has_its_words(error: BaseException, told: str) -> None:
    """What went wrong, and what to look at."""
    said = obstacle(error, "SASL_PLAINTEXT", "PLAIN", 5.0)
    assert told in said
    assert "None" not in said


def test_an_error_that_came_from_itself_is_looked_at_once() -> None:
    """Causes may go round in a circle."""
    first, second = closed(), RuntimeError("again")
    first.__cause__, second.__cause__ = second, first
    assert obstacle(first, "SSL", None, 5.0).startswith("the broker closed the connection; is")
    assert obstacle(second, "SSL", None, 5.0).startswith("RuntimeError")


def test_a_refused_token_is_no_wrong_password() -> None:
    """With OAUTHBEARER it is the token server that must be looked at."""
    said = obstacle(errors.SaslAuthenticationFailed(), "SASL_SSL", "OAUTHBEARER", 5.0)
    assert said.startswith("the brokers refuse our token; do they trust")
    assert "kafka.security.token_url" in said
    assert "client_id" in said


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_PLAINTEXT"])
def test_a_listener_that_wants_a_user(protocol: str) -> None:
    """What has to be set is named, with the protocol that the port speaks."""
    said = wants_a_name(protocol)
    assert f"kafka.security.protocol is {protocol}: use SASL_PLAINTEXT, with mechanism, username and password" in said


@pytest.mark.parametrize(("protocol", "plain"), [("SSL", "PLAINTEXT"), ("SASL_SSL", "SASL_PLAINTEXT")])
def test_the_protocol_to_use_is_named(protocol: str, plain: str) -> None:
    """Of a port that answers in plain text."""
    assert speaks_plain_text(protocol).endswith(f"or {plain}")
