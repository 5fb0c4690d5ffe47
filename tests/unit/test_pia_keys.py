"""What PIA is known by, and the cryptography that providers get: against certificates, RFC vectors and other programs."""

from __future__ import annotations

import base64
import shutil
import subprocess
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from tests.contract.pia_world import list_key, sign
from vpnpf.api import key_pair, verified
from vpnpf_providers.pia_authority import AUTHORITY, LIST_KEY


def test_the_authority_is_the_one_that_pia_publishes():
    authority = load_pem_x509_certificate(AUTHORITY.encode())
    fingerprint = "1FD25658456EAB3041FBA77CCD398AB8124EDCC1B8B2FC1D55FDF6B1BBFC9D70"
    assert authority.fingerprint(SHA256()).hex().upper() == fingerprint
    assert authority.not_valid_before_utc == datetime(2014, 4, 17, 17, 40, 33, tzinfo=UTC)
    assert authority.not_valid_after_utc == datetime(2034, 4, 12, 17, 40, 33, tzinfo=UTC)
    assert authority.public_key().key_size == 4096
    authority.verify_directly_issued_by(authority)


def test_the_key_of_the_list_is_one():
    assert load_pem_public_key(LIST_KEY.encode()).key_size == 2048
    assert not verified(b"{}", bytes(256), LIST_KEY)


def test_only_the_signed_bytes_are_signed():
    signature = sign(b'{"a": 1}')
    assert verified(b'{"a": 1}', signature, list_key())
    for data, signed in ((b'{"a": 1}\n', signature), (b'{"a": 2}', signature), (b'{"a": 1}', signature[:-1] + b"\0")):
        assert not verified(data, signed, list_key())
    assert not verified(b'{"a": 1}', b"", list_key())
    assert not verified(b'{"a": 1}', signature, LIST_KEY)


def test_a_key_that_is_none_is_said():
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    for text in ("", "key", AUTHORITY, other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()):
        with pytest.raises(ValueError, match="not a"):
            verified(b"", b"", text)


def test_a_key_pair_is_that_of_rfc_7748():
    """Section 6.1, Alice."""
    private = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
    public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    pair = key_pair(bytes.fromhex(private))
    assert base64.b64decode(pair.public).hex() == public
    raw = base64.b64decode(pair.private)
    assert (raw[0] & 7, raw[31] & 0xC0) == (0, 0x40)


@pytest.mark.parametrize("fill", [0, 1, 0x7F, 0xFF])
def test_a_key_pair_is_what_wg_makes_of_it(fill):
    pair = key_pair(bytes([fill]) * 32)
    wg = shutil.which("wg")
    assert wg, "wireguard-tools is what this product stands on"
    said = subprocess.run([wg, "pubkey"], input=pair.private, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == pair.public
    assert pair.private not in repr(pair)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_is_made_from_32_bytes(length):
    with pytest.raises(ValueError, match="32 bytes"):
        key_pair(bytes(length))
