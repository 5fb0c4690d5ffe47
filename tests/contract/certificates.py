"""Throw-away authorities and certificates for servers on loopback."""

from __future__ import annotations

import datetime as dt
import functools
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PEM, _KEY = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


class Authority:
    """A certificate authority."""

    def __init__(self, name: str, *, old: bool = False) -> None:
        """`old`: as was usual in 2014, with a basicConstraints that is not critical."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        made = _certificate(self._name, self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None if old else 0), critical=not old
        )
        self.certificate = made.sign(self._key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(_PEM).decode()
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}

    @classmethod
    @functools.cache
    def made(cls, name: str) -> Authority:
        """The authority of this name, the same one each time."""
        return cls(name)

    def context(self, *names: str) -> ssl.SSLContext:
        """For a server with a certificate for these host names."""
        if names not in self._contexts:
            key = ec.generate_private_key(ec.SECP256R1())
            made = _certificate(_named(names[0]), self._name, key).add_extension(
                x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False
            )
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            with tempfile.TemporaryDirectory() as directory:
                both = Path(directory) / "both.pem"
                both.write_bytes(
                    made.sign(self._key, hashes.SHA256()).public_bytes(_PEM)
                    + key.private_bytes(_PEM, _KEY, serialization.NoEncryption())
                )
                context.load_cert_chain(both)
            self._contexts[names] = context
        return self._contexts[names]


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
    )
