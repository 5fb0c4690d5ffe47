"""The rules of forwarded ports: what may come in on them, and where it goes from here."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from msgspec import Struct

from vpnpf.core.networks import is_private
from vpnpf.errors import Misconfigured
from vpnpf.firewall.openings import from_sources
from vpnpf.firewall.ruleset import Chain, PortSet, Rule, counter_name
from vpnpf.model import FirewallPolicy, ForwardRule, Opening, PolicyMode, PortPolicy, Protocol

DOING = "writing the rules of a forward"
SHUT = "forward held shut"


class OpenPorts(Struct, frozen=True):
    """The ports of a forward and protocol that are open now."""

    ports: PortSet
    rule: ForwardRule
    """The forward's first rule; sources and target are the same in all."""
    protocol: Protocol
    current: bool
    """Whether it is the port of now, not one that is being replaced."""
    from_all: bool
    """Whether its sources do not matter, since everything is open."""

    @property
    def label(self) -> str:
        """Why its rule is there."""
        return "forwarded port" if self.current else "forwarded port until now"


def open_ports(policy: FirewallPolicy) -> tuple[OpenPorts, ...]:
    """One set for the current port of each forward and protocol, one for ports that are being replaced.

    Of several rules with one name the first is the current one.
    """
    first_of: dict[str, ForwardRule] = {}
    ports: dict[str, dict[int, float | None]] = {}
    sets: dict[str, tuple[ForwardRule, Protocol, bool]] = {}
    for rule in policy.forwards:
        first = first_of.setdefault(rule.name, rule)
        for protocol in rule.protocols:
            let_in, until = admitted(policy.inbound, rule, protocol)
            if not let_in:
                continue
            current = rule.arrives == first.arrives
            name = counter_name(rule.name, protocol)
            name = name if current else f"old_{name}"
            sets.setdefault(name, (first, protocol, current))
            elements = ports.setdefault(name, {})
            elements[rule.arrives] = _later(elements.get(rule.arrives, until), until)
    from_all = policy.inbound.mode is PolicyMode.OPEN_ALL
    return tuple(
        OpenPorts(PortSet(name, tuple(sorted(ports[name].items()))), *sets[name], from_all) for name in sorted(ports)
    )


def admitted(policy: PortPolicy, rule: ForwardRule, protocol: Protocol) -> tuple[bool, float | None]:
    """Whether a forward's port is opened as such, and until when (None: no end). Pure.

    Without "forwarded" on the allow-list, entries for anybody that name its listen port open it, as long as they last. An
    entry that is limited to sources opens the listen port by its own rule.
    """
    match policy.mode:
        case PolicyMode.OPEN_ALL:
            return True, rule.expires_at
        case PolicyMode.ALLOW_LIST if not rule.shut:
            if policy.forwarded:
                return True, rule.expires_at
            named = [entry for entry in _named(policy, rule, protocol) if not entry.sources]
            if not named:
                return False, None
            until = named[0].ends_at
            for entry in named[1:]:
                until = _later(until, entry.ends_at)
            return True, _sooner(until, rule.expires_at)
        case _:
            return False, None


def to_this_machine(arrived: str, ports: tuple[OpenPorts, ...]) -> Iterator[Rule]:
    """New flows on forwarded ports, told by where the packet arrived, before a redirect.

    The current port of a forward is counted on its named counter. A port that is on its way out is
    counted apart, so that its packets never prove the current one.
    """
    for each in ports:
        if each.rule.target is None:
            yield from _accepted(arrived, each)


def to_others(arrived: str, ports: tuple[OpenPorts, ...]) -> Iterator[Rule]:
    """The same for ports that another host answers on: only what was rewritten to it, and on no other port of it."""
    for each in ports:
        if each.rule.target is not None:
            family, target = _target(each.rule.target)
            yield from _accepted(arrived, each, f"ct status dnat {family} daddr {target} ", family)


def held_shut(tunnel: str, forwards: tuple[ForwardRule, ...]) -> Iterator[Rule]:
    """Ports that are held, and that no entry of the list opens."""
    for protocol in Protocol:
        ports = sorted({rule.arrives for rule in forwards if rule.shut and protocol in rule.protocols})
        if ports:
            any_of = f"{{ {', '.join(map(str, ports))} }}"
            text = f"{tunnel} meta l4proto {protocol} ct state new ct original proto-dst {any_of} counter drop"
            yield Rule(text, SHUT)


