"""From a firewall policy to a rule set; docs/security.md says the same in prose, stage by stage.

A chain is read from the top, so the order is the promise: what must never happen is dropped before
anything wider is accepted (another's source address, DNS outside the tunnel, packets to the tunnel's
address from elsewhere), and the last rule drops the rest. Output accepts nothing for being part of an
established flow: a flow that was open before the tunnel must not go on beside it.

Without a lock only the tunnel's own traffic is judged: the chains accept what no rule has to do with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from vpnpf.core.networks import is_private
from vpnpf.errors import Misconfigured
from vpnpf.firewall.forwarded import OpenPorts, held_shut, nat_chains, open_ports, to_others, to_this_machine
from vpnpf.firewall.openings import opening_rules, opening_sets
from vpnpf.firewall.ruleset import Chain, OpeningSet, Rule, Ruleset, counter_name
from vpnpf.model import (
    Endpoint,
    FirewallPolicy,
    FirewallStage,
    ForwardRule,
    LockMode,
    PolicyMode,
    Protocol,
    TunnelPlan,
)

DOING = "writing the firewall's rules"
DEVICE = re.compile(r"[!#-)+-\[\]-~]{1,15}")
"""What the kernel calls a device, without the quote, backslash and asterisk that mean something to nft."""
FAMILIES = ("ip", "ip6")
DNS = "meta l4proto { tcp, udp } th dport { 53, 853 }"
"""DNS in the clear, over TLS (RFC 7858) and over QUIC (RFC 9250)."""
LATE = 100
"""Priority of a chain that sees only what the machine's other filters (0, 10 for firewalld) have let through."""
LAST = Rule("counter drop", "everything else")


def render(policy: FirewallPolicy, listed: tuple[OpeningSet, ...] | None = None) -> Ruleset:
    """The rule set of a policy. Raises Misconfigured if the plan cannot be turned into safe rules.

    `listed` are the sets of its openings, if they are known already: with 10,000 they take longer than all else.
    """
    if policy.plan.direct:
        return _direct(policy)
    if policy.lock is LockMode.OFF:
        return _unlocked(policy, listed)
    link = _Link(policy.plan)
    if link.mark <= 0:
        raise Misconfigured(
            DOING,
            f"the tunnel {policy.plan.interface} has no firewall mark",
            "set one (WireGuard: FwMark): without it any program could reach the server around the tunnel",
        )
    connected = policy.stage is FirewallStage.CONNECTED
    forwards = policy.forwards if connected else ()
    ports = open_ports(policy) if connected else ()
    openings = _openings(policy, listed)
    chains = [
        Chain("output", "output", 0, (*_output(link, policy.stage), LAST)),
        Chain("input", "input", 0, (*_input(link, policy, ports, openings), LAST)),
        Chain("forward", "forward", 0, (*(_forward(link, ports) if connected else ()), LAST)),
    ]
    moved = nat_chains(link.device, policy, ports) if connected else ()
    return Ruleset((*chains, *moved), tuple(each.ports for each in ports), _counters(forwards), openings)


def _unlocked(policy: FirewallPolicy, listed: tuple[OpeningSet, ...] | None) -> Ruleset:
    """The port policy of the tunnel alone: everything else goes its usual way, and DNS goes where it is asked to."""
    link = _Link(policy.plan)
    connected = policy.stage is FirewallStage.CONNECTED
    ports = open_ports(policy) if connected else ()
    openings = _openings(policy, listed)
    tunnel = f"iifname {link.device}"
    outward = tuple(_addresses_out(link, connected=True)) if connected else ()
    here = Rule('iifname "lo" accept', "this machine itself")
    inward = (here, *_spoofed(link), *_tunnel_in(link, policy, ports, openings))
    answers = Rule(f"{tunnel} ct state established,related counter accept", "answers through the tunnel")
    last = Rule(f"{tunnel} counter drop", "anything else from the tunnel")
    onward = (answers, *to_others(f"{tunnel} oifname != {link.device}", ports), last) if connected else ()
    chains = (
        Chain("output", "output", 0, outward, policy="accept"),
        Chain("input", "input", 0, inward if connected else (), policy="accept"),
        Chain("forward", "forward", 0, onward, policy="accept"),
    )
    moved = nat_chains(link.device, policy, ports) if connected else ()
    counters = _counters(policy.forwards if connected else ())
    return Ruleset((*chains, *moved), tuple(each.ports for each in ports), counters, openings)


