"""Several forwards of one profile, each with a client, target and policy of its own; and openings that nobody uses."""

import asyncio
import struct
from pathlib import Path

import pytest

from mock_provider.peer import Echo, Peer
from mock_provider.product import Product, unique_profile
from mock_provider.provider import MockProvider
from mock_provider.qbittorrent import QBittorrent
from mock_provider.topology import EXIT, INTERNET, LAN_HOST

pytestmark = pytest.mark.system

CONFIG = """\
[profiles.{profile}]
provider = "protonvpn"
tunnel = {{ type = "wireguard", config = "proton.conf" }}
{policy}
"""
FORWARDS = """\
[profiles.{profile}.forwards]
torrent = {{ client = "qb" }}
game = {{ mode = "redirect", to = 25565, protocols = ["tcp"] }}
web = {{ mode = "redirect", to = "{host}:8080", protocols = ["tcp"], from = "{internet}" }}
limited = {{ mode = "redirect", to = 25566, protocols = ["tcp"], from = "203.0.113.77" }}
held = {{ mode = "redirect", to = 25567, protocols = ["tcp"], open = false }}
[clients.qb]
type = "qbittorrent"
url = "{url}"
username = "{username}"
password = {{ file = "qb.password" }}
"""


@pytest.fixture
def profile():
    return unique_profile()


@pytest.fixture
async def provider():
    async with MockProvider(lan_host=True, lifetime=4) as made:
        yield made


@pytest.fixture
async def client(provider, tmp_path):
    async with QBittorrent(provider.lab.client, tmp_path / "qbittorrent") as daemon:
        (tmp_path / "qb.password").touch(mode=0o600)
        (tmp_path / "qb.password").write_text(daemon.password + "\n")
        yield daemon


def written(directory: Path, provider, profile, text):
    provider.client_config(directory / "proton.conf")
    config = directory / "config.toml"
    config.write_text(text)
    return config


def ports(product):
    return {forward["name"]: forward["external_port"] for forward in product.state["forwards"]}


def ready(state):
    return state["phase"] == "ready"


async def take_away(gateway, internal):
    """The gateway forgets one mapping of the customer, and gives it another port the next time it is asked."""
    for opcode in (1, 2):
        delete = struct.pack("!BBHHHI", 0, opcode, 0, internal, 0, 0)
        await gateway.act(lambda _behaviour, now, data=delete: gateway.machine.handle(data, "10.2.0.2", now))


