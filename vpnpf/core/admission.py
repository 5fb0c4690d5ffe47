"""Which part of a port policy decides about a new flow from the internet. Pure.

It reads a policy as the rule set does: first what nobody may pass (block-all) or everybody (open-all), then the forwarded
ports, then the other entries of the allow-list.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from msgspec import Struct

from vpnpf.model import ForwardSpec, PolicyMode, PortPolicy, Protocol


class HeldPort(Struct, frozen=True):
    """A port held in a lease."""

    spec: ForwardSpec
    external: int
    arrives: int
    """The port of the tunnel address where its packets come in."""
    listen: int


class Decision(Struct, frozen=True):
    """What happens to a flow, and by which part of the policy."""

    admitted: bool
    rule: str
    """The part that decides, as it was written: "22/tcp (ssh)", "forwarded: torrent", "block-all"."""
    why: str
    """One sentence."""
    opening: str = ""
    """The entry of the allow-list that decides, as a key of its counter."""
    forward: str = ""
    """The forward whose port it is."""


def decide(
    policy: PortPolicy,
    held: Iterable[HeldPort],
    protocol: Protocol,
    port: int,
    source: IPv4Address | IPv6Address | None,
    now: float,
) -> Decision:
    """What the policy says of a flow that arrives at `port` of the tunnel address; `source` None: from anybody at all.

    `now` is in seconds on CLOCK_BOOTTIME. A source that is None passes only where every source does.
    """
    own = next((each for each in held if each.arrives == port and protocol in each.spec.protocols), None)
    name = own.spec.name if own else ""
    if policy.mode is PolicyMode.OPEN_ALL:
        return Decision(True, "open-all", "every port is open, from everywhere", forward=name)
    if policy.mode is PolicyMode.BLOCK_ALL:
        return Decision(False, "block-all", "nobody may come in, also not on a forwarded port", forward=name)
    refused = ""
    if own is not None:
        refused = _refused(policy, own, source)
        if not refused:
            return Decision(True, f"forwarded: {name}", f"port {port} is held by the forward {name}", forward=name)
    # The entries speak of the port that the program listens on, as they do in the rule set.
    local = own.listen if own else port
    for entry in policy.openings:
        if entry.protocol is not protocol or not entry.first <= local <= entry.last:
            continue
        written = f"{entry} ({entry.name})" if entry.name else str(entry)
        if entry.ends_at is not None and entry.ends_at <= now:
            refused = refused or f"the entry {written} has ended"
        elif within(entry.sources, source):
            why = f"it is on the allow-list{', ' + _from(entry.sources) if entry.sources else ''}"
            return Decision(True, written, why, opening=entry.key, forward=name)
        else:
            refused = refused or f"the entry {written} is open {_from(entry.sources)} only"
    return Decision(False, "allow-list", refused or "no entry of the allow-list names it", forward=name)


def _refused(policy: PortPolicy, held: HeldPort, source: IPv4Address | IPv6Address | None) -> str:
    """Why a forwarded port is not open to a source as such; empty: it is."""
    if held.spec.shut:
        return f"the forward {held.spec.name} is held and not open"
    if not policy.forwarded:
        return 'the allow-list does not name "forwarded"'
    if not within(held.spec.sources, source):
        return f"the forward {held.spec.name} is open {_from(held.spec.sources)} only"
    return ""


def within(sources: tuple[str, ...], source: IPv4Address | IPv6Address | None) -> bool:
    """Whether an address is in one of the prefixes; no prefixes: everybody is."""
    if not sources:
        return True
    if source is None:
        return False
    mapped = source.ipv4_mapped if isinstance(source, IPv6Address) else None
    address = mapped or source
    prefixes = (ip_network(text) for text in sources)
    return any(address.version == prefix.version and address in prefix for prefix in prefixes)


def address_of(text: str) -> IPv4Address | IPv6Address:
    """An address without a zone. Raises ValueError."""
    if "%" in text:
        raise ValueError("an address with a zone")
    return ip_address(text)


def _from(sources: tuple[str, ...]) -> str:
    return f"from {', '.join(sources)}"
