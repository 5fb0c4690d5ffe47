"""`vpnpf run` with each torrent client: how soon its sockets are on a new port, and that a lost device costs none."""

import asyncio
import time
from pathlib import Path

import pytest

from mock_provider.port_check import PortCheck
from mock_provider.product import Product, unique_profile, write_config
from mock_provider.qbittorrent import QBittorrent
from mock_provider.topology import EXIT
from mock_provider.transmission import Transmission
from tests.figures import Figure, show

pytestmark = pytest.mark.system

SOON = 1.0
"""Seconds from the gateway's answer with another port to the client's sockets on it."""
CHANGES = 4
TABLES = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}
"""Of /proc/net, with the state of a socket that waits."""


@pytest.fixture(params=[QBittorrent, Transmission], ids=lambda kind: kind.kind)
async def client(request, provider, tmp_path):
    async with request.param(provider.lab.client, tmp_path / "daemon") as daemon:
        yield daemon


def waiting(host, port):
    """The protocols of the sockets that wait on a port."""
    found = set()
    with host.inside():
        for table, state in TABLES.items():
            for line in Path("/proc/thread-self/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == state:
                    found.add(table[:3])
    return found


async def until_waiting(host, port, deadline=10.0):
    """Look until TCP and UDP wait there; returns when they did."""
    end = time.monotonic() + deadline
    while waiting(host, port) != {"tcp", "udp"}:
        assert time.monotonic() < end, f"nothing waits on {port}"
        await asyncio.sleep(0.005)
    return asyncio.get_running_loop().time()


def answered(gateway, port):
    """When the gateway first gave this port."""
    return next(each.at for each in gateway.log if each.granted and each.granted[2] == port)


async def followed(product, provider, port):
    """The port is announced, and who comes from the internet gets in."""
    await product.until(lambda state: state["phase"] == "ready" and product.forward()["external_port"] == port)
    assert (await provider.peer.connect_tcp(EXIT, port)).connected


@pytest.mark.alone
async def test_the_client_is_on_a_new_port_at_once_and_outlives_the_device(provider, client, tmp_path):
    provider.gateway.lifetime = 2
    profile, gateway = unique_profile(), provider.gateway
    config = write_config(tmp_path, provider, client, profile)
    async with Product(provider.lab.client, tmp_path, config, profile) as product:
        await product.until(lambda state: state["phase"] == "ready")
        took = []
        for _ in range(CHANGES):
            before = gateway.external_ports
            gateway.rotate()
            await gateway.until(lambda before=before: bool(gateway.external_ports - before))
            (port,) = gateway.external_ports - before
            took.append(await until_waiting(provider.lab.client, port) - answered(gateway, port))
            await followed(product, provider, port)
        gateway.lifetime = 60
        assert not product.notices("problem")

        await provider.lab.client.must(("ip", "link", "del", product.state["tunnel"]["interface"]))
        lost = time.monotonic()
        await product.until(lambda state: state["phase"] != "ready")
        await product.until(lambda state: state["phase"] == "ready", deadline=30)
        back = time.monotonic() - lost
        port = product.forward()["external_port"]
        proofs = product.forward()["proofs"]
        assert proofs["listening"]["ok"]
        assert proofs["client"]["ok"]
        assert (await provider.peer.connect_tcp(EXIT, port)).connected
        assert await product.stop() == 0
    rows = [Figure(f"gateway's answer to sockets, {number + 1}", each, "s", SOON) for number, each in enumerate(took)]
    rows.append(Figure("device deleted to a visitor let in again", back, "s"))
    assert show(client.kind, rows) == 0, took


async def test_a_knock_that_the_client_asked_for_is_counted_like_anybodys(provider, tmp_path):
    lab, gateway, profile = provider.lab, provider.gateway, unique_profile()
    gateway.lifetime = 4
    async with (
        PortCheck(lab.internet, tmp_path, provider.peer) as check,
        Transmission(lab.client, tmp_path / "daemon", authority=check.certificate) as client,
        Product(lab.client, tmp_path, write_config(tmp_path, provider, client, profile), profile) as product,
    ):
        await product.until(lambda state: state["phase"] == "ready")
        first = product.forward()["external_port"]
        assert product.forward()["proofs"]["reachable"]["ok"] is None
        await product.until(lambda _: product.forward()["proofs"]["reachable"]["ok"] is True, deadline=20)
        assert check.asked == [(EXIT, first)]

        check.knocks = False
        gateway.rotate()
        await product.until(
            lambda _: "says closed" in product.forward()["proofs"]["reachable"]["evidence"], deadline=20
        )
        assert check.asked[1:] == [(EXIT, product.forward()["external_port"])]
        assert product.forward()["proofs"]["reachable"]["ok"] is None
        assert product.state["phase"] == "ready"
        assert not product.notices("problem")
        assert await product.stop() == 0