def _direct(policy: FirewallPolicy) -> Ruleset:
    """Without a tunnel: nothing is blocked, and a program's port is as open as the machine's other filters leave it.

    New flows on the forwarded ports are counted, after those filters and only from beyond the LAN, so that the count
    proves that the router forwards them.
    """
    device = _device(policy.plan.interface)
    try:
        lan = {ip_network(address, strict=False) for address in policy.plan.addresses}
    except ValueError as error:
        raise Misconfigured(DOING, str(error), "check the machine's addresses") from None
    forwards = policy.forwards if policy.stage is FirewallStage.CONNECTED else ()
    ports = open_ports(policy) if forwards else ()
    beyond = sorted(str(prefix) for prefix in lan if prefix.version == 4)  # noqa: PLR2004 - the version
    source = f"ip saddr != {_any_of(beyond)}" if beyond else _whole("ip")
    arrived = f"iifname {device} {source}"
    chains = [Chain("input", "input", LATE, tuple(to_this_machine(arrived, ports)), policy="accept")]
    if any(each.rule.target for each in ports):
        chains.append(Chain("forward", "forward", LATE, tuple(to_others(arrived, ports)), policy="accept"))
    moved = nat_chains(device, policy, ports) if forwards else ()
    return Ruleset((*chains, *moved), tuple(each.ports for each in ports), _counters(forwards))


def _openings(policy: FirewallPolicy, listed: tuple[OpeningSet, ...] | None) -> tuple[OpeningSet, ...]:
    """They stand in every stage in which vpnpf runs, so that neither ends nor counters are lost with the tunnel."""
    if policy.stage is FirewallStage.LOCKED:
        return ()
    return opening_sets(policy.inbound.openings) if listed is None else listed


def _counters(forwards: tuple[ForwardRule, ...]) -> tuple[str, ...]:
    names = {(rule.name, protocol) for rule in forwards for protocol in rule.protocols}
    return tuple(sorted(counter_name(name, protocol) for name, protocol in names))


class _Link:
    """The plan's addresses and names, checked and sorted by address family."""

    def __init__(self, plan: TunnelPlan) -> None:
        self.device = _device(plan.interface)
        try:
            endpoint = plain(plan.endpoint.address)
            self.own = _by_family(address.partition("/")[0] for address in plan.addresses)
            self.dns = _by_family(plan.dns)
            self.lan = tuple(_private(plan))
            gateway = plain(plan.gateway) if plan.gateway else None
            self.services = tuple(dict.fromkeys(map(_service, plan.services)))
        except ValueError as error:
            raise Misconfigured(DOING, str(error), "check the tunnel's addresses") from None
        self.address = _address(endpoint)
        self.gateway = gateway if isinstance(gateway, IPv4Address) else None
        self.transport = plan.endpoint.protocol
        self.port = plan.endpoint.port
        self.mark = plan.mark


def _output(link: _Link, stage: FirewallStage) -> Iterator[Rule]:
    connected = stage is FirewallStage.CONNECTED
    yield Rule('oifname "lo" accept', "this machine itself")
    if stage is not FirewallStage.LOCKED:
        own_packets = f"meta mark {link.mark:#x} {link.address.format('daddr')} {link.transport} dport {link.port}"
        yield Rule(f"{own_packets} counter accept", "the tunnel itself")
        for address, port in link.services:
            asked = f"meta mark {link.mark:#x} {address.format('daddr')} tcp dport {port}"
            yield Rule(f"{asked} counter accept", "the provider's service")
    yield from _addresses_out(link, connected=connected)
    if connected:
        yield from _resolvers(link, f"oifname {link.device}")
    yield Rule(f"{DNS} counter drop", "DNS elsewhere")
    if connected:
        yield Rule(f"oifname {link.device} counter accept", "through the tunnel")
    else:
        yield Rule(f"oifname {link.device} counter drop", "the tunnel is not up")
    yield from _link_upkeep_out()
    for device, prefix in link.lan:
        yield Rule(f"oifname {device} {_family(prefix)} daddr {prefix} counter accept", "LAN")


def _addresses_out(link: _Link, *, connected: bool) -> Iterator[Rule]:
    """Each address by its own device."""
    for family in FAMILIES:
        own = link.own[family]
        if own:
            yield Rule(
                f"oifname != {link.device} {family} saddr {_any_of(own)} counter drop", "tunnel address elsewhere"
            )
        if connected:
            other = f"{family} saddr != {_any_of(own)}" if own else _whole(family)
            yield Rule(f"oifname {link.device} {other} counter drop", "not the tunnel's address")


