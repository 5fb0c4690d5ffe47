"""What the values of switches look like when they are written down, and how they are read. Pure.

Every reader raises ValueError with the cause, for a person.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

LONGEST = 366 * 86400
"""Seconds; nobody plans further than this, and what is longer is a slip of the pen."""
_UNITS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|[smhd])")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_WHOLE = re.compile(r"[0-9]{1,10}")
_DECIMAL = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,6})?")
_OPCODES = {"address": 0, "udp": 1, "tcp": 2}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value."""

    shape: str
    """How it is written, for a list of switches; empty: there is no value, the switch is just on."""
    read: Callable[[str], object]


def duration(text: str) -> float:
    """Seconds of "90s", "2m", "1h30m", "250ms" or "0"."""
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        unit = ": a unit is missing (ms, s, m, h or d)" if _DECIMAL.fullmatch(text) else ""
        raise ValueError(f'"{text}" is no time like 90s, 2m, 1h30m or 250ms{unit}')
    seconds = sum((Decimal(part[1]) * _UNITS[part[2]] for part in _PART.finditer(text)), Decimal(0))
    if seconds > LONGEST:
        raise ValueError(f'"{text}" is longer than a year')
    if seconds * 1000 % 1:
        raise ValueError(f'"{text}" is finer than 1ms')
    return float(seconds)


def positive(text: str) -> float:
    """A duration that is not 0."""
    seconds = duration(text)
    if seconds == 0:
        raise ValueError("it has to be longer than 0")
    return seconds


def span(text: str) -> float | tuple[float, float]:
    """A duration, or a range of them: "100ms-2s"."""
    low, dash, high = text.partition("-")
    if not dash:
        return positive(text)
    least, most = duration(low), positive(high)
    if least >= most:
        raise ValueError(f'"{text}" does not go from less to more')
    return least, most


def chance(text: str) -> float:
    """A probability above 0: "20%"."""
    if not text.endswith("%") or not _DECIMAL.fullmatch(text[:-1]) or not 0 < float(text[:-1]) <= 100:
        raise ValueError(f'"{text}" is no chance like 20%')
    return float(Decimal(text[:-1]) / 100)


def rate(text: str) -> float:
    """So many times a second: "10/s"."""
    if not text.endswith("/s") or not _DECIMAL.fullmatch(text[:-2]) or not 0 < float(text[:-2]) <= 1000:
        raise ValueError(f'"{text}" is no rate like 10/s, at most 1000/s')
    return float(text[:-2])


def factor(text: str) -> float:
    """A number that may be below 0: "0.5", "-1"."""
    if not _DECIMAL.fullmatch(text) or not -1000 <= float(text) <= 1000:
        raise ValueError(f'"{text}" is no factor like 0.5 or -1, from -1000 to 1000')
    return float(text)


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader for whole numbers within bounds."""

    def read(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError(f'"{text}" is no whole number from {low} to {high}')
        return int(text)

    return read


def seconds(low: int, high: int) -> Callable[[str], int]:
    """A reader for whole seconds within bounds, "0s" or "4294967295s"; other units are not taken, to be exact."""

    def read(text: str) -> int:
        if not text.endswith("s") or not _WHOLE.fullmatch(text[:-1]) or not low <= int(text[:-1]) <= high:
            raise ValueError(f'"{text}" is no number of whole seconds from {low}s to {high}s')
        return int(text[:-1])

    return read


def one_of(*words: str) -> Callable[[str], str]:
    """A reader for one of a few words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f'"{text}" is not one of {", ".join(words)}')
        return text

    return read


def address(text: str) -> str:
    """An IPv4 address."""
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError(f'"{text}" is no IPv4 address') from None


def opcodes(text: str) -> frozenset[int]:
    """Requests by name: "udp" or "address,tcp"."""
    names = text.split(",")
    if unknown := [name for name in names if name not in _OPCODES]:
        raise ValueError(f'"{unknown[0]}" is not one of {", ".join(_OPCODES)}')
    return frozenset(_OPCODES[name] for name in names)


FLAG = Kind("", lambda _text: True)
CHANCE = Kind("CHANCE", chance)
COUNT = Kind("COUNT", whole(1, 1_000_000))
GROUP = Kind("COUNT", whole(2, 1000))
SPAN = Kind("TIME[-TIME]", span)
RATE = Kind("RATE", rate)
FACTOR = Kind("FACTOR", factor)
BYTE = Kind("0..255", whole(0, 255))
CODE = Kind("0..65535", whole(0, 65535))
OCTETS = Kind("OCTETS", whole(0, 1500))
GRANT = Kind("SECONDS", seconds(1, 86400))
LIFETIME = Kind("SECONDS", seconds(0, 2**32 - 1))
ADDRESS = Kind("ADDRESS", address)
SOURCE = Kind("port|address", one_of("port", "address"))
REQUESTS = Kind("address,udp,tcp", opcodes)
