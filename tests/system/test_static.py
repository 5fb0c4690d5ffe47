"""A port that a person forwarded in a panel: opened, followed and proven here, although nobody was asked for it."""

import asyncio
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from mock_provider.natpmp import Dnat
from mock_provider.peer import Result
from mock_provider.product import Product, traces, unique_profile
from mock_provider.provider import MockProvider
from mock_provider.topology import EXIT
from vpnpf.model import Protocol

pytestmark = pytest.mark.system

PUBLIC, ARRIVES = 41001, 6881
FORWARDED = (Dnat(Protocol.TCP, PUBLIC, "10.2.0.2", ARRIVES),)
"""What the person set in the panel."""


ASKING_FOR_THE_ADDRESS = bytes(2)
SEEN_HERE = {"tunnel", "lease", "firewall", "listening"}
"""The proofs that need nobody on the internet; there is no torrent client."""


@pytest.fixture
def asked():
    """What the provider's gateway was asked for."""
    return []


@pytest.fixture
async def provider(asked):
    async with MockProvider(on_request=asked.append) as made:
        yield made


@pytest.fixture
def profile():
    return unique_profile()


def written(directory, provider, profile, more=""):
    provider.client_config(directory / "home.conf")
    config = directory / "config.toml"
    config.write_text(f"""
[profiles.{profile}]
provider = "airvpn"
tunnel = {{ type = "wireguard", config = "home.conf" }}
forwards.game = {{ protocols = ["tcp"] }}
options = {{ ports = ["{PUBLIC}:{ARRIVES}/tcp"]{more} }}
""")
    return config


@contextmanager
def listener(host):
    with host.socket() as server:
        server.bind(("0.0.0.0", PUBLIC))
        server.listen()
        yield


def proven(product):
    return {name for name, proof in product.forward("game")["proofs"].items() if proof["ok"]}


async def test_all_proofs_are_seen_and_the_gateway_is_asked_for_no_port(provider, asked, profile, tmp_path):
    await provider.nat.apply(remove=(), add=FORWARDED)
    before = await traces(provider.lab.client)
    async with Product(provider.lab.client, tmp_path, written(tmp_path, provider, profile), profile) as product:
        await product.until(lambda state: proven(product) >= SEEN_HERE - {"listening"})
        assert product.forward("game")["peers"] == []
        with listener(provider.lab.client), provider.peer.host.socket() as visitor:
            # He is there before the next look, and stays.
            await asyncio.get_running_loop().sock_connect(visitor, (EXIT, PUBLIC))
            await product.until(lambda state: state["phase"] == "ready" and proven(product) >= SEEN_HERE)
            state = await product.until(lambda state: product.forward("game")["peers"])
            (peer,) = product.forward("game")["peers"]
            assert (peer["address"], peer["port"]) == visitor.getsockname()
            assert (peer["protocol"], peer["connected"], peer["came_in"]) == ("tcp", True, True)
            assert peer["since"] <= state["time"]
            assert product.forward("game")["external_port"] == PUBLIC
            assert (await provider.peer.connect_tcp(EXIT, PUBLIC)).connected
            await product.until(lambda _: product.forward("game")["proofs"]["reachable"]["ok"])

            # Removed in the panel: nobody tells, so what was seen stays seen, and says what it was.
            await provider.nat.apply(remove=FORWARDED, add=())
            assert (await provider.peer.connect_tcp(EXIT, PUBLIC)).result is Result.UNREACHABLE
            seen = product.forward("game")["proofs"]["firewall"]["checked"]
            stray = ("nft", "add", "chain", "inet", "vpnpf", "stray")  # so that all is read anew
            await provider.lab.client.must(stray)
            await product.until(lambda _: product.forward("game")["proofs"]["firewall"]["checked"] != seen)
            await product.until(lambda state: state["phase"] == "ready" and proven(product) >= SEEN_HERE)
            reachable = product.forward("game")["proofs"]["reachable"]
            assert reachable["ok"]
            assert "inbound packets counted" in reachable["evidence"]
            assert await product.stop() == 0
    # Asked for its address it was, by those who look whether the tunnel lives; for a port never.
    assert not [request for request in asked if request.data != ASKING_FOR_THE_ADDRESS]
    assert not provider.gateway.mappings
    assert await traces(provider.lab.client) == before


async def test_a_port_that_ends_is_said_before_and_closed_then(provider, profile, tmp_path):
    await provider.nat.apply(remove=(), add=FORWARDED)
    lasts = 5.0
    ends = datetime.fromtimestamp(time.time() + lasts, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    config = written(tmp_path, provider, profile, f', ends = "{ends}"')
    with listener(provider.lab.client):
        async with Product(provider.lab.client, tmp_path, config, profile) as product:
            state = await product.until(lambda state: state["problems"] and state["phase"] == "ready")
            (problem,) = state["problems"]
            assert (problem["kind"], problem["failures"]) == ("transient", 1)
            assert "it ends on" in problem["message"]
            assert "set a new one at airvpn.org" in problem["hint"]
            assert (await provider.peer.connect_tcp(EXIT, PUBLIC)).connected

            state = await product.until(lambda state: state["phase"] == "failed")
            (problem,) = state["problems"]
            assert problem["kind"] == "misconfigured"
            assert "it ended on" in problem["message"]
            assert product.forward("game")["external_port"] is None
            assert [notice["remedy"] for notice in product.notices("remedy")] in ([], ["tell"])
            async with asyncio.timeout(5):
                while (await provider.peer.connect_tcp(EXIT, PUBLIC, deadline=0.3)).connected:
                    pass
            assert await product.stop() == 0
