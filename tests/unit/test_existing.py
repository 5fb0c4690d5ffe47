"""A tunnel of another program: what `ip` and `wg` print of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.errors import ConfigError
from vpnpf.interfaces import TunnelOptions
from vpnpf.model import Endpoint
from vpnpf.tunnels.existing import NOWHERE, Device, Existing, device_of, peer_of

LINK = [
    {
        "ifname": "wg0",
        "flags": ["POINTOPOINT", "NOARP", "UP", "LOWER_UP"],
        "mtu": 1420,
        "addr_info": [
            {"family": "inet", "local": "10.2.0.2", "prefixlen": 32, "scope": "global"},
            {"family": "inet6", "local": "fd00::2", "prefixlen": 128, "scope": "global"},
            {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"},
        ],
        "stats64": {"rx": {"bytes": 5}, "tx": {"bytes": 7}},
    }
]
A, B = "A" * 43 + "=", "B" * 43 + "="


def test_a_device():
    assert device_of(json.dumps(LINK)) == Device(True, ("10.2.0.2/32", "fd00::2/128"), 1420, 5, 7)


@pytest.mark.parametrize("printed", ["", "[]", "[{}]", "null", "{", "[[]]", "[3]"])
def test_no_device(printed):
    assert device_of(printed) is None


def test_a_peer():
    peer = peer_of("K\n", f"{A}\t198.51.100.10:51820\n", f"{A}\t100\n", f"{A}\t5\t7\n", f"{A}\t25\n")
    assert peer[1:] == (Endpoint("198.51.100.10", 51820), 100, 5, 7, 25)
    assert A not in peer.identity


def test_of_several_peers_the_one_that_was_heard_last():
    heard = f"{A}\t100\n{B}\t200\n"
    ends = f"{A}\t198.51.100.10:1\n{B}\t[2001:db8::1]:2\n"
    peer = peer_of("K", ends, heard, f"{A}\t1\t2\n{B}\t3\t4\n", f"{A}\toff\n{B}\toff\n")
    assert peer[1:] == (Endpoint("2001:db8::1", 2), 200, 3, 4, 0)


def test_an_endpoint_that_is_not_known():
    assert peer_of("K", f"{A}\t(none)\n", f"{A}\t0\n", f"{A}\t0\t0\n", "").endpoint == NOWHERE


@given(st.lists(st.text(), min_size=5, max_size=5))
def test_whatever_is_printed_is_read_without_a_crash(texts):
    peer_of(*texts)
    device_of(texts[0])


@pytest.mark.parametrize("name", ["", "a" * 16, 'a"b', "a b", "a*"])
def test_what_is_no_name_is_a_mistake(name):
    with pytest.raises(ConfigError):
        Existing(TunnelOptions("home", (), "", interface=name)).check_config()
