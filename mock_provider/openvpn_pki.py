"""Certificates for an OpenVPN server of a run: a certificate authority, a server that it signed, a key for --tls-crypt.

Made by `openssl` in about 40 ms, once for a process: they protect nothing but a laboratory.
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
_SERVER = "keyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n"
_STATIC_KEY_BYTES = 256


@dataclass(frozen=True, slots=True)
class Pki:
    """Texts in PEM, as they stand in files."""

    ca: str
    certificate: str
    key: str = field(repr=False)
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
        run("req", *_CURVE[:-2], "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=node.vpn.test")
        (directory / "server.ext").write_text(_SERVER)
        signed = ("-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30")
        run("x509", "-req", *signed, "-extfile", "server.ext", "-out", "server.crt")
        ca, certificate, key = ((directory / each).read_text() for each in ("ca.crt", "server.crt", "server.key"))
    return Pki(ca, certificate, key, _static_key())


def _static_key() -> str:
    """As `openvpn --genkey` writes it."""
    lines = textwrap.wrap(secrets.token_hex(_STATIC_KEY_BYTES), 32)
    begin, end = (f"-----{word} OpenVPN Static key V1-----" for word in ("BEGIN", "END"))
    return "\n".join(["#", "# 2048 bit OpenVPN static key", "#", begin, *lines, end]) + "\n"
