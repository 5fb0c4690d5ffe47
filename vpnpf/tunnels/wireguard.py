"""WireGuard, by the kernel or by wireguard-go. wg-quick never sees the person's file.

Device, routing table and mark follow from the profile's name, so a run that was killed can be undone by the next
one. Keys go to `wg` by standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import platform
import re
import socket
import stat
import time
from asyncio.subprocess import Process
from pathlib import Path
from typing import ClassVar
from zlib import crc32

from vpnpf.api import (
    Endpoint,
    LeaseLost,
    Manifest,
    NoAnswer,
    PermissionDenied,
    Transient,
    Tunnel,
    TunnelHealth,
    TunnelOptions,
    TunnelPlan,
    Unavailable,
)
from vpnpf.errors import ConfigError, Mistake, VpnpfError
from vpnpf.io import process
from vpnpf.io.clock import BootClock
from vpnpf.io.lan import KernelLinks
from vpnpf.io.resolver import SystemResolver, resolve
from vpnpf.protocol.wireguard_config import WireGuardConfig, parse
from vpnpf.tunnels import routes

SOCKETS = Path("/var/run/wireguard")
"""Where wireguard-go listens for `wg`."""
PATIENCE = 15.0
"""Seconds for the first handshake."""
RP_FILTER = Path("/proc/sys/net/ipv4/conf/all/rp_filter")
_CAP_NET_ADMIN = 12
_TUN = (10, 200)
_LONGEST_NAME = 15
_FOREGROUND = {"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"}


class WireGuard:
    """`type = "wireguard"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="wireguard",
        name="WireGuard",
        summary="the provider's WireGuard file, by the kernel or wireguard-go",
        verified="real (wireguard-go)",
    )

    def __init__(self, options: TunnelOptions) -> None:
        self._options = options
        self._runtime = Path(options.runtime)
        self._interface = interface_name(options.profile)
        self._table = 7000 + crc32(options.profile.encode()) % 1000
        self._resolver = SystemResolver()
        self._clock = BootClock()
        self._process: Process | None = None
        self._config: WireGuardConfig | None = None
        self._attempts = 0
        self._handshake = (0, 0.0)
        """The last handshake: as `wg` says it, and when that was on our clock."""

    def check_config(self) -> None:
        """Read the provider's file. Raises ConfigError with every mistake."""
        self._read()

    def check_machine(self) -> None:
        """See that this machine has what `up` needs. Raises Unavailable or PermissionDenied."""
        for program in ("ip", "wg"):
            process.find(program)
        if not _may_change_the_network():
            raise PermissionDenied("starting", "changing the network needs root", "run it with sudo")
        if not _kernel_has_wireguard():
            process.find("wireguard-go")
            _check_tun(Path("/dev/net/tun"))

    async def plan(self) -> TunnelPlan:
        """Read the file and look the server up. Raises ConfigError, Transient, Misconfigured."""
        config = self._read()
        addresses = await self._addresses(config.host, config.port)
        # After a failure the next address has its turn.
        address = addresses[self._attempts % len(addresses)]
        lan = await KernelLinks().prefixes(self._interface) if self._options.lan else ()
        own = ipaddress.ip_interface(config.addresses[0])
        return TunnelPlan(
            interface=self._interface,
            endpoint=Endpoint(address, config.port),
            addresses=config.addresses,
            dns=config.dns,
            mark=0x7670_0000 | self._table,
            table=self._table,
            mtu=config.mtu,
            gateway=_gateway(own, config.dns),
            # Where the LAN and the tunnel have the same addresses, the tunnel's are meant.
            lan=tuple(each for each in lan if own.ip not in ipaddress.ip_network(each.prefix)),
            notes=config.notes,
        )

    async def up(self, plan: TunnelPlan) -> Tunnel:
        """Bring it up and wait for the first handshake. Raises Failure; then nothing is left."""
        config = self._config or self._read()
        self._attempts += 1
        await self.down()
        try:
            backend = await self._create()
            await process.must(
                ("wg", "setconf", plan.interface, "/dev/stdin"),
                doing="giving the tunnel its keys",
                stdin=config.setconf(plan.endpoint, plan.mark),
            )
            self._loosen_rp_filter()
            for family in routes.FAMILIES:
                lines = routes.bring_up(plan, family)
                await process.must(
                    ("ip", family, "-batch", "-"), doing="setting addresses and routes", stdin=_batch(lines)
                )
            if plan.dns:
                self._resolver.take(plan.dns)
            await self._first_handshake(plan)
        except BaseException:
            # Shielded, because it may be a cancellation that brought us here.
            await asyncio.shield(self.down())
            raise
        self._attempts -= 1
        return Tunnel(plan, backend, plan.gateway or "")

    async def check(self, tunnel: Tunnel) -> TunnelHealth:
        """One look. Raises LeaseLost if the device is gone, Transient if it cannot be looked at."""
        plan = tunnel.plan
        shown = await process.run(("wg", "show", plan.interface, "latest-handshakes"))
        moved = await process.run(("wg", "show", plan.interface, "transfer"))
        if shown.status != 0 or moved.status != 0:
            raise LeaseLost("looking at the tunnel", f"the device {plan.interface} is gone")
        for family in routes.FAMILIES:
            listing = await process.run(("ip", family, "-batch", "-"), stdin=_batch(routes.show(plan.table)))
            if routes.missing(plan, family, listing.stdout):
                # What stands already makes its line fail; `-force` goes on with the next.
                await process.run(("ip", family, "-force", "-batch", "-"), stdin=_batch(routes.bring_up(plan, family)))
        if plan.dns:
            self._resolver.take(plan.dns)
        _, received, sent = moved.stdout.split()[:3]
        return TunnelHealth(self._age(_last_field(shown.stdout)), int(received), int(sent))

    async def down(self) -> None:
        """Undo all of `up`. Raises Unavailable if the resolver's file cannot be put back."""
        for family in routes.FAMILIES:
            # Lines fail for what is not there.
            lines = routes.take_down(self._interface, self._table, family)
            await process.run(("ip", family, "-force", "-batch", "-"), stdin=_batch(lines))
        await self._end_process()
        self._restore_rp_filter()
        self._resolver.give_back()
        with contextlib.suppress(OSError):
            self._runtime.rmdir()

    # -- the device -----------------------------------------------------------------------------

    async def _create(self) -> str:
        made = await process.run(("ip", "link", "add", self._interface, "type", "wireguard"))
        if made.status == 0:
            return "wireguard (kernel)"
        doing = "starting wireguard-go"
        self._process = await process.spawn(("wireguard-go", self._interface), _FOREGROUND)
        until = time.monotonic() + 5
        while not self._listens():
            if self._process.returncode is not None or time.monotonic() > until:
                hint = "is /dev/net/tun usable, and is no other program using this device?"
                raise Transient(doing, f"the device {self._interface} does not come up", hint)
            await asyncio.sleep(0.005)
        return "wireguard-go"

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            try:
                control.connect(str(SOCKETS / f"{self._interface}.sock"))
            except OSError:
                return False
        return True

    async def _end_process(self) -> None:
        """Without its device wireguard-go ends by itself; it is only waited for."""
        if self._process is not None:
            try:
                async with asyncio.timeout(2):
                    await self._process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
            self._process = None
        if not self._listens():
            (SOCKETS / f"{self._interface}.sock").unlink(missing_ok=True)

    async def _first_handshake(self, plan: TunnelPlan) -> None:
        until, wait = time.monotonic() + PATIENCE, 0.01
        while time.monotonic() < until:
            shown = await process.run(("wg", "show", plan.interface, "latest-handshakes"))
            if shown.status == 0 and _last_field(shown.stdout):
                return
            await asyncio.sleep(wait)
            wait = min(0.2, wait * 1.3)
        raise NoAnswer(
            f"shaking hands with {plan.endpoint}",
            f"no answer in {PATIENCE:g} s",
            "is this machine online, is UDP let out, is its clock right, and is the key still valid at the provider?",
        )

    def _age(self, handshake: int) -> float | None:
        """Seconds since a handshake. `wg` speaks in wall-clock time, which may jump: ours is CLOCK_BOOTTIME."""
        if not handshake:
            return None
        now = self._clock.now()
        if handshake != self._handshake[0]:
            self._handshake = (handshake, now - max(0.0, self._clock.wall() - handshake))
        return now - self._handshake[1]

    # -- the machine ----------------------------------------------------------------------------

    def _loosen_rp_filter(self) -> None:
        """A strict reverse path filter drops the server's answers, since without mark they would go by the tunnel."""
        strict = [path for path in RP_FILTER.parent.parent.glob("*/rp_filter") if path.read_text().strip() == "1"]
        if strict:
            keep = self._runtime / "rp_filter"
            keep.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            keep.write_text(RP_FILTER.read_text())
            _write(RP_FILTER, "2")

    def _restore_rp_filter(self) -> None:
        keep = self._runtime / "rp_filter"
        if keep.exists():
            _write(RP_FILTER, keep.read_text())
            keep.unlink()

    # -- the configuration ----------------------------------------------------------------------

    def _read(self) -> WireGuardConfig:
        path = self._options.config
        try:
            text = Path(path).read_bytes().decode()
        except OSError as error:
            mistake = Mistake(path, error.strerror or str(error), "download it from your provider")
            raise ConfigError((mistake,)) from error
        except UnicodeDecodeError as error:
            raise ConfigError((Mistake(path, "it is not UTF-8 text", "download it anew"),)) from error
        self._config = parse(text, path)
        return self._config

    async def _addresses(self, host: str, port: int) -> tuple[str, ...]:
        """The server's addresses; those known last if nobody answers, since while blocked no resolver is asked."""
        keep = self._runtime / "endpoint.json"
        try:
            found = await resolve(host, port)
        except VpnpfError:
            with contextlib.suppress(OSError, ValueError):
                known = json.loads(keep.read_text())
                if known["host"] == host:
                    return tuple(str(ipaddress.ip_address(address)) for address in known["addresses"])
            raise
        if found != (host,):
            keep.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            keep.write_text(json.dumps({"host": host, "addresses": found}))
        return found


def interface_name(profile: str) -> str:
    """A device name of at most 15 characters that only this profile has."""
    name = f"vpf-{profile}"
    if len(name) <= _LONGEST_NAME and re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return name
    return f"vpf-{crc32(profile.encode()):08x}"


def _gateway(own: ipaddress.IPv4Interface | ipaddress.IPv6Interface, dns: tuple[str, ...]) -> str:
    """Where providers have their gateway: the resolver in the tunnel's own /24 if there is one, else its first host."""
    around = ipaddress.ip_network(f"{own.ip}/{min(24, own.network.prefixlen)}", strict=False)
    for server in dns:
        if ipaddress.ip_address(server) in around:
            return server
    return str(around.network_address + 1)


def _may_change_the_network() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1)
    return os.geteuid() == 0


def _kernel_has_wireguard() -> bool:
    if Path("/sys/module/wireguard").exists():
        return True
    modules = Path("/lib/modules", platform.release())
    for name in ("modules.dep", "modules.builtin"):
        with contextlib.suppress(OSError):
            if "/wireguard.ko" in Path(modules, name).read_text():
                return True
    return False


def _check_tun(path: Path) -> None:
    doing, hint = f"looking for {path}", "modprobe tun; in a container: --device /dev/net/tun"
    try:
        found = path.stat()
    except OSError as error:
        raise Unavailable(doing, error.strerror or str(error), hint) from error
    if not stat.S_ISCHR(found.st_mode) or (os.major(found.st_rdev), os.minor(found.st_rdev)) != _TUN:
        raise Unavailable(doing, "it is not the TUN device", hint)


def _last_field(shown: str) -> int:
    fields = shown.split()
    return int(fields[-1]) if fields else 0


def _batch(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise Unavailable(f"writing {path}", error.strerror or str(error), "is /proc/sys writable here?") from error
