"""What is written after `vpnpf policy explain`: a flow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from msgspec import Struct

from vpnpf.core.admission import address_of
from vpnpf.errors import UsageError
from vpnpf.model import Protocol

_FLOW = re.compile(r"([0-9]{1,5})/(tcp|udp)", re.IGNORECASE | re.ASCII)
_LAST_PORT = 65535


class Flow(Struct, frozen=True):
    """A new flow from the internet."""

    port: int
    protocol: Protocol
    source: IPv4Address | IPv6Address | None
    """None: anybody."""


def flow(words: Sequence[str]) -> Flow:
    """What `policy explain` is asked: 6881/tcp [from ADDRESS]. Raises UsageError."""
    doing, how = "reading what is to be explained", "write it as: 6881/tcp from 203.0.113.9"
    parts = " ".join(words).split()
    if len(parts) not in {1, 3} or (len(parts) == 3 and parts[1].lower() != "from"):  # noqa: PLR2004 - words of a flow
        raise UsageError(doing, "it is not a port and where the flow comes from", how)
    found = _FLOW.fullmatch(parts[0])
    if not found or not 0 < int(found[1]) <= _LAST_PORT:
        raise UsageError(doing, f'"{parts[0]}" is no port of TCP or UDP', how)
    try:
        source = address_of(parts[2]) if len(parts) > 1 else None
    except ValueError:
        raise UsageError(doing, f'"{parts[2]}" is not an address', how) from None
    return Flow(int(found[1]), Protocol(found[2].lower()), source)
