"""Openings that get in each other's way: one that is there twice, that changes nothing, or that overlaps another. Pure.

Two openings overlap if a packet could come in by both. One is refused then, also where the other ends earlier: which of
them let a packet in, and which of them is unused, could not be told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_network

from msgspec import Struct

from vpnpf.model import Opening, Protocol

_ANYBODY = ("0.0.0.0/0", "::/0")
Prefix = tuple[int, int, int]
"""IP version, length, and as many leading bits as a number."""
_BITS = {4: 32, 6: 128}


class Mark(Struct):
    """The opening that reaches furthest of those at a place."""

    last: int
    index: int


def check_list(openings: Sequence[Opening]) -> list[tuple[int, str, str]]:
    """(index, what is wrong, hint) of each opening that is in another's way, in the order of the list.

    Of two, the one that adds nothing is named, and otherwise the later one. Takes time in proportion to the openings
    times the different lengths of their prefixes.
    """
    found: dict[int, tuple[str, str]] = {}
    for one, other in _pairs(openings):
        index, what, hint = _judged(openings, *sorted((one, other)))
        found.setdefault(index, (what, hint))
    return [(index, *found[index]) for index in sorted(found)]


def _pairs(openings: Sequence[Opening]) -> Iterator[tuple[int, int]]:
    """Pairs that overlap: at least one of each opening that begins within another."""
    prefixes = [_prefixes(opening) for opening in openings]
    lengths = {
        version: sorted({length for each in prefixes for kind, length, _ in each if kind == version})
        for version in _BITS
    }
    for protocol in Protocol:
        at: dict[Prefix, Mark] = {}
        """By prefix."""
        below: dict[Prefix, Mark] = {}
        """By every wider prefix of those."""
        chosen = (index for index, opening in enumerate(openings) if opening.protocol is protocol)
        for index in sorted(chosen, key=lambda index: (openings[index].first, -openings[index].last, index)):
            opening = openings[index]
            for prefix in prefixes[index]:
                wider = [_cut(prefix, length) for length in lengths[prefix[0]] if length < prefix[1]]
                marks = [below.get(prefix), at.get(prefix), *map(at.get, wider)]
                for mark in marks:
                    if mark is not None and mark.last >= opening.first:
                        yield mark.index, index
                _reach(at, prefix, opening.last, index)
                for each in wider:
                    _reach(below, each, opening.last, index)


def _prefixes(opening: Opening) -> list[Prefix]:
    found = map(ip_network, opening.sources or _ANYBODY)
    return [
        (each.version, each.prefixlen, int(each.network_address) >> (each.max_prefixlen - each.prefixlen))
        for each in found
    ]


def _cut(prefix: Prefix, length: int) -> Prefix:
    version, given, bits = prefix
    return (version, length, bits >> (given - length))


def _reach(marks: dict[Prefix, Mark], prefix: Prefix, last: int, index: int) -> None:
    mark = marks.get(prefix)
    if mark is None or last > mark.last:
        marks[prefix] = Mark(last, index)


def _judged(openings: Sequence[Opening], earlier: int, later: int) -> tuple[int, str, str]:
    one, other = openings[earlier], openings[later]
    if _covers(one, other):
        if _covers(other, one):
            return later, f"{said(other)} is there twice", "remove one of them"
        return later, _shadowed(other, one), "remove one of them"
    if _covers(other, one):
        return earlier, _shadowed(one, other), "remove one of them"
    return (
        later,
        f"{said(other)} overlaps {said(one)}",
        "make one entry of both, or let them begin where the other ends",
    )


def _shadowed(inner: Opening, outer: Opening) -> str:
    return f"{said(inner)} changes nothing: {said(outer)} lets all of it in"


def _covers(outer: Opening, inner: Opening) -> bool:
    if not outer.first <= inner.first <= inner.last <= outer.last:
        return False
    wide, narrow = _prefixes(outer), _prefixes(inner)
    return all(
        any(kind == each[0] and length <= each[1] and _cut(each, length)[2] == bits for kind, length, bits in wide)
        for each in narrow
    )


def said(opening: Opening) -> str:
    """An opening in an error: what was written, and what that stands for."""
    ports = f"{opening.name} ({opening})" if opening.name else str(opening)
    return f"{ports} from {', '.join(opening.sources)}" if opening.sources else ports