def _link_upkeep_out() -> Iterator[Rule]:
    """What the link under the tunnel needs to live: addresses and neighbours, nothing that leaves the link."""
    yield Rule("ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept", "DHCP")
    yield Rule("ip6 saddr fe80::/10 ip6 daddr { ff02::1:2, fe80::/10 } udp sport 546 udp dport 547 accept", "DHCPv6")
    yield Rule("icmpv6 type nd-router-solicit ip6 hoplimit 255 ip6 daddr ff02::2 accept", "router solicitation")
    solicited = "{ ff02::1:ff00:0/104, fe80::/10 }"
    yield Rule(
        f"icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 ip6 daddr {solicited} accept", "neighbour solicitation"
    )
    # Also to global addresses: routers ask from them, and IPv6 is dead on the link if we stay silent.
    yield Rule("icmpv6 type nd-neighbor-advert ip6 hoplimit 255 accept", "neighbour advertisement")
    # Without it a switch that snoops would not deliver the solicitations that we must answer (RFC 4861 section 7.2.1).
    yield Rule("icmpv6 type mld2-listener-report ip6 hoplimit 1 ip6 daddr ff02::16 accept", "multicast report")


def _input(
    link: _Link, policy: FirewallPolicy, ports: tuple[OpenPorts, ...], openings: tuple[OpeningSet, ...]
) -> Iterator[Rule]:
    yield Rule('iifname "lo" accept', "this machine itself")
    yield from _spoofed(link)
    yield from _tunnel_in(link, policy, ports, openings)
    if policy.stage is not FirewallStage.LOCKED:
        replies = f"{link.address.format('saddr')} {link.transport} sport {link.port} ct state established"
        yield Rule(f"{replies} counter accept", "the tunnel itself")
        for address, port in link.services:
            answers = f"{address.format('saddr')} tcp sport {port} ct state established"
            yield Rule(f"{answers} counter accept", "the provider's service")
    yield from _link_upkeep_in()
    yield from _ports_elsewhere(policy)
    for device, prefix in link.lan:
        yield Rule(f"iifname {device} {_family(prefix)} saddr {prefix} counter accept", "LAN")


def _spoofed(link: _Link) -> Iterator[Rule]:
    for family in FAMILIES:
        own = link.own[family]
        if own:
            yield Rule(f"iifname != {link.device} {family} daddr {_any_of(own)} counter drop", "spoofed from elsewhere")


def _tunnel_in(
    link: _Link, policy: FirewallPolicy, ports: tuple[OpenPorts, ...], openings: tuple[OpeningSet, ...]
) -> Iterator[Rule]:
    """What comes in through the tunnel; its last rule drops the rest of that."""
    tunnel = f"iifname {link.device}"
    if policy.stage is FirewallStage.CONNECTED:
        if link.gateway is not None:
            # Its announcements (RFC 6886 section 3.2.1) go to everybody on the link.
            text = f"ip saddr {link.gateway} ip daddr 224.0.0.1 udp sport 5351 udp dport 5350"
            yield Rule(f"{tunnel} {text} counter accept", "the gateway to all")
        for family in FAMILIES:
            own = link.own[family]
            other = f"{family} daddr != {_any_of(own)}" if own else _whole(family)
            yield Rule(f"{tunnel} {other} counter drop", "not the tunnel's address")
        yield Rule(f"{tunnel} ct state established,related counter accept", "answers through the tunnel")
        yield from _inbound(tunnel, policy, ports, openings)
    yield Rule(f"{tunnel} counter drop", "anything else from the tunnel")


def _ports_elsewhere(policy: FirewallPolicy) -> Iterator[Rule]:
    """A forwarded port is open to the tunnel alone; not to the LAN."""
    if policy.stage is not FirewallStage.CONNECTED:
        return
    for protocol in Protocol:
        here = (rule for rule in policy.forwards if rule.target is None)
        ports = sorted({rule.listen for rule in here if protocol in rule.protocols})
        if ports:
            yield Rule(
                f"{protocol} dport {_any_of(map(str, ports))} ct state new counter drop", "forwarded port elsewhere"
            )


def _inbound(
    tunnel: str, policy: FirewallPolicy, ports: tuple[OpenPorts, ...], openings: tuple[OpeningSet, ...]
) -> Iterator[Rule]:
    """New flows from the internet. Also when everything is open the list goes first, so that it is counted."""
    mode = policy.inbound.mode
    if mode is PolicyMode.BLOCK_ALL:
        return
    if mode is PolicyMode.ALLOW_LIST:
        yield from held_shut(tunnel, policy.forwards)
    yield from to_this_machine(tunnel, ports)
    yield from opening_rules(tunnel, openings)
    if mode is PolicyMode.OPEN_ALL:
        yield Rule(f"{tunnel} ct state new counter accept", "open to all")


