"""Where packets go while a tunnel is up, as lines for `ip -batch`. Pure.

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
FAMILIES = ("-4", "-6")


def bring_up(plan: TunnelPlan) -> list[str]:
    """Device, addresses and routes; the rules come last, so that they never lead into nothing."""
    lines = [f"link set {plan.interface} mtu {plan.mtu} up"]
    for address in plan.addresses:
        nodad = " nodad" if ":" in address else ""
        lines.append(f"{_family(address)} addr replace {address} dev {plan.interface}{nodad}")
    return [*lines, *_routes(plan), *_rules(plan, "add")]


def heal(plan: TunnelPlan) -> list[str]:
    """As `bring_up`; lines that fail because their rule is there already are to be passed over (`ip -force`)."""
    return bring_up(plan)


def take_down(plan: TunnelPlan) -> list[str]:
    """Rules first, then the table; lines fail for what is gone already. The device takes its routes with it."""
    table = [f"{family} route flush table {plan.table}" for family in FAMILIES]
    return [*_all_rules(plan.table), *table, f"link del {plan.interface}"]


def show(plan: TunnelPlan) -> list[str]:
    """What to list for `standing`."""
    rules = [f"{family} rule show" for family in FAMILIES]
    return [*rules, *(f"{family} route show table {plan.table}" for family in FAMILIES)]


def standing(plan: TunnelPlan, listing: str) -> str:
    """Say what is missing in a listing of `show`; empty: nothing."""
    lines = [" ".join(line.split()) for line in listing.splitlines()]
    lookup = [line for line in lines if line.startswith(f"{TUNNEL_PRIORITY}:") and f"lookup {plan.table}" in line]
    if sum(
        f"fwmark {plan.mark:#x}" in line and line.startswith(f"{TUNNEL_PRIORITY}: not from all") for line in lookup
    ) < len(FAMILIES):
        return "the rule that sends everything through the tunnel"
    if sum(line.startswith(f"{LAN_PRIORITY}:") for line in lines) < len(_lan(plan)):
        return "a rule of the LAN"
    if sum(line.startswith("unreachable default") for line in lines) < len(FAMILIES):
        return "the route that catches what the tunnel lost"
    if sum(line.startswith(f"default dev {plan.interface}") for line in lines) < len(_inside(plan)):
        return "the route through the tunnel"
    return ""


def _routes(plan: TunnelPlan) -> list[str]:
    lines = [
        f"{family} route replace unreachable default metric {LAST_METRIC} table {plan.table}" for family in FAMILIES
    ]
    return lines + [
        f"{family} route replace default dev {plan.interface} table {plan.table}" for family in _inside(plan)
    ]


def _rules(plan: TunnelPlan, verb: str) -> list[str]:
    lan = [f"{_family(prefix)} rule {verb} to {prefix} lookup main priority {LAN_PRIORITY}" for prefix in _lan(plan)]
    everything = [
        f"{family} rule {verb} not fwmark {plan.mark:#x} lookup {plan.table} priority {TUNNEL_PRIORITY}"
        for family in FAMILIES
    ]
    return lan + everything


def _all_rules(table: int) -> list[str]:
    """Also those of a run that was killed on another LAN: our priorities are ours alone."""
    lines = []
    for family in FAMILIES:
        lines += [f"{family} rule del priority {TUNNEL_PRIORITY} lookup {table}"] * 2
        lines += [f"{family} rule del priority {LAN_PRIORITY} lookup main"] * 16
    return lines


def _lan(plan: TunnelPlan) -> list[str]:
    return list(dict.fromkeys(lan.prefix for lan in plan.lan))


def _inside(plan: TunnelPlan) -> list[str]:
    """Families that the tunnel carries."""
    return [family for family in FAMILIES if any(_family(address) == family for address in plan.addresses)]


def _family(address: str) -> str:
    return "-6" if ":" in address else "-4"
