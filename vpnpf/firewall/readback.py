"""What the kernel says it has, against what it should have.

`nft -j list table` is the kernel's own account. A rule is known by its comment, which holds a digest of
the text it was made from; what the rule does is known by a fingerprint of the kernel's account, taken
right after it was applied, so that a rule edited under its old comment is seen too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import TypeVar

from msgspec import DecodeError, Struct, field, json

from vpnpf.firewall.elements import SLACK, Entry, Object, differences, entries, is_set_of, is_set_of_used
from vpnpf.firewall.ruleset import (
    OPENING_PREFIX,
    USED_PREFIX,
    Chain,
    Leftover,
    OpeningSet,
    PortSet,
    Rule,
    Ruleset,
    counter_of,
)
from vpnpf.model import Hits, Protocol

Key = TypeVar("Key")
Counts = Mapping[Key, Hits]
Tally = Counts[tuple[str, Protocol]]
"""(forward, protocol) -> hits."""

_VOLATILE = re.compile(rb'"(?:handle|packets|bytes|index)":\d+,?')
"""Members of the account that differ between equal rule sets; inside a string the quotes would be escaped."""


class Listing(Struct, frozen=True):
    """Our table as the kernel lists it."""

    flags: object = None
    """Of the table; anything at all, such as dormant, is not ours."""
    objects: tuple[tuple[str, Object], ...] = ()
    """(kind, object) of all that is in the table, rules too, in the kernel's order."""
    openings: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict)
    """Elements of the sets of openings, by the set's name and the element's text."""

    def named(self, kind: str) -> dict[str, Object]:
        """The objects of a kind by name."""
        return {str(thing.get("name")): thing for each, thing in self.objects if each == kind}

    def rules(self, chain: str) -> list[Object]:
        """The rules of a chain in order."""
        return [thing for kind, thing in self.objects if kind == "rule" and thing.get("chain") == chain]


class Fingerprint(Struct, frozen=True):
    """What the rules did when they were applied: chain -> the kernel's account of each rule."""

    rules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def parse(text: str) -> Listing | None:
    """Read nft's JSON; None: there is no table of ours in it. Raises ValueError if it is no such JSON."""
    try:
        document = json.decode(text)
    except DecodeError as error:
        raise ValueError(str(error)) from None
    if not isinstance(document, dict) or not isinstance(document.get("nftables"), list):
        raise ValueError("not a listing of nft")  # noqa: TRY004 - one kind for all that is unreadable
    flags: object = None
    seen = False
    objects: list[tuple[str, Object]] = []
    for entry in document["nftables"]:
        for kind, thing in entry.items():
            if kind == "table":
                seen, flags = True, thing.get("flags")
            elif kind != "metainfo":
                objects.append((kind, thing))
    if not seen:
        return None
    sets = [thing for kind, thing in objects if kind == "set"]
    openings = {
        name: entries(thing)
        for thing in sets
        if (name := str(thing.get("name"))).startswith((OPENING_PREFIX, USED_PREFIX))
    }
    return Listing(flags, tuple(objects), openings)


def fingerprint(listing: Listing) -> Fingerprint:
    """The kernel's account of all rules, without what changes by itself."""
    return Fingerprint({chain: tuple(map(_account, listing.rules(chain))) for chain in listing.named("chain")})


def difference(wanted: Ruleset, listing: Listing | None, now: float, known: Fingerprint | None = None) -> str:
    """The first thing that is not as wanted, in one line; empty: all is. `known` is of the time of applying."""
    return next(_differences(wanted, listing, now, known), "")


def tally(listing: Listing | None) -> Tally:
    """All named counters of forwards, also of those whose port is closed now."""
    found: dict[tuple[str, Protocol], Hits] = {}
    for name, counter in (listing.named("counter") if listing else {}).items():
        forward = counter_of(name)
        if forward is not None:
            found[forward] = Hits(int(counter.get("packets", 0)), int(counter.get("bytes", 0)))
    return found


def carry(before: Counts[Key], raw_before: Counts[Key], raw: Counts[Key]) -> Counts[Key]:
    """Go on counting where a counter was emptied by somebody: totals never go back.

    `before` are the totals so far, `raw_before` and `raw` the kernel's counters then and now.
    """
    totals = dict(before)
    for key, hits in raw.items():
        last, total = raw_before.get(key, Hits()), before.get(key, Hits())
        if hits.packets < last.packets:
            last = Hits()
        totals[key] = Hits(total.packets + hits.packets - last.packets, total.octets + hits.octets - last.octets)
    return totals


def leftovers(wanted: Ruleset, listing: Listing | None, *, counters: bool) -> tuple[Leftover, ...]:
    """Objects of our table that the rule set has no place for, in an order in which they can be deleted.

    Counters without a place count only if `counters`: they are kept while a process lives, so that a
    port that closes and opens again goes on counting.
    """
    if listing is None:
        return ()
    chains = {chain.name: chain for chain in wanted.chains}
    sets = {ports.name for ports in wanted.sets}
    openings = {each.name: each for each in wanted.openings}
    used = {each.used for each in wanted.openings if each.used}
    found: list[Leftover] = []
    for kind, thing in listing.objects:
        name = str(thing.get("name"))
        keep = (
            kind == "rule"
            or (kind == "chain" and name in chains and not _chain_differs(chains[name], thing))
            or (kind == "set" and name in sets and _is_port_set(thing))
            or (kind == "set" and name in openings and is_set_of(openings[name], thing))
            or (kind == "set" and name in used and is_set_of_used(thing))
            or (kind == "counter" and (name in wanted.counters or (not counters and counter_of(name) is not None)))
        )
        if not keep:
            found.append(Leftover(kind, name))
    order = {"chain": 0, "map": 1, "set": 2}
    return tuple(sorted(found, key=lambda old: order.get(old.kind, 3)))


