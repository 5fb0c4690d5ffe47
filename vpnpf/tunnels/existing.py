"""A tunnel that another program brought up: wg-quick, NetworkManager, systemd-networkd, a provider's own app.

vpnpf asks for the port, opens it and tells the client. The device, its routes and its resolver are looked at and
left as they are, and so is whatever blocks traffic beside it: that is the other program's, and so is bringing it back.
"""

from __future__ import annotations

import json
import re
from hashlib import blake2s
from typing import ClassVar, NamedTuple

from vpnpf.api import (
    Endpoint,
    LeaseLost,
    Manifest,
    Transient,
    Tunnel,
    TunnelHealth,
    TunnelOptions,
    TunnelPlan,
    Unsupported,
)
from vpnpf.core.schedule import HANDSHAKE_DEAD
from vpnpf.errors import ConfigError, Mistake
from vpnpf.io import process
from vpnpf.io.clock import BootClock
from vpnpf.model import Rekeyed, Stirring
from vpnpf.tunnels import prerequisites
from vpnpf.tunnels.addresses import gateway_of
from vpnpf.tunnels.watch import Watch
from vpnpf.tunnels.wireguard_health import Watch as Health

NOWHERE = Endpoint("192.0.2.1", 9)
"""Stands for a server that is not known (RFC 5737); nothing is ever sent there."""
_KEEPALIVE = 25
_GLOBAL = "global"
_NAME = re.compile(r"[!#-)+-.0-\[\]-~]{1,15}")
"""What the kernel calls a device, without what means something to others: quote, backslash, asterisk."""


class Device(NamedTuple):
    """What `ip` says of it."""

    up: bool
    addresses: tuple[str, ...]
    """With prefix length; not those of the link alone."""
    mtu: int
    rx: int
    tx: int


class Peer(NamedTuple):
    """What `wg` says of a WireGuard device: one peer, the one that was heard last."""

    identity: str
    endpoint: Endpoint
    handshake: int
    """Seconds since 1970; 0: never."""
    received: int
    sent: int
    keepalive: int


