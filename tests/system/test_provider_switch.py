"""The provider's own switch in front of ours: real packets, kept out at the server however open this machine is."""

from __future__ import annotations

import asyncio

import pytest

from mock_provider.capture import leak
from mock_provider.mock_vpn import register
from mock_provider.panel import OPEN_ALL, Trouble
from mock_provider.peer import Echo, Result
from mock_provider.product import Product, unique_profile
from mock_provider.provider import MockProvider
from mock_provider.topology import EXIT, INTERNET
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


async def knock(provider, port, **more):
    """TCP and UDP."""
    tcp = await provider.peer.connect_tcp(EXIT, port, send=b"hello", **more)
    udp = await provider.peer.send_udp(EXIT, port, **more)
    return tcp.result, udp.result


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
        state = await product.until(lambda state: ready(state) and state["disagree"])
        port = product.forward("game")["external_port"]
        assert state["policy"]["mode"] == "open-all"
        assert state["provider_policy"]["mode"] == "block-all"
        assert state["disagree"] == "the provider still blocks all ports"
        assert await knock(provider, port) == KEPT_OUT
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
        assert await knock(provider, port) == BOTH_IN
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
        assert await knock(provider, port) == BOTH_IN

        # Somebody sets it on the provider's site: closed there, although nothing changed here.
        await provider.panel.put(BLOCK_ALL)
        assert await knock(provider, port) == KEPT_OUT
        await provider.panel.put(OPEN_ALL)
        assert await knock(provider, port) == BOTH_IN
        assert await product.stop() == 0


async def test_block_all_is_blocked_at_both(provider, run):
    async with run("block-all") as product:
        await product.until(lambda state: (state["provider_policy"] or {}).get("mode") == "block-all")
        await product.until(lambda state: state["forwards"][0]["external_port"])
        port = product.forward("game")["external_port"]
        assert await knock(provider, port) == KEPT_OUT
        await provider.panel.put(OPEN_ALL)
        assert await knock(provider, port, deadline=0.3) == (Result.TIMED_OUT,) * 2, "ours holds without theirs"


@pytest.mark.parametrize("trouble", [each for each in Trouble if each not in {Trouble.NONE, Trouble.SLOW}])
async def test_a_panel_in_trouble_is_a_problem_and_costs_nothing_else(provider, run, trouble):
    provider.panel.trouble = trouble
    provider.gateway.lifetime = 4
    async with Echo(provider.lab.internet, INTERNET, 80) as web, run("open-all") as product:
        state = await product.until(lambda state: ready(state) and state["problems"])
        problem = state["problems"][0]
        assert "policy" in problem["doing"] or "port switch" in problem["doing"]
        assert (problem["kind"] == "misconfigured") == (trouble is Trouble.REFUSED)
        assert await knock(provider, product.forward("game")["external_port"]) == BOTH_IN
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
    provider.gateway.lifetime = 4
    async with run("open-all") as product:
        await product.until(ready)
        assert await knock(provider, product.forward("game")["external_port"]) == BOTH_IN
        await product.until(lambda _: len(product.notices("renewed")) >= 2)
        assert product.state["provider_policy"] is None
        assert product.state["disagree"] == ""
        assert [asked.status for asked in provider.panel.asked] == [0]
        assert await product.stop() == 0


async def test_what_the_mock_enforces_is_enforced(provider):
    """The control of the others: each option with real packets, on a plain tunnel that opens everything."""
    device = await provider.server.bring_up(provider.customer, provider.lab.client)
    ports = (41001, 41002)
    for protocol in Protocol:
        elements = ", ".join(f"{port} : {provider.customer.address} . {LOCAL}" for port in ports)
        line = f"add element ip mock_dnat to_{protocol} {{ {elements} }}"
        await provider.lab.server.must(("nft", line))
    only_first = ProviderPolicy(PolicyMode.ALLOW_LIST, tuple(Opening(ports[0], ports[0], each) for each in Protocol))
    tcp_only = ProviderPolicy(PolicyMode.ALLOW_LIST, (Opening(41000, 41010, Protocol.TCP),))
    async with Echo(provider.lab.client, "0.0.0.0", LOCAL):
        for policy, first, second in (
            (OPEN_ALL, BOTH_IN, BOTH_IN),
            (BLOCK_ALL, KEPT_OUT, KEPT_OUT),
            (only_first, BOTH_IN, KEPT_OUT),
            (tcp_only, *((Result.CONNECTED, Result.UNREACHABLE),) * 2),
        ):
            await provider.panel.put(policy)
            assert (await knock(provider, ports[0]), await knock(provider, ports[1])) == (first, second), policy
    await device.remove()
