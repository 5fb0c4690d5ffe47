"""The kernel's account of the sets of openings: what stands there, until when, and how often it was used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from msgspec import Struct

from vpnpf.firewall.ruleset import ALL_PORTS, OpeningSet, Ruleset
from vpnpf.model import Hits

Object = Mapping[str, Any]
"""One object of nft's JSON (libnftables-json(5)); its shape is checked where it matters."""
Used = Mapping[tuple[str, str], Hits]
"""(name of the set, element's text) -> hits, of elements that were used at all."""

SLACK = 10.0
"""Seconds that a port may close late: rounding, and the time a transaction may take."""
UNUSED = Hits()


class Entry(Struct, frozen=True, gc=False):
    """One element as the kernel lists it."""

    left: float | None
    """Seconds until it closes, or None."""
    packets: int
    octets: int


NO_COUNTER = Entry(None, 0, 0)


def is_set_of(wanted: OpeningSet, found: Object) -> bool:
    """Whether a set in the kernel has the shape that was asked for, with counters."""
    kinds = wanted.type.split(" . ")
    kind = kinds if len(kinds) > 1 else kinds[0]
    if not wanted.interval:
        return found.get("type") == kind and found.get("flags") == ["timeout"]
    counted = found.get("stmt") == [{"counter": None}]
    return found.get("type") == kind and found.get("flags") == ["interval", "timeout"] and counted


def is_set_of_used(found: Object) -> bool:
    """Whether a set in the kernel can hold the ports that were used; nft 1.0.6 keeps the flag dynamic to itself."""
    kind = (found.get("type"), found.get("size"))
    return kind == ("inet_service", ALL_PORTS) and found.get("flags") in (None, ["dynamic"])


def entries(found: Object) -> dict[str, Entry]:
    """The elements of a set by their text; what cannot be understood has a text that is nobody's."""
    read: dict[str, Entry] = {}
    for each in found.get("elem", ()):
        if isinstance(each, int):
            read[str(each)] = NO_COUNTER
            continue
        inner: Object = each["elem"] if isinstance(each, dict) and "elem" in each else {"val": each}
        counter: Object = inner.get("counter") or {}
        left = inner.get("expires", inner.get("timeout"))
        read[_text(inner.get("val"))] = Entry(left, counter.get("packets", 0), counter.get("bytes", 0))
    return read


def held(sets: Mapping[str, Mapping[str, Entry]], listed_at: float, now: float) -> dict[str, dict[str, float | None]]:
    """What is in the sets by `now` if nobody changed them since `listed_at`."""
    return {
        name: {
            text: None if entry.left is None else listed_at + entry.left
            for text, entry in some.items()
            if entry.left is None or listed_at + entry.left + 1.0 > now
        }
        for name, some in sets.items()
    }


def used(sets: Mapping[str, Mapping[str, Entry]]) -> Used:
    """The counters that are not 0."""
    return {
        (name, text): Hits(entry.packets, entry.octets)
        for name, some in sets.items()
        for text, entry in some.items()
        if entry is not NO_COUNTER and entry.packets
    }


def hits_of_openings(wanted: Ruleset, totals: Used) -> tuple[tuple[str, Hits], ...]:
    """For each opening the hits of all its elements."""
    sums: dict[str, Hits] = {}
    for some in wanted.openings:
        counted = some.where_counted
        for element in some.elements:
            more, before = totals.get((counted, element.text)), sums.get(element.key)
            if more is None:
                if before is None:
                    sums[element.key] = UNUSED
            elif before is None or before is UNUSED:
                sums[element.key] = more
            else:
                sums[element.key] = Hits(before.packets + more.packets, before.octets + more.octets)
    return tuple(sorted(sums.items()))


def differences(wanted: OpeningSet, found: Mapping[str, Entry], now: float) -> Iterator[str]:
    """What is not as wanted, each in one line."""
    seen = 0
    for element in wanted.elements:
        entry, until = found.get(element.text), element.until
        if entry is None:
            if until is None or now < until:
                yield f"set {wanted.name}: {element.text} is closed"
            continue
        seen += 1
        if until is None and entry.left is not None:
            yield f"set {wanted.name}: {element.text} closes by itself, but should not"
        elif until is not None and (entry.left is None or now + entry.left > until + SLACK):
            yield f"set {wanted.name}: {element.text} stays open longer than it should"
        elif until is not None and entry.left is not None and now + entry.left < until - SLACK:
            yield f"set {wanted.name}: {element.text} closes earlier than it should"
    if seen < len(found):
        texts = {element.text for element in wanted.elements}
        for extra in found.keys() - texts:
            yield f"set {wanted.name}: {extra} is open, but should not be"


def _text(value: object) -> str:
    """A value as `Element.text` writes it."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        # nft writes the last part of such addresses as IPv4, which is not the canonical form.
        return str(ip_address(value)) if ":" in value and "." in value else value
    if isinstance(value, dict):
        match value:
            case {"range": [first, last]}:
                return f"{first}-{last}"
            case {"concat": [source, port]}:
                return f"{_text(source)} . {_text(port)}"
            case {"prefix": {"addr": address, "len": length}}:
                return f"{_text(address)}/{length}"
    return f"what nft calls {value}"
