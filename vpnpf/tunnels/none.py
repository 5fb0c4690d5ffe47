"""No tunnel: the machine's own link to its router, for ports that the router forwards.

Nothing is changed, and nothing is protected: the packet filter only counts and redirects (docs/security.md).
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from typing import ClassVar, NamedTuple

from vpnpf.api import (
    Endpoint,
    LeaseLost,
    Manifest,
    Misconfigured,
    Transient,
    Tunnel,
    TunnelHealth,
    TunnelOptions,
    TunnelPlan,
    Unsupported,
)
from vpnpf.io import process
from vpnpf.model import Rekeyed, Stirring
from vpnpf.tunnels import prerequisites
from vpnpf.tunnels.watch import Watch

LOOKING = "looking for the router"
ELSEWHERE = "192.0.2.1"
"""An address that nobody has (RFC 5737): the way there is the default route."""
_DISCARD = 9
_TRIES = 10
_WAIT = 0.03
"""Seconds between looks for the router's answer to ARP."""


class Uplink(NamedTuple):
    """Where the default route goes."""

    device: str
    gateway: str
    address: str
    """Our own address that packets there come from, without prefix length."""


class Link(NamedTuple):
    """The device under it."""

    up: bool
    addresses: tuple[str, ...]
    """IPv4, with prefix length."""
    rx: int
    """Bytes."""
    tx: int
    """Bytes."""


class NoTunnel:
    """`type = "none"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="none",
        name="no tunnel",
        summary="the machine's own link, for a port of the home router",
        verified="real (network namespaces)",
        direct=True,
        keys=(),
        required=(),
    )

    def __init__(self, options: TunnelOptions) -> None:
        del options

    def check_config(self) -> None:
        """Nothing: there is no file."""

    def check_machine(self) -> None:
        """See that this machine has what is needed. Raises Unavailable or PermissionDenied."""
        process.find("ip")
        prerequisites.need_the_privilege()

    async def plan(self, server: int = 0) -> TunnelPlan:
        """Find the router. Raises Transient if there is no way out now, Misconfigured if it is not by a router."""
        del server
        uplink = await _uplink()
        link = await _link(uplink.device)
        own = tuple(each for each in link.addresses if each.partition("/")[0] == uplink.address)
        if not own:
            raise Transient(LOOKING, f"{uplink.device} does not have the address {uplink.address}")
        mac = await _mac(uplink)
        return TunnelPlan(
            interface=uplink.device,
            endpoint=Endpoint(uplink.gateway, _DISCARD),  # never used
            addresses=(*own, *(each for each in link.addresses if each not in own)),
            gateway=uplink.gateway,
            identity=f"router {uplink.gateway} {mac}".rstrip(),
            direct=True,
        )

    async def up(self, plan: TunnelPlan) -> Tunnel:
        """See that the plan still holds; changes nothing. Raises Transient."""
        tunnel = Tunnel(plan, "no tunnel", plan.gateway or "")
        try:
            await self.check(tunnel)
        except LeaseLost as error:
            raise Transient(error.doing, error.cause) from error
        return tunnel

    async def check(self, tunnel: Tunnel) -> TunnelHealth:
        """One look. Raises LeaseLost if the way out has changed, Transient if it cannot be looked at."""
        doing, device = f"looking at {tunnel.interface}", tunnel.interface
        try:
            uplink = await _uplink()
        except (Transient, Misconfigured) as error:
            raise LeaseLost(doing, error.cause) from error
        if (uplink.device, uplink.gateway) != (device, tunnel.gateway):
            raise LeaseLost(doing, f"the default route goes by {uplink.gateway} on {uplink.device} now")
        link = await _link(device)
        if not link.up:
            raise LeaseLost(doing, "it is down")
        if uplink.address != tunnel.address or tunnel.plan.addresses[0] not in link.addresses:
            raise LeaseLost(doing, f"packets come from {uplink.address} now, not from {tunnel.address}")
        return TunnelHealth(0.0, link.rx, link.tx)

    async def rekey(self, tunnel: Tunnel) -> Rekeyed:
        """Raise Unsupported."""
        raise Unsupported(f"shaking hands anew on {tunnel.interface}", "there is no tunnel")

    async def watch(self, tunnel: Tunnel) -> Stirring:
        """Wait until the link is taken down. Raises Unavailable if the kernel does not tell."""
        watched = Watch(tunnel.interface, asks=False)
        try:
            return await watched.stirring(tunnel)
        finally:
            watched.close()

    async def fit_mtu(self, tunnel: Tunnel) -> int:
        """Raise Unsupported: the link is not ours."""
        raise Unsupported("fitting the MTU", f"{tunnel.interface} is not ours")

    async def down(self) -> None:
        """Nothing: nothing was changed."""


async def _uplink() -> Uplink:
    done = await process.run(("ip", "-j", "-4", "route", "get", ELSEWHERE))
    if done.status != 0:
        raise Transient(LOOKING, "there is no default route (IPv4)", "is this machine online?")
    return uplink_of(_json(done.stdout))


async def _link(device: str) -> Link:
    done = await process.run(("ip", "-s", "-j", "addr", "show", "dev", device))
    if done.status != 0:
        raise LeaseLost(f"looking at {device}", "it is gone")
    return link_of(_json(done.stdout))


async def _mac(uplink: Uplink) -> str:
    """The router's hardware address, so that two networks with the same addresses are told apart; empty: not known."""
    for attempt in range(_TRIES):
        done = await process.run(("ip", "-j", "neigh", "show", uplink.gateway, "dev", uplink.device))
        if done.status == 0 and (mac := mac_of(_json(done.stdout))):
            return mac
        if attempt == 0:
            _wake(uplink)
        await asyncio.sleep(_WAIT)
    return ""


