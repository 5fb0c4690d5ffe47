"""The allow-list as sets of the kernel: one for each protocol and shape, so that 10,000 entries cost no packet anything.

Single ports stand in hash sets, ranges in interval sets, and what is limited to sources in interval sets of pairs.
Each element has its own end, kept by the kernel with no process alive, and a counter. The sets stand under every
mode, so that a change of the mode touches rules only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from itertools import pairwise

from vpnpf.errors import Misconfigured
from vpnpf.firewall.ruleset import OPENING_PREFIX, USED_PREFIX, Element, OpeningSet, Rule
from vpnpf.model import Opening, Protocol

DOING = "writing the rules of the allow list"
ON_THE_LIST = "on the allow list"
MATCHES = {
    "": "{} dport",
    "_ranges": "{} dport",
    "_ip": "ip saddr . {} dport",
    "_ip6": "ip6 saddr . {} dport",
}
TYPES = {
    "": "inet_service",
    "_ranges": "inet_service",
    "_ip": "ipv4_addr . inet_service",
    "_ip6": "ipv6_addr . inet_service",
}
NAMES = {protocol: str(protocol) for protocol in Protocol}
Prefix = IPv4Network | IPv6Network
Span = tuple[int, int, Opening]


def opening_sets(openings: Sequence[Opening]) -> tuple[OpeningSet, ...]:
    """The sets of an allow-list. Raises Misconfigured if two openings overlap, or a source is no prefix."""
    prefixes: dict[str, Prefix] = {}
    elements: dict[str, list[Element]] = {f"{protocol}{shape}": [] for protocol in Protocol for shape in TYPES}
    anybody: dict[Protocol, list[Span]] = {protocol: [] for protocol in Protocol}
    limited: dict[Protocol, dict[Prefix, list[Span]]] = {protocol: {} for protocol in Protocol}
    for each in openings:
        first, last, ends_at, protocol, name = each.first, each.last, each.ends_at, each.protocol, NAMES[each.protocol]
        ports = str(first) if first == last else f"{first}-{last}"
        if not each.sources:
            anybody[protocol].append((first, last, each))
            elements[name if first == last else f"{name}_ranges"].append(Element(ports, f"{ports}/{name}", ends_at))
            continue
        key = each.key
        own = [prefixes.get(source) or prefixes.setdefault(source, prefix_of(source)) for source in each.sources]
        for prefix in own if len(own) == 1 else collapsed(own):
            limited[protocol].setdefault(prefix, []).append((first, last, each))
            shape = "_ip" if prefix.version == 4 else "_ip6"  # noqa: PLR2004 - the version
            elements[f"{name}{shape}"].append(Element(f"{written(prefix)} . {ports}", key, ends_at))
    for spans in anybody.values():
        _apart(spans)
    for by_prefix in limited.values():
        _apart_by_source(by_prefix)
    return tuple(_set_of(name, tuple(some)) for name, some in sorted(elements.items()) if some)


def _set_of(name: str, elements: tuple[Element, ...]) -> OpeningSet:
    protocol, _, shape = name.partition("_")
    used = "" if shape else f"{USED_PREFIX}{protocol}"
    return OpeningSet(f"{OPENING_PREFIX}{name}", TYPES[f"_{shape}" if shape else ""], bool(shape), elements, used)


def opening_rules(tunnel: str, sets: Iterable[OpeningSet]) -> Iterator[Rule]:
    """The rules that let new flows in to what is on the list; an element is looked up, and so counted, last."""
    for each in sets:
        _, protocol, *shape = each.name.split("_")
        match = MATCHES["_" + shape[0] if shape else ""].format(protocol)
        counted = f"add @{each.used} {{ {protocol} dport counter }} " if each.used else ""
        yield Rule(f"{tunnel} ct state new {match} @{each.name} {counted}accept", ON_THE_LIST)


def prefix_of(source: str) -> Prefix:
    """A source as a prefix. Raises Misconfigured."""
    try:
        if "%" in source:
            raise ValueError(f"{source.partition('%')[0]}%... has a zone")
        return ip_network(source)
    except ValueError as error:
        raise Misconfigured(DOING, str(error), "give sources as addresses or prefixes, such as 192.0.2.0/24") from None


def written(prefix: Prefix) -> str:
    """A prefix as nft lists it: an address alone without its length."""
    return str(prefix.network_address) if prefix.prefixlen == prefix.max_prefixlen else str(prefix)


def collapsed(prefixes: Iterable[Prefix]) -> list[Prefix]:
    """The same addresses in as few prefixes as can be, IPv4 first."""
    several = tuple(prefixes)
    four = collapse_addresses(each for each in several if isinstance(each, IPv4Network))
    six = collapse_addresses(each for each in several if isinstance(each, IPv6Network))
    return [*four, *six]


def from_sources(sources: Iterable[str], family: str = "") -> tuple[str, ...]:
    """Matches for nft, one per address family, or for this one alone; of anybody: one that is empty; of nobody: none.

    Raises Misconfigured.
    """
    prefixes = collapsed(prefix_of(source) for source in sources)
    if not prefixes:
        return ("",)
    by_family = {"ip": [written(p) for p in prefixes if p.version == 4]}  # noqa: PLR2004 - the version
    by_family["ip6"] = [written(p) for p in prefixes if p.version == 6]  # noqa: PLR2004 - the version
    return tuple(
        f"{each} saddr {{ {', '.join(some)} }} " for each, some in by_family.items() if some and family in {"", each}
    )


def _apart(spans: list[Span]) -> None:
    spans.sort(key=lambda span: span[:2])
    for one, other in pairwise(spans):
        if other[0] <= one[1]:
            raise _overlap(one[2], other[2])


def _apart_by_source(by_prefix: dict[Prefix, list[Span]]) -> None:
    """Of one prefix, and of a prefix and those it lies in."""
    lengths = {(prefix.version, prefix.prefixlen) for prefix in by_prefix}
    for spans in by_prefix.values():
        _apart(spans)
    for prefix, spans in by_prefix.items():
        for version, length in lengths:
            if version == prefix.version and length < prefix.prefixlen:
                wider = by_prefix.get(prefix.supernet(new_prefix=length), [])
                for first, last, opening in spans:
                    place = bisect_right(wider, last, key=lambda span: span[0])
                    if place and wider[place - 1][1] >= first:
                        raise _overlap(wider[place - 1][2], opening)


def _overlap(one: Opening, other: Opening) -> Misconfigured:
    hint = "leave one of them out, or set them apart"
    return Misconfigured(DOING, f"two entries overlap: {one.key} and {other.key}", hint)
