"""Where packets go while a tunnel is up, as lines for `ip -4 -batch` and `ip -6 -batch`. Pure.

A rule before the main table sends everything that is not the tunnel's own (the mark) to a table of its own. In
that, an unreachable route waits behind the one through the device: when the device goes, nothing falls back
to the main table. The rule is before main because a route pushed by DHCP (option 121, TunnelVision) would
otherwise win. Only private prefixes on connected links are looked up in main first.

Rules and routes of ours carry a protocol number of their own, so that those of a run that was killed are found, and
nobody else's are touched.
"""

from __future__ import annotations

import ipaddress

from vpnpf.model import TunnelPlan

LAN_PRIORITY = 7100
TUNNEL_PRIORITY = 7110
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
    device, ours = plan.interface, f"table {plan.table} protocol {PROTOCOL}"
    lines = [f"link set {device} mtu {plan.mtu} up"] if family == FAMILIES[0] else []
    own = _own(plan, family, carried=carried)
    # The table has the route; another one in main would be the tunnel's trace in somebody else's table.
    flags = "noprefixroute nodad" if family == FAMILIES[1] else "noprefixroute"
    lines += [f"addr replace {address} dev {device} {flags}" for address in own]
    lines.append(f"route replace unreachable default metric {LAST_METRIC} {ours}")
    if own:
        lines.append(f"route replace default dev {device} {ours}")
    lines += [
        f"rule add to {prefix} lookup main priority {LAN_PRIORITY} protocol {PROTOCOL}" for prefix in _lan(plan, family)
    ]
    unmarked = f"not fwmark {plan.mark:#x} lookup {plan.table}"
    return [*lines, f"rule add {unmarked} priority {TUNNEL_PRIORITY} protocol {PROTOCOL}"]


def take_down(table: int) -> list[str]:
    """Rules first, then the table's routes; with `-force`, since the table may not be there. Device and addresses stay."""
    return [f"rule flush protocol {PROTOCOL}", f"route flush table {table} protocol {PROTOCOL}"]


def show(plan: TunnelPlan) -> list[str]:
    """What to list with `ip -N -force` for `missing`; each line may fail for what is not there."""
    return ["rule show", f"addr show dev {plan.interface}", f"route show table {plan.table}"]


def missing(plan: TunnelPlan, family: str, listing: str, *, carried: bool = True) -> str:
    """Say what is not in a listing of `show`; empty: nothing."""
    lines = [" ".join(line.split()) for line in listing.splitlines()]
    own = _own(plan, family, carried=carried)

    def listed(start: str) -> bool:
        return any(f"{line} ".startswith(f"{start} ") for line in lines)

    if not listed(f"{TUNNEL_PRIORITY}: not from all fwmark {plan.mark:#x} lookup {plan.table}"):
        return "the rule that sends everything through the tunnel"
    for prefix in _lan(plan, family):
        if not listed(f"{LAN_PRIORITY}: from all to {prefix} lookup {_MAIN}"):
            return f"the rule of the LAN {prefix}"
    if not any(line.startswith(f"{_UNREACHABLE} default") and f"metric {LAST_METRIC}" in line for line in lines):
        return "the route that catches what the tunnel lost"
    there = {_address(line) for line in lines}
    for address in own:
        if ipaddress.ip_interface(address) not in there:
            return f"the tunnel's address {address}"
    if own and not listed(f"default dev {plan.interface}"):
        return "the route through the tunnel"
    return ""


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
