"""Where packets go while a tunnel is up: the lines for `ip`, and what is found missing in its listings."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from vpnpf.core import routes
from vpnpf.model import Endpoint, LanPrefix, TunnelPlan

PLAN = TunnelPlan(
    interface="vpf-home",
    endpoint=Endpoint("198.51.100.10", 51820),
    addresses=("10.2.0.2/32", "2a07:b944::2:2/128"),
    mark=0x76701B58,
    table=7000,
    lan=(LanPrefix("eth0", "192.168.77.0/24"), LanPrefix("eth0", "fd77::/64")),
)

# Printed by `ip -N -force -batch` of iproute2 6.1 for what `show` asks.
LISTING4 = """\
0:	from all lookup 255
7080:	from all fwmark 0x76701b58 lookup 254 proto 118
7090:	from all ipproto ipproto-6 dport 53 lookup 7000 proto 118
7090:	from all ipproto ipproto-6 dport 853 lookup 7000 proto 118
7090:	from all ipproto ipproto-17 dport 53 lookup 7000 proto 118
7090:	from all ipproto ipproto-17 dport 853 lookup 7000 proto 118
7100:	from all to 192.168.77.0/24 lookup 254 suppress_prefixlength 0 proto 118
7110:	not from all fwmark 0x76701b58 lookup 7000 proto 118
32766:	from all lookup 254
32767:	from all lookup 253
2: vpf-home: <NO-CARRIER,POINTOPOINT,MULTICAST,NOARP,UP> mtu 1420 qdisc pfifo_fast state DOWN group 0 qlen 500
    inet 10.2.0.2/32 scope 0 noprefixroute vpf-home
       valid_lft forever preferred_lft forever
default dev vpf-home proto 118 scope 253 linkdown
7 default proto 118 metric 4278190080
"""
LISTING6 = """\
0:	from all lookup 255
7080:	from all fwmark 0x76701b58 lookup 254 proto 118
7090:	from all ipproto ipproto-6 dport 53 lookup 7000 proto 118
7090:	from all ipproto ipproto-6 dport 853 lookup 7000 proto 118
7090:	from all ipproto ipproto-17 dport 53 lookup 7000 proto 118
7090:	from all ipproto ipproto-17 dport 853 lookup 7000 proto 118
7100:	from all to fd77::/64 lookup 254 suppress_prefixlength 0 proto 118
7110:	not from all fwmark 0x76701b58 lookup 7000 proto 118
32766:	from all lookup 254
2: vpf-home: <NO-CARRIER,POINTOPOINT,MULTICAST,NOARP,UP> mtu 1420 qdisc pfifo_fast state DOWN group 0 qlen 500
    inet6 2a07:b944::2:2/128 scope 0 nodad noprefixroute
       valid_lft forever preferred_lft forever
