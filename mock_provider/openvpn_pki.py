"""Certificates for an OpenVPN server of a run: a certificate authority, a server and a customer that it signed, a key for --tls-crypt.

Made by `openssl` in about 60 ms, once for a process: they protect nothing but a laboratory.
"""

from __future__ import annotations

import secrets
import subprocess
import tempfile
import textwrap
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from vpnpf.io import process

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30")
_USES = {
    "server": "keyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n",
    "customer": "keyUsage=digitalSignature\n",
}
"""OpenSSL itself refuses a server with a certificate that says it is for clients; many customers' say nothing."""
_STATIC_KEY_BYTES = 256


@dataclass(frozen=True, slots=True)
class Pki:
    """Texts in PEM, as they stand in files."""

    ca: str
    certificate: str
    key: str = field(repr=False)
    customer: str
    """A customer's certificate of the same authority."""
    customer_key: str = field(repr=False)
    tls_crypt: str = field(repr=False)


@cache
def pki(name: str = "mock") -> Pki:
    """A certificate authority of this name, the same one each time. Raises Unavailable if there is no openssl."""
    openssl = process.find("openssl")
    with tempfile.TemporaryDirectory(prefix="mock-pki-") as made:
        directory = Path(made)

        def run(*argv: str) -> None:
            subprocess.run([openssl, *argv], cwd=directory, env=process.ENVIRONMENT, capture_output=True, check=True)

        run("req", "-x509", *_CURVE, "-keyout", "ca.key", "-out", "ca.crt", "-subj", f"/CN={name} CA")
        for who, use in _USES.items():
            request = ("-keyout", f"{who}.key", "-out", f"{who}.csr", "-subj", f"/CN={who}.vpn.test")
            run("req", *_CURVE[:-2], *request)
            (directory / "extensions").write_text(use)
            signed = ("-in", f"{who}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30")
            run("x509", "-req", *signed, "-extfile", "extensions", "-out", f"{who}.crt")

        def text(name: str) -> str:
            return (directory / name).read_text()

        return Pki(
            ca=text("ca.crt"),
            certificate=text("server.crt"),
            key=text("server.key"),
            customer=text("customer.crt"),
            customer_key=text("customer.key"),
            tls_crypt=_static_key(),
        )


def _static_key() -> str:
    """As `openvpn --genkey` writes it."""
    lines = textwrap.wrap(secrets.token_hex(_STATIC_KEY_BYTES), 32)
    begin, end = (f"-----{word} OpenVPN Static key V1-----" for word in ("BEGIN", "END"))
    return "\n".join(["#", "# 2048 bit OpenVPN static key", "#", begin, *lines, end]) + "\n"