def _link_upkeep_in() -> Iterator[Rule]:
    errors = "destination-unreachable, time-exceeded, parameter-problem"
    yield Rule(f"icmp type {{ {errors} }} ct state related accept", "errors about open flows")
    yield Rule(f"icmpv6 type {{ {errors}, packet-too-big }} ct state related accept", "errors about open flows")
    yield Rule("udp sport 67 udp dport 68 accept", "DHCP")
    yield Rule("ip6 saddr fe80::/10 ip6 daddr fe80::/10 udp sport 547 udp dport 546 accept", "DHCPv6")
    yield Rule("icmpv6 type nd-router-advert ip6 hoplimit 255 ip6 saddr fe80::/10 accept", "router advertisement")
    yield Rule("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept", "neighbours")
    yield Rule("icmpv6 type mld-listener-query ip6 hoplimit 1 ip6 saddr fe80::/10 accept", "multicast query")


def _forward(link: _Link, ports: tuple[OpenPorts, ...]) -> Iterator[Rule]:
    """Containers and virtual machines: through the tunnel or not at all, and never from the tunnel back into it."""
    out, inward = f"iifname != {link.device} oifname {link.device}", f"iifname {link.device} oifname != {link.device}"
    yield from to_others(inward, ports)
    yield from _resolvers(link, out)
    yield Rule(f"{DNS} counter drop", "DNS elsewhere")
    for family in FAMILIES:
        if not link.own[family]:
            yield Rule(f"oifname {link.device} {_whole(family)} counter drop", "not the tunnel's address")
    yield Rule(f"{out} counter accept", "through the tunnel")
    yield Rule(f"{inward} ct state established,related counter accept", "answers through the tunnel")


def _resolvers(link: _Link, out: str) -> Iterator[Rule]:
    for family in FAMILIES:
        if link.dns[family]:
            yield Rule(f"{out} {family} daddr {_any_of(link.dns[family])} {DNS} accept", "DNS through the tunnel")


def plain(address: str) -> IPv4Address | IPv6Address:
    """An address without a zone: what follows the % may be any text. Raises ValueError."""
    if "%" in address:
        raise ValueError(f"an address with a zone: {address.partition('%')[0]}%...")
    return ip_address(address)


def _service(endpoint: Endpoint) -> tuple[str, int]:
    """An address as `ip {} 192.0.2.1` and a TCP port. Raises ValueError."""
    if endpoint.protocol is not Protocol.TCP:
        raise ValueError(f"a service that is not TCP: {endpoint}")
    return _address(plain(endpoint.address)), endpoint.port


def _address(address: IPv4Address | IPv6Address) -> str:
    """A place for "saddr" or "daddr", and the address."""
    return f"ip{'6' if address.version == 6 else ''} {{}} {address}"  # noqa: PLR2004 - the version


def _device(name: str) -> str:
    if not DEVICE.fullmatch(name):
        raise Misconfigured(
            DOING, f"no rule can be written for a device named {name!r}", "give the device another name"
        )
    return f'"{name}"'


def _private(plan: TunnelPlan) -> Iterator[tuple[str, IPv4Network | IPv6Network]]:
    """The LAN prefixes that may be let out. A LAN with public addresses would be a hole for the internet behind them."""
    for lan in plan.lan:
        prefix = ip_network(lan.prefix, strict=False)
        if lan.interface != plan.interface and is_private(prefix):
            yield _device(lan.interface), prefix


def _by_family(addresses: Iterable[str]) -> dict[str, tuple[str, ...]]:
    parsed = sorted({plain(address) for address in addresses}, key=lambda address: (address.version, int(address)))
    return {
        "ip": tuple(str(address) for address in parsed if address.version == 4),  # noqa: PLR2004 - the version
        "ip6": tuple(str(address) for address in parsed if address.version == 6),  # noqa: PLR2004 - the version
    }


def _any_of(values: Iterable[str]) -> str:
    several = tuple(values)
    return several[0] if len(several) == 1 else f"{{ {', '.join(several)} }}"


def _whole(family: str) -> str:
    return f"meta nfproto {'ipv6' if family == 'ip6' else 'ipv4'}"


def _family(prefix: object) -> str:
    return "ip6" if isinstance(prefix, IPv6Network) else "ip"
