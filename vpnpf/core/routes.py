"""Where packets go while a tunnel is up, as lines for `ip -4 -batch` and `ip -6 -batch`. Pure.

A rule before the main table sends everything that is not the tunnel's own (the mark) to a table of its own. In
that, an unreachable route waits behind the one through the device: when the device goes, nothing falls back
to the main table. The rule is before main because a route pushed by DHCP (option 121, TunnelVision) would
otherwise win. Only private prefixes on connected links are looked up in main first, without its default routes, and of
those not DNS: the resolver of the LAN is none of ours.

The rules and the unreachable route are also the lock's second layer: they stand as long as it does, with and without a
tunnel, and block what the packet filter lets through when somebody flushed it.

Rules and routes of ours carry a protocol number of their own, so that those of a run that was killed are found, and
nobody else's are touched.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from vpnpf.model import TunnelPlan

OWN_PRIORITY, DNS_PRIORITY, LAN_PRIORITY, TUNNEL_PRIORITY = 7080, 7090, 7100, 7110
DNS_PORTS = (53, 853)
"""In the clear, over TLS (RFC 7858) and over QUIC (RFC 9250)."""
_TRANSPORTS = (6, 17)
"""TCP and UDP; by name they would have to be in /etc/protocols."""
PROTOCOL = 118
"""Who made a rule or route (rtnetlink(7), rtm_protocol); nobody else's in iproute2's list."""
LAST_METRIC = 0xFF000000
"""Of the unreachable route: any other route of the table is better."""
FAMILIES = ("-4", "-6")
_MAIN = 254
_UNREACHABLE = 7
"""RTN_UNREACHABLE, as `ip -N` writes it."""


def bring_up(plan: TunnelPlan, family: str, *, carried: bool = True) -> list[str]:
    """Device, addresses and routes of a family; the rules come last, so that they never lead into nothing.

    A family that is not `carried` gets no address and no way through the device: it is caught. Where some of it
    stands already, run it with `-force`: the lines of rules that are there fail.
    """
    device = plan.interface
    lines = [f"link set {device} mtu {plan.mtu} up"] if family == FAMILIES[0] else []
    own = _own(plan, family, carried=carried)
    # The table has the route; another one in main would be the tunnel's trace in somebody else's table.
    flags = "noprefixroute nodad" if family == FAMILIES[1] else "noprefixroute"
    lines += [f"addr replace {address} dev {device} {flags}" for address in own]
    caught, *rules = hold(plan, family)
    through = [f"route replace default dev {device} {_ours(plan)}"] if own else []
    return [*lines, caught, *through, *rules]


def hold(plan: TunnelPlan, family: str) -> list[str]:
    """What sends everything that is not the tunnel's own to the tunnel's table, and ends it there."""
    caught = f"route replace unreachable default metric {LAST_METRIC} {_ours(plan)}"
    return [caught, *(f"rule add {rule.text} protocol {PROTOCOL}" for rule in _rules(plan, family))]


def take_down(table: int) -> list[str]:
    """Rules first, then the table's routes; with `-force`, since the table may not be there. Device and addresses stay."""
    return [f"rule flush protocol {PROTOCOL}", f"route flush table {table} protocol {PROTOCOL}"]


def show(plan: TunnelPlan) -> list[str]:
    """What to list with `ip -N -force` for `missing`; each line may fail for what is not there."""
    return [*show_hold(plan), f"addr show dev {plan.interface}"]


def show_hold(plan: TunnelPlan) -> list[str]:
    """As `show`, for `not_held` and `foreign`."""
    return ["rule show", f"route show table {plan.table}"]


def missing(plan: TunnelPlan, family: str, listing: str, *, carried: bool = True) -> str:
    """Say what is not in a listing of `show`; empty: nothing."""
    if gone := not_held(plan, family, listing):
        return gone
    lines = _lines(listing)
    own = _own(plan, family, carried=carried)
    there = {_address(line) for line in lines}
    for address in own:
        if ipaddress.ip_interface(address) not in there:
            return f"the tunnel's address {address}"
    if own and not _listed(lines, f"default dev {plan.interface}"):
        return "the route through the tunnel"
    return ""


def strange(plan: TunnelPlan, listing: str) -> list[str]:
    """Lines that take away the addresses in a listing of `addr show` that are not the plan's; the link's own stay."""
    ours = {ipaddress.ip_interface(address) for address in plan.addresses}
    return [
        f"addr del {there} dev {plan.interface}"
        for there in map(_address, _lines(listing))
        if there is not None and there not in ours and not there.ip.is_link_local
    ]


