"""Values of providers' configuration files: each reader takes text and gives its one normal form.

All raise ValueError; what that says never holds the text, which may be a secret in the wrong place.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable

LAST_PORT = 65535
_KEY_LENGTH = 32
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")
"""A host that the C library would take for an IPv4 address in one of its old spellings."""


def key(value: str) -> str:
    """A key of 32 bytes in base64."""
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != _KEY_LENGTH or base64.b64encode(raw).decode() != value:
        raise ValueError("not a key: 44 characters of base64")
    return value


def interface_address(value: str) -> str:
    """An address of a device with its prefix length; without one it is alone on its link."""
    try:
        found = ipaddress.ip_interface(_zoneless(value))
    except ValueError:
        found = None
    if found is None or not _of_one_host(found.ip):
        raise ValueError("not an address such as 10.2.0.2/32")
    return str(found)


def prefix(value: str) -> str:
    """A prefix, with the bits behind its length cleared."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError("not a prefix such as 0.0.0.0/0") from None


def resolver(value: str) -> str:
    """An address, or "" for a search domain: those are left out, since they would be asked of the provider."""
    if (address := _host_address(value)) is not None:
        return address
    if _is_name(value):
        return ""
    raise ValueError("neither an address nor a domain")


def place(value: str) -> tuple[str, int]:
    """A name or address and a port, as in "198.51.100.10:51820"; IPv6 in brackets, which are left out."""
    host, _, port = value.rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 1 <= int(port) <= LAST_PORT):  # noqa: PLR2004
        raise ValueError("not HOST:PORT with a port from 1 to 65535")
    in_brackets = host.startswith("[") and host.endswith("]")
    address = _host_address(host[1:-1] if in_brackets else host)
    if address is not None and (":" in address) == in_brackets:
        return address, int(port)
    if not _is_name(host):
        raise ValueError("not HOST:PORT with a name or an address (IPv6 in brackets)")
    return host, int(port)


def number(least: int, most: int) -> Callable[[str], int]:
    """A reader of whole numbers in plain digits, at most six, within these bounds."""

    def read(value: str) -> int:
        if not (value.isascii() and value.isdigit() and len(value) < 7 and least <= int(value) <= most):  # noqa: PLR2004
            raise ValueError(f"not a number from {least} to {most}")
        return int(value)

    return read


def keepalive(value: str) -> int:
    """Seconds; 0 is "off"."""
    return 0 if value.lower() == "off" else number(0, LAST_PORT)(value)


def _host_address(value: str) -> str | None:
    try:
        found = ipaddress.ip_address(_zoneless(value))
    except ValueError:
        return None
    return str(found) if _of_one_host(found) else None


def _zoneless(value: str) -> str:
    """Refuse an IPv6 zone (fe80::1%ZONE): it may hold any character, also those that end a word of what we write."""
    if "%" in value:
        raise ValueError("a zone")
    return value


def _of_one_host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether it can be somebody's, and be written in one way only."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return False
    broadcast = address == ipaddress.IPv4Address("255.255.255.255")
    return not (address.is_unspecified or address.is_multicast or broadcast)


def _is_name(value: str) -> bool:
    return _HOST.fullmatch(value) is not None and not _NUMBER.fullmatch(value)
