"""A rule set as a value, and the one transaction that makes the kernel have it.

The way it is written matters. A chain's policy takes effect late in the kernel's commit, so a chain
that is deleted and made anew lets packets through for a moment although its policy is drop
(nft_chain_commit_drop_policy). So chains are made once and only ever flushed in place, and each ends
with a rule that drops.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import blake2s
from math import ceil

from msgspec import Struct

from vpnpf.model import Protocol

FAMILY_TABLE = "inet vpnpf"
REVISION = 1
"""Of the rules' shape; shown as the table's comment."""
COUNTER_PREFIX = "fwd_"
OPENING_PREFIX, USED_PREFIX = "open_", "used_"
ALL_PORTS = 65535


class Rule(Struct, frozen=True):
    """One rule: what it says, and in a few plain words why it is there."""

    text: str
    label: str
    """Letters, digits, spaces; part of the rule's comment."""

    @property
    def verdict(self) -> str:
        """What becomes of a packet that matches: "accept", "drop", "redirect", "dnat" or "masquerade"."""
        moved = (("redirect", " redirect to "), ("dnat", " dnat ip to "), ("dnat", " dnat ip6 to "))
        return next((verdict for verdict, text in moved if text in self.text), self.text.rsplit(" ", 1)[-1])


class Chain(Struct, frozen=True):
    """A base chain and its rules, in order."""

    name: str
    hook: str
    priority: int
    rules: tuple[Rule, ...]
    type: str = "filter"
    policy: str = "drop"

    def comments(self) -> tuple[str, ...]:
        """For each rule its label and a digest of its place and text, so that it can be told from all others."""
        return tuple(
            f"{rule.label} {_digest(f'{self.name} {place} {rule.text}')}" for place, rule in enumerate(self.rules, 1)
        )


class PortSet(Struct, frozen=True):
    """Ports that close by themselves."""

    name: str
    ports: tuple[tuple[int, float | None], ...]
    """(port, when it closes or None), sorted by port."""


class Element(Struct, frozen=True, gc=False):
    """A part of an opening, as nft writes it."""

    text: str
    """"6881", "6881-6889", "192.0.2.0/24 . 80", "203.0.113.9 . 80-90"."""
    key: str
    """The opening's `Opening.key`."""
    until: float | None = None
    """When the kernel closes it, or None."""


class OpeningSet(Struct, frozen=True):
    """Openings of one protocol and shape."""

    name: str
    type: str
    """"inet_service", "ipv4_addr . inet_service" or "ipv6_addr . inet_service"."""
    interval: bool
    """Whether elements may be ranges and prefixes. Each has a counter of its own then."""
    elements: tuple[Element, ...]
    used: str = ""
    """Name of the set that the kernel adds single ports to when they are used, with a counter for each: 10,000 counters
    that are mostly 0 would cost more than the ports."""

    @property
    def where_counted(self) -> str:
        """Name of the set with the counters."""
        return self.used or self.name


class Ruleset(Struct, frozen=True):
    """All that our table holds."""

    chains: tuple[Chain, ...]
    sets: tuple[PortSet, ...] = ()
    counters: tuple[str, ...] = ()
    openings: tuple[OpeningSet, ...] = ()


Held = Mapping[str, Mapping[str, float | None]]
"""What the kernel has in sets of openings: name of the set -> element's text -> when it closes or None."""
LENIENT = 2.5
"""Seconds that an element in the kernel may end late and stay: both the kernel and we round to seconds."""


class Leftover(Struct, frozen=True):
    """An object of our table that is in the way of a rule set."""

    kind: str
    """As nft names it: "chain", "set", "counter", ..."""
    name: str


def identifier(name: str) -> str:
    """A forward's name as part of an nft identifier; different names stay different.

    nft takes letters, digits and `_ - .` there; everything else, the dot too, becomes .xx for each byte.
    """
    safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
    encoded = name.encode(errors="surrogatepass")
    return "".join(chr(byte) if chr(byte) in safe else f".{byte:02x}" for byte in encoded)


def counter_name(forward: str, protocol: Protocol) -> str:
    """Name of the counter of a forward's port; the set of its ports has the same name."""
    return f"{COUNTER_PREFIX}{identifier(forward)}_{protocol}"


