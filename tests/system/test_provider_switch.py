"""The provider's own switch in front of ours: real packets, kept out at the server however open this machine is."""

from __future__ import annotations

import asyncio

import pytest

from mock_provider.capture import leak
from mock_provider.panel import OPEN_ALL, Trouble, register
from mock_provider.peer import Echo, Peer, Result
from mock_provider.product import Product, unique_profile
from mock_provider.provider import MockProvider
from mock_provider.topology import EXIT, INTERNET
from mock_provider.wireguard import NETWORK6
from vpnpf.model import Opening, PolicyMode, Protocol, ProviderPolicy

pytestmark = pytest.mark.system

BLOCK_ALL = ProviderPolicy(PolicyMode.BLOCK_ALL)
LOCAL = 25565
CONFIG = """\
[profiles.{profile}]
provider = "mock_vpn"
tunnel = {{ type = "wireguard", config = "proton.conf" }}
options = {{ token = "{token}" }}
policy = {{ mode = "{mode}" }}
forwards.game = {{ internal_port = {local} }}
"""


@pytest.fixture
async def provider():
    async with MockProvider(panel=True) as made:
        yield made


@pytest.fixture
async def service(provider):
    """What listens behind the port."""
    async with Echo(provider.lab.client, "0.0.0.0", LOCAL) as echo:
        yield echo


@pytest.fixture
def run(provider, service, tmp_path):
    """A run of vpnpf that has the mock's own plug-in."""
    environment = register(tmp_path / "plugins")
    provider.client_config(tmp_path / "proton.conf")

    def do(mode):
        profile, config = unique_profile(), tmp_path / "config.toml"
        config.write_text(CONFIG.format(profile=profile, mode=mode, local=LOCAL, token=provider.panel.token))
        return Product(provider.lab.client, tmp_path, config, profile, env=environment)

    return do


def ready(state):
    return state["phase"] == "ready"


async def knock(peer, port, at=EXIT, **more):
    """TCP and UDP."""
    tcp = await peer.connect_tcp(at, port, send=b"hello", **more)
    udp = await peer.send_udp(at, port, **more)
    return tcp.result, udp.result


SAID = (Trouble.REFUSED, Trouble.BUSY, Trouble.BROKEN, Trouble.ELSEWHERE, Trouble.HUGE, Trouble.CUT_OFF)
"""Of the troubles those that somebody else than the plug-in's parser has to do with; tests/contract has the rest."""
BOTH_IN, KEPT_OUT = (Result.CONNECTED,) * 2, (Result.UNREACHABLE,) * 2
"""Kept out by the provider, who says so; this machine would drop without a word, or answer."""


async def test_open_here_and_blocked_there_disagree_until_the_provider_follows(provider, run):
    provider.panel.delay = 2.0
    await provider.panel.put(BLOCK_ALL)
    async with (
        provider.lab.capture(leak()) as leaked,
        Echo(provider.lab.internet, INTERNET, 80) as web,
        run("open-all") as product,
    ):
        # "still": it was told to let them in, and has not followed yet.
        still = "the provider still blocks all ports"
        state = await product.until(lambda state: ready(state) and state["disagree"] == still)
        port = product.forward("game")["external_port"]
        assert state["policy"]["mode"] == "open-all"
        assert state["provider_policy"]["mode"] == "block-all"
        assert await knock(provider.peer, port) == KEPT_OUT
        await product.until(lambda _: "the provider says that it blocks" in reachable(product)["evidence"])
        assert reachable(product)["ok"] is None

        outward = provider.lab.client.socket()
        with outward:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(outward, (INTERNET, 80))
            await product.until(lambda state: not state["disagree"])
            assert product.state["provider_policy"]["mode"] == "open-all"
            await loop.sock_sendall(outward, b"still here")
            assert await loop.sock_recv(outward, 64) == b"still here"
        assert web.seen[0].source == EXIT
        assert await knock(provider.peer, port) == BOTH_IN
        await product.until(lambda _: reachable(product)["ok"])
        assert [event["event"] for event in product.events if event["event"] in {"disagrees", "agrees"}] == [
            "disagrees",
            "agrees",
        ]
        assert not product.notices("problem")
        assert await product.stop() == 0
        assert await leaked.count() == 0
    assert provider.panel.token not in product.talk + str(product.events)
    assert {asked.client for asked in provider.panel.asked} == {provider.customer.address}


def reachable(product):
    return product.forward("game")["proofs"]["reachable"]


async def test_an_allow_list_is_passed_on_as_ports_and_nothing_else_gets_as_far_as_us(provider, run):
    """The neighbour on the same server counts as anybody."""
    async with run("allow-list") as product:
        await product.until(lambda state: ready(state) and (state["provider_policy"] or {}).get("mode") == "allow-list")
        port = product.forward("game")["external_port"]
        assert product.state["provider_policy"]["ports"] == [f"{port}/tcp", f"{port}/udp"]
        assert provider.panel.policy.ports == tuple(Opening(port, port, protocol) for protocol in Protocol)
        assert await knock(provider.peer, port) == BOTH_IN

        # Somebody sets it on the provider's site: closed there, although nothing changed here.
        await provider.panel.put(BLOCK_ALL)
        assert await knock(provider.peer, port) == KEPT_OUT
        await provider.panel.put(OPEN_ALL)
        assert await knock(provider.peer, port) == BOTH_IN
        assert await product.stop() == 0


