"""Certificates for tests: an authority of its own, a server on loopback and a client."""

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

    def client_context(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        """What a client trusts, and with what it shows itself."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if with_certificate:
            context.load_cert_chain(self.client_store)
        return context


def make_certificates(directory: Path) -> Certificates:
    """An authority, a certificate for ``127.0.0.1`` and one for a client whose name is ``tester``."""
    ca = trustme.CA()
    made = Certificates(directory / "ca.pem", directory / "server.pem", directory / "client.pem")
    ca.cert_pem.write_to_path(made.ca)
    _write(ca.issue_cert("127.0.0.1", "localhost"), made.server_store)
    _write(ca.issue_cert("tester@example.org", common_name="tester"), made.client_store)
    return made


def _write(certificate: trustme.LeafCert, file: Path) -> None:
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(pem + b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
