"""Which of PIA's regions a tunnel goes to: those that were named, or the nearest with port forwarding."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Callable, Mapping

from vpnpf.api import AccountIO, Endpoint, Misconfigured, OutsideIO, Protocol, Region, Unavailable, Unsupported
from vpnpf_providers.pia_answer import number, shown
from vpnpf_providers.pia_list import META, Listed, Listing

AUTO = "auto"
NEAREST = 4
"""Regions that are gone to, one after another, if none was named."""
KEPT_FOR = 86400.0
"""Seconds that measured distances are used for."""
PATIENCE, LESS = 4.0, 1.5
"""Seconds for measuring all regions together: the first time, and if it is known how far they were."""
APART = 3600.0
"""Seconds between two tries to measure anew: while all is blocked each costs time, and brings nothing."""
RETRY = 300.0
"""Seconds until it is looked again whether a region is back."""
_DOING = "choosing a region of PIA"
_KEPT = "distances"
_LIST = "`vpnpf servers pia` lists them"
Distances = Mapping[str, float]
"""Seconds by region."""


def as_region(listing: Listing, listed: Listed) -> Region:
    """A region as everybody knows it."""
    return Region(
        id=listed.id,
        name=listed.name,
        country=listed.country,
        forwards=listed.forwards,
        knock=_knock(listing, listed),
        virtual=listed.virtual,
    )


async def chosen(io: OutsideIO, listing: Listing, wanted: tuple[str, ...], service: str) -> tuple[Listed, ...]:
    """Regions to go to, the best first. Raises Misconfigured, Unsupported."""
    named = {name: _named(listing, name) for name in wanted if name.casefold() != AUTO}
    for region in named.values():
        if not region.forwards:
            why = "has no port forwarding" + (": PIA forwards no ports in the United States" * (region.country == "US"))
            raise Misconfigured(_DOING, f"{_words(region)} {why}", await _way_out(io, listing, region, service))
    found: list[Listed] = []
    for name in wanted:
        if name in named:
            found += [named[name]] if _usable(named[name], service) else []
        else:
            found += await _nearest(io, listing, service)
    if not found and named:
        region = next(iter(named.values()))
        why = "is off at the moment" if region.offline else "has no servers for this kind of tunnel"
        raise Unsupported(_DOING, f"{_words(region)} {why}", await _way_out(io, listing, region, service), RETRY)
    if not found:
        raise Unsupported(_DOING, "no region has port forwarding at the moment", f"it is tried again; {_LIST}", RETRY)
    return tuple({region.id: region for region in found}.values())


def rank_of(wanted: tuple[str, ...], distances: Distances) -> Callable[[Listed], tuple[float, ...]]:
    """Regions as `chosen` would take them, by what is known: the smaller the better.

    While all is blocked, the servers of the one that was chosen are those that can be reached.
    """
    words = [each.casefold() for each in wanted]

    def rank(region: Listed) -> tuple[float, ...]:
        named = [words.index(word) for word in (region.id.casefold(), region.name.casefold()) if word in words]
        far = distances.get(region.id, math.inf)
        return min(named, default=len(words)), not region.forwards, not region.automatic, far

    return rank


def instead(listing: Listing, of: Listed, service: str, distances: Distances) -> Listed | None:
    """The nearest region with port forwarding: of the same country, else as measured."""
    others = [region for region in listing.regions if _usable(region, service) and region.id != of.id]

    def far(region: Listed) -> tuple[bool, bool, float]:
        return region.country != of.country, region.virtual, distances.get(region.id, math.inf)

    return min(others, key=far, default=None)


def hint_for(region: Listed | None) -> str:
    """The way out that a region is."""
    if region is None:
        return f"choose another region: {_LIST}"
    return f'the nearest that has it is {region.name}: set options.region = "{region.id}"; {_LIST}'


async def measured(io: OutsideIO, listing: Listing) -> Distances:
    """How far the regions with port forwarding are: as it was measured today, or now, or the last time."""
    kept, at = kept_distances(io)
    tried = number((io.store.load(_KEPT) or {}).get("tried")) or 0.0
    if kept and (0 <= io.wall() - at < KEPT_FOR or 0 <= io.wall() - tried < APART):
        return kept
    knocks = {
        knock: region.id
        for region in listing.regions
        if region.forwards and (knock := _knock(listing, region)) is not None
    }
    reached = await io.reach_all(tuple(knocks), LESS if kept else PATIENCE)
    found = {knocks[knock]: seconds for knock, seconds in reached.items() if knock in knocks}
    now = io.wall()
    if 2 * len(found) < len(kept):
        # While all is blocked the servers of the last offer answer, and nobody else: that is no measure of the others.
        found = {}
    with contextlib.suppress(Unavailable):  # it is measured anew the next time, then
        if found:
            io.store.save(_KEPT, {"at": now, "seconds": found})
        elif kept:
            io.store.save(_KEPT, {"at": at, "seconds": kept, "tried": now})
    return found or kept


def kept_distances(io: AccountIO) -> tuple[Distances, float]:
    """What was measured last, and when on the wall clock."""
    kept = io.store.load(_KEPT) or {}
    seconds, at = kept.get("seconds"), number(kept.get("at"))
    if not isinstance(seconds, dict) or at is None:
        return {}, 0.0
    by_region = {str(region): number(each) for region, each in seconds.items()}
    return {region: each for region, each in by_region.items() if each is not None and each >= 0}, at


async def _nearest(io: OutsideIO, listing: Listing, service: str) -> list[Listed]:
    usable = [region for region in listing.regions if _usable(region, service)]
    # Those that PIA's own client does not choose by itself only where there is nothing else.
    usable = [region for region in usable if region.automatic] or usable
    distances = await measured(io, listing)
    return sorted(usable, key=lambda region: distances.get(region.id, math.inf))[:NEAREST]


async def _way_out(io: OutsideIO, listing: Listing, region: Listed, service: str) -> str:
    found = instead(listing, region, service, kept_distances(io)[0])
    if found is not None and found.country != region.country:
        found = instead(listing, region, service, await measured(io, listing))
    return hint_for(found)


def _named(listing: Listing, name: str) -> Listed:
    """The region of this id or name. Raises Misconfigured."""
    by_word = {word.casefold(): region for region in listing.regions for word in (region.name, region.id)}
    found = by_word.get(name.casefold())
    if found is None:
        near = difflib.get_close_matches(name.casefold()[:80], by_word, n=1)
        hint = f'did you mean "{by_word[near[0]].id}" ({by_word[near[0]].name})? {_LIST}' if near else _LIST
        raise Misconfigured(_DOING, f'there is no region "{shown(name)}"', hint)
    return found


def _usable(region: Listed, service: str) -> bool:
    return region.forwards and not region.offline and bool(region.servers[service])


def _words(region: Listed) -> str:
    return f'"{region.id}"' if region.name == region.id else f"{region.name} ({region.id})"


def _knock(listing: Listing, region: Listed) -> Endpoint | None:
    servers = region.servers[META]
    return Endpoint(servers[0].address, listing.ports[META], Protocol.TCP) if servers and not region.offline else None
