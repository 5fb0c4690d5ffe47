"""What the faults make of an answer's bytes, and when, how often and from where they are sent. Pure.

The layouts are those of NAT-PMP (RFC 6886 sections 3.2 and 3.3) and of PCP (RFC 6887 sections 7.2 and 11.1), so the
switches mean the same in both. Ports and lifetimes are changed in grants alone: an answer to a deletion, or an
error, names none.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mock_provider.faults import Faults

Endpoint = tuple[str, int]

FALL = 10
"""Seconds by which the epoch falls short in each reset of a flood, besides the time since the last one."""
RESETS = 1000
"""After so many the epoch goes up again, so that it never gets to 0, where no further reset would show."""
LENGTHS = (0, 1, 2, 3, 4, 8, 12, 15, 16, 17, 24, 60, 1100, 1101)
"""Of random datagrams, in octets: those that mean something to NAT-PMP or PCP, and their neighbours."""


class Source(StrEnum):
    """Where a datagram is sent from."""

    GATEWAY = "gateway"
    PORT = "port"
    """Another port of the gateway."""
    ADDRESS = "address"
    """Another address."""


@dataclass(frozen=True, slots=True)
class Send:
    """A datagram that has to go out."""

    data: bytes
    to: Endpoint
    delay: float = 0.0
    """Seconds from now."""
    source: Source = Source.GATEWAY
    interface: str = ""
    """For multicast: the device that it leaves by."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a field is."""

    offset: int
    length: int

    def read(self, data: bytes) -> int:
        return int.from_bytes(data[self.offset : self.offset + self.length])

    def write(self, data: bytes, value: bytes) -> bytes:
        return data[: self.offset] + value + data[self.offset + self.length :]


Layout = Mapping[str, Place]

_NATPMP = {"result": Place(2, 2), "epoch": Place(4, 4)}
_NATPMP_ADDRESS = {**_NATPMP, "address": Place(8, 4)}
_PORTS = {"internal": Place(8, 2), "external": Place(10, 2), "lifetime": Place(12, 4)}
_NATPMP_MAPPING = {**_NATPMP, **_PORTS}
_PCP = {"result": Place(3, 1), "epoch": Place(8, 4)}
_PCP_PORTS = {"internal": Place(40, 2), "external": Place(42, 2), "lifetime": Place(4, 4), "address": Place(44, 16)}
_PCP_MAPPING = {**_PCP, **_PCP_PORTS}


def layout(answer: bytes) -> Layout:
    """The fields that an answer has; none where only version and opcode are sure."""
    version, opcode, length = answer[:1], answer[1:2], len(answer)
    if version == b"\x02" and length >= 24:
        return _PCP_MAPPING if opcode == b"\x81" and length >= 60 else _PCP
    if version == b"\x00" and opcode == b"\x80" and length == 12:
        return _NATPMP_ADDRESS
    if version == b"\x00" and opcode in (b"\x81", b"\x82") and length == 16:
        return _NATPMP_MAPPING
    # "Unsupported version" bears any opcode (RFC 6886 section 3.5).
    return _NATPMP if version == b"\x00" and length == 8 and answer[2:4] == b"\0\1" else {}


class Mangler:
    """Makes datagrams out of answers. Remembers those that are held back, and where the epoch went astray."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._held: list[tuple[Send, ...]] = []
        self._anchor: int | None = None
        """The true epoch when it began to run at another rate."""
        self._flood: float | None = None
        """When the flood of resets began."""

    def sends(self, answer: bytes, to: Endpoint, now: float, *, opcode: int) -> tuple[Send, ...]:
        """The datagrams that an answer to a request becomes, in order; empty: it is held back."""
        faults = self._faults
        if not faults.meets(opcode):
            return (Send(answer, to),)
        source = Source.GATEWAY
        if faults.wrong_source:
            source = Source.PORT if faults.wrong_source == "port" else Source.ADDRESS
        group = [Send(self._random_bytes(), to, self._delay(), source) for _ in range(faults.noise)]
        group += [Send(self.mangle(answer, now), to, self._delay(), source)] * (1 + faults.chance(faults.duplicate))
        if faults.reorder < 2:
            self._held.clear()
            return tuple(group)
        self._held.append(tuple(group))
        if len(self._held) < faults.reorder:
            return ()
        turned = tuple(send for held in reversed(self._held) for send in held)
        self._held.clear()
        return turned

    def mangle(self, answer: bytes, now: float) -> bytes:
        """The answer as it is said."""
        faults = self._faults
        if faults.chance(faults.garbage):
            return self._random_bytes()
        answer = self._say(answer, now)
        for offset, value in enumerate((faults.says_version, faults.says_opcode)):
            if value is not None:
                answer = Place(offset, 1).write(answer, bytes([value]))
        return answer[: faults.shorten] + faults.dice.randbytes(faults.lengthen)

    def _say(self, answer: bytes, now: float) -> bytes:
        """Put other values into the fields; their places are those of the true version and opcode."""
        faults, places = self._faults, layout(answer)
        if not places:
            return answer
        values: dict[str, int | None] = {"epoch": self._epoch(places["epoch"].read(answer), now)}
        if places["result"].read(answer) == 0:
            if "lifetime" in places and places["lifetime"].read(answer):
                values["internal"] = faults.says_internal_port
                values["external"] = faults.says_external_port
                values["lifetime"] = faults.says_lifetime
            if "address" in places and faults.says_address is not None:
                inside_ipv6 = 0xFFFF << 32 if places["address"].length == 16 else 0  # RFC 4291 section 2.5.5.2
                values["address"] = inside_ipv6 | int(ipaddress.IPv4Address(faults.says_address))
        for name, value in values.items():
            if value is not None:
                answer = places[name].write(answer, value.to_bytes(places[name].length))
        return answer

    def _epoch(self, true: int, now: float) -> int:
        """The epoch as it is said; the true one as soon as nothing is wrong with it."""
        faults, said = self._faults, true
        if faults.epoch_rate == 1:
            self._anchor = None
        else:
            self._anchor = true if self._anchor is None else self._anchor
            said = self._anchor + math.floor((true - self._anchor) * faults.epoch_rate)
        if not faults.reset_flood:
            self._flood = None
        else:
            self._flood = now if self._flood is None else self._flood
            resets = int((now - self._flood) * faults.reset_flood)
            said += math.ceil(FALL + 1 / faults.reset_flood) * (RESETS - resets % RESETS)
        return max(0, said) & 0xFFFFFFFF

    def _delay(self) -> float:
        delay = self._faults.delay
        return self._faults.dice.uniform(*delay) if isinstance(delay, tuple) else delay

    def _random_bytes(self) -> bytes:
        dice = self._faults.dice
        return dice.randbytes(dice.choice(LENGTHS))
