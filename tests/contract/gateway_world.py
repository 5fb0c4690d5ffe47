"""The world of a provider that asks a gateway in more than one protocol."""

from __future__ import annotations

import struct

from mock_provider import pcp_wire
from mock_provider.pcp import PcpMachine
from tests.contract.provider_world import EXIT, World
from vpnpf.errors import Transient
from vpnpf.interfaces import IgdMapping, Provider
from vpnpf.model import Protocol

OPCODES = {1: Protocol.UDP, 2: Protocol.TCP}


class GatewayWorld(World):
    """A gateway that speaks PCP, NAT-PMP or both."""

    def __init__(self, plugin: type[Provider], options: dict[str, object], speaks: str, lifetime: int) -> None:
        super().__init__(plugin, options, "rfc", lifetime)
        self.machine = PcpMachine(
            self.faults, now=self.clock.now(), speaks=speaks, lifetime=lifetime, exit_address=EXIT, choose=min
        )

    @property
    def requests(self) -> list[tuple[Protocol, int, int, int]]:
        """The mapping requests that were sent, in both protocols: protocol, internal port, wish, lifetime."""
        found = []
        for sent in self.io.sent:
            asked = pcp_wire.asked(sent.data) if sent.data[0] == 2 else None
            if asked:
                found.append((Protocol.TCP if sent.data[36] == 6 else Protocol.UDP, *asked))
            elif sent.data[0] == 0 and sent.data[1] in OPCODES:
                found.append((OPCODES[sent.data[1]], *struct.unpack("!HHI", sent.data[4:12])))
        return found

    @property
    def versions(self) -> list[int]:
        """The protocol of each datagram that was sent: 2 for PCP, 0 for NAT-PMP."""
        return [sent.data[0] for sent in self.io.sent]


class FakeIgd:
    """A UPnP gateway (`interfaces.Igd`) with one client."""

    def __init__(self, address: str | None = EXIT, *, permanent: bool = False) -> None:
        self.address = address
        self.permanent = permanent
        self.table: dict[tuple[Protocol, int], IgdMapping] = {}
        self.taken: set[tuple[Protocol, int]] = set()
        """What somebody else has: the next free port is given instead."""
        self.fails: set[Protocol] = set()
        """For these it says no."""

    async def external_address(self) -> str:
        if self.address is None:
            raise Transient("asking for the address", "it has none")
        return self.address

    async def add_mapping(
        self, protocol: Protocol, external_port: int, internal_port: int, lifetime: int
    ) -> IgdMapping:
        if protocol in self.fails:
            raise Transient("asking for a mapping", "error 501")
        while (protocol, external_port) in self.taken:
            external_port += 1
        seconds = None if self.permanent else float(lifetime)
        self.table[protocol, external_port] = IgdMapping(external_port, internal_port, "10.2.0.2", seconds)
        return self.table[protocol, external_port]

    async def delete_mapping(self, protocol: Protocol, external_port: int) -> None:
        self.table.pop((protocol, external_port), None)

    async def get_mapping(self, protocol: Protocol, external_port: int) -> IgdMapping | None:
        return self.table.get((protocol, external_port))

    @property
    def mapped(self) -> set[tuple[Protocol, int, int]]:
        return {(protocol, external, each.internal_port) for (protocol, external), each in self.table.items()}