async def test_block_all_is_blocked_at_both(provider, run):
    async with run("block-all") as product:
        await product.until(lambda state: (state["provider_policy"] or {}).get("mode") == "block-all")
        await product.until(lambda state: state["forwards"][0]["external_port"])
        port = product.forward("game")["external_port"]
        assert await knock(provider.peer, port) == KEPT_OUT
        await provider.panel.put(OPEN_ALL)
        assert await knock(provider.peer, port, deadline=0.3) == (Result.TIMED_OUT,) * 2, "ours holds without theirs"


@pytest.mark.parametrize("trouble", SAID)
async def test_a_panel_in_trouble_is_a_problem_and_costs_nothing_else(provider, run, trouble):
    provider.panel.trouble = trouble
    provider.gateway.lifetime = 2
    async with Echo(provider.lab.internet, INTERNET, 80) as web, run("open-all") as product:
        state = await product.until(lambda state: ready(state) and state["problems"])
        problem = state["problems"][0]
        assert "policy" in problem["doing"] or "port switch" in problem["doing"]
        assert (problem["kind"] == "misconfigured") == (trouble is Trouble.REFUSED)
        assert await knock(provider.peer, product.forward("game")["external_port"]) == BOTH_IN
        renewed = len(product.notices("renewed"))
        await product.until(lambda _: len(product.notices("renewed")) > renewed)
        assert ready(product.state)
        assert not product.notices("remedy")
        assert not web.seen, "it went where a redirect pointed to"
        if trouble is not Trouble.REFUSED:  # that is asked again after an hour
            provider.panel.trouble = Trouble.NONE
            await product.until(lambda state: not state["problems"] and state["provider_policy"])
        assert await product.stop() == 0
    assert provider.panel.token not in product.talk + str(product.events)


async def test_a_panel_that_never_answers_holds_up_nothing(provider, run):
    provider.panel.trouble = Trouble.SLOW
    provider.gateway.lifetime = 2
    async with run("open-all") as product:
        await product.until(ready)
        assert await knock(provider.peer, product.forward("game")["external_port"]) == BOTH_IN
        await product.until(lambda _: len(product.notices("renewed")) >= 2)
        assert product.state["provider_policy"] is None
        assert product.state["disagree"] == ""
        assert [asked.status for asked in provider.panel.asked] == [0]
        assert await product.stop() == 0


async def test_what_the_mock_enforces_is_enforced():
    """The control of the others: each option with real packets, on a plain tunnel that opens everything."""
    async with MockProvider(panel=True, ipv6=True, neighbour=True) as provider:
        customer, other = provider.customer, await provider.server.add_client()
        lab, peer = provider.lab, Peer(provider.lab.neighbour)
        for client, host in ((customer, lab.client), (other, lab.neighbour)):
            device = await provider.server.bring_up(client, host)
            await host.must(("ip", "addr", "add", f"{client.address6}/128", "dev", device.name))
            await host.must(("ip", "route", "add", NETWORK6, "dev", device.name))
        ports = (41001, 41002)
        for protocol in Protocol:
            elements = ", ".join(f"{port} : {customer.address} . {LOCAL}" for port in ports)
            await lab.server.must(("nft", f"add element ip mock_dnat to_{protocol} {{ {elements} }}"))
        first = ProviderPolicy(PolicyMode.ALLOW_LIST, tuple(Opening(ports[0], ports[0], each) for each in Protocol))
        inside = ProviderPolicy(PolicyMode.ALLOW_LIST, tuple(Opening(LOCAL, LOCAL, each) for each in Protocol))
        tcp_only = ProviderPolicy(PolicyMode.ALLOW_LIST, (Opening(41000, 41010, Protocol.TCP),))
        half = (Result.CONNECTED, Result.UNREACHABLE)
        async with Echo(lab.client, "0.0.0.0", LOCAL), Echo(lab.client, customer.address6, LOCAL):
            for policy, expected in (
                (OPEN_ALL, (BOTH_IN, BOTH_IN, BOTH_IN, BOTH_IN)),
                (BLOCK_ALL, (KEPT_OUT, KEPT_OUT, KEPT_OUT, KEPT_OUT)),
                (first, (BOTH_IN, KEPT_OUT, KEPT_OUT, KEPT_OUT)),
                (inside, (KEPT_OUT, KEPT_OUT, BOTH_IN, BOTH_IN)),
                (tcp_only, (half, half, KEPT_OUT, KEPT_OUT)),
            ):
                await provider.panel.put(policy)
                seen = (
                    await knock(provider.peer, ports[0]),
                    await knock(provider.peer, ports[1]),
                    await knock(peer, LOCAL, customer.address),
                    await knock(peer, LOCAL, customer.address6),
                )
                assert seen == expected, policy
