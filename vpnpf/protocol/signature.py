"""RSA signatures: PKCS#1 v1.5 with SHA-256 (RFC 8017 section 8.2).

`cryptography` is loaded at the first use: it costs more than most runs need.
"""

from __future__ import annotations


def verified(data: bytes, signature: bytes, public_key: str) -> bool:
    """Whether whoever has the private key signed exactly these bytes. Raises ValueError: `public_key` is no RSA key in PEM."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    try:
        key = load_pem_public_key(public_key.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a public key in PEM") from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("not an RSA key")  # noqa: TRY004 - it is the value of a text
    try:
        key.verify(signature, data, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True