def not_held(plan: TunnelPlan, family: str, listing: str) -> str:
    """Say what of `hold` is not in a listing of `show_hold`; empty: nothing."""
    lines = _lines(listing)
    for rule in _rules(plan, family):
        if not _listed(lines, rule.listed):
            return rule.what
    if not any(line.startswith(f"{_UNREACHABLE} default") and f"metric {LAST_METRIC}" in line for line in lines):
        return "the route that catches what the tunnel lost"
    return ""


def strays(plan: TunnelPlan, family: str, listing: str) -> list[str]:
    """Lines that take away what is ours and not this plan's, rules and their tables: a killed run of another profile left it."""
    expected = {rule.listed for rule in _rules(plan, family)}
    found, tables = [], []
    for line in _lines(listing):
        text, ours, _ = f"{line} ".partition(f" proto {PROTOCOL} ")
        priority, colon, selector = text.partition(": ")
        if ours and colon and priority.isdigit() and text not in expected:
            selector = selector.replace("ipproto ipproto-", "ipproto ")
            found.append(f"rule del {selector} priority {priority} protocol {PROTOCOL}")
            tables.append(_table(text))
    return found + _emptied(table for table in tables if table != str(plan.table))


def family_of(address: str) -> str:
    """Which of FAMILIES an address or prefix belongs to."""
    return FAMILIES[":" in address]


def _own(plan: TunnelPlan, family: str, *, carried: bool) -> list[str]:
    return [address for address in plan.addresses if carried and family_of(address) == family]


def _lan(plan: TunnelPlan, family: str) -> list[str]:
    return list(dict.fromkeys(lan.prefix for lan in plan.lan if family_of(lan.prefix) == family))


def _address(line: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    """The address in a line of `ip addr show`, or None."""
    kind, _, rest = line.partition(" ")
    try:
        return ipaddress.ip_interface(rest.partition(" ")[0]) if kind in {"inet", "inet6"} else None
    except ValueError:
        return None


def undo(listing: str) -> list[str]:
    """Lines that take away all rules of ours in a listing of `rule show`, and the routes that they lead to; none: no lines."""
    tables = []
    for line in _lines(listing):
        text, ours, _ = f"{line} ".partition(f" proto {PROTOCOL} ")
        if ours and " lookup " in text:
            tables.append(_table(text))
    return [f"rule flush protocol {PROTOCOL}", *_emptied(tables)] if tables else []


def _table(rule: str) -> str:
    """The number of the table in a rule as it is listed; what follows it is not the table's."""
    return rule.rpartition(" lookup ")[2].partition(" ")[0]


def _emptied(tables: Iterable[str]) -> list[str]:
    """Lines that take our routes out of tables of a tunnel's own."""
    return [f"route flush table {table} protocol {PROTOCOL}" for table in dict.fromkeys(tables) if table != str(_MAIN)]


def _ours(plan: TunnelPlan) -> str:
    return f"table {plan.table} protocol {PROTOCOL}"


class _Rule(NamedTuple):
    """A routing rule in the words of `ip rule add`, as `ip -N rule show` lists it, and for people."""

    text: str
    listed: str
    what: str


def _rules(plan: TunnelPlan, family: str) -> list[_Rule]:
    mark, table = f"{plan.mark:#x}", plan.table
    rules = []
    if lan := _lan(plan, family):
        what = "the rule that keeps DNS away from the LAN"
        # The server may be reached on a port of DNS.
        own = f"fwmark {mark} lookup"
        rules.append(_Rule(f"{own} main priority {OWN_PRIORITY}", f"{OWN_PRIORITY}: from all {own} {_MAIN}", what))
        for number in _TRANSPORTS:
            for port in DNS_PORTS:
                rest = f"dport {port} lookup {table}"
                listed = f"{DNS_PRIORITY}: from all ipproto ipproto-{number} {rest}"
                rules.append(_Rule(f"ipproto {number} {rest} priority {DNS_PRIORITY}", listed, what))
    for prefix in lan:
        # By the link itself and never by a default route: this machine may be in another network by now.
        near = "suppress_prefixlength 0"
        text = f"to {prefix} lookup main {near} priority {LAN_PRIORITY}"
        listed = f"{LAN_PRIORITY}: from all to {prefix} lookup {_MAIN} {near}"
        rules.append(_Rule(text, listed, f"the rule of the LAN {prefix}"))
    rest = f"fwmark {mark} lookup {table}"
    what = "the rule that sends everything through the tunnel"
    listed = f"{TUNNEL_PRIORITY}: not from all {rest}"
    return [*rules, _Rule(f"not {rest} priority {TUNNEL_PRIORITY}", listed, what)]


def _lines(listing: str) -> list[str]:
    return [" ".join(line.split()) for line in listing.splitlines()]


def _listed(lines: list[str], start: str) -> bool:
    return any(f"{line} ".startswith(f"{start} ") for line in lines)
