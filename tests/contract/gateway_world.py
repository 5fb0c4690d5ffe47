"""The worlds of providers that ask a gateway by datagrams: NAT-PMP alone, or PCP and UPnP too."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import ClassVar

from mock_provider import pcp_wire
from mock_provider.faults import Faults
from mock_provider.natpmp import Machine
from mock_provider.pcp import PcpMachine
from tests.contract.provider_world import EXIT, GATEWAY, US, Mapped, World
from vpnpf.errors import Transient
from vpnpf.interfaces import IgdMapping, Provider
from vpnpf.model import Protocol
from vpnpf.testing import FakeClock, FakeIO, Fate, Sent, a_tunnel

OPCODES = {1: Protocol.UDP, 2: Protocol.TCP}
NOT_AUTHORIZED, UNSUPPORTED_OPCODE = 2, 5
"""Result codes of RFC 6886 section 3.5."""
SPOILT: dict[str, Callable[[bytes, bytes], bytes]] = {
    "nothing": lambda _asked, _answer: b"",
    "one octet": lambda _asked, answer: answer[:1],
    "cut off": lambda _asked, answer: answer[: min(len(answer) - 1, 7)],
    "the request itself": lambda asked, _answer: asked,
    "backwards": lambda _asked, answer: answer[::-1],
    "zeros": lambda _asked, _answer: bytes(60),
    "ones": lambda _asked, _answer: b"\xff" * 60,
    "ones without an end": lambda _asked, _answer: b"\xff" * 65507,
    "a web page": lambda _asked, _answer: b"HTTP/1.1 200 OK\r\n\r\n<html>\x1b]0;you\x07</html>",
}


class NatPmpWorld(World):
    """A gateway that speaks NAT-PMP."""

    hostilities: ClassVar[tuple[str, ...]] = tuple(SPOILT)
    tokens: ClassVar[tuple[str, ...]] = (
        '{"gateway": 1, "internal": 0, "external": 1}',
        '{"gateway": "10.2.0.1", "internal": 70000, "external": 1}',
        '{"gateway": "10.2.0.1", "internal": -1, "external": 1}',
        '{"gateway": "192.0.2.1", "internal": 0, "external": 1}',
        '{"gateway": "", "internal": 49152, "external": 0}',
        '{"gateway": "10.2.0.1", "internal": null, "external": 1}',
    )

    def __init__(self, plugin: type[Provider], options: dict[str, object], mode: str, lifetime: int) -> None:
        self.faults = Faults()
        self._spoil: Callable[[bytes, bytes], bytes] | None = None
        super().__init__(plugin, options, FakeIO(self._far_side, clock=FakeClock()), a_tunnel(GATEWAY, f"{US}/32"))
        self.machine = Machine(
            self.faults, now=self.clock.now(), mode=mode, lifetime=lifetime, exit_address=EXIT, choose=min
        )

    def _far_side(self, sent: Sent) -> bytes | Fate:
        if (sent.address, sent.port) != (GATEWAY, 5351):
            return Fate.SILENT
        if self._spoil:
            # Nothing is obeyed: what it says is not what it holds.
            return self._spoil(sent.data, bytes((sent.data[0], 128 + sent.data[1], *bytes(14))))
        return self.machine.handle(sent.data, US, sent.at).answer or Fate.SILENT

    @property
    def mapped(self) -> Mapped:
        self.machine.expire(self.clock.now())
        return {(rule.protocol, rule.external_port, rule.internal_port) for rule in self.machine.table}

    def change_port(self) -> None:
        self.faults.rotate()

    def lose(self) -> None:
        self.machine.reset_epoch(self.clock.now())

    def deny(self) -> None:
        self.faults.result = NOT_AUTHORIZED

    def forbid(self) -> None:
        self.faults.result = UNSUPPORTED_OPCODE

    def silence(self) -> None:
        self.io.drop = True

    def refuse(self) -> None:
        self.io.refuse = True

    def hostile(self, name: str) -> None:
        self._spoil = SPOILT[name]

    def heal(self) -> None:
        super().heal()
        self.faults.result, self.io.drop, self.io.refuse, self._spoil = 0, False, False, None

    @property
    def requests(self) -> list[tuple[Protocol, int, int, int]]:
        """The mapping requests that were sent: protocol, internal port, wish, lifetime."""
        return [
            (OPCODES[sent.data[1]], *struct.unpack("!HHI", sent.data[4:12]))
            for sent in self.io.sent
            if sent.data[1] in OPCODES
        ]


class GatewayWorld(NatPmpWorld):
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
