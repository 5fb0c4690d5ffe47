"""Certificates and keys in the blocks of an OpenVPN file: decoded and written anew.

Text around them, such as `openssl x509 -text` prints, is left out, as OpenSSL and OpenVPN skip it.
"""

from __future__ import annotations

import base64
import re
from textwrap import wrap

from msgspec import Struct

SECRET = frozenset({"key", "tls-auth", "tls-crypt", "tls-crypt-v2"})
"""Names of blocks that nobody may see."""
_STATIC_KEY = 256
"""Bytes of OpenVPN's static key."""
_STATIC = "OpenVPN Static key V1"
_BEGIN = re.compile(r"-----BEGIN ([A-Za-z0-9 -]+)-----")
_DER_SEQUENCE = 0x30


class _Kind(Struct, frozen=True):
    labels: tuple[str, ...]
    several: bool = False
    skipped: tuple[str, ...] = ()


_CERTIFICATES = _Kind(("CERTIFICATE", "X509 CERTIFICATE"), several=True)
_KINDS = {
    "ca": _CERTIFICATES,
    "extra-certs": _CERTIFICATES,
    "cert": _CERTIFICATES,
    "key": _Kind(("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"), skipped=("EC PARAMETERS",)),
    "crl-verify": _Kind(("X509 CRL",), several=True),
    "tls-auth": _Kind((_STATIC,)),
    "tls-crypt": _Kind((_STATIC,)),
    "tls-crypt-v2": _Kind(("OpenVPN tls-crypt-v2 client key",)),
}
NAMES = tuple(_KINDS)
"""In the order in which they are written."""


class Unusable(ValueError):
    """What a block holds is of no use; says why, with a hint, and never what."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


def read(name: str, lines: tuple[str, ...]) -> str:
    """The text of a block, written anew. Raises Unusable."""
    kind = _KINDS[name]
    found = [(label, body) for label, body in _parts(name, lines) if label not in kind.skipped]
    if not found:
        raise Unusable(f"<{name}> holds no {kind.labels[0]}", "download the file anew from your provider")
    for label, _ in found:
        if label == "ENCRYPTED PRIVATE KEY":
            raise _encrypted()
        if label not in kind.labels:
            raise Unusable(f"<{name}> holds something else than a {kind.labels[0]}", "keep only that in it")
    if len(found) > 1 and not kind.several:
        raise Unusable(f"<{name}> holds more than one", "keep one of them")
    return "".join(_written(name, label, body) for label, body in found)


def _parts(name: str, lines: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    """(label, body lines) of each -----BEGIN ... -----END."""
    found: list[tuple[str, list[str]]] = []
    inside: str | None = None
    for raw in lines:
        line = raw.strip()
        begun = _BEGIN.fullmatch(line)
        if begun:
            if inside is not None:
                break
            inside = begun[1]
            found.append((begun[1], []))
        elif inside is not None and line == f"-----END {inside}-----":
            inside = None
        elif inside is not None and line:
            found[-1][1].append(line)
    if inside is not None:
        raise Unusable(f"<{name}> holds one that does not end", "download the file anew from your provider")
    return found


def _written(name: str, label: str, body: list[str]) -> str:
    if any(line.startswith("Proc-Type:") for line in body):
        raise _encrypted()
    if label == _STATIC:
        raw, rows = _static(name, "".join(body)), 32
        text = raw.hex()
    else:
        raw, rows = _decoded(name, "".join(body)), 64
        text = base64.b64encode(raw).decode()
    return "\n".join([f"-----BEGIN {label}-----", *wrap(text, rows), f"-----END {label}-----"]) + "\n"


def _static(name: str, text: str) -> bytes:
    if not re.fullmatch(r"[0-9a-fA-F]+", text) or len(text) != 2 * _STATIC_KEY:
        raise Unusable(f"<{name}> holds no key of {_STATIC_KEY} bytes", "download the file anew from your provider")
    return bytes.fromhex(text)


def _decoded(name: str, text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if not raw or base64.b64encode(raw).decode() != text or (name != "tls-crypt-v2" and raw[0] != _DER_SEQUENCE):
        raise Unusable(f"<{name}> is damaged", "download the file anew from your provider")
    return raw


def _encrypted() -> Unusable:
    hint = "take its password off: openssl pkey -in KEY -out NEW, and put NEW inline"
    return Unusable("<key> has a password, which nobody could type", hint)
