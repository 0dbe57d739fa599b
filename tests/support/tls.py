"""Certificates for tests: an authority of its own, a server on loopback and a client."""

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True)
class Certificates:
    """PEM files. The stores are certificate chain and key (PKCS#8) in one file, as Kafka takes them."""

    ca: Path
    server_store: Path
    client_store: Path
    client_cert: Path
    client_key: Path

    def client_context(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        """What a client trusts, and with what it shows itself."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if with_certificate:
            context.load_cert_chain(self.client_store)
        return context


def make_certificates(directory: Path) -> Certificates:
    """An authority, a certificate for ``127.0.0.1`` and one for a client whose name is ``tester``."""
    ca = trustme.CA()
    made = Certificates(
        *(directory / f"{name}.pem" for name in ("ca", "server", "client", "client-cert", "client-key")),
    )
    ca.cert_pem.write_to_path(made.ca)
    _write(ca.issue_cert("127.0.0.1", "localhost"), made.server_store)
    tester = ca.issue_cert("tester@example.org", common_name="tester")
    _write(tester, made.client_store)
    made.client_cert.write_bytes(b"".join(blob.bytes() for blob in tester.cert_chain_pems))
    tester.private_key_pem.write_to_path(made.client_key)
    return made


@dataclass(frozen=True)
class Impostors:
    """Servers and a client that something is wrong with. ``ca`` signed them, but what ``stranger`` names."""

    ca: Path
    expired: ssl.SSLContext
    not_yet: ssl.SSLContext
    other_name: ssl.SSLContext
    stranger: ssl.SSLContext
    stranger_cert: Path
    stranger_key: Path


def make_impostors(directory: Path) -> Impostors:
    """Certificates that no client should accept."""
    ca, other = trustme.CA(), trustme.CA()
    long_ago, soon = datetime.datetime(2020, 1, 1), datetime.datetime(2090, 1, 1)
    client = other.issue_cert("stranger@example.org", common_name="stranger")
    made = Impostors(
        directory / "impostors-ca.pem",
        _serving(ca.issue_cert("127.0.0.1", not_before=long_ago, not_after=long_ago + datetime.timedelta(days=9))),
        _serving(ca.issue_cert("127.0.0.1", not_before=soon, not_after=soon + datetime.timedelta(days=9))),
        _serving(ca.issue_cert("kafka.example.org")),
        _serving(other.issue_cert("127.0.0.1")),
        directory / "stranger-cert.pem",
        directory / "stranger-key.pem",
    )
    ca.cert_pem.write_to_path(made.ca)
    made.stranger_cert.write_bytes(b"".join(blob.bytes() for blob in client.cert_chain_pems))
    client.private_key_pem.write_to_path(made.stranger_key)
    return made


def _serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def _write(certificate: trustme.LeafCert, file: Path) -> None:
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(pem + b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
