"""Which gateway is asked and for how long: options that providers of any gateway have in common."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import cast

from vpnpf.api import RECOMMENDED_LIFETIME, Misconfigured, Option, Tunnel

RETRY_REFUSED = 300.0
"""Seconds until a gateway that forwards no ports is asked again: somebody may switch it on meanwhile."""
HINT_SILENT = (
    "is the tunnel's handshake recent, and is {} the gateway of this tunnel? "
    "If it has another address, set it as options.gateway"
)


def _wrong_address(value: object) -> str:
    try:
        address = IPv4Address(str(value))
    except ValueError:
        return "not an IPv4 address"
    of_a_host = not (address.is_unspecified or address.is_loopback or address.is_multicast or address.is_reserved)
    return "" if of_a_host else "not the address of a gateway"


def _wrong_lifetime(value: object) -> str:
    return "" if 1 <= cast("int", value) <= 86400 else "not from 1 to 86400 seconds"  # noqa: PLR2004


def gateway_option(text: str) -> Option:
    """`options.gateway`, with what it is for."""
    return Option("gateway", str, text, _wrong_address)


LIFETIME = Option("lifetime", int, f"seconds to ask for; {RECOMMENDED_LIFETIME} if not given", _wrong_lifetime)
"""`options.lifetime`."""


def gateway_of(given: str | None, tunnel: Tunnel) -> str:
    """The address to ask: the one that was set, else the tunnel's. Raises Misconfigured if it can be no gateway's."""
    address = given or tunnel.gateway
    if wrong := _wrong_address(address):
        cause = f'the tunnel says "{address}", {wrong}'
        raise Misconfigured("looking for the gateway", cause, "set its IPv4 address as options.gateway")
    return address
