"""What a VPN server behind the port needs. Pure.

A preset is written "preset:openvpn", since a service of the same name may mean less or more.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from vpnpf.core.services import Ports
from vpnpf.model import Protocol

PREFIX = "preset:"


class Preset(Struct, frozen=True):
    """A kind of VPN server."""

    title: str
    ports: tuple[Ports, ...]
    source: str
    """Where that is said."""
    refused: str = ""
    """Why no port of TCP or UDP can carry it; empty: it can."""
    instead: str = ""
    """What to do then."""


def _udp(port: int) -> Ports:
    return (port, port, Protocol.UDP)


PRESETS: Mapping[str, Preset] = {
    "ikev2": Preset(
        "IKEv2",
        (_udp(500), _udp(4500)),
        "RFC 7296 sections 2 and 2.23: behind a NAT, and that is where the server is, ESP travels in UDP on 4500",
    ),
    "ipsec": Preset(
        "IPsec",
        (_udp(500), _udp(4500)),
        "RFC 2408 section 2.5.1, RFC 3947 section 4, RFC 3948: ESP travels in UDP on 4500",
    ),
    "openvpn": Preset("OpenVPN", (_udp(1194),), "openvpn(8): --port, --proto"),
    "pptp": Preset(
        "PPTP",
        ((1723, 1723, Protocol.TCP),),
        "RFC 2637 sections 3 and 4",
        refused="PPTP needs GRE (IP protocol 47) beside 1723/tcp, GRE has no ports, and a forwarded port carries TCP or"
        " UDP alone",
        instead="run OpenVPN, WireGuard or IKEv2 instead; PPTP's encryption is broken besides",
    ),
}


def alone(preset: Preset) -> str:
    """Why one forwarded port cannot carry it, or nothing."""
    if preset.refused:
        return preset.refused
    if len(preset.ports) == 1:
        return ""
    ports = " and ".join(f"{first}/{protocol}" for first, _, protocol in preset.ports)
    return f"{preset.title} needs {ports}, its clients know no others, and a forwarded port is one of the provider's choice"
