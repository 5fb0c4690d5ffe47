"""Keys and certificates of one run: the provider's own authority for its servers, another for the sites on the web.

pki = Authority("Mock PIA")
context = pki.context("amsterdam401")     # for a server that answers as that
pki.pem                                   # what a client has to trust
key = SigningKey()                        # the list's
key.sign(b"..."), key.public_pem

Elliptic curves, since nothing here depends on the kind of key and RSA takes a tenth of a second each; but the list's
signature is RSA by its format.
"""

from __future__ import annotations

import datetime as dt
import ssl
import tempfile
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = dt.timedelta(days=1)
_NO_USE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


class Authority:
    """A certificate authority and what it signed."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        uses = x509.KeyUsage(**{**_NO_USE, "key_cert_sign": True, "crl_sign": True})
        self._certificate = (
            _dated(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(uses, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self._made: dict[tuple[str, ...], tuple[str, str]] = {}

    @property
    def pem(self) -> str:
        """Its own certificate."""
        return _text(self._certificate)

    def certificate(self, *names: str) -> tuple[str, str]:
        """Certificate and key of a server with these names, in PEM; the same ones each time."""
        if names not in self._made:
            key = ec.generate_private_key(ec.SECP256R1())
            uses = x509.KeyUsage(**{**_NO_USE, "digital_signature": True})
            server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
            made = (
                _dated(_name(names[0]), self._name, key.public_key())
                .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(uses, critical=True)
                .add_extension(server, critical=False)
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
                )
                .sign(self._key, hashes.SHA256())
            )
            self._made[names] = _text(made), _private(key)
        return self._made[names]

    def context(self, *names: str) -> ssl.SSLContext:
        """For a server that answers as these."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write("".join(self.certificate(*names)))
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def write(self, path: Path) -> Path:
        """Write its certificate, and return the path."""
        path.write_text(self.pem)
        return path


class SigningKey:
    """RSA, PKCS#1 version 1.5 with SHA-256: what the server list is signed with."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def public_pem(self) -> str:
        """What a client checks signatures with."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    def sign(self, data: bytes) -> bytes:
        """The signature of these bytes."""
        return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())


@cache
def servers_authority() -> Authority:
    """The provider's own, made once for a process."""
    return Authority("Mock Private Internet Access")


@cache
def web_authority() -> Authority:
    """The one that the machine trusts, as those of the web."""
    return Authority("Mock Web")


@cache
def list_key() -> SigningKey:
    """The list's, made once for a process: an RSA key takes its time."""
    return SigningKey()


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _dated(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    dated = builder.not_valid_before(now - _DAY).not_valid_after(now + 30 * _DAY)
    return dated.serial_number(x509.random_serial_number())


def _text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode()
