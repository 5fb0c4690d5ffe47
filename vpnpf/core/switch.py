"""The provider's own switch: what it should be set to, and how what it says differs from that. Pure.

It is a second layer in front of ours, and never part of it: whatever it says or fails to do, the tunnel, the lease and
the rules on this machine stay as they are. Only numbers are compared: a provider knows neither sources nor ends.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import lru_cache

from msgspec.structs import replace

from vpnpf.core.policy import admits, inbound, why_shut
from vpnpf.core.state import ForwardState, Machine, SwitchState, heard
from vpnpf.events import Disagrees, Notice, SwitchSeen
from vpnpf.model import Opening, PolicyMode, Protocol, ProviderPolicy

SHOWN = 5
"""Ports named before the rest is only counted."""


def switch_for(machine: Machine, now: float) -> ProviderPolicy | None:
    """What the provider's switch should say; None: it has none, or which ports there are is not known yet."""
    policy = inbound(machine)
    if not machine.switchable or machine.tunnel is None or machine.stopping:
        return None
    if policy.mode is not PolicyMode.ALLOW_LIST:
        return ProviderPolicy(policy.mode)
    if any(_awaited(machine, forward) for forward in machine.forwards):
        return None
    openings = [entry for entry in policy.openings if entry.ends_at is None or entry.ends_at > now]
    return _listed((*openings, *_forwarded(machine)))


@lru_cache(maxsize=8)
def _listed(openings: tuple[Opening, ...]) -> ProviderPolicy:
    """The list as a provider is told it; remembered, since each step asks and there may be thousands."""
    return as_said(ProviderPolicy(PolicyMode.ALLOW_LIST, openings))


def _awaited(machine: Machine, forward: ForwardState) -> bool:
    """Whether a port is on its way that is not known yet: nobody is shut out for the moment that takes."""
    unknown = forward.lease is None and forward.wish is None and not forward.spec.shut
    return unknown and not machine.job(f"lease:{forward.spec.name}").failed


def _forwarded(machine: Machine) -> Iterator[Opening]:
    """External ports of the leases that the policy lets in; of one that is not held now, the port held last."""
    for forward in machine.forwards:
        if why_shut(machine, forward):
            continue
        for lease in filter(None, (forward.lease or forward.wish, forward.replaced)):
            port = lease.external_port
            for protocol in forward.spec.protocols:
                if admits(inbound(machine), forward.spec.internal_port or port, protocol):
                    yield Opening(port, port, protocol)


def normal(openings: Iterable[Opening]) -> tuple[Opening, ...]:
    """The same ports as the fewest ranges, sorted, without what a provider does not know."""
    merged: list[Opening] = []
    for entry in sorted(openings, key=lambda each: (each.protocol, each.first, each.last)):
        last = merged[-1] if merged else None
        if last is not None and last.protocol is entry.protocol and entry.first <= last.last + 1:
            merged[-1] = replace(last, last=max(last.last, entry.last))
        else:
            merged.append(Opening(entry.first, entry.last, entry.protocol))
    return tuple(sorted(merged))


def as_said(policy: ProviderPolicy) -> ProviderPolicy:
    """A policy so that it can be compared: ports mean something in one mode only, and a list of none blocks all."""
    ports = normal(policy.ports) if policy.mode is PolicyMode.ALLOW_LIST else ()
    empty = policy.mode is PolicyMode.ALLOW_LIST and not ports
    return ProviderPolicy(PolicyMode.BLOCK_ALL if empty else policy.mode, ports)


@lru_cache(maxsize=8)
def difference(seen: ProviderPolicy, wanted: ProviderPolicy) -> str:
    """How what a provider lets in differs from what is wanted, in words after "the provider"; empty: it does not.

    Both are as `as_said` makes them.
    """
    if seen == wanted:
        return ""
    if wanted.mode is seen.mode is PolicyMode.ALLOW_LIST:
        said = (("blocks", _beyond(wanted, seen)), ("lets in", _beyond(seen, wanted)))
        return " and ".join(f"{what} {named(ports)}" for what, ports in said if ports)
    if wanted.mode is PolicyMode.OPEN_ALL and seen.mode is PolicyMode.ALLOW_LIST:
        return f"blocks all ports but {named(seen.ports)}"
    return words(seen)


