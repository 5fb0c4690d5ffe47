"""Mutated NAT-PMP and PCP datagrams against our parsers: `python -m tests.fuzz.datagrams`, the same as `make fuzz`.

Each datagram goes through every parser, and what that says is held against an oracle that was written apart.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.figures import Figure, show
from tests.fuzz import oracle
from vpnpf.model import Protocol
from vpnpf.protocol import announcement, natpmp, pcp

NONCE = bytes(range(1, 13))
INTERNAL = 50123
WANTED = pcp.MapRequest("10.2.0.2", NONCE, Protocol.TCP, INTERNAL, 7200)
MAPPED = bytes(10) + b"\xff\xff"
EDGES = {
    1: (0, 1, 2, 127, 128, 129, 130, 255),
    2: (0, 1, 2, 5, INTERNAL, 65535),
    4: (0, 1, 60, 86400, 86401, 2**32 - 1),
}


def _answers() -> list[bytes]:
    """Valid answers, of which all others are made."""
    natpmp_mapping = [
        struct.pack("!BBHIHHI", 0, 128 + opcode, result, 9999, inside, 41234, 60)
        for opcode in (1, 2)
        for result in (0, 2)
        for inside in (0, INTERNAL)
    ]
    header = struct.pack("!BBBBII12x", 2, 129, 0, 0, 7200, 9999)
    body = struct.pack("!12sB3xHH16s", NONCE, 6, INTERNAL, 41234, MAPPED + bytes((198, 51, 100, 11)))
    wide = body[:20] + bytes.fromhex("20010db8000000000000000000000001")
    prefer, filtered = struct.pack("!BxH", 2, 0), struct.pack("!BxH", 3, 20) + bytes(20)
    error = struct.pack("!BBBBII12x", 2, 129, 0, 8, 0, 9999)
    return [
        struct.pack("!BBHI4B", 0, 128, 0, 9999, 198, 51, 100, 11),
        struct.pack("!BBHI4B", 0, 128, 3, 9999, 0, 0, 0, 0),
        *natpmp_mapping,
        struct.pack("!BBHI", 0, 128, 1, 9999),
        struct.pack("!BBBBII12x", 2, 128, 0, 0, 0, 9999),
        struct.pack("!BBBBII12x", 2, 128, 0, 4, 0, 9999) + filtered,
        header + body,
        header + wide,
        header + body + prefer,
        header + body + filtered + prefer + filtered,
        error + body,
        struct.pack("!BBBBII12x", 3, 129, 0, 1, 30, 9999),
        struct.pack("!BBBBII12x", 2, 129, 0, 1, 30, 9999),
    ]


ANSWERS = _answers()


class Mutator:
    """Datagrams without end, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._ways = (self.flip, self.cut, self.extend, self.splice, self.random, self.edit, self.edit, self.edit)

    def next(self) -> bytes:
        """One more: a valid answer after one to three changes."""
        draw = self._dice.random
        data = ANSWERS[int(draw() * len(ANSWERS))]
        for _ in range(1 + int(draw() * 3)):
            data = self._ways[int(draw() * len(self._ways))](data)
        return data

    def flip(self, data: bytes) -> bytes:
        if not data:
            return data
        bit = self._dice.randrange(len(data) * 8)
        made = bytearray(data)
        made[bit // 8] ^= 1 << bit % 8
        return bytes(made)

    def cut(self, data: bytes) -> bytes:
        return data[: self._dice.randrange(len(data) + 1)]

    def extend(self, data: bytes) -> bytes:
        longest = self._dice.choice((4, 20, 40, 1100))
        return data + self._dice.randbytes(self._dice.randrange(longest + 1))

    def splice(self, data: bytes) -> bytes:
        other = self._dice.choice(ANSWERS)
        return data[: self._dice.randrange(len(data) + 1)] + other[self._dice.randrange(len(other) + 1) :]

    def random(self, data: bytes) -> bytes:
        return self._dice.randbytes(self._dice.choice((*range(28), 56, 60, 64, 80, 84, 1100, 1104)))

    def edit(self, data: bytes) -> bytes:
        """Give a field, or what looks like one, a value from the edge of its range or any other."""
        dice = self._dice
        size = dice.choice((1, 2, 4))
        if len(data) < size:
            return data
        at = dice.randrange(0, len(data) - size + 1)
        if size > 1:
            at -= at % size
        value = dice.choice(EDGES[size]) if dice.random() < 0.7 else dice.getrandbits(8 * size)
        return data[:at] + value.to_bytes(size, "big") + data[at + size :]


def _said(answer):  # noqa: PLR0911 - one kind of answer a line
    """What a parser of ours returned, as the oracle has it."""
    match answer:
        case natpmp.ErrorAnswer(result):
            return "error", result
        case natpmp.AddressAnswer(epoch, address):
            return "address", epoch, address
        case natpmp.MappingAnswer(epoch, internal, external, lifetime):
            return "mapping", epoch, internal, external, lifetime
        case pcp.AnnounceAnswer(epoch):
            return "announce", epoch
        case pcp.NatPmpOnly(epoch):
            return "natpmp", epoch
        case pcp.ErrorAnswer(result, lifetime, epoch, version):
            return "error", result, lifetime, epoch, version
        case pcp.MapAnswer(epoch, internal, external, address, lifetime, options):
            return "map", epoch, internal, external, address, lifetime, options
        case announcement.Announcement(version, epoch, address):
            return version, epoch, address
    return None


PARSERS = {
    "natpmp.parse_address": (natpmp.parse_address, oracle.natpmp_address),
    "natpmp.parse_mapping, udp": (
        lambda data: natpmp.parse_mapping(data, Protocol.UDP, INTERNAL),
        lambda data: oracle.natpmp_mapping(data, 1, INTERNAL),
    ),
    "natpmp.parse_mapping, tcp, internal port 0": (
        lambda data: natpmp.parse_mapping(data, Protocol.TCP, 0),
        lambda data: oracle.natpmp_mapping(data, 2, 0),
    ),
    "pcp.parse_announce": (pcp.parse_announce, oracle.pcp_announce),
    "pcp.parse_map": (
        lambda data: pcp.parse_map(data, WANTED),
        lambda data: oracle.pcp_map(data, NONCE, 6, INTERNAL),
    ),
    "announcement.parse": (announcement.parse, oracle.announcement),
}


@dataclass
class Result:
    """What came of it."""

    datagrams: int = 0
    seconds: float = 0.0
    accepted: Counter[str] = field(default_factory=Counter)
    """By parser."""
    raised: list[tuple[str, str, str]] = field(default_factory=list)
    """(parser, datagram in hex, error)."""
    wrongly: list[tuple[str, str]] = field(default_factory=list)
    """Accepted although invalid, or with another meaning."""
    dropped: list[tuple[str, str]] = field(default_factory=list)
    """Valid, and not accepted."""


def fuzz(count: int, seed: int) -> Result:
    """So many datagrams."""
    result, mutator, begun = Result(), Mutator(seed), time.monotonic()
    for data in [*ANSWERS, *(mutator.next() for _ in range(count))]:
        for name, (parse, judge) in PARSERS.items():
            try:
                said = _said(parse(data))
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                result.raised.append((name, data.hex(), repr(error)))
                continue
            true = judge(data)
            if said is not None:
                result.accepted[name] += 1
            if said != true:
                (result.dropped if said is None else result.wrongly).append((name, data.hex()))
    result.datagrams, result.seconds = count, time.monotonic() - begun
    return result


def main() -> int:
    """Fuzz, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    result = fuzz(options.count, options.seed)
    rows = [
        Figure("datagrams", result.datagrams, "", at_least=options.count),
        Figure("exceptions", len(result.raised), "", at_most=0),
        Figure("invalid, and accepted or misread", len(result.wrongly), "", at_most=0),
        Figure("valid, and dropped", len(result.dropped), "", at_most=0),
        *(Figure(f"accepted by {name}", result.accepted[name], "", at_least=1) for name in PARSERS),
        Figure("real time", result.seconds, "s"),
    ]
    code = show(f"{options.count:,} datagrams through {len(PARSERS)} parsers, seed {options.seed}", rows)
    for found in (*result.raised[:10], *result.wrongly[:10], *result.dropped[:10]):
        print(*found)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