class Existing:
    """`type = "existing"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="existing",
        name="a tunnel that is there",
        summary="the device of wg-quick, NetworkManager or another program, left as it is",
        verified="real (wg-quick, wireguard-go)",
        keys=("interface", "gateway"),
        required=("interface",),
        adopts=True,
    )

    def __init__(self, options: TunnelOptions) -> None:
        self._interface = options.interface
        self._gateway = options.gateway
        self._clock = BootClock()
        self._watch: Watch | None = None
        self._health: Health | None = None

    def check_config(self) -> None:
        """See that the device can have this name. Raises ConfigError."""
        if not _NAME.fullmatch(self._interface):
            hint = "`ip link` lists them"
            raise ConfigError((Mistake("tunnel.interface", "it is no name of a network device", hint),))

    def check_machine(self) -> None:
        """See that this machine has what is needed. Raises Unavailable or PermissionDenied."""
        process.find("ip")
        prerequisites.need_the_privilege()

    async def plan(self, server: int = 0) -> TunnelPlan:
        """Look at the device. Raises Transient if it is not there, or down."""
        del server
        device = await self._look()
        peer = await self._peer()
        if not device.up or not device.addresses:
            what = "it has no address" if device.up else "it is down"
            raise Transient(f"adopting {self._interface}", what, f"bring it up: wg-quick up {self._interface}")
        return TunnelPlan(
            interface=self._interface,
            endpoint=peer.endpoint if peer else NOWHERE,
            addresses=device.addresses,
            mtu=device.mtu,
            gateway=self._gateway or gateway_of(device.addresses[0], ()),
            identity=f"existing {peer.identity if peer else ' '.join((self._interface, *device.addresses))}",
        )

    async def up(self, plan: TunnelPlan) -> Tunnel:
        """See that it is as planned, and that its server was heard; changes nothing. Raises Transient."""
        peer = await self._peer()
        self._health = Health(peer.keepalive or _KEEPALIVE, self._clock.now()) if peer else None
        tunnel = Tunnel(plan, "existing (WireGuard)" if peer else "existing", plan.gateway or "")
        try:
            health = await self.check(tunnel)
        except LeaseLost as error:
            raise Transient(error.doing, error.cause, error.hint) from error
        if health.handshakes and (health.handshake_age is None or health.handshake_age > HANDSHAKE_DEAD):
            hint = f"is its server there? wg-quick down {plan.interface}; wg-quick up {plan.interface}"
            raise Transient(f"adopting {plan.interface}", "it has not shaken hands in the last three minutes", hint)
        return tunnel

    async def check(self, tunnel: Tunnel) -> TunnelHealth:
        """One look. Raises LeaseLost if the device is gone or has become another."""
        doing, hint = f"looking at {tunnel.interface}", "it belongs to another program: bring it up there"
        try:
            device = await self._look()
        except Transient as error:
            raise LeaseLost(doing, error.cause, hint) from error
        if not device.up:
            raise LeaseLost(doing, "it is down", hint)
        if device.addresses != tunnel.plan.addresses:
            raise LeaseLost(doing, f"its addresses are {', '.join(device.addresses) or 'gone'} now")
        peer = await self._peer()
        if peer is None or self._health is None:
            return TunnelHealth(None, device.rx, device.tx, handshakes=False)
        if f"existing {peer.identity}" != tunnel.plan.identity:
            raise LeaseLost(doing, "it leads to another server now")
        transfer = (peer.received, peer.sent)
        return self._health.look(self._clock.now(), self._clock.wall(), peer.handshake, transfer)

    async def rekey(self, tunnel: Tunnel) -> Rekeyed:
        """Raise Unsupported: its keys are not ours."""
        raise Unsupported(f"shaking hands anew on {tunnel.interface}", "it belongs to another program")

    async def watch(self, tunnel: Tunnel) -> Stirring:
        """Wait until the device is gone. Raises Unavailable.

        Nobody is asked whether the server answers: what could be done then, a new handshake, is not ours to do.
        """
        if self._watch is None:
            self._watch = Watch(tunnel.interface, asks=False)
        return await self._watch.stirring(tunnel)

    async def fit_mtu(self, tunnel: Tunnel) -> int:
        """Raise Unsupported: the device is not ours."""
        raise Unsupported("fitting the MTU", f"{tunnel.interface} belongs to another program")

    async def down(self) -> None:
        """Leave it as it is."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def _look(self) -> Device:
        done = await process.run(("ip", "-s", "-j", "addr", "show", "dev", self._interface))
        found = device_of(done.stdout) if done.status == 0 else None
        if found is None:
            hint = f"bring it up: wg-quick up {self._interface}; `ip link` lists what is there"
            raise Transient(f"adopting {self._interface}", "there is no such device", hint)
        return found

    async def _peer(self) -> Peer | None:
        """Its WireGuard peer; None: it is no WireGuard device, or nobody is here to tell."""
        answers = []
        for what in ("public-key", "endpoints", "latest-handshakes", "transfer", "persistent-keepalive"):
            try:
                done = await process.run(("wg", "show", self._interface, what))
            except Exception:  # noqa: BLE001 - wireguard-tools are not needed for a tunnel of another kind
                return None
            if done.status != 0:
                return None
            answers.append(done.stdout)
        return peer_of(*answers)


def device_of(printed: str) -> Device | None:
    """Read what `ip -s -j addr show dev` prints; None: it is about no device. Pure."""
    try:
        links = json.loads(printed or "[]")
    except (ValueError, RecursionError):
        return None
    for link in links if isinstance(links, list) else ():
        match link:
            case {"flags": list(flags), "addr_info": list(addresses), "mtu": int(mtu)}:
                own = []
                for each in addresses:
                    match each:
                        case {"scope": scope, "local": str(local), "prefixlen": int(length)} if scope == _GLOBAL:
                            own.append(f"{local}/{length}")
                stats = link.get("stats64", {})
                rx, tx = (int(stats.get(way, {}).get("bytes", 0)) for way in ("rx", "tx"))
                return Device("UP" in flags, tuple(own), mtu, rx, tx)
    return None


def peer_of(key: str, endpoints: str, handshakes: str, transfer: str, keepalives: str) -> Peer | None:
    """Read what `wg show DEVICE` prints; of several peers the one that was heard last. None: there is none. Pure."""
    tables = [_by_peer(text) for text in (endpoints, handshakes, transfer, keepalives)]
    places, heard, counted, alive = tables
    if not heard:
        return None
    peer = max(heard, key=lambda name: _number(heard[name][0]))
    identity = " ".join(blake2s(text.strip().encode(), digest_size=6).hexdigest() for text in (peer, key))
    host, _, port = places.get(peer, [""])[0].rpartition(":")
    endpoint = Endpoint(host.strip("[]"), _number(port)) if host and _number(port) else NOWHERE
    received, sent = (*map(_number, counted.get(peer, [])), 0, 0)[:2]
    return Peer(identity, endpoint, _number(heard[peer][0]), received, sent, _number(alive.get(peer, [""])[0]))


def _by_peer(text: str) -> dict[str, list[str]]:
    rows = (line.split() for line in text.splitlines())
    return {row[0]: row[1:] for row in rows if len(row) > 1}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