async def test_each_slot_has_its_own_client_target_and_policy(provider, client, profile, tmp_path):
    where = {"host": LAN_HOST, "internet": INTERNET, "url": client.url, "username": client.username}
    text = CONFIG.format(profile=profile, policy="") + FORWARDS.format(profile=profile, **where)
    config = written(tmp_path, provider, profile, text)
    provider.lab.client.sysctl("net.ipv4.ip_forward", 1)
    knock = provider.peer.connect_tcp
    async with (
        Echo(provider.lab.client, "0.0.0.0", 25565) as game,
        Echo(provider.lab.client, "0.0.0.0", 25566) as limited,
        Echo(provider.lab.client, "0.0.0.0", 25567),
        Echo(provider.lab.lan, LAN_HOST, 8080) as web,
        Product(provider.lab.client, tmp_path, config, profile) as product,
    ):
        await product.until(ready)
        first = ports(product)
        assert len(set(first.values())) == 5
        assert (await client.preferences())["listen_port"] == first["torrent"]
        for name in ("torrent", "game", "web"):
            assert (await knock(EXIT, first[name])).connected, name
        assert (await knock(EXIT, first["game"], send=b"hello")).data == b"hello"
        assert (await knock(EXIT, first["web"], send=b"hello")).data == b"hello"
        assert game.seen[0].source == INTERNET
        assert web.seen
        # Those two are not reached, although the policy has "forwarded" and somebody listens: "game" and "web", which
        # lack `open = false` and let this caller in, are the control.
        for name in ("limited", "held"):
            assert not (await knock(EXIT, first[name], deadline=0.4)).connected, name
        assert not limited.seen

        proofs = {name: product.forward(name)["proofs"] for name in first}
        assert "only from 203.0.113.77/32" in proofs["limited"]["firewall"]["evidence"]
        assert proofs["held"]["firewall"]["ok"] is False
        assert "open = false" in proofs["held"]["firewall"]["evidence"]
        assert f"{LAN_HOST}:8080" in proofs["web"]["listening"]["evidence"]
        assert proofs["web"]["listening"]["ok"] is None
        assert f"web: the internet reaches you at {EXIT}:{first['web']} ({LAN_HOST}:8080)" in product.talk

        # A port that changes leaves the others alone: their leases, sockets and connections.
        async with Echo(provider.lab.client, "0.0.0.0", 25568):
            before = len(product.notices("port"))
            await take_away(provider.gateway, 25565)
            await product.until(lambda _: ports(product)["game"] not in {None, first["game"]} and ready(product.state))
        second = ports(product)
        assert {name for name in first if first[name] != second[name]} == {"game"}
        assert [event["forward"] for event in product.notices("port")[before:]] == ["game"]
        assert (await knock(EXIT, second["game"], send=b"again")).data == b"again"
        for name in ("torrent", "web"):
            assert (await knock(EXIT, second[name])).connected, name
        assert (await client.preferences())["listen_port"] == first["torrent"]

        # And one of the torrent client leaves the redirects where they are.
        await take_away(provider.gateway, second["torrent"])
        await product.until(
            lambda _: ports(product)["torrent"] not in {None, first["torrent"]} and ready(product.state)
        )
        third = ports(product)
        assert {name for name in second if second[name] != third[name]} == {"torrent"}
        assert (await client.preferences())["listen_port"] == third["torrent"]
        assert not product.notices("problem")
        assert await product.stop() == 0


UNUSED = """\
policy = { allow = ["forwarded", "22/tcp", "80/tcp"], report_unused = "3s", close_unused = true }
forwards.game = {}
"""


async def test_an_opening_that_nobody_uses_is_closed_and_stays_so(provider, profile, tmp_path):
    config = written(tmp_path, provider, profile, CONFIG.format(profile=profile, policy=UNUSED))
    other = Peer(provider.lab.server)
    own = provider.customer.address

    async def visit():
        while True:
            assert (await other.connect_tcp(own, 22)).connected
            await asyncio.sleep(0.5)

    def closed(product):
        return {each["what"]: each["closed"] for each in product.state["unused"]}

    async with Echo(provider.lab.client, "0.0.0.0", 22), Echo(provider.lab.client, "0.0.0.0", 80) as web:
        async with Product(provider.lab.client, tmp_path, config, profile) as product:
            await product.until(ready)
            assert closed(product) == {}
            assert (await other.connect_tcp(own, 80)).connected
            visitor = asyncio.create_task(visit())
            await product.until(lambda _: closed(product).get("80/tcp", False), deadline=60)
            # The control: what is visited all the time is neither reported nor closed, nor what may be a client's.
            assert "22/tcp" not in closed(product)
            assert not closed(product).get("forward game", False)
            assert (await other.connect_tcp(own, 22)).connected
            visitor.cancel()
            await until_closed(other, own)
            assert web.seen, "it was open before"
            assert product.state["phase"] == "ready"
            assert "80/tcp: nobody came in for 3 seconds; closed" in product.talk
            assert not product.notices("problem")
            assert await product.stop() == 0
        async with Product(provider.lab.client, tmp_path, config, profile) as product:
            await product.until(ready)
            assert closed(product)["80/tcp"] is True
            assert "80/tcp" not in {event["what"] for event in product.notices("unused")}
            assert not (await other.connect_tcp(own, 80, deadline=0.4)).connected
            assert (await other.connect_tcp(own, 22)).connected


async def until_closed(peer, address):
    """The state says it as soon as it is decided; the kernel has it a moment later."""
    async with asyncio.timeout(5):
        while (await peer.connect_tcp(address, 80, deadline=0.4)).connected:
            pass
