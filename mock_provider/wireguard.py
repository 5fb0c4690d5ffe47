"""The VPN server: a WireGuard tunnel into the server's namespace, and out to the internet from the exit address.

    async with Lab() as lab, WireGuardServer(lab) as server:
        alice = await server.add_client()                 # 10.2.0.2, the next one 10.2.0.3
        alice.write(tmp_path / "proton.conf")
        tunnel = await server.bring_up(alice, lab.client) # a plain tunnel, for tests of the far side

WireGuard in the kernel is used where there is one, else wireguard-go.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import time
from asyncio.subprocess import Process
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from mock_provider.host import Host, end_processes
from mock_provider.topology import EXIT, SERVER, Lab
from vpnpf.errors import VpnpfError
from vpnpf.io import process

PORT = 51820
GATEWAY, NETWORK = "10.2.0.1", "10.2.0.0/24"
ALL_SYSTEMS = "224.0.0.1"
"""The multicast group of announcements (RFC 6886 section 3.2.1)."""
GATEWAY6, NETWORK6 = "2a07:b944::2:1", "2a07:b944::2:0/112"
MTU = 1420
SOCKETS = Path("/var/run/wireguard")
"""Where wireguard-go listens for `wg`: one directory for all namespaces, so names must be unique."""

FOREGROUND = {"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"}

NAT = """
table inet mock_vpn{suffix} {{
  chain post {{
    type nat hook postrouting priority srcnat; policy accept
    ip saddr {network} oifname "eth0" snat ip to {exit}
    ip6 saddr {network6} oifname "eth0" masquerade
  }}
}}
"""
SAME_PORT = """
table inet mock_port{suffix} {{
  chain pre {{
    type nat hook prerouting priority dstnat; policy accept
    ip daddr {address} udp dport {port} redirect to :{hidden}
  }}
}}
"""
MUTE = """
table inet mock_mute{suffix} {{
  chain input {{
    type filter hook input priority -200; policy accept
    meta l4proto {{ tcp, udp }} th dport {hidden} drop
  }}
  chain output {{
    type filter hook output priority -200; policy accept
    meta l4proto {{ tcp, udp }} th sport {hidden} drop
  }}
}}
"""

_count = itertools.count(1)


def unique_name(lab: Lab) -> str:
    """A device name that no other lab, and no other device of this one, has; at most 15 characters."""
    return f"m{lab.id}w{next(_count)}"[:15]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is, outside and inside its tunnels."""

    address: str = SERVER
    port: int = PORT
    exit: str = EXIT
    gateway: str = GATEWAY
    network: str = NETWORK
    gateway6: str = GATEWAY6
    network6: str = NETWORK6
    suffix: str = ""
    """What its tables' names end with."""
    hidden_port: int = 0
    """Where WireGuard listens, if servers have the same port: it listens on all addresses. 0: on that port."""

    @classmethod
    def of(cls, number: int) -> Place:
        """That of the provider's server of this number, from 0: the next is 198.51.100.20:51821, 10.3.0.1, exit .21."""
        if number == 0:
            return cls()
        inside, inside6 = f"10.{number + 2}.0", f"2a07:b944::{number + 2:x}"
        return cls(
            address=f"198.51.100.{10 * number + 10}",
            port=PORT + number,
            exit=f"198.51.100.{10 * number + 11}",
            gateway=f"{inside}.1",
            network=f"{inside}.0/24",
            gateway6=f"{inside6}:1",
            network6=f"{inside6}:0/112",
            suffix=str(number),
        )


@dataclass(frozen=True, slots=True)
class Client:
    """A customer's key and address, and the configuration file that goes with it."""

    private_key: str = field(repr=False)
    public_key: str
    server_key: str
    address: str
    address6: str | None = None
    port_forwarding: bool = True
    """What the file's comment says; the gateway is not asked."""
    endpoint: str = f"{SERVER}:{PORT}"
    place: Place = Place()

    @property
    def config(self) -> str:
        """The file as ProtonVPN's site gives it out."""
        addresses = [f"{self.address}/32"] + ([f"{self.address6}/128"] if self.address6 else [])
        dns = [self.place.gateway] + ([self.place.gateway6] if self.address6 else [])
        return (
            "[Interface]\n"
            "# Key for mock\n"
            "# Bouncing = 0\n"
            "# NetShield = 0\n"
            "# Moderate NAT = off\n"
            f"# NAT-PMP (Port Forwarding) = {'on' if self.port_forwarding else 'off'}\n"
            "# VPN Accelerator = on\n"
            f"PrivateKey = {self.private_key}\n"
            f"Address = {', '.join(addresses)}\n"
            f"DNS = {', '.join(dns)}\n"
            "\n"
            "[Peer]\n"
            "# MOCK#1\n"
            f"PublicKey = {self.server_key}\n"
            "AllowedIPs = 0.0.0.0/0, ::/0\n"
            f"Endpoint = {self.endpoint}\n"
        )

    def write(self, path: Path) -> Path:
        """Write the file, readable by its owner alone, and return its path."""
        path.touch(mode=0o600)
        path.write_text(self.config)
        return path


