"""The tunnel that is none: what `ip` prints, and what becomes of it; and what a configuration may say about it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from vpnpf.config import parse
from vpnpf.core.proofs import wanted_settings
from vpnpf.errors import ConfigError, LeaseLost, Misconfigured, Transient, Unsupported
from vpnpf.interfaces import TunnelOptions
from vpnpf.io.process import Completed
from vpnpf.model import ListenSettings, Tunnel
from vpnpf.tunnels import none
from vpnpf.tunnels.none import Link, NoTunnel, Uplink, link_of, mac_of, uplink_of

ROUTE = [{"dst": "192.0.2.1", "gateway": "192.168.77.1", "dev": "eth0", "prefsrc": "192.168.77.2", "flags": []}]
ADDRESSES = [
    {"family": "inet", "local": "10.9.9.9", "prefixlen": 8},
    {"family": "inet", "local": "192.168.77.2", "prefixlen": 24},
    {"family": "inet6", "local": "fe80::1", "prefixlen": 64},
]
LINK = [
    {
        "ifname": "eth0",
        "flags": ["BROADCAST", "UP", "LOWER_UP"],
        "addr_info": ADDRESSES,
        "stats64": {"rx": {"bytes": 5}, "tx": {"bytes": 7}},
    }
]
NEIGHBOUR = [{"dst": "192.168.77.1", "lladdr": "ae:c0:f4:eb:e4:e6", "state": ["REACHABLE"]}]


# -- what `ip` prints -----------------------------------------------------------------------------


def test_the_uplink():
    assert uplink_of(ROUTE) == Uplink("eth0", "192.168.77.1", "192.168.77.2")


@pytest.mark.parametrize(
    "route",
    [
        {"dst": "192.0.2.1", "dev": "wg0", "prefsrc": "10.2.0.2"},
        {"dst": "192.0.2.1", "dev": "eth0", "via": {"family": "inet6", "host": "fe80::1"}, "prefsrc": "192.168.77.2"},
        {"dev": "eth0", "gateway": "fe80::1", "prefsrc": "192.168.77.2"},
    ],
)
def test_a_way_out_without_a_router_of_ipv4(route):
    with pytest.raises(Misconfigured, match=route["dev"]) as told:
        uplink_of([route])
    assert told.value.hint


@pytest.mark.parametrize("printed", [[], {}, None, 3, [{}], ["eth0"], [{"dev": 3}]])
def test_rubbish_is_no_uplink_no_device_and_no_neighbour(printed):
    with pytest.raises(Transient):
        uplink_of(printed)
    with pytest.raises(LeaseLost):
        link_of(printed)
    assert mac_of(printed) == ""


def test_the_device():
    assert link_of(LINK) == Link(True, ("10.9.9.9/8", "192.168.77.2/24"), 5, 7)
    down = {"flags": [], "addr_info": [{"family": "inet", "local": "here", "prefixlen": 24}], "stats64": {"rx": 1}}
    assert link_of([down]) == Link(False, (), 0, 0)


def test_the_routers_hardware_address():
    assert mac_of(NEIGHBOUR) == "ae:c0:f4:eb:e4:e6"
    assert mac_of([{"dst": "192.168.77.1", "state": ["FAILED"]}]) == ""


# -- a machine that answers -----------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """What `ip` prints, by the object it is asked about; None: it fails."""
    says = {"route": ROUTE, "addr": LINK, "neigh": NEIGHBOUR}

    async def run(argv):
        said = next(says[word] for word in argv if word in says)
        return Completed(2, "", "no") if said is None else Completed(0, json.dumps(said), "")

    monkeypatch.setattr(none.process, "run", run)
    monkeypatch.setattr(none, "_WAIT", 0)
    return says


@pytest.fixture
def backend():
    return NoTunnel(TunnelOptions("home", (), "/nowhere"))


async def test_a_plan(machine, backend):
    plan = await backend.plan()
    assert plan.direct
    assert (plan.interface, plan.gateway) == ("eth0", "192.168.77.1")
    assert plan.addresses == ("192.168.77.2/24", "10.9.9.9/8"), "first the one that packets come from"
    assert (plan.mark, plan.table, plan.dns, plan.lan) == (0, 0, (), ())
    assert plan.identity == "router 192.168.77.1 ae:c0:f4:eb:e4:e6"
    tunnel = await backend.up(plan)
    assert tunnel == Tunnel(plan, "no tunnel", "192.168.77.1")
    health = await backend.check(tunnel)
    assert (health.handshake_age, health.rx, health.tx) == (0.0, 5, 7)
    await backend.down()
    with pytest.raises(Unsupported):
        await backend.rekey(tunnel)


async def test_a_router_that_does_not_answer_arp_has_no_hardware_address(machine, backend, monkeypatch):
    woken = []
    monkeypatch.setattr(none, "_wake", woken.append)
    machine["neigh"] = []
    assert (await backend.plan()).identity == "router 192.168.77.1"
    assert woken == [Uplink("eth0", "192.168.77.1", "192.168.77.2")]


async def test_without_a_way_out_there_is_no_plan(machine, backend):
    machine["route"] = None
    with pytest.raises(Transient, match="no default route"):
        await backend.plan()


@pytest.mark.parametrize(
    ("what", "printed"),
    [
        ("route", None),
        ("route", [{**ROUTE[0], "gateway": "192.168.77.254"}]),
        ("route", [{**ROUTE[0], "dev": "wlan0"}]),
        ("route", [{**ROUTE[0], "prefsrc": "192.168.77.3"}]),
        ("route", [{"dev": "wg0"}]),
        ("addr", None),
        ("addr", [{**LINK[0], "flags": ["BROADCAST"]}]),
        ("addr", [{**LINK[0], "addr_info": ADDRESSES[:1]}]),
    ],
)
async def test_a_way_out_that_changed_is_lost(machine, backend, what, printed):
    plan = await backend.plan()
    tunnel = await backend.up(plan)
    machine[what] = printed
    with pytest.raises(LeaseLost):
        await backend.check(tunnel)
    with pytest.raises(Transient):
        await backend.up(plan)


async def test_the_client_may_listen_on_any_device(machine, backend):
    machine = SimpleNamespace(tunnel=await backend.up(await backend.plan()))
    forward = SimpleNamespace(spec=SimpleNamespace(client="qb"), listen_port=40000)
    assert wanted_settings(machine, forward) == ListenSettings(40000, "")


# -- the configuration ----------------------------------------------------------------------------


def config(provider, kind, more="", file=""):
    return f"""
