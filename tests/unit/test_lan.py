"""Which private prefixes are directly connected, from what `ip -j addr show up` prints."""

from __future__ import annotations

import ipaddress
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.core.networks import PRIVATE
from vpnpf.errors import Transient
from vpnpf.io import lan
from vpnpf.io.lan import KernelLinks, private
from vpnpf.model import LanPrefix

# Printed by iproute2 6.1, shortened; the empty objects stand for links that are down.
SHOWN = json.loads("""
[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"addr_info":[
   {"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host","label":"lo"},
   {"family":"inet6","local":"::1","prefixlen":128,"scope":"host"}]},
 {"ifindex":2,"ifname":"br0","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"addr_info":[
   {"family":"inet","local":"192.168.9.1","prefixlen":24,"scope":"link","label":"br0"},
   {"family":"inet","local":"192.168.5.1","address":"10.9.0.1","prefixlen":24,"scope":"global","label":"br0"},
   {"family":"inet","local":"172.17.0.1","prefixlen":16,"scope":"global","label":"br0"},
   {"family":"inet6","local":"fd00:1::1","prefixlen":64,"scope":"global","tentative":true},
   {"family":"inet6","local":"fe80::6818:49ff:fe7a:fdb8","prefixlen":64,"scope":"link","tentative":true}]},
 {"ifindex":3,"ifname":"t0","flags":["NO-CARRIER","POINTOPOINT","MULTICAST","NOARP","UP"],"mtu":1500,"addr_info":[
   {"family":"inet","local":"10.8.0.1","prefixlen":24,"scope":"global","label":"t0"}]},{},{}]
""")


def link(*addresses, name="eth0", flags=("BROADCAST", "UP")):
    info = [
        {"family": "inet", "local": each.partition("/")[0], "prefixlen": int(each.partition("/")[2])}
        for each in addresses
    ]
    return {"ifname": name, "flags": list(flags), "addr_info": info}


def prefixes(*addresses, without="tun0"):
    return [found.prefix for found in private([link(*addresses)], without)]


def test_what_a_machine_with_a_bridge_and_another_tunnel_has():
    assert private(SHOWN, "vpf-home") == (
        LanPrefix("br0", "10.9.0.0/24"),
        LanPrefix("br0", "172.17.0.0/16"),
        LanPrefix("br0", "192.168.9.0/24"),
        LanPrefix("br0", "fd00:1::/64"),
        LanPrefix("br0", "fe80::/64"),
    )


def test_our_own_device_is_no_lan():
    assert private(SHOWN, "br0") == ()


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3/8", "172.16.0.9/12", "172.31.255.1/24", "192.168.0.1/16", "169.254.7.7/16", "fd77::2/64", "fe80::2/10"],
)
def test_private_prefixes_are_a_lan(address):
    assert prefixes(address) == [str(ipaddress.ip_network(address, strict=False))]


@pytest.mark.parametrize(
    "address",
    [
        "203.0.113.5/24",  # a LAN of public addresses is a way around the tunnel to the sites that have them
        "2001:db8::5/64",
        "100.64.0.5/10",
        "172.32.0.1/16",
        "192.169.0.1/16",
        "10.1.2.3/7",  # wider than what is private
        "10.1.2.3/0",
        "192.168.1.1/15",
        "fd77::2/6",
        "fe80::2/9",
        "192.168.77.2/32",  # nobody else is on it
        "fd77::2/128",
        "127.0.0.2/8",
    ],
)
def test_others_are_not(address):
    assert prefixes(address) == []


@pytest.mark.parametrize("flag", ["LOOPBACK", "POINTOPOINT"])
def test_the_loopback_and_other_tunnels_are_not(flag):
    assert private([link("192.168.1.2/24", flags=("UP", flag))], "tun0") == ()


def test_the_same_prefix_by_two_devices_is_a_lan_twice():
    links = [link("192.168.1.3/24", name="wlan0"), link("192.168.1.2/24", "192.168.1.9/24")]
    assert private(links, "tun0") == (LanPrefix("eth0", "192.168.1.0/24"), LanPrefix("wlan0", "192.168.1.0/24"))


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"ifname": "eth0"},
        {"ifname": None, "flags": [], "addr_info": []},
        {"ifname": "eth0", "flags": [[]], "addr_info": [{}]},
        {"ifname": "eth0", "flags": [], "addr_info": [{"local": "192.168.1.2"}]},
        {"ifname": "eth0", "flags": [], "addr_info": [{"local": "192.168.1.2", "prefixlen": 33}]},
        {"ifname": "eth0", "flags": [], "addr_info": [{"local": "home", "prefixlen": 24}]},
        {"ifname": "eth0", "flags": [], "addr_info": [None, 7, "x"]},
        None,
        7,
    ],
)
def test_what_is_not_understood_counts_for_nothing_and_hides_nothing(broken):
    assert private([broken, link("192.168.1.2/24")], "tun0") == (LanPrefix("eth0", "192.168.1.0/24"),)


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["eth0", "192.168.1.2", "fe80::1%x", "UP"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["ifname", "flags", "addr_info", "local", "address", "prefixlen"]), inner)
    ),
)


@given(json_values)
def test_anything_is_looked_at_without_a_crash(shown):
    private(shown, "tun0")


@given(st.lists(st.tuples(st.ip_addresses(), st.integers(0, 128)).map(lambda each: f"{each[0]}/{each[1]}"), max_size=5))
def test_nothing_but_private_prefixes_ever_counts(addresses):
    for found in prefixes(*addresses):
        prefix = ipaddress.ip_network(found)
        assert any(prefix.version == wide.version and prefix.subnet_of(wide) for wide in PRIVATE)


@pytest.mark.parametrize("said", ["nonsense", "[" * 100_000, '[{"ifname": "eth0"'])
async def test_an_ip_that_writes_no_json_is_a_failure_of_the_known_kind(monkeypatch, said):
    async def must(*_argv, **_named):
        return said

    monkeypatch.setattr(lan, "must", must)
    with pytest.raises(Transient, match="ip wrote no JSON"):
        await KernelLinks().prefixes("tun0")


async def test_the_kernels_own_list_is_read():
    found = await KernelLinks().prefixes("tun0")
    assert all(isinstance(each, LanPrefix) and each.interface != "lo" for each in found)
