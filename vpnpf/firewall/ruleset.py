"""A rule set as a value, and the one transaction that makes the kernel have it.

The way it is written matters. A chain's policy takes effect late in the kernel's commit, so a chain
that is deleted and made anew lets packets through for a moment although its policy is drop
(nft_chain_commit_drop_policy). So chains are made once and only ever flushed in place, and each ends
with a rule that drops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2s
from math import ceil

from msgspec import Struct

from vpnpf.model import Protocol

FAMILY_TABLE = "inet vpnpf"
REVISION = 1
"""Of the rules' shape; shown as the table's comment."""
COUNTER_PREFIX = "fwd_"


class Rule(Struct, frozen=True):
    """One rule: what it says, and in a few plain words why it is there."""

    text: str
    label: str
    """Letters, digits, spaces; part of the rule's comment."""

    @property
    def verdict(self) -> str:
        """What becomes of a packet that matches: "accept", "drop" or "redirect"."""
        return "redirect" if " redirect to " in self.text else self.text.rsplit(" ", 1)[-1]


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


class Ruleset(Struct, frozen=True):
    """All that our table holds."""

    chains: tuple[Chain, ...]
    sets: tuple[PortSet, ...] = ()
    counters: tuple[str, ...] = ()


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


def script(ruleset: Ruleset, now: float, leftovers: Iterable[Leftover] = ()) -> str:
    """The transaction for `nft -f`, one command a line. Ports whose time is over by `now` are left out."""
    return "\n".join(_lines(ruleset, now, tuple(leftovers))) + "\n"


def seconds_left(expires_at: float, now: float) -> int:
    """Whole seconds until then, rounded up: a port must not close before its lease ends."""
    return ceil(expires_at - now)


def _lines(ruleset: Ruleset, now: float, leftovers: tuple[Leftover, ...]) -> Iterator[str]:
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
    for chain in ruleset.chains:
        for rule, comment in zip(chain.rules, chain.comments(), strict=True):
            yield f'add rule {FAMILY_TABLE} {chain.name} {rule.text} comment "{comment}"'


def _digest(text: str) -> str:
    return blake2s(text.encode(), digest_size=4).hexdigest()
