"""What leaks onto the client's cable, counted at the ISP's end, also beside a busy tunnel.

The kernel leaves the tunnel's own packets out before they reach us, so that thousands a second cost nothing; all
else is judged by `mock_provider.capture.leak`, and a count still proves by its control frame that it could see.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections import Counter
from collections.abc import Iterable
from typing import Self

from mock_provider.capture import PACKET_OUTGOING, Capture, Packet, leak
from mock_provider.topology import Lab
from mock_provider.wireguard import Place
from tests.faults.probes import ENDPOINTS

SO_ATTACH_FILTER = 26
LOAD_BYTE, LOAD_HALF, LOAD_WORD = 0x30, 0x28, 0x20
LOAD_HALF_INDEXED, LOAD_HEADER_LENGTH = 0x48, 0xB1
EQUAL, SET, RETURN = 0x15, 0x45, 0x06
PACKET_TYPE = 0xFFFFF004
"""SKF_AD_OFF + SKF_AD_PKTTYPE: which way it goes."""
WHOLE = 0x40000


def filter_of(places: Iterable[Place]) -> bytes:
    """Instructions of the classic BPF: drop what goes to the client, and UDP from it to one of these servers."""
    servers = [(int.from_bytes(socket.inet_aton(place.address), "big"), place.port) for place in places]
    # (code, value, what is next if it holds, if not); "" is the next line.
    lines: list[tuple[int, int, str, str]] = [
        (LOAD_BYTE, PACKET_TYPE, "", ""),
        (EQUAL, PACKET_OUTGOING, "drop", ""),
        (LOAD_HALF, 12, "", ""),
        (EQUAL, 0x0800, "", "keep"),
        (LOAD_BYTE, 23, "", ""),
        (EQUAL, socket.IPPROTO_UDP, "", "keep"),
        (LOAD_HALF, 20, "", ""),
        (SET, 0x1FFF, "keep", ""),
        (LOAD_HEADER_LENGTH, 14, "", ""),
    ]
    for number, (address, port) in enumerate(servers):
        other = f"server {number}"
        lines += [(LOAD_WORD, 30, "", ""), (EQUAL, address, "", other)]
        lines += [(LOAD_HALF_INDEXED, 16, "", ""), (EQUAL, port, "drop", other)]
        lines.append((-1, 0, other, ""))
    labels: dict[str, int] = {}
    code = []
    for line in lines:
        if line[0] < 0:
            labels[line[2]] = len(code)
        else:
            code.append(line)
    labels |= {"keep": len(code), "drop": len(code) + 1}
    made = b""
    for place, (what, value, yes, no) in enumerate(code):
        jumps = [labels[each] - place - 1 if each else 0 for each in (yes, no)]
        made += struct.pack("=HBBI", what, *jumps, value)
    return made + struct.pack("=HBBI", RETURN, 0, 0, WHOLE) + struct.pack("=HBBI", RETURN, 0, 0, 0)


class Leaks(Capture):
    """Packets that went around the tunnel of any of these servers."""

    def __init__(self, lab: Lab, places: Iterable[Place] = (Place(),)) -> None:
        self._places = tuple(places)
        tests = [leak(place.address, place.port) for place in self._places]
        super().__init__(
            lab.router.socket, "p-client", lab.client.socket, "eth0", lambda packet: all(test(packet) for test in tests)
        )

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        code = filter_of(self._places)
        held = ctypes.create_string_buffer(code)
        program = struct.pack("HL", len(code) // 8, ctypes.addressof(held))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        return self

    def by_kind(self, since: int = 0) -> Counter[str]:
        """What was seen from that number on, by the name of the probe."""
        return Counter(map(name_of, self.packets[since:]))


def name_of(packet: Packet) -> str:
    """The probe that a packet was, or what else it is."""
    known = ENDPOINTS.get((packet.destination, packet.destination_port))
    return known or f"protocol {packet.protocol} to {packet.destination} port {packet.destination_port}"
