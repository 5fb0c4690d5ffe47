"""Made-up homes and answers for the tests of the first start."""

from __future__ import annotations

import base64
from pathlib import Path

from vpnpf.plugins import Group, manifest, names
from vpnpf.setup.found import Found, FoundClient, TunnelFile

KEY = base64.b64encode(b"k" * 32).decode()
WIREGUARD = """[Interface]
# Key for laptop
# NAT-PMP (Port Forwarding) = {switch}
PrivateKey = {key}
Address = 10.2.0.2/32
DNS = 10.2.0.1

[Peer]
PublicKey = {key}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = {endpoint}
"""
CA = "<ca>\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n</ca>\n"


def proton(switch="on", endpoint="203.0.113.7:51820"):
    return WIREGUARD.format(switch=switch, key=KEY, endpoint=endpoint)


def plain(endpoint="vpn.example.net:51820"):
    """A WireGuard configuration that is nobody's in particular."""
    text = "".join(line for line in proton(endpoint=endpoint).splitlines(True) if not line.startswith("#"))
    return text.replace("10.2.0", "10.77.0")


def manifests(group):
    return tuple(manifest(group, name) for name in names(group))


PROVIDERS, CLIENTS = manifests(Group.PROVIDERS), manifests(Group.CLIENTS)


def found(directory=Path("/etc/vpnpf"), **given):
    return Found(PROVIDERS, CLIENTS, directory, **given)


def file(path="/home/ann/Downloads/proton.conf", **given):
    return TunnelFile(
        Path(path), **{"type": "wireguard", "endpoint": "203.0.113.7:51820", "provider": "protonvpn", **given}
    )


QB = FoundClient("qbittorrent", "http://127.0.0.1:8080", "admin", asks_login=True, runs=True)