[profiles.home]
provider = "{provider}"
tunnel = {{ type = "{kind}"{file} }}
forwards.game = {{ internal_port = 25565 }}
{more}
"""


def mistakes(text, path):
    with pytest.raises(ConfigError) as caught:
        parse(text, path / "config.toml")
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.mark.parametrize("more", ["", 'policy.mode = "allow-list"', "lock.lan = true"])
def test_a_router_without_a_tunnel(tmp_path, more):
    profile = parse(config("router", "none", more), tmp_path / "config.toml").profile("home")
    assert (profile.tunnel.type, profile.tunnel.configs) == ("none", ())


def test_a_router_needs_that_there_is_no_tunnel(tmp_path):
    (tmp_path / "home.conf").write_text("x")
    (said,) = mistakes(config("router", "wireguard", file=', config = "home.conf"'), tmp_path)
    assert 'type = "none"' in said


@pytest.mark.parametrize("provider", ["gateway", "natpmp", "protonvpn"])
def test_what_is_reached_through_a_tunnel_needs_one(tmp_path, provider):
    (said,) = mistakes(config(provider, "none"), tmp_path)
    assert 'provider = "router"' in said


@pytest.mark.parametrize(
    "more", ['policy.mode = "block-all"', 'policy.mode = "open-all"', 'policy.allow = ["22/tcp"]', "lock.lan = false"]
)
def test_what_would_block_means_nothing_without_a_tunnel(tmp_path, more):
    (said,) = mistakes(config("router", "none", more), tmp_path)
    assert "without a tunnel" in said


def test_no_tunnel_has_no_file(tmp_path):
    (tmp_path / "home.conf").write_text("x")
    (said,) = mistakes(config("router", "none", file=', config = "home.conf"'), tmp_path)
    assert 'has no "config"' in said