def counter_of(name: str) -> tuple[str, Protocol] | None:
    """The forward and protocol that a counter belongs to: the inverse of `counter_name`; None: not one of ours."""
    body, _, protocol = name.removeprefix(COUNTER_PREFIX).rpartition("_")
    if not name.startswith(COUNTER_PREFIX) or protocol not in set(Protocol):
        return None
    first, *rest = body.split(".")
    try:
        encoded = first.encode() + b"".join(bytes.fromhex(part[:2]) + part[2:].encode() for part in rest)
        return encoded.decode(errors="surrogatepass"), Protocol(protocol)
    except ValueError:
        return None


def script(
    ruleset: Ruleset,
    now: float,
    leftovers: Iterable[Leftover] = (),
    held: Held | None = None,
    alike: Collection[OpeningSet] = (),
) -> str:
    """The transaction for `nft -f`, one command a line. Ports whose time is over by `now` are left out.

    Sets of openings in `held` get only what differs, so that what stays is neither closed nor counted anew; the others
    are filled afresh. Those in `alike` are known to be as they should be and are left alone.
    """
    left_alone = {id(each) for each in alike}
    fill = [each for each in ruleset.openings if id(each) not in left_alone]
    return "\n".join(_lines(ruleset, now, tuple(leftovers), fill, held or {})) + "\n"


def seconds_left(expires_at: float, now: float) -> int:
    """Whole seconds until then, rounded up: a port must not close before its lease ends."""
    return ceil(expires_at - now)


def _lines(
    ruleset: Ruleset, now: float, leftovers: tuple[Leftover, ...], fill: list[OpeningSet], held: Held
) -> Iterator[str]:
    # The comment counts only when the table is new. Adding without flags also wakes a table made dormant.
    yield f'add table {FAMILY_TABLE} {{ comment "vpnpf rules {REVISION}"; }}'
    yield f"flush table {FAMILY_TABLE}"
    for old in leftovers:
        yield f"delete {old.kind} {FAMILY_TABLE} {old.name}"
    for chain in ruleset.chains:
        base = f"type {chain.type} hook {chain.hook} priority {chain.priority}; policy {chain.policy};"
        yield f"add chain {FAMILY_TABLE} {chain.name} {{ {base} }}"
    for counter in ruleset.counters:
        yield f"add counter {FAMILY_TABLE} {counter}"
    for ports in ruleset.sets:
        yield f"add set {FAMILY_TABLE} {ports.name} {{ type inet_service; flags timeout; }}"
        yield f"flush set {FAMILY_TABLE} {ports.name}"
        elements = ", ".join(
            str(port) if until is None else f"{port} timeout {seconds_left(until, now)}s"
            for port, until in ports.ports
            if until is None or until > now
        )
        if elements:
            yield f"add element {FAMILY_TABLE} {ports.name} {{ {elements} }}"
    for openings in fill:
        yield from _filled(openings, now, held.get(openings.name))
    for chain in ruleset.chains:
        for rule, comment in zip(chain.rules, chain.comments(), strict=True):
            yield f'add rule {FAMILY_TABLE} {chain.name} {rule.text} comment "{comment}"'


def _filled(openings: OpeningSet, now: float, held: Mapping[str, float | None] | None) -> Iterator[str]:
    where = f"{FAMILY_TABLE} {openings.name}"
    if held is None:
        kind = "flags interval, timeout; counter;" if openings.interval else f"flags timeout; size {ALL_PORTS};"
        yield f"add set {where} {{ type {openings.type}; {kind} }}"
        yield f"flush set {where}"
    if openings.used:
        yield f"add set {FAMILY_TABLE} {openings.used} {{ type inet_service; flags dynamic; size {ALL_PORTS}; }}"
    there = held or {}
    fresh, staying = [], set()
    for element in openings.elements:
        if element.until is None or element.until > now:
            if element.text in there and _ends_alike(there[element.text], element.until):
                staying.add(element.text)
            else:
                fresh.append(element)
    if len(staying) < len(there):
        # First: the kernel takes no interval that overlaps one it has.
        yield f"delete element {where} {{ {', '.join(text for text in there if text not in staying)} }}"
    if fresh:
        yield f"add element {where} {{ {', '.join(_timed(element, now) for element in fresh)} }}"


def _ends_alike(held: float | None, wanted: float | None) -> bool:
    return held is wanted if held is None or wanted is None else -1.0 <= held - wanted <= LENIENT


def _timed(element: Element, now: float) -> str:
    return element.text if element.until is None else f"{element.text} timeout {seconds_left(element.until, now)}s"


def _digest(text: str) -> str:
    return blake2s(text.encode(), digest_size=4).hexdigest()
