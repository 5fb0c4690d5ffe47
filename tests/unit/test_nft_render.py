"""The rules as text, stage by stage, and what holds for every policy there can be."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vpnpf.errors import Misconfigured
from vpnpf.firewall.render import render
from vpnpf.firewall.ruleset import (
    Chain,
    Leftover,
    PortSet,
    Rule,
    Ruleset,
    counter_name,
    counter_of,
    identifier,
    script,
    seconds_left,
)
from vpnpf.model import (
    BOTH,
    Endpoint,
    FirewallPolicy,
    FirewallStage,
    ForwardRule,
    LanPrefix,
    LockMode,
    Opening,
    PolicyMode,
    PortPolicy,
    Protocol,
    TunnelPlan,
)

PLAN = TunnelPlan(
    interface="wg0",
    endpoint=Endpoint("198.51.100.10", 51820),
    addresses=("10.2.0.2/32", "fd00:2::2/128"),
    dns=("10.2.0.1",),
    mark=0xCA6C,
    lan=(LanPrefix("eth0", "192.168.77.0/24"),),
)
TORRENT = ForwardRule("torrent", BOTH, 40000, 40000, 60.0)


def lines(policy: FirewallPolicy, chain: str) -> list[str]:
    return [rule.text for each in render(policy).chains if each.name == chain for rule in each.rules]


OUT_OPEN = """\
oifname "lo" accept
meta mark 0xca6c ip daddr 198.51.100.10 udp dport 51820 counter accept
oifname != "wg0" ip saddr 10.2.0.2 counter drop
oifname "wg0" ip saddr != 10.2.0.2 counter drop
oifname != "wg0" ip6 saddr fd00:2::2 counter drop
oifname "wg0" ip6 saddr != fd00:2::2 counter drop
oifname "wg0" ip daddr 10.2.0.1 meta l4proto { tcp, udp } th dport { 53, 853 } accept
meta l4proto { tcp, udp } th dport { 53, 853 } counter drop
oifname "wg0" counter accept
ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
ip6 saddr fe80::/10 ip6 daddr { ff02::1:2, fe80::/10 } udp sport 546 udp dport 547 accept
icmpv6 type nd-router-solicit ip6 hoplimit 255 ip6 daddr ff02::2 accept
icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 ip6 daddr { ff02::1:ff00:0/104, fe80::/10 } accept
icmpv6 type nd-neighbor-advert ip6 hoplimit 255 accept
icmpv6 type mld2-listener-report ip6 hoplimit 1 ip6 daddr ff02::16 accept
oifname "eth0" ip daddr 192.168.77.0/24 counter accept
counter drop"""
OUT_SHUT = """\
oifname "lo" accept
meta mark 0xca6c ip daddr 198.51.100.10 udp dport 51820 counter accept
oifname != "wg0" ip saddr 10.2.0.2 counter drop
oifname != "wg0" ip6 saddr fd00:2::2 counter drop
meta l4proto { tcp, udp } th dport { 53, 853 } counter drop
oifname "wg0" counter drop
ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
ip6 saddr fe80::/10 ip6 daddr { ff02::1:2, fe80::/10 } udp sport 546 udp dport 547 accept
icmpv6 type nd-router-solicit ip6 hoplimit 255 ip6 daddr ff02::2 accept
icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 ip6 daddr { ff02::1:ff00:0/104, fe80::/10 } accept
icmpv6 type nd-neighbor-advert ip6 hoplimit 255 accept
icmpv6 type mld2-listener-report ip6 hoplimit 1 ip6 daddr ff02::16 accept
oifname "eth0" ip daddr 192.168.77.0/24 counter accept
counter drop"""
IN_LINK = """\
ip saddr 198.51.100.10 udp sport 51820 ct state established counter accept
icmp type { destination-unreachable, time-exceeded, parameter-problem } ct state related accept
icmpv6 type { destination-unreachable, time-exceeded, parameter-problem, packet-too-big } ct state related accept
udp sport 67 udp dport 68 accept
ip6 saddr fe80::/10 ip6 daddr fe80::/10 udp sport 547 udp dport 546 accept
icmpv6 type nd-router-advert ip6 hoplimit 255 ip6 saddr fe80::/10 accept
icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept
icmpv6 type mld-listener-query ip6 hoplimit 1 ip6 saddr fe80::/10 accept"""
IN_SHUT = f"""\
iifname "lo" accept
iifname != "wg0" ip daddr 10.2.0.2 counter drop
iifname != "wg0" ip6 daddr fd00:2::2 counter drop
iifname "wg0" counter drop
{IN_LINK}
iifname "eth0" ip saddr 192.168.77.0/24 counter accept
counter drop"""
IN_OPEN = f"""\
iifname "lo" accept
iifname != "wg0" ip daddr 10.2.0.2 counter drop
iifname != "wg0" ip6 daddr fd00:2::2 counter drop
iifname "wg0" ip daddr != 10.2.0.2 counter drop
iifname "wg0" ip6 daddr != fd00:2::2 counter drop
iifname "wg0" ct state established,related counter accept
%s\
iifname "wg0" counter drop
{IN_LINK}
tcp dport 40000 ct state new counter drop
udp dport 40000 ct state new counter drop
iifname "eth0" ip saddr 192.168.77.0/24 counter accept
counter drop"""
FORWARDED = """\
iifname "wg0" meta l4proto tcp ct state new ct original proto-dst @fwd_torrent_tcp counter name "fwd_torrent_tcp" accept
iifname "wg0" meta l4proto udp ct state new ct original proto-dst @fwd_torrent_udp counter name "fwd_torrent_udp" accept
"""
FORWARD = """\
iifname != "wg0" oifname "wg0" ip daddr 10.2.0.1 meta l4proto { tcp, udp } th dport { 53, 853 } accept
meta l4proto { tcp, udp } th dport { 53, 853 } counter drop
iifname != "wg0" oifname "wg0" counter accept
iifname "wg0" oifname != "wg0" ct state established,related counter accept
counter drop"""
RANGES = (Opening(8080, 8080, Protocol.TCP), Opening(45000, 45010, Protocol.UDP))

LISTED = """\
iifname "wg0" ct state new tcp dport @open_tcp add @used_tcp { tcp dport counter } accept
iifname "wg0" ct state new udp dport @open_udp_ranges accept
"""


@pytest.mark.parametrize("stage", [FirewallStage.CONNECTING, FirewallStage.BLOCKED])
@pytest.mark.parametrize("mode", PolicyMode)
def test_connecting_and_blocked_are_shut_under_every_mode(stage, mode):
    policy = FirewallPolicy(stage, PLAN, PortPolicy(mode), (TORRENT,))
    assert "\n".join(lines(policy, "output")) == OUT_SHUT
    assert "\n".join(lines(policy, "input")) == IN_SHUT
    assert lines(policy, "forward") == ["counter drop"]
    assert render(policy).sets == ()


@pytest.mark.parametrize(
    ("inbound", "new_flows"),
    [
        (PortPolicy(PolicyMode.OPEN_ALL), f'{FORWARDED}iifname "wg0" ct state new counter accept\n'),
        (PortPolicy(PolicyMode.BLOCK_ALL), ""),
        (PortPolicy(PolicyMode.ALLOW_LIST), FORWARDED),
        (
            PortPolicy(PolicyMode.ALLOW_LIST, openings=RANGES),
            FORWARDED + LISTED,
        ),
        (PortPolicy(PolicyMode.ALLOW_LIST, forwarded=False), ""),
    ],
)
def test_connected_by_mode(inbound, new_flows):
    policy = FirewallPolicy(FirewallStage.CONNECTED, PLAN, inbound, (TORRENT,))
    assert "\n".join(lines(policy, "output")) == OUT_OPEN
    assert "\n".join(lines(policy, "input")) == IN_OPEN % new_flows
    assert "\n".join(lines(policy, "forward")) == FORWARD
    assert [chain.name for chain in render(policy).chains] == ["output", "input", "forward"]


def test_a_port_that_is_replaced_is_open_but_counted_apart():
    rules = (replace(TORRENT, arrives=40007, listen=40007), TORRENT)
    ruleset = render(FirewallPolicy(FirewallStage.CONNECTED, PLAN, PortPolicy(), rules))
    assert PortSet("fwd_torrent_tcp", ((40007, 60.0),)) in ruleset.sets
    assert PortSet("old_fwd_torrent_tcp", ((40000, 60.0),)) in ruleset.sets
    old = next(rule.text for chain in ruleset.chains for rule in chain.rules if "@old_fwd_torrent_tcp" in rule.text)
    assert old.endswith("counter accept")


def test_another_listen_port_is_redirected():
    rule = ForwardRule("web", (Protocol.TCP,), 40000, 8080)
    policy = FirewallPolicy(FirewallStage.CONNECTED, PLAN, PortPolicy(), (rule,))
    assert lines(policy, "portmap") == ['iifname "wg0" tcp dport 40000 counter redirect to :8080']
    shut = replace(policy, inbound=PortPolicy(PolicyMode.BLOCK_ALL))
    assert lines(shut, "portmap") == []


def test_a_tunnel_without_ipv6_carries_none():
    plan = replace(PLAN, addresses=("10.2.0.2/32",))
    policy = FirewallPolicy(FirewallStage.CONNECTED, plan, PortPolicy(PolicyMode.OPEN_ALL))
    assert 'oifname "wg0" meta nfproto ipv6 counter drop' in lines(policy, "output")
    assert 'iifname "wg0" meta nfproto ipv6 counter drop' in lines(policy, "input")
    assert 'oifname "wg0" meta nfproto ipv6 counter drop' in lines(policy, "forward")


def test_tcp_and_ipv6_endpoints():
    plan = replace(PLAN, endpoint=Endpoint("2001:db8::1", 443, Protocol.TCP))
    policy = FirewallPolicy(FirewallStage.CONNECTING, plan, PortPolicy())
    assert "meta mark 0xca6c ip6 daddr 2001:db8::1 tcp dport 443 counter accept" in lines(policy, "output")
    assert "ip6 saddr 2001:db8::1 tcp sport 443 ct state established counter accept" in lines(policy, "input")


@pytest.mark.parametrize("prefix", ["203.0.113.0/24", "0.0.0.0/0", "10.0.0.0/7", "2000::/3", "::/0", "100.64.0.0/10"])
def test_only_private_prefixes_count_as_lan(prefix):
    plan = replace(PLAN, lan=(LanPrefix("eth0", prefix),))
    assert not any(
        "eth0" in line for line in lines(FirewallPolicy(FirewallStage.BLOCKED, plan, PortPolicy()), "output")
    )


def test_the_tunnel_is_never_its_own_lan():
    plan = replace(PLAN, lan=(LanPrefix("wg0", "10.2.0.0/24"),))
    assert not any(
        "10.2.0.0" in line for line in lines(FirewallPolicy(FirewallStage.BLOCKED, plan, PortPolicy()), "output")
    )


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, mark=0),
        replace(PLAN, interface='wg0" accept; #'),
        replace(PLAN, interface="wg*"),
        replace(PLAN, interface="x" * 16),
        replace(PLAN, interface=""),
        replace(PLAN, lan=(LanPrefix("eth 0", "10.0.0.0/8"),)),
        replace(PLAN, endpoint=Endpoint("vpn.example", 1)),
        replace(PLAN, addresses=("10.2.0.2/32", "here")),
        replace(PLAN, dns=("10.2.0.1 accept",)),
    ],
)
def test_a_plan_that_allows_no_safe_rules_is_refused(plan):
    with pytest.raises(Misconfigured) as caught:
        render(FirewallPolicy(FirewallStage.CONNECTED, plan, PortPolicy()))
    assert caught.value.hint


# -- the gateway's announcements ------------------------------------------------------------------

ANNOUNCED = 'iifname "wg0" ip saddr 10.2.0.1 ip daddr 224.0.0.1 udp sport 5351 udp dport 5350 counter accept'


def test_the_gateways_announcements_come_in_before_what_is_not_for_us_is_dropped():
    plan = replace(PLAN, gateway="10.2.0.1")
    found = lines(FirewallPolicy(FirewallStage.CONNECTED, plan, PortPolicy()), "input")
    assert found.index(ANNOUNCED) < found.index('iifname "wg0" ip daddr != 10.2.0.2 counter drop')


@pytest.mark.parametrize(
    ("stage", "gateway"),
    [
        (FirewallStage.CONNECTING, "10.2.0.1"),
        (FirewallStage.BLOCKED, "10.2.0.1"),
        (FirewallStage.CONNECTED, "fd00:2::1"),
        (FirewallStage.CONNECTED, None),
    ],
)
def test_no_announcements_without_a_connection_or_an_ipv4_gateway(stage, gateway):
    found = lines(FirewallPolicy(stage, replace(PLAN, gateway=gateway), PortPolicy()), "input")
    assert not any("224.0.0.1" in line for line in found)


def test_a_gateway_that_is_no_address_is_refused():
    plan = replace(PLAN, gateway="10.2.0.1 accept")
    with pytest.raises(Misconfigured):
        render(FirewallPolicy(FirewallStage.CONNECTED, plan, PortPolicy()))


# -- without a tunnel -----------------------------------------------------------------------------

DIRECT = TunnelPlan("eth0", Endpoint("192.168.77.1", 9), ("192.168.77.2/24",), gateway="192.168.77.1", direct=True)


@pytest.mark.parametrize("stage", FirewallStage)
def test_without_a_tunnel_nothing_is_dropped_in_any_stage(stage):
    ruleset = render(FirewallPolicy(stage, DIRECT, PortPolicy(), (TORRENT, ForwardRule("web", BOTH, 80, 8080))))
    assert {chain.policy for chain in ruleset.chains} == {"accept"}
    assert {rule.verdict for chain in ruleset.chains for rule in chain.rules} <= {"accept", "redirect"}
    assert bool(ruleset.sets) == bool(ruleset.counters) == (stage is FirewallStage.CONNECTED)


def test_without_a_tunnel_forwarded_ports_are_counted_from_beyond_the_lan_and_redirected():
    web = ForwardRule("web", (Protocol.TCP,), 40001, 8080)
    torrent = replace(TORRENT, protocols=(Protocol.UDP,))
    policy = FirewallPolicy(FirewallStage.CONNECTED, DIRECT, PortPolicy(), (torrent, web))
    beyond = 'iifname "eth0" ip saddr != 192.168.77.0/24 meta l4proto'
    assert lines(policy, "input") == [
        f'{beyond} udp ct state new ct original proto-dst @fwd_torrent_udp counter name "fwd_torrent_udp" accept',
        f'{beyond} tcp ct state new ct original proto-dst @fwd_web_tcp counter name "fwd_web_tcp" accept',
    ]
    assert lines(policy, "portmap") == ['iifname "eth0" tcp dport 40001 counter redirect to :8080']


@pytest.mark.parametrize("change", [{"interface": 'e" accept'}, {"addresses": ("here",)}])
def test_without_a_tunnel_too_a_plan_that_allows_no_safe_rules_is_refused(change):
    with pytest.raises(Misconfigured):
        render(FirewallPolicy(FirewallStage.CONNECTED, replace(DIRECT, **change), PortPolicy(), (TORRENT,)))


# -- for every policy ---------------------------------------------------------------------------

PORTS = st.integers(1, 65535)
RULES = st.builds(
    ForwardRule,
    st.text(max_size=40) | st.sampled_from(["torrent", "web", "a_tcp", "a"]),
    st.sampled_from([BOTH, (Protocol.TCP,), (Protocol.UDP,)]),
    PORTS,
    PORTS,
    st.none() | st.floats(-100, 1e6),
    st.sampled_from([None, None, "192.168.77.5", "fd77::5"]),
    st.sets(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"]), max_size=2).map(tuple),
    st.booleans(),
    st.booleans(),
)
SOURCES = st.sampled_from(
    ["10.0.0.0/8", "10.1.0.0/16", "203.0.113.9/32", "0.0.0.0/0", "fd00::/8", "::ffff:102:304/128", "::/0"]
)
SPANS = st.builds(
    lambda a, b, protocol, sources, ends_at: Opening(
        min(a, b), max(a, b), protocol, tuple(sorted(sources)), ends_at=ends_at
    ),
    PORTS,
    PORTS,
    st.sampled_from(Protocol),
    st.sets(SOURCES, max_size=2),
    st.none() | st.floats(-100, 1e6),
)


def apart(spans: list[Opening]) -> tuple[Opening, ...]:
    """Those that overlap with none before them."""
    kept: list[Opening] = []
    for span in spans:
        if not any(
            span.protocol is each.protocol and span.first <= each.last and each.first <= span.last for each in kept
        ):
            kept.append(span)
    return tuple(sorted(kept, key=lambda span: (span.first, span.protocol)))


INBOUND = st.builds(PortPolicy, st.sampled_from(PolicyMode), st.booleans(), st.lists(SPANS, max_size=5).map(apart))
PLANS = st.builds(
    TunnelPlan,
    st.sampled_from(["wg0", "tun0", "a.b-c@d"]),
    st.builds(Endpoint, st.ip_addresses().map(str), PORTS, st.sampled_from(Protocol)),
    st.lists(st.ip_addresses().map(str), min_size=1, max_size=3).map(tuple),
    st.lists(st.ip_addresses().map(str), max_size=2).map(tuple),
    st.integers(1, 2**32 - 1),
    lan=st.lists(
        st.builds(LanPrefix, st.sampled_from(["eth0", "wlan0", "wg0"]), st.sampled_from(["10.0.0.0/8", "fe80::/64"])),
        max_size=3,
    ).map(tuple),
)
POLICIES = st.builds(
    FirewallPolicy, st.sampled_from(FirewallStage), PLANS, INBOUND, st.lists(RULES, max_size=4).map(tuple)
)


@given(POLICIES)
def test_every_filter_chain_ends_with_a_drop(policy):
    chains = [chain for chain in render(policy).chains if chain.type == "filter"]
    assert {chain.hook for chain in chains} == {"output", "input", "forward"}
    for chain in chains:
        assert chain.policy == "drop"
        assert chain.rules[-1].text == "counter drop"


@given(POLICIES)
def test_nothing_leaves_to_port_53_before_dns_is_dropped_but_the_tunnel_and_its_resolver(policy):
    for chain in ("output", "forward"):
        before = lines(policy, chain)
        shut = next((place for place, line in enumerate(before) if "th dport { 53, 853 } counter drop" in line), None)
        if shut is None:
            assert before == ["counter drop"]
            continue
        own = f"meta mark {policy.plan.mark:#x} "
        resolver = f'oifname "{policy.plan.interface}" ip'
        for line in before[:shut]:
            from_there = chain == "forward" and line.startswith(f'iifname "{policy.plan.interface}" oifname != ')
            if line.endswith("accept") and not from_there:
                assert line == 'oifname "lo" accept' or line.startswith(own) or (resolver in line and "53" in line)


@given(POLICIES)
def test_output_accepts_nothing_for_being_established(policy):
    assert not any("ct state" in line for line in lines(policy, "output"))


@given(POLICIES)
def test_a_closed_policy_accepts_nothing_new_from_the_tunnel(policy):
    closed = policy.stage is not FirewallStage.CONNECTED or policy.inbound.mode is PolicyMode.BLOCK_ALL
    ours = [line for line in lines(policy, "input") if line.startswith(f'iifname "{policy.plan.interface}" ')]
    new = [line for line in ours if line.endswith("accept") and "ct state established,related" not in line]
    if closed:
        assert new == []
        assert render(policy).sets == ()
    assert ours[-1] == f'iifname "{policy.plan.interface}" counter drop'


@given(POLICIES)
def test_everything_from_the_tunnel_is_decided_before_the_lan_is(policy):
    rules = lines(policy, "input")
    end = rules.index(f'iifname "{policy.plan.interface}" counter drop')
    lan = {lan.interface for lan in policy.plan.lan} - {policy.plan.interface}
    assert all(f'iifname "{device}"' not in rule for device in lan for rule in rules[:end])


NFT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@given(POLICIES, st.floats(0, 1000))
def test_names_never_break_out(policy, now):
    """Whatever a forward is called, the script has the same commands as with a plain name."""
    ruleset = render(policy)
    for name in (*ruleset.counters, *(ports.name for ports in ruleset.sets)):
        assert NFT_NAME.fullmatch(name)
    text = script(ruleset, now)
    assert all(
        line.split()[0] in {"add", "flush"} and " inet vpnpf" in line and line.isprintable()
        for line in text.splitlines()
    )


@given(st.text(), st.text(), st.sampled_from(Protocol))
def test_different_names_stay_different(one, other, protocol):
    assert counter_of(counter_name(one, protocol)) == (one, protocol)
    assert (identifier(one) == identifier(other)) == (one == other)


@pytest.mark.parametrize("name", ["", "fwd_", "fwd_x", "fwd_a_icmp", "other", "fwd_a.zz_tcp", "x_tcp"])
def test_foreign_counters_are_nobodys(name):
    assert counter_of(name) is None


@given(POLICIES)
def test_comments_tell_all_rules_apart(policy):
    for chain in render(policy).chains:
        comments = chain.comments()
        assert len(set(comments)) == len(comments)
        assert all(len(comment) < 128 and re.fullmatch(r"[A-Za-z0-9' ]+", comment) for comment in comments)


# -- the transaction ----------------------------------------------------------------------------


def test_the_transaction_flushes_in_place_and_never_makes_a_chain_anew():
    chain = Chain("output", "output", 0, (Rule("accept", "one"), Rule("counter drop", "everything else")))
    ruleset = Ruleset((chain,), (PortSet("fwd_a_tcp", ((1, None), (2, 10.2), (3, 5.0))),), ("fwd_a_tcp",))
    text = script(ruleset, 5.0, (Leftover("set", "old_fwd_a_tcp"),))
    first, second = chain.comments()
    assert text.splitlines() == [
        'add table inet vpnpf { comment "vpnpf rules 1"; }',
        "flush table inet vpnpf",
        "delete set inet vpnpf old_fwd_a_tcp",
        "add chain inet vpnpf output { type filter hook output priority 0; policy drop; }",
        "add counter inet vpnpf fwd_a_tcp",
        "add set inet vpnpf fwd_a_tcp { type inet_service; flags timeout; }",
        "flush set inet vpnpf fwd_a_tcp",
        "add element inet vpnpf fwd_a_tcp { 1, 2 timeout 6s }",
        f'add rule inet vpnpf output accept comment "{first}"',
        f'add rule inet vpnpf output counter drop comment "{second}"',
    ]
    assert "delete table" not in text
    assert "ruleset" not in text


@given(st.floats(0, 1e7), st.floats(0.001, 1e7))
def test_a_port_never_closes_before_its_lease_ends_nor_a_second_late(now, lifetime):
    left = seconds_left(now + lifetime, now)
    assert left >= 1 or now + lifetime == now
    assert 0 <= left - (now + lifetime - now) < 1


def test_an_address_with_a_zone_is_refused():
    plan = replace(PLAN, addresses=("10.2.0.2/32", "fe80::1%lo; add table ip x/128"))
    with pytest.raises(Misconfigured):
        render(FirewallPolicy(FirewallStage.CONNECTED, plan, PortPolicy()))
    with pytest.raises(Misconfigured):
        render(FirewallPolicy(FirewallStage.CONNECTED, replace(PLAN, dns=("fe80::1%x",)), PortPolicy()))


# -- modes of the lock ------------------------------------------------------------------------------


def test_locked_lets_nothing_out_but_what_the_link_needs_not_even_the_tunnel():
    locked = FirewallPolicy(FirewallStage.LOCKED, PLAN, PortPolicy(), lock=LockMode.LOCKDOWN)
    blocked = replace(locked, stage=FirewallStage.BLOCKED)
    for chain in ("output", "input", "forward"):
        gone = set(lines(blocked, chain)) - set(lines(locked, chain))
        assert all("198.51.100.10" in line for line in gone)
        assert set(lines(locked, chain)) <= set(lines(blocked, chain))
        assert lines(locked, chain)[-1] == "counter drop"
    assert not any("198.51.100.10" in line for line in lines(locked, "output") + lines(locked, "input"))


@pytest.mark.parametrize("stage", [FirewallStage.CONNECTING, FirewallStage.BLOCKED])
def test_without_a_lock_nothing_is_judged_while_there_is_no_tunnel(stage):
    ruleset = render(FirewallPolicy(stage, PLAN, PortPolicy(), (TORRENT,), LockMode.OFF))
    assert all(chain.policy == "accept" and not chain.rules for chain in ruleset.chains)


def test_without_a_lock_the_tunnel_has_its_port_policy_all_the_same():
    off = FirewallPolicy(FirewallStage.CONNECTED, PLAN, PortPolicy(), (TORRENT,), LockMode.OFF)
    on = replace(off, lock=LockMode.ON)
    assert all(chain.policy == "accept" for chain in render(off).chains)
    for chain in ("output", "input", "forward"):
        mine = lines(off, chain)
        assert all("wg0" in line or '"lo"' in line for line in mine)
        if chain != "forward":
            assert [line for line in lines(on, chain) if line in mine] == mine
    assert lines(off, "forward")[-1] == 'iifname "wg0" counter drop'
    assert render(off).sets == render(on).sets


def test_without_a_lock_no_mark_is_needed():
    plan = replace(PLAN, mark=0)
    assert render(FirewallPolicy(FirewallStage.CONNECTED, plan, PortPolicy(), lock=LockMode.OFF)).chains
