"""Security of the configuration as arguments of Kafka's client."""

import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from service.config import Kafka, Security
from service.config.secrets import Secret
from service.errors import StartError
from service.kafka.connection import connection_arguments
from service.kafka.tokens import ClientCredentials
from tests.support.tls import Certificates, make_certificates, make_impostors


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def arguments(**security: Any) -> dict[str, Any]:
    return connection_arguments(Kafka(bootstrap_servers=("k:9092",), security=Security(**security)))


def test_nothing_is_said_of_security_in_plain_text() -> None:
    """No context, no mechanism, no tokens."""
    told = arguments()
    assert told["security_protocol"] == "PLAINTEXT"
    assert not {"ssl_context", "sasl_mechanism", "sasl_oauth_token_provider"} & set(told)


def test_brokers_are_always_checked(certificates: Certificates) -> None:
    """Their certificate and the name in it, against the given authority alone, or the system's."""
    for given in ({"ca_file": certificates.ca}, {}):
        context = arguments(protocol="SSL", **given)["ssl_context"]
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
    assert len(arguments(protocol="SSL", ca_file=certificates.ca)["ssl_context"].get_ca_certs()) == 1


def test_passwords_are_read_from_where_they_are_kept(tmp_path: Path) -> None:
    """User name and password; no token provider beside them."""
    (tmp_path / "password").write_text("pw\n")
    told = arguments(
        protocol="SASL_PLAINTEXT",
        mechanism="PLAIN",
        username=Secret(text="ada"),
        password=Secret(file=tmp_path / "password"),
    )
    assert (told["sasl_plain_username"], told["sasl_plain_password"]) == ("ada", "pw")
    assert "sasl_oauth_token_provider" not in told


@pytest.mark.parametrize("url", ["https://idp.example.org/token", "http://127.0.0.1:1/token"])
def test_tokens_are_asked_for_only_when_needed(url: str) -> None:
    """The secret is not read yet: its file may come later, and change."""
    told = arguments(
        protocol="SASL_SSL",
        mechanism="OAUTHBEARER",
        token_url=url,
        client_id=Secret(text="ada"),
        client_secret=Secret(env="FANLINE_TEST_IS_NOT_SET"),
    )
    assert isinstance(told["sasl_oauth_token_provider"], ClientCredentials)


def test_a_certificate_and_another_ones_key_are_refused(certificates: Certificates, tmp_path: Path) -> None:
    """Both files are named."""
    other = make_impostors(tmp_path)
    with pytest.raises(StartError) as caught:
        arguments(protocol="SSL", cert_file=certificates.client_cert, key_file=other.stranger_key)
    told = str(caught.value)
    assert f"cert_file {certificates.client_cert} and key_file {other.stranger_key} cannot be used" in told
    assert "key values mismatch" in told


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(certificates: Certificates, tmp_path: Path) -> None:
    """OpenSSL would ask the terminal, and the service would wait there for ever."""
    key = load_pem_private_key(certificates.client_key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw")))
    with pytest.raises(StartError, match="the key has a password"):
        arguments(protocol="SSL", cert_file=certificates.client_cert, key_file=locked)


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    """Its content is not repeated."""
    file = tmp_path / "ca.pem"
    file.write_text("this is not a certificate")
    with pytest.raises(StartError) as caught:
        arguments(protocol="SSL", ca_file=file)
    assert f"kafka.security.ca_file {file} cannot be used" in str(caught.value)
    assert "this is not" not in str(caught.value)
