"""Services by name: which ports they wait on. Pure; `vpnpf.services` adds what the machine's own file says.

The table comes before that file: it has what nobody registered, and it says less where a registration names a protocol
that the program does not use, since each port more is a port open to the internet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from vpnpf.model import Protocol

LAST_PORT = 65535
Ports = tuple[int, int, Protocol]
"""First and last port, and their protocol."""


class Service(Struct, frozen=True):
    """What a name stands for."""

    ports: tuple[Ports, ...]
    source: str
    """Where that is said."""


def _tcp(first: int, last: int = 0) -> Ports:
    return (first, last or first, Protocol.TCP)


def _udp(first: int, last: int = 0) -> Ports:
    return (first, last or first, Protocol.UDP)


TABLE: Mapping[str, Service] = {
    "bitcoin": Service((_tcp(8333),), "Bitcoin Core, bitcoind -help: -port"),
    "ethereum": Service((_tcp(30303), _udp(30303)), "go-ethereum, geth --help: --port, --discovery.port"),
    "factorio": Service((_udp(34197),), "Factorio wiki, Multiplayer"),
    "home-assistant": Service((_tcp(8123),), "Home Assistant, HTTP integration: server_port"),
    "http": Service((_tcp(80),), "RFC 9110 section 4.2.1"),
    "https": Service((_tcp(443), _udp(443)), "RFC 9110 section 4.2.2; RFC 9114 section 3.1 (HTTP/3)"),
    "ipfs": Service((_tcp(4001), _udp(4001)), "Kubo, configuration: Addresses.Swarm"),
    "jellyfin": Service((_tcp(8096),), "Jellyfin, Networking"),
    "minecraft": Service((_tcp(25565),), "Minecraft Java Edition, server.properties: server-port; udp is for queries"),
    "minecraft-bedrock": Service(
        (_udp(19132, 19133),), "Minecraft Bedrock Edition, server.properties: server-port, server-portv6"
    ),
    "mumble": Service((_tcp(64738), _udp(64738)), "Mumble, murmur.ini: port"),
    "openvpn": Service((_udp(1194),), "openvpn(8): --port, --proto"),
    "plex": Service((_tcp(32400),), "Plex support, What network ports do I need to allow through my firewall?"),
    "rdp": Service((_tcp(3389), _udp(3389)), "[MS-RDPBCGR] section 2.1; [MS-RDPEUDP] section 2.1"),
    "smb": Service((_tcp(445),), "[MS-SMB2] section 2.1"),
    "ssh": Service((_tcp(22),), "RFC 4253 section 4.1"),
    "syncthing": Service((_tcp(22000), _udp(22000)), "Syncthing, Firewall setup"),
    "teamspeak": Service((_udp(9987), _tcp(30033)), "TeamSpeak support, Which ports does the server use?"),
    "terraria": Service((_tcp(7777),), "Terraria wiki, Server: port"),
    "valheim": Service((_udp(2456, 2457),), "Valheim dedicated server manual: -port and the one after it"),
    "vnc": Service((_tcp(5900),), "RFC 6143 section 1; rfb at IANA"),
    "wireguard": Service((_udp(51820),), "WireGuard, quick start; nobody registered it"),
}

_LINE = re.compile(r"(\S+)\s+([0-9]{1,5})/(tcp|udp)((?:\s+\S+)*)\s*", re.ASCII)


def parse_services(text: str, source: str) -> dict[str, Service]:
    """What a file such as /etc/services says (services(5)), by name in small letters; lines of no use are passed over.

    A name of its own comes before somebody's alias. Nothing is raised.
    """
    named: dict[str, list[Ports]] = {}
    aliases: dict[str, list[Ports]] = {}
    for line in text.splitlines():
        found = _LINE.fullmatch(line.partition("#")[0].strip())
        if not found or not 0 < int(found[2]) <= LAST_PORT:
            continue
        port = (int(found[2]), int(found[2]), Protocol(found[3]))
        _note(named, found[1], port)
        for alias in found[4].split():
            _note(aliases, alias, port)
    return {name: Service(tuple(ports), source) for name, ports in (aliases | named).items()}


def _note(names: dict[str, list[Ports]], name: str, port: Ports) -> None:
    ports = names.setdefault(name.lower(), [])
    if port not in ports:
        ports.append(port)