def named(ports: tuple[Opening, ...]) -> str:
    """Ports in words: "6881/tcp, 8000-8010/udp"."""
    more = f" and {len(ports) - SHOWN} more" if len(ports) > SHOWN else ""
    return ", ".join(map(str, ports[:SHOWN])) + more


def _beyond(one: ProviderPolicy, other: ProviderPolicy) -> tuple[Opening, ...]:
    """The ports of one that the other lacks, as ranges; both are normal."""
    left: list[Opening] = []
    taken = {protocol: [each for each in other.ports if each.protocol is protocol] for protocol in Protocol}
    for entry in one.ports:
        first, there = entry.first, taken[entry.protocol]
        at = bisect_left(there, first, key=lambda known: known.last)
        while at < len(there) and there[at].first <= entry.last:
            if there[at].first > first:
                left.append(Opening(first, there[at].first - 1, entry.protocol))
            first, at = there[at].last + 1, at + 1
        if first <= entry.last:
            left.append(Opening(first, entry.last, entry.protocol))
    return tuple(left)


def lets_in(policy: ProviderPolicy, port: int, protocol: Protocol) -> bool:
    """Whether a provider lets new flows in to a port."""
    if policy.mode is not PolicyMode.ALLOW_LIST:
        return policy.mode is PolicyMode.OPEN_ALL
    return any(entry.protocol is protocol and entry.first <= port <= entry.last for entry in policy.ports)


def absorbed(machine: Machine, policy: ProviderPolicy, told: ProviderPolicy | None, now: float) -> SwitchState:
    """What is known once the provider said this; `told`: what it was set to just before."""
    before = machine.switch
    seen = as_said(policy)
    if told is not None:
        before = replace(before, told=told, told_at=now)
    waits = before.told is not None and before.told != seen
    return replace(
        before,
        seen=seen,
        seen_at=now,
        seen_for=machine.tunnel_number,
        told=before.told if waits else None,
    )


def compared(machine: Machine, before: SwitchState, now: float) -> tuple[SwitchState, tuple[Notice, ...]]:
    """Hold what the provider said against what is wanted now; what is new of it is told.

    While one of the two is not known, what was found last stays.
    """
    switch, wanted = machine.switch, switch_for(machine, now)
    notices: list[Notice] = []
    if switch.seen is not None and switch.seen != before.seen:
        notices.append(SwitchSeen(before.seen, switch.seen))
    if switch.seen is None or wanted is None or not heard(machine):
        return switch, tuple(notices)
    differs = difference(switch.seen, wanted)
    if differs != switch.differs:
        notices.append(Disagrees(differs))
    return replace(switch, differs=differs), tuple(notices)


def blocked(machine: Machine, forward: ForwardState) -> str:
    """That the provider keeps a port shut that is open here, in words; empty: it does not, as far as is known."""
    switch, lease = machine.switch, forward.lease
    if not (switch.differs and switch.seen and lease and heard(machine)):
        return ""
    port, local = lease.external_port, forward.spec.internal_port or lease.external_port
    shut = [
        Opening(port, port, protocol)
        for protocol in forward.spec.protocols
        if admits(inbound(machine), local, protocol) and not lets_in(switch.seen, port, protocol)
    ]
    return f"the provider says that it blocks {named(tuple(shut))}" if shut else ""


def words(policy: ProviderPolicy) -> str:
    """What a provider lets in, in words after "the provider"."""
    match policy.mode:
        case PolicyMode.OPEN_ALL:
            return "lets in all ports"
        case PolicyMode.BLOCK_ALL:
            return "blocks all ports"
        case PolicyMode.ALLOW_LIST:
            return f"lets in {named(policy.ports)} alone"