FIRST_PLACE = Place()


def _listens(path: Path) -> bool:
    """Whether wireguard-go listens there: `wg` deletes a socket that it finds before that."""
    with socket.socket(socket.AF_UNIX) as control:
        try:
            control.connect(str(path))
        except OSError:
            return False
    return True


class Device:
    """A WireGuard device in a namespace, by kernel or by wireguard-go."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name
        self.process: Process | None = None
        """wireguard-go, or None: the kernel."""

    async def create(self) -> None:
        """Make the device. Raises Unavailable if this machine has neither kind of WireGuard."""
        made = await self.host.run(("ip", "link", "add", self.name, "type", "wireguard"))
        if made.status == 0:
            return
        process.find("wireguard-go")
        self.process = await self.host.popen(("wireguard-go", self.name), stdout=None, stderr=None, env=FOREGROUND)
        until = time.monotonic() + 5
        while not _listens(SOCKETS / f"{self.name}.sock"):
            if self.process.returncode is not None or time.monotonic() > until:
                await self.remove()
                raise VpnpfError("starting wireguard-go", "it does not come up", "is /dev/net/tun there and usable?")
            await asyncio.sleep(0.002)

    async def set_up(self, config: str, addresses: tuple[str, ...], lines: tuple[str, ...] = ()) -> None:
        """Give the device its keys, addresses and MTU, then run further lines of `ip -batch`."""
        await self.host.must(("wg", "setconf", self.name, "/dev/stdin"), stdin=config)
        batch = [f"addr add {address} dev {self.name}" for address in addresses]
        batch += [f"link set {self.name} mtu {MTU} up", *lines]
        await self.host.must(("ip", "-batch", "-"), stdin="\n".join(batch) + "\n")

    async def kill(self) -> None:
        """The device dies at once, as a server does that loses power."""
        if self.process is None:
            await self.host.run(("ip", "link", "del", self.name))
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        (SOCKETS / f"{self.name}.sock").unlink(missing_ok=True)

    async def remove(self) -> None:
        """End the device; nothing happens if it is gone."""
        if self.process is None:
            await self.host.run(("ip", "link", "del", self.name))
            return
        if self.process.returncode is None:
            await asyncio.to_thread(end_processes, (self.process.pid,))
        await self.process.wait()
        (SOCKETS / f"{self.name}.sock").unlink(missing_ok=True)


class WireGuardServer:
    """The server's end of all tunnels; an async context manager."""

    def __init__(self, lab: Lab, *, ipv6: bool = False, place: Place = FIRST_PLACE) -> None:
        self.lab = lab
        self.host = lab.server
        self.ipv6 = ipv6
        """Whether clients get an IPv6 address in the tunnel too."""
        self.place = place
        self.device = Device(self.host, unique_name(lab))
        self.clients: list[Client] = []
        self.muted = False
        self._key = self.public_key = ""

    @property
    def interface(self) -> str:
        """The device in the server's namespace."""
        return self.device.name

    async def __aenter__(self) -> Self:
        self._key, self.public_key = await _key_pair()
        try:
            rules = self._rules(NAT) + (self._rules(SAME_PORT) if self.place.hidden_port else "")
            await self.host.must(("nft", "-f", "-"), stdin=rules)
            if self.place.address != FIRST_PLACE.address:  # the lab has those of the first
                lines = [f"addr add {address}/24 dev eth0" for address in (self.place.address, self.place.exit)]
                await self.host.must(("ip", "-batch", "-"), stdin="\n".join(lines) + "\n")
            await self._start()
        except BaseException:
            await self.device.remove()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.device.remove()

    async def _start(self) -> None:
        await self.device.create()
        config = f"[Interface]\nPrivateKey = {self._key}\nListenPort = {self._listening}\n"
        for client in self.clients:
            config += f"[Peer]\nPublicKey = {client.public_key}\nAllowedIPs = {', '.join(_allowed(client))}\n"
        v6 = (f"{self.place.gateway6}/112 nodad",) if self.ipv6 else ()
        await self.device.set_up(config, (f"{self.place.gateway}/24", *v6))

    @property
    def _listening(self) -> int:
        return self.place.hidden_port or self.place.port

    def _rules(self, text: str) -> str:
        place = self.place
        return text.format(
            suffix=place.suffix,
            network=place.network,
            network6=place.network6,
            exit=place.exit,
            address=place.address,
            port=place.port,
            hidden=self._listening,
        )

    async def add_client(self, *, port_forwarding: bool = True) -> Client:
        """Make a key pair and let it in; addresses count up from 10.2.0.2, the first after the gateway's."""
        private, public = await _key_pair()
        number = len(self.clients) + 2
        place = self.place
        v6 = f"{place.gateway6[:-1]}{number:x}" if self.ipv6 else None
        endpoint = f"{place.address}:{place.port}"
        own = f"{place.gateway[:-1]}{number}"
        client = Client(private, public, self.public_key, own, v6, port_forwarding, endpoint, place)
        self.clients.append(client)
        await self.admit(client)
        return client

    async def admit(self, client: Client) -> None:
        """Let a client's key in (again)."""
        allowed = ",".join(_allowed(client))
        await self.host.must(("wg", "set", self.interface, "peer", client.public_key, "allowed-ips", allowed))

    async def revoke(self, client: Client) -> None:
        """Forget a client's key: its handshakes are not answered any more."""
        await self.host.must(("wg", "set", self.interface, "peer", client.public_key, "remove"))

    async def handshakes(self) -> dict[str, int]:
        """Public key -> time of the last handshake in seconds since 1970, 0: none."""
        shown = await self.host.must(("wg", "show", self.interface, "latest-handshakes"))
        return {key: int(when) for key, when in (line.split() for line in shown.splitlines())}

    async def mute(self) -> None:
        """The tunnel goes silent both ways, as behind a network that is broken; nobody is told."""
        if not self.muted:
            await self.host.must(("nft", "-f", "-"), stdin=self._rules(MUTE))
            self.muted = True

    async def unmute(self) -> None:
        """The tunnel's packets pass again."""
        if self.muted:
            await self.host.must(("nft", "delete", "table", "inet", f"mock_mute{self.place.suffix}"))
            self.muted = False

    async def kill(self) -> None:
        """The server dies: its port answers with ICMP, its sessions are forgotten."""
        await self.device.kill()

    async def restart(self) -> None:
        """The server comes (back) up with the same keys and clients, and no session. Kills it first if need be.

        Sockets bound to the device's addresses keep working: the addresses come back.
        """
        await self.device.kill()
        await self._start()

    async def bring_up(self, client: Client, host: Host) -> Device:
        """A plain tunnel of this client in a namespace, with all IPv4 but the endpoint's through it.

        The caller ends it with `remove`; the lab's end does too.
        """
        device = Device(host, unique_name(self.lab))
        await device.create()
        config = (
            f"[Interface]\nPrivateKey = {client.private_key}\n"
            f"[Peer]\nPublicKey = {client.server_key}\nEndpoint = {client.endpoint}\nAllowedIPs = 0.0.0.0/0, ::/0\n"
        )
        routes = [f"route add 0.0.0.0/1 dev {device.name}", f"route add 128.0.0.0/1 dev {device.name}"]
        with host.inside():
            gateway = _default_gateway()
        endpoint = client.endpoint.rpartition(":")[0]
        await device.set_up(
            config, (f"{client.address}/32",), (f"route replace {endpoint}/32 via {gateway} dev eth0", *routes)
        )
        return device


def _allowed(client: Client) -> list[str]:
    allowed = [f"{client.address}/32"] + ([f"{client.address6}/128"] if client.address6 else [])
    # What the gateway announces goes to the first customer: WireGuard sends each packet to one peer alone.
    return allowed + ([f"{ALL_SYSTEMS}/32"] if client.address.endswith(".0.2") else [])


def _default_gateway() -> str:
    """The IPv4 default gateway of the namespace that the thread is in."""
    for line in Path("/proc/thread-self/net/route").read_text().splitlines()[1:]:
        device, destination, gateway, *_ = line.split()
        if device == "eth0" and destination == "00000000":
            return ".".join(str(byte) for byte in bytes.fromhex(gateway)[::-1])
    raise VpnpfError("looking for the default route", "there is none on eth0")


async def _key_pair() -> tuple[str, str]:
    private = (await process.must(("wg", "genkey"), doing="making a key")).strip()
    public = (await process.must(("wg", "pubkey"), doing="making a key", stdin=private + "\n")).strip()
    return private, public
