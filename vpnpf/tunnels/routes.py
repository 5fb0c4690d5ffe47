"""Where packets go while a tunnel is up, as lines for `ip -4 -batch` and `ip -6 -batch`. Pure.

A rule before the main table sends everything that is not the tunnel's own (the mark) to a table of its own. In
that, an unreachable route waits behind the one through the device: when the device goes, nothing falls back
to the main table. The rule is before main because a route pushed by DHCP (option 121, TunnelVision) would
otherwise win. Only private prefixes on connected links are looked up in main first.
"""

from __future__ import annotations

from vpnpf.model import TunnelPlan

LAN_PRIORITY = 7100
TUNNEL_PRIORITY = 7110
LAST_METRIC = 0xFF000000
"""Of the unreachable route: any other route of the table is better."""
FAMILIES = ("-4", "-6")
_MOST_LAN_RULES = 16


def bring_up(plan: TunnelPlan, family: str) -> list[str]:
    """Device, addresses and routes of a family; the rules come last, so that they never lead into nothing.

    Where some of it stands already, run it with `-force`: the lines of rules that are there fail.
    """
    device = plan.interface
    lines = [f"link set {device} mtu {plan.mtu} up"] if family == FAMILIES[0] else []
    own = [address for address in plan.addresses if family_of(address) == family]
    nodad = " nodad" if family == FAMILIES[1] else ""
    lines += [f"addr replace {address} dev {device}{nodad}" for address in own]
    lines.append(f"route replace unreachable default metric {LAST_METRIC} table {plan.table}")
    if own:
        lines.append(f"route replace default dev {device} table {plan.table}")
    lines += [f"rule add to {prefix} lookup main priority {LAN_PRIORITY}" for prefix in _lan(plan, family)]
    lines.append(f"rule add not fwmark {plan.mark:#x} lookup {plan.table} priority {TUNNEL_PRIORITY}")
    return lines


def take_down(interface: str, table: int, family: str) -> list[str]:
    """Rules first, then the table; with `-force`, since lines fail for what is gone. The device takes its routes along.

    The rules are found by their priorities, which are ours alone: a run that was killed may have had another LAN.
    """
    lines = [f"rule del priority {TUNNEL_PRIORITY} lookup {table}"]
    lines += [f"rule del priority {LAN_PRIORITY} lookup main"] * _MOST_LAN_RULES
    lines.append(f"route flush table {table}")
    return [*lines, f"link del {interface}"] if family == FAMILIES[1] else lines


def show(table: int) -> list[str]:
    """What to list for `missing`. The routes come last: for an empty table the listing ends there."""
    return ["rule show", f"route show table {table}"]


def missing(plan: TunnelPlan, family: str, listing: str) -> str:
    """Say what is not in a listing of `show`; empty: nothing."""
    lines = [" ".join(line.split()) for line in listing.splitlines()]
    own = any(family_of(address) == family for address in plan.addresses)
    lan = [line for line in lines if line.startswith(f"{LAN_PRIORITY}: ")]
    rule = f"{TUNNEL_PRIORITY}: not from all fwmark {plan.mark:#x} lookup {plan.table}"
    if rule not in lines:
        return "the rule that sends everything through the tunnel"
    if len(lan) < len(_lan(plan, family)):
        return "a rule of the LAN"
    if not any(line.startswith("unreachable default") for line in lines):
        return "the route that catches what the tunnel lost"
    if own and not any(line.startswith(f"default dev {plan.interface}") for line in lines):
        return "the route through the tunnel"
    return ""


def family_of(address: str) -> str:
    """Which of FAMILIES an address or prefix belongs to."""
    return FAMILIES[":" in address]


def _lan(plan: TunnelPlan, family: str) -> list[str]:
    prefixes = (lan.prefix for lan in plan.lan)
    return list(dict.fromkeys(prefix for prefix in prefixes if family_of(prefix) == family))[:_MOST_LAN_RULES]