default dev vpf-home proto 118 metric 1024 linkdown pref medium
7 default dev lo proto 118 metric 4278190080 pref medium
"""
LISTINGS = {"-4": LISTING4, "-6": LISTING6}


def test_ipv4_comes_up_with_its_rules_last():
    assert routes.bring_up(PLAN, "-4") == [
        "link set vpf-home mtu 1420 up",
        "addr replace 10.2.0.2/32 dev vpf-home noprefixroute",
        "route replace unreachable default metric 4278190080 table 7000 protocol 118",
        "route replace default dev vpf-home table 7000 protocol 118",
        "rule add fwmark 0x76701b58 lookup main priority 7080 protocol 118",
        "rule add ipproto 6 dport 53 lookup 7000 priority 7090 protocol 118",
        "rule add ipproto 6 dport 853 lookup 7000 priority 7090 protocol 118",
        "rule add ipproto 17 dport 53 lookup 7000 priority 7090 protocol 118",
        "rule add ipproto 17 dport 853 lookup 7000 priority 7090 protocol 118",
        "rule add to 192.168.77.0/24 lookup main suppress_prefixlength 0 priority 7100 protocol 118",
        "rule add not fwmark 0x76701b58 lookup 7000 priority 7110 protocol 118",
    ]


def test_ipv6_comes_up_with_its_rules_last():
    assert routes.bring_up(PLAN, "-6") == [
        "addr replace 2a07:b944::2:2/128 dev vpf-home noprefixroute nodad",
        "route replace unreachable default metric 4278190080 table 7000 protocol 118",
        "route replace default dev vpf-home table 7000 protocol 118",
        "rule add fwmark 0x76701b58 lookup main priority 7080 protocol 118",
        "rule add ipproto 6 dport 53 lookup 7000 priority 7090 protocol 118",
        "rule add ipproto 6 dport 853 lookup 7000 priority 7090 protocol 118",
        "rule add ipproto 17 dport 53 lookup 7000 priority 7090 protocol 118",
        "rule add ipproto 17 dport 853 lookup 7000 priority 7090 protocol 118",
        "rule add to fd77::/64 lookup main suppress_prefixlength 0 priority 7100 protocol 118",
        "rule add not fwmark 0x76701b58 lookup 7000 priority 7110 protocol 118",
    ]


@pytest.mark.parametrize(
    "plan", [PLAN, structs.replace(PLAN, addresses=("10.2.0.2/32",))], ids=["switched off", "no address"]
)
def test_ipv6_that_the_tunnel_does_not_carry_is_caught(plan):
    carried = plan is not PLAN
    lines = routes.bring_up(plan, "-6", carried=carried)
    assert not any("dev vpf-home" in line for line in lines)
    assert lines[0].startswith("route replace unreachable default")
    assert lines[-1].startswith("rule add not fwmark")
    caught = LISTING6.replace("default dev vpf-home proto 118 metric 1024 linkdown pref medium\n", "")
    caught = caught.replace("    inet6 2a07:b944::2:2/128 scope 0 nodad noprefixroute\n", "")
    assert routes.missing(plan, "-6", caught, carried=carried) == ""


def test_rules_go_before_what_they_lead_to():
    assert routes.take_down(7000) == ["rule flush protocol 118", "route flush table 7000 protocol 118"]


def test_the_lock_holds_by_the_same_lines_without_the_device():
    lines = routes.hold(PLAN, "-4")
    assert lines[0].startswith("route replace unreachable default")
    assert [line for line in routes.bring_up(PLAN, "-4") if "vpf-home" not in line] == lines
    assert routes.not_held(PLAN, "-4", LISTING4) == ""


def test_without_a_lan_dns_needs_no_rule_of_its_own():
    plan = structs.replace(PLAN, lan=())
    assert [line for line in routes.hold(plan, "-4") if line.startswith("rule")] == [
        "rule add not fwmark 0x76701b58 lookup 7000 priority 7110 protocol 118"
    ]


def test_rules_of_another_profile_are_strays_and_nobody_elses_are():
    assert routes.strays(PLAN, "-4", LISTING4) == []
    other = structs.replace(PLAN, table=7001, mark=0x76701B59, lan=(LanPrefix("eth0", "192.168.77.0/24"),))
    assert routes.strays(other, "-4", LISTING4) == [
        "rule del from all fwmark 0x76701b58 lookup 254 priority 7080 protocol 118",
        "rule del from all ipproto 6 dport 53 lookup 7000 priority 7090 protocol 118",
        "rule del from all ipproto 6 dport 853 lookup 7000 priority 7090 protocol 118",
        "rule del from all ipproto 17 dport 53 lookup 7000 priority 7090 protocol 118",
        "rule del from all ipproto 17 dport 853 lookup 7000 priority 7090 protocol 118",
        "rule del not from all fwmark 0x76701b58 lookup 7000 priority 7110 protocol 118",
        "route flush table 7000 protocol 118",
    ]


def test_all_of_ours_is_undone_and_nothing_where_there_is_nothing():
    assert routes.undo(LISTING4) == ["rule flush protocol 118", "route flush table 7000 protocol 118"]
    assert routes.undo("0:\tfrom all lookup 255\n32766:\tfrom all lookup 254 proto 3\n") == []


def test_a_prefix_that_two_devices_have_gets_one_rule():
    plan = structs.replace(PLAN, lan=(*PLAN.lan, LanPrefix("wlan0", "192.168.77.0/24")))
    assert routes.bring_up(plan, "-4") == routes.bring_up(PLAN, "-4")


def test_many_lans_all_get_their_rule():
    lans = tuple(LanPrefix(f"br{number}", f"172.17.{number}.0/24") for number in range(100))
    lines = routes.bring_up(structs.replace(PLAN, lan=lans), "-4")
    assert len([line for line in lines if "lookup main suppress_prefixlength 0 priority 7100" in line]) == 100


@pytest.mark.parametrize("family", routes.FAMILIES)
def test_nothing_is_missing_in_a_listing_of_what_was_set_up(family):
    assert routes.missing(PLAN, family, LISTINGS[family]) == ""


@pytest.mark.parametrize(
    ("family", "line", "said"),
    [
        ("-4", "7110:.*", "the rule that sends everything through the tunnel"),
        ("-6", "7110:.*", "the rule that sends everything through the tunnel"),
        ("-4", "7100:.*", "the rule of the LAN 192.168.77.0/24"),
        ("-6", "7100:.*", "the rule of the LAN fd77::/64"),
        ("-4", "7090:.*17 dport 53 .*", "the rule that keeps DNS away from the LAN"),
        ("-6", "7080:.*", "the rule that keeps DNS away from the LAN"),
        ("-4", "7 default.*", "the route that catches what the tunnel lost"),
        ("-6", "7 default.*", "the route that catches what the tunnel lost"),
        ("-4", "default dev.*", "the route through the tunnel"),
        ("-6", "default dev.*", "the route through the tunnel"),
        ("-4", " +inet .*", "the tunnel's address 10.2.0.2/32"),
        ("-6", " +inet6 .*", "the tunnel's address 2a07:b944::2:2/128"),
    ],
)
def test_each_line_that_is_missing_is_named(family, line, said):
    listing, count = re.subn(f"(?m)^{line}\n", "", LISTINGS[family])
    assert count == 1
    assert routes.missing(PLAN, family, listing) == said


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lookup 7000", "lookup 70000"),
        ("lookup 7000", "lookup 700"),
        ("7110:\tnot", "7111:\tnot"),
        ("not from all", "from all"),
        ("fwmark 0x76701b58", "fwmark 0x76701b58/0xff"),
        ("to 192.168.77.0/24", "to 192.168.77.0/25"),
        ("lookup 254 proto 118", "lookup 253 proto 118"),
        ("dev vpf-home proto", "dev vpf-home2 proto"),
        ("7 default", "6 default"),
        ("7 default", "7 10.0.0.0/8"),
        ("metric 4278190080", "metric 1"),
        ("10.2.0.2/32", "10.2.0.3/32"),
        ("10.2.0.2/32", "10.2.0.2/24"),
    ],
)
def test_what_only_looks_like_it_is_missing(old, new):
    assert old in LISTING4
    assert routes.missing(PLAN, "-4", LISTING4.replace(old, new))


def test_an_address_is_the_same_however_it_is_written():
    listing = LISTING6.replace("2a07:b944::2:2/128", "2a07:b944:0:0:0:0:2:2/128")
    assert routes.missing(PLAN, "-6", listing) == ""


@given(st.text(), st.sampled_from(routes.FAMILIES))
def test_any_listing_is_read_without_a_crash(listing, family):
    assert routes.missing(PLAN, family, listing)


addresses = st.one_of(st.ip_addresses(v=4).map("{}/32".format), st.ip_addresses(v=6).map("{}/128".format))


@given(st.lists(addresses, min_size=1, max_size=4, unique=True).map(tuple), st.sampled_from(routes.FAMILIES))
def test_every_address_is_set_in_its_own_family_and_only_there(own, family):
    lines = routes.bring_up(structs.replace(PLAN, addresses=own), family)
    set_here = [line.split()[2] for line in lines if line.startswith("addr")]
    assert set_here == [address for address in own if (":" in address) == (family == "-6")]
    assert lines[-1] == "rule add not fwmark 0x76701b58 lookup 7000 priority 7110 protocol 118"