def summary(wanted: Ruleset) -> str:
    """What stands, in a few words."""
    ports = ", ".join(f"{port}/{each.name.rpartition('_')[2]}" for each in wanted.sets for port, _ in each.ports)
    count = sum(len(chain.rules) for chain in wanted.chains)
    looked_up = "".join(rule.text for chain in wanted.chains for rule in chain.rules)
    listed = len({each.key for some in wanted.openings if f"@{some.name} " in looked_up for each in some.elements})
    entries_read = f", {listed} on the allow list" if listed else ""
    return (
        f"{count} rules read back"
        + (f", open: {ports}" if ports else "" if listed else ", no port open")
        + entries_read
    )


def _differences(wanted: Ruleset, listing: Listing | None, now: float, known: Fingerprint | None) -> Iterator[str]:
    if listing is None:
        yield "the table inet vpnpf is gone"
        return
    if listing.flags is not None:
        yield f"the table inet vpnpf has the flags {listing.flags}"
    found = listing.named("chain")
    for chain in wanted.chains:
        if chain.name not in found:
            yield f"chain {chain.name} is gone"
            continue
        differs = _chain_differs(chain, found[chain.name])
        if differs:
            yield f"chain {chain.name}: {differs}"
        yield from _rules_differ(chain, listing.rules(chain.name), (known or Fingerprint()).rules.get(chain.name))
    yield from _objects_differ(wanted, listing, now)


def _objects_differ(wanted: Ruleset, listing: Listing, now: float) -> Iterator[str]:
    sets = listing.named("set")
    for ports in wanted.sets:
        yield from _set_differs(ports, sets.get(ports.name), now)
    for openings in wanted.openings:
        yield from _openings_differ(openings, listing, sets.get(openings.name), now)
        if openings.used and openings.used not in sets:
            yield f"set {openings.used} is gone"
    for name in wanted.counters:
        if name not in listing.named("counter"):
            yield f"counter {name} is gone"
    for old in leftovers(wanted, listing, counters=False):
        yield f"{old.kind} {old.name} is not ours"


def _chain_differs(wanted: Chain, found: Object) -> str:
    pairs = {"type": wanted.type, "hook": wanted.hook, "prio": wanted.priority, "policy": wanted.policy}
    return ", ".join(
        f"{key} is {found.get(key)} instead of {value}" for key, value in pairs.items() if found.get(key) != value
    )


def _rules_differ(chain: Chain, found: list[Object], known: tuple[str, ...] | None) -> Iterator[str]:
    comments = chain.comments()
    seen = [str(rule.get("comment", "")) for rule in found]
    for place, (rule, comment, there) in enumerate(zip_longest(chain.rules, comments, seen), 1):
        if comment == there:
            continue
        where = f"chain {chain.name}: rule {place}"
        if comment is not None and comment not in seen:
            yield f"{where} ({rule.label}) is missing"
        elif comment is None or there not in comments:
            yield f"{where} is not ours"
        else:
            yield f"{where} ({rule.label}) is not in its place"
    for place, (rule, entry) in enumerate(zip(chain.rules, found, strict=False), 1):
        changed = known is not None and (place > len(known) or _account(entry) != known[place - 1])
        if changed or not _ends_with(rule, entry):
            yield f"chain {chain.name}: rule {place} ({rule.label}) was changed"
    if chain.policy == "drop" and not (found and _drops_all(found[-1])):
        yield f"chain {chain.name}: the last rule does not drop everything"


def _set_differs(ports: PortSet, found: Object | None, now: float) -> Iterator[str]:
    if found is None:
        yield f"set {ports.name} is gone"
        return
    if not _is_port_set(found):
        yield f"set {ports.name} was changed"
        return
    elements = dict(map(_element, found.get("elem", [])))
    for port, until in ports.ports:
        if port not in elements:
            if until is None or now < until:
                yield f"set {ports.name}: port {port} is closed"
            continue
        left = elements.pop(port)
        if until is None and left is not None:
            yield f"set {ports.name}: port {port} closes by itself, but should not"
        elif until is not None and (left is None or now + left > until + SLACK):
            yield f"set {ports.name}: port {port} stays open longer than its lease"
    for extra in elements:
        yield f"set {ports.name}: port {extra} is open, but should not be"


def _openings_differ(wanted: OpeningSet, listing: Listing, found: Object | None, now: float) -> Iterator[str]:
    if found is None:
        yield f"set {wanted.name} is gone"
    elif not is_set_of(wanted, found):
        yield f"set {wanted.name} was changed"
    else:
        yield from differences(wanted, listing.openings.get(wanted.name, {}), now)


def _element(entry: object) -> tuple[object, float | None]:
    """(port, seconds until it closes or None)."""
    if isinstance(entry, dict):
        inner = entry.get("elem", {})
        return inner.get("val"), inner.get("expires", inner.get("timeout"))
    return entry, None


def _is_port_set(found: Object) -> bool:
    return found.get("type") == "inet_service" and found.get("flags") == ["timeout"]


def _statements(rule: Object) -> list[Object]:
    expressions = rule.get("expr", [])
    return expressions if isinstance(expressions, list) else []


def _ends_with(wanted: Rule, found: Object) -> bool:
    statements = _statements(found)
    return bool(statements) and wanted.verdict in statements[-1]


def _drops_all(rule: Object) -> bool:
    return [next(iter(each)) for each in _statements(rule)] == ["counter", "drop"]


def _account(rule: Object) -> str:
    # As text: taken apart in Python, this is a quarter of what an idle daemon does.
    return _VOLATILE.sub(b"", json.encode(rule, order="sorted")).decode()