def _wake(uplink: Uplink) -> None:
    """Let the kernel ask for the router's hardware address: by a datagram that nobody answers (RFC 863)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        try:
            sock.bind((uplink.address, 0))
            sock.sendto(b"", (uplink.gateway, _DISCARD))
        except OSError:
            return


def _json(text: str) -> object:
    try:
        found: object = json.loads(text or "[]")
    except (ValueError, RecursionError) as error:
        raise Transient(LOOKING, f"ip wrote no JSON: {error}") from error
    return found


def uplink_of(routes: object) -> Uplink:
    """Read what `ip -j route get` prints. Raises Misconfigured if no router of IPv4 is on the way. Pure."""
    match routes:
        case [{"dev": str(device), "gateway": str(gateway), "prefsrc": str(address)}, *_] if "." in gateway:
            return Uplink(device, gateway, address)
        case [{"dev": str(device)}, *_]:
            hint = "if a VPN runs beside vpnpf, end it, or use the provider and tunnel of the VPN"
            raise Misconfigured(LOOKING, f"the default route goes by {device}, and no router is on it", hint)
    raise Transient(LOOKING, "the default route leads nowhere", "is this machine online?")


def link_of(links: object) -> Link:
    """Read what `ip -s -j addr show dev` prints. Raises LeaseLost if it is about no device. Pure."""
    for link in links if isinstance(links, list) else ():
        match link:
            case {"flags": list(flags), "addr_info": list(addresses)}:
                own = tuple(filter(None, map(_own, addresses)))
                return Link("UP" in flags, own, _octets(link, "rx"), _octets(link, "tx"))
    raise LeaseLost("looking at the device", "it is gone")


def mac_of(neighbours: object) -> str:
    """Read what `ip -j neigh show` prints; empty: not known. Pure."""
    for neighbour in neighbours if isinstance(neighbours, list) else ():
        match neighbour:
            case {"lladdr": str(mac)}:
                return mac
    return ""


def _own(address: object) -> str:
    match address:
        case {"family": "inet", "local": str(local), "prefixlen": int(length)}:
            try:
                return str(ipaddress.IPv4Interface(f"{local}/{length}"))
            except ValueError:
                return ""
    return ""


def _octets(link: dict[str, object], way: str) -> int:
    match link.get("stats64"):
        case {"rx": {"bytes": int(received)}, "tx": {"bytes": int(sent)}}:
            return received if way == "rx" else sent
    return 0
