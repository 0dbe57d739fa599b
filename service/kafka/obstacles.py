"""What keeps us from a broker, by its name: pure, from the error of a single connection to words for an operator.

aiokafka's client tells only that it could not bootstrap. The errors behind that are few and plain, and were each seen
once at a real listener: a TLS alert read as the length of an answer, a listener that hangs up on whoever does not
authenticate.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterator

from aiokafka import errors

from service.kafka.tokens import TokenError

# OpenSSL's X509_V_ERR_*.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = frozenset({62, 64})
_UNKNOWN_AUTHORITY = frozenset({18, 19, 20, 21})
# The first bytes of what is no answer of Kafka's, where an answer has its length.
_TLS_ALERT, _HTTP = b"\x15\x03", b"HTTP"
_OURS = "kafka.security.cert_file"
_CA = "kafka.security.ca_file must hold the authority that signed it"


def obstacle(error: BaseException, protocol: str, mechanism: str | None, within_s: float) -> str:
    """What went wrong and what to do. ``error`` is that of one connection, of which ``protocol`` and ``mechanism``
    were asked and which was given up after ``within_s``."""
    for each in _causes(error):
        if (told := _named(each, protocol, mechanism, within_s)) is not None:
            return told
    if isinstance(error, errors.KafkaError | ConnectionError | EOFError):
        return f"the broker closed the connection; is kafka.security.protocol {protocol} what that port speaks?"
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__}; see kafka.bootstrap_servers"
    return f"{type(error).__name__}: is that a Kafka broker?"


def speaks_plain_text(protocol: str) -> str:
    """Of a port that was spoken to in TLS, and answers in plain text."""
    plain = protocol.replace("SSL", "PLAINTEXT")
    return f"that port speaks plain text, and kafka.security.protocol is {protocol}: use its TLS port, or {plain}"


def wants_a_name(protocol: str) -> str:
    """Of a listener that hangs up at the first request of whoever has not authenticated."""
    return (
        f"the listener wants a user, and kafka.security.protocol is {protocol}: use SASL_{_channel(protocol)}, with "
        "mechanism, username and password"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from: aiokafka keeps the read's error behind its own."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__


def _named(error: BaseException, protocol: str, mechanism: str | None, within_s: float) -> str | None:
    """What is known by this error alone; None if its cause may tell more."""
    match error:
        case TokenError():
            return str(error)
        case ssl.SSLCertVerificationError():
            return _certificate(error)
        case ssl.SSLError():
            return _tls(error, protocol)
        case errors.SaslAuthenticationFailed():
            return _refused(mechanism)
        case errors.UnsupportedSaslMechanismError():
            return f"the brokers do not offer kafka.security.mechanism {mechanism}"
        case errors.IllegalSaslStateError():
            other = protocol.removeprefix("SASL_")
            return (
                "the listener does not authenticate, and kafka.security.protocol is "
                f"{protocol}: use another port, or {other}"
            )
        case asyncio.IncompleteReadError(expected=int() as length):
            return _no_answer(length.to_bytes(8, "big")[4:], protocol)
        case TimeoutError():
            return f"no answer within {within_s:g} s; is the address right, does a firewall drop it?"
        case ConnectionRefusedError():
            return "connection refused; is the broker running, is kafka.bootstrap_servers right?"
        case socket.gaierror():
            return f"its name is not known here ({error.strerror}); see kafka.bootstrap_servers"
        case AssertionError() | ValueError() | KeyError():
            # What aiokafka makes of a signature that is not that of a server that knows the password.
            return "the broker did not prove that it knows our user; is that the right cluster?"
        case _:
            return None


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    """What is wrong with the broker's certificate."""
    match error.verify_code:
        case code if code == _EXPIRED:
            return (
                "its certificate has expired; it has to be renewed on the broker (does this machine's clock go right?)"
            )
        case code if code == _NOT_YET_VALID:
            return "its certificate is not valid yet; does this machine's clock go right?"
        case code if code in _OTHER_NAME:
            return (
                "its certificate is made for another name; name the broker in kafka.bootstrap_servers as its "
                f"certificate does ({error.verify_message.rstrip('.')})"
            )
        case code if code in _UNKNOWN_AUTHORITY:
            return f"its certificate is signed by an authority that we do not know; {_CA} ({error.verify_message})"
        case _:
            return f"its certificate is not accepted ({error.verify_message}); {_CA}"


def _tls(error: ssl.SSLError, protocol: str) -> str:
    """An alert of the broker's, or no TLS at all. Reasons are OpenSSL's and grow with its versions."""
    reason = error.reason or ""
    said = reason.lower().replace("_", " ") or "no reason given"
    if "CERTIFICATE_REQUIRED" in reason:
        return f"the broker wants a certificate of ours; set {_OURS} and key_file"
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return (
            f"the broker does not accept our certificate ({said}); has {_OURS} expired, does the broker's trust store "
            "hold the authority that signed it?"
        )
    if "ALERT_HANDSHAKE_FAILURE" in reason:
        return f"the broker ended the TLS handshake; does it want a certificate of ours ({_OURS})?"
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        return f"that port does not speak TLS, and kafka.security.protocol is {protocol}"
    return f"no TLS connection ({said}); does that port speak {protocol}?"


def _refused(mechanism: str | None) -> str:
    if mechanism == "OAUTHBEARER":
        return (
            "the brokers refuse our token; do they trust the keys, issuer and audience of kafka.security.token_url, "
            "and is client_id allowed in?"
        )
    return "the brokers refuse user name or password; see kafka.security.username and password"


def _no_answer(begin: bytes, protocol: str) -> str | None:
    if begin.startswith(_TLS_ALERT):
        secure = protocol.replace("PLAINTEXT", "SSL")
        return f"that port speaks TLS, and kafka.security.protocol is {protocol}: use {secure}"
    if begin == _HTTP:
        return "a web server answers there, no Kafka broker; see kafka.bootstrap_servers"
    return None


def _channel(protocol: str) -> str:
    return protocol.removeprefix("SASL_")