def nat_chains(device: str, policy: FirewallPolicy, ports: tuple[OpenPorts, ...]) -> tuple[Chain, ...]:
    """The chains that rewrite packets, where that is needed."""
    moved, hidden = tuple(_moved(device, policy)), tuple(_hidden(ports))
    before = (Chain("portmap", "prerouting", -100, moved, type="nat", policy="accept"),) if moved else ()
    after = (Chain("portmask", "postrouting", 100, hidden, type="nat", policy="accept"),) if hidden else ()
    return before + after


def _accepted(arrived: str, each: OpenPorts, onward: str = "", family: str = "") -> Iterator[Rule]:
    counter = f'counter name "{each.ports.name}"' if each.current else "counter"
    port = f"meta l4proto {each.protocol} ct state new ct original proto-dst @{each.ports.name}"
    for source in from_sources(() if each.from_all else each.rule.sources, family):
        yield Rule(f"{arrived} {port} {onward}{source}{counter} accept", each.label)


def _moved(device: str, policy: FirewallPolicy) -> Iterator[Rule]:
    """To the listen port where it differs from the one that packets arrive at, or to another host."""
    done: set[tuple[int, Protocol]] = set()
    for rule in policy.forwards:
        for protocol in rule.protocols:
            if (rule.arrives, protocol) in done or not enters(policy.inbound, rule, protocol):
                continue
            arrived = f"{protocol} dport {rule.arrives} counter"
            if rule.target is not None:
                family, target = _target(rule.target)
                only, host = ("ipv6", f"[{target}]") if family == "ip6" else ("ipv4", target)
                text = f"iifname {device} meta nfproto {only} {arrived} dnat {family} to {host}:{rule.listen}"
                yield Rule(text, "to another host")
            elif rule.arrives != rule.listen:
                yield Rule(f"iifname {device} {arrived} redirect to :{rule.listen}", "to the listen port")
            else:
                continue
            done.add((rule.arrives, protocol))


def _hidden(ports: tuple[OpenPorts, ...]) -> Iterator[Rule]:
    """What goes on to another host comes from this machine.

    Otherwise its answers would take its own way out, past the tunnel: the caller would get them from the address that
    the tunnel is to hide, or not at all.
    """
    for each in ports:
        if each.rule.target is not None and not each.rule.keep_source:
            family, target = _target(each.rule.target)
            flow = f"meta l4proto {each.protocol} ct status dnat ct original proto-dst @{each.ports.name}"
            yield Rule(f"{flow} {family} daddr {target} masquerade", "answers come back here")


def enters(policy: PortPolicy, rule: ForwardRule, protocol: Protocol) -> bool:
    """Whether anybody may come in on a forward's port."""
    if admitted(policy, rule, protocol)[0]:
        return True
    listed = policy.mode is PolicyMode.ALLOW_LIST and not rule.shut and rule.target is None
    return listed and any(_named(policy, rule, protocol))


def _named(policy: PortPolicy, rule: ForwardRule, protocol: Protocol) -> Iterator[Opening]:
    return (
        entry for entry in policy.openings if entry.protocol is protocol and entry.first <= rule.listen <= entry.last
    )


def _target(address: str) -> tuple[str, str]:
    """(family, address) of another host. Raises Misconfigured unless it is a private one."""
    try:
        target = ip_address(address)
        if getattr(target, "scope_id", None) is not None:
            raise ValueError(f"{address.partition('%')[0]}%... has a zone")
    except ValueError as error:
        raise Misconfigured(DOING, str(error), "give the address of a host on your own network") from None
    if not is_private(ip_network(target)) or target.is_link_local or target.is_loopback:
        hint = "give a private address: what is forwarded elsewhere would leave past the tunnel"
        raise Misconfigured(DOING, f"{target} is no host on your own network", hint)
    return ("ip6" if target.version == 6 else "ip"), str(target)  # noqa: PLR2004 - the version


def _later(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)


def _sooner(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)
