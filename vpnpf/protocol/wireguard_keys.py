"""Key pairs of WireGuard (X25519, RFC 7748 section 6.1), as `wg genkey` and `wg pubkey` write them.

`cryptography` is loaded at the first use: it costs more than most runs need.
"""

from __future__ import annotations

import base64

from msgspec import Struct

LENGTH = 32
"""Bytes of a key."""


class KeyPair(Struct, frozen=True):
    """Both in base64; not shown by `repr`."""

    private: str
    public: str

    def __repr__(self) -> str:
        return "KeyPair(...)"


def key_pair(random: bytes) -> KeyPair:
    """The pair that is made from 32 bytes that nobody can guess. Raises ValueError for another length."""
    if len(random) != LENGTH:
        raise ValueError(f"a key is made from {LENGTH} bytes")
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: PLC0415 - see above

    # As wg(8) does (RFC 7748 section 5): the kernel would clear these bits too, and then show another key.
    clamped = bytes([random[0] & 248, *random[1:-1], (random[-1] & 127) | 64])
    public = X25519PrivateKey.from_private_bytes(clamped).public_key().public_bytes_raw()
    return KeyPair(base64.b64encode(clamped).decode(), base64.b64encode(public).decode())
