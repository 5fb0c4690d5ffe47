"""A provider and its far side, as the provider contract drives them: no sockets, and virtual time."""

from __future__ import annotations

import ast
import struct
from pathlib import Path

from mock_provider.faults import Faults
from mock_provider.natpmp import Machine
from vpnpf.interfaces import Provider
from vpnpf.leases import from_store, merged
from vpnpf.model import ForwardSpec, Lease, MappingRequest, Protocol
from vpnpf.testing import FakeClock, FakeIO, Fate, Sent, a_tunnel

US, GATEWAY, EXIT = "10.2.0.2", "10.2.0.1", "198.51.100.11"
Mapped = set[tuple[Protocol, int, int]]


class World:
    """A provider, the tunnel, the gateway at its end, and time."""

    def __init__(self, plugin: type[Provider], options: dict[str, object], mode: str, lifetime: int) -> None:
        self.plugin, self.options = plugin, options
        self.clock = FakeClock()
        self.faults = Faults()
        self.machine = Machine(
            self.faults, now=self.clock.now(), mode=mode, lifetime=lifetime, exit_address=EXIT, choose=min
        )
        self.io = FakeIO(self._far_side, clock=self.clock)
        self.tunnel = a_tunnel(GATEWAY, f"{US}/32")
        self.provider = plugin(options)

    def _far_side(self, sent: Sent) -> bytes | Fate:
        if (sent.address, sent.port) != (GATEWAY, 5351):
            return Fate.SILENT
        return self.machine.handle(sent.data, US, sent.at).answer or Fate.SILENT

    def restart(self) -> None:
        """A new process: nothing is remembered but what is stored."""
        self.provider = self.plugin(self.options)

    async def acquire(self, spec: ForwardSpec | None = None, previous: Lease | None = None) -> Lease:
        request = MappingRequest(spec or ForwardSpec("torrent"), previous)
        return await self.provider.acquire(self.io, self.tunnel, request)

    async def renew(self, held: Lease, spec: ForwardSpec | None = None) -> Lease:
        request = MappingRequest(spec or ForwardSpec("torrent", protocols=held.protocols), held, renewal=True)
        return await self.provider.acquire(self.io, self.tunnel, request)

    async def release(self, lease: Lease) -> None:
        await self.provider.release(self.io, self.tunnel, lease)

    @property
    def mapped(self) -> Mapped:
        """What the gateway forwards: protocol, external port, and our port where its packets arrive."""
        self.machine.expire(self.clock.now())
        return {(rule.protocol, rule.external_port, rule.internal_port) for rule in self.machine.table}

    @property
    def requests(self) -> list[tuple[Protocol, int, int, int]]:
        """The mapping requests that were sent: protocol, internal port, wish, lifetime."""
        protocols = {1: Protocol.UDP, 2: Protocol.TCP}
        return [
            (protocols[sent.data[1]], *struct.unpack("!HHI", sent.data[4:12]))
            for sent in self.io.sent
            if sent.data[1] in protocols
        ]


def mappings_of(*leases: Lease) -> Mapped:
    return {(protocol, lease.external_port, lease.internal_port) for lease in leases for protocol in lease.protocols}


def stored(lease: Lease) -> Lease:
    """The lease as the next process reads it."""
    return from_store(merged(None, "here", (("torrent", lease),)))["here"]["torrent"]


def imported_by(path: Path) -> set[str]:
    """The modules that a file names in its import statements, wherever they stand in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a provider is one file"
            names |= {f"vpnpf.{alias.name}" for alias in node.names} if node.module == "vpnpf" else {str(node.module)}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in {
            "__import__",
            "import_module",
        }:
            names.add("importlib")
    return names
