"""Which rule decides about a new flow that comes in through the tunnel. Pure; tests hold it against the kernel."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from msgspec import Struct

from vpnpf.firewall.forwarded import SHUT, OpenPorts, enters, open_ports
from vpnpf.firewall.openings import ON_THE_LIST
from vpnpf.firewall.render import render
from vpnpf.firewall.ruleset import Rule
from vpnpf.model import FirewallPolicy, FirewallStage, ForwardRule, LockMode, Opening, PolicyMode, Protocol

Address = IPv4Address | IPv6Address
REST = ("anything else from the tunnel", "everything else")
"""Labels of the rules that drop what none before them let in."""


class Decision(Struct, frozen=True):
    """What becomes of a new flow."""

    verdict: str
    """"accept" or "drop"."""
    label: str
    """Why the rule is there, in a few words; empty: no rule of ours has to do with it."""
    rule: str
    """The rule as nft was given it."""
    chain: str
    forward: str = ""
    """The forward it comes in on, whose hits (`FirewallReading.hits`) it counts among; empty: none's."""
    opening: str = ""
    """`Opening.key` of the entry that lets it in, whose hits (`FirewallReading.openings`) it counts among."""
    to: str = ""
    """Where it goes, if it is rewritten: "port 51413", "192.168.77.5:8080"."""


def explain(policy: FirewallPolicy, protocol: Protocol, port: int, source: str, now: float) -> Decision:
    """Judge a new flow from `source` to the tunnel's own address, on `port` as it leaves the tunnel.

    `now` in seconds on CLOCK_BOOTTIME: what has ended by then opens nothing. Raises ValueError if the source is no
    address, Misconfigured if the policy cannot be rendered.
    """
    caller = ip_address(source)
    rules = tuple((chain.name, rule) for chain in render(policy).chains for rule in chain.rules)
    if policy.plan.direct:
        return Decision("accept", "", "", "input")
    if policy.stage is not FirewallStage.CONNECTED:
        if policy.lock is LockMode.OFF:
            return Decision("accept", "", "", "input")
        return _dropped(rules, "input", *REST)
    own = {ip_address(address.partition("/")[0]).version for address in policy.plan.addresses}
    if caller.version not in own:
        return _dropped(rules, "input", "not the tunnel's address", "ipv6" if caller.version == 6 else "ipv4")  # noqa: PLR2004 - the version
    moved = _moved(policy, protocol, port, caller)
    if moved is not None and moved.target is not None:
        return _to_another(policy, rules, moved, protocol, caller, now)
    listen, to = (port, "") if moved is None else (moved.listen, f"port {moved.listen}")
    return _to_this(policy, rules, (protocol, port, listen, caller), to, now)


Rules = tuple[tuple[str, Rule], ...]
Flow = tuple[Protocol, int, int, Address]
"""(protocol, port it arrives at, port after a redirect, who calls)."""


def _to_this(policy: FirewallPolicy, rules: Rules, flow: Flow, to: str, now: float) -> Decision:
    protocol, port, listen, caller = flow
    mode = policy.inbound.mode
    if mode is PolicyMode.BLOCK_ALL:
        return _dropped(rules, "input", *REST)
    if mode is PolicyMode.ALLOW_LIST and any(
        rule.shut and rule.arrives == port and protocol in rule.protocols for rule in policy.forwards
    ):
        return _dropped(rules, "input", SHUT, f"l4proto {protocol} ")
    for each in open_ports(policy):
        if each.rule.target is None and _lets_in(each, protocol, port, caller, now):
            rule = _rule(rules, "input", each.label, f"@{each.ports.name} ", caller)
            return Decision("accept", each.label, rule, "input", each.rule.name, to=to)
    for entry in policy.inbound.openings:
        if _is_on(entry, protocol, listen, now) and (found := _from(entry.sources, caller)) is not None:
            shape = ("_ip6" if caller.version == 6 else "_ip") if found else ""  # noqa: PLR2004 - the version
            shape = shape or ("" if entry.first == entry.last else "_ranges")
            rule = _rule(rules, "input", ON_THE_LIST, f"@open_{protocol}{shape} ", None)
            return Decision("accept", ON_THE_LIST, rule, "input", opening=entry.key, to=to)
    if mode is PolicyMode.OPEN_ALL:
        return Decision("accept", "open to all", _rule(rules, "input", "open to all", "", None), "input", to=to)
    return _dropped(rules, "input", *REST)


def _to_another(
    policy: FirewallPolicy, rules: Rules, moved: ForwardRule, protocol: Protocol, caller: Address, now: float
) -> Decision:
    to = f"[{moved.target}]:{moved.listen}" if ":" in str(moved.target) else f"{moved.target}:{moved.listen}"
    for each in open_ports(policy):
        same_host = each.rule.target == moved.target
        if same_host and _lets_in(each, protocol, moved.arrives, caller, now):
            rule = _rule(rules, "forward", each.label, f"@{each.ports.name} ", caller)
            return Decision("accept", each.label, rule, "forward", each.rule.name, to=to)
    return _dropped(rules, "forward", *REST)


def _moved(policy: FirewallPolicy, protocol: Protocol, port: int, caller: Address) -> ForwardRule | None:
    """The forward that rewrites it; what is sent on to a host of one address family is that of this family."""
    for rule in policy.forwards:
        named = rule.arrives == port and protocol in rule.protocols and enters(policy.inbound, rule, protocol)
        if named and (rule.target is not None or rule.listen != port):
            fits = rule.target is None or ip_address(rule.target).version == caller.version
            return rule if fits else None
    return None


def _lets_in(each: OpenPorts, protocol: Protocol, port: int, caller: Address, now: float) -> bool:
    held = dict(each.ports.ports)
    if each.protocol is not protocol or port not in held:
        return False
    until = held[port]
    return (until is None or until > now) and (each.from_all or _from(each.rule.sources, caller) is not None)


def _is_on(entry: Opening, protocol: Protocol, port: int, now: float) -> bool:
    lasts = entry.ends_at is None or entry.ends_at > now
    return lasts and entry.protocol is protocol and entry.first <= port <= entry.last


def _from(sources: tuple[str, ...], caller: Address) -> str | None:
    """The source that a caller is among; "": anybody is; None: it is not."""
    if not sources:
        return ""
    return next((source for source in sources if caller in ip_network(source)), None)


def _rule(rules: Rules, chain: str, label: str, holds: str, caller: Address | None) -> str:
    """The text of the rule with this label that holds a text, and is for the caller's address family."""
    texts = [rule.text for name, rule in rules if name == chain and rule.label == label and holds in f"{rule.text} "]
    if caller is not None and len(texts) > 1:
        family = "ip6 saddr" if caller.version == 6 else "ip saddr"  # noqa: PLR2004 - the version
        texts = [text for text in texts if family in text] or texts
    return texts[0]


def _dropped(rules: Rules, chain: str, label: str, *others: str) -> Decision:
    """The first rule with this label; of several, the one that holds one of the other words, or has one as its label."""
    named = [rule for name, rule in rules if name == chain and rule.label == label]
    named += [rule for name, rule in rules if name == chain and rule.label in others]
    chosen = next((rule for rule in named if any(word in rule.text for word in others)), named[0])
    return Decision("drop", chosen.label, chosen.text, chain)
