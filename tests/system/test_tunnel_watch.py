"""What a tunnel is watched for: its device, answers of its server, and how large its packets may be."""

import asyncio
import time

import pytest

from mock_provider.topology import EXIT
from tests.system.test_lock import World

pytestmark = pytest.mark.system

SMALL = "add table inet small; add chain inet small f {{ type filter hook forward priority 0; }}; add rule inet small f meta length > {} drop"


@pytest.fixture
def world(provider, tmp_path):
    return World(provider, tmp_path)


def ready(state):
    return state["phase"] == "ready"


async def until(condition, deadline):
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110 - the product's events are read by another task
            await asyncio.sleep(0.01)


async def test_a_way_that_swallows_large_packets_is_found_and_the_mtu_is_lowered(world):
    """The control: before that, a large packet does not arrive."""
    await world.provider.lab.router.must(("nft", SMALL.format(1400)))
    async with world.product("on") as product:
        state = await product.until(ready)
        device = state["tunnel"]["interface"]
        ping = ("ping", "-M", "do", "-c", "1", "-W", "1", "-s", "1392", "10.2.0.1")
        assert (await world.host.run(ping)).status != 0
        await until(lambda: product.notices("mtu"), 20)
        (told,) = product.notices("mtu")
        assert (told["before"], told["mtu"]) == (1420, 1320)
        assert " mtu 1320 " in await world.host.must(("ip", "link", "show", device))
        fits = (*ping[:-2], str(1320 - 28), "10.2.0.1")
        assert (await world.host.run(fits)).status == 0
        assert await product.stop() == 0


async def test_a_way_that_carries_everything_leaves_it_alone(world):
    async with world.product("on") as product:
        state = await product.until(ready)
        await asyncio.sleep(1.5)
        assert not product.notices("mtu")
        shown = await world.host.must(("ip", "link", "show", state["tunnel"]["interface"]))
        assert " mtu 1420 " in shown
        assert await product.stop() == 0


async def test_a_server_that_forgot_its_keys_is_back_in_seconds_in_place(world):
    """A server that restarts has no sessions: WireGuard alone notices after 15 s."""
    async with world.product("on") as product:
        state = await product.until(ready)
        index = world.host.must(("cat", f"/sys/class/net/{state['tunnel']['interface']}/ifindex"))
        before = await index
        await world.provider.server.mute()
        begun = time.monotonic()
        while not product.notices("remedy"):
            await world.source()
            assert time.monotonic() - begun < 15
        await world.provider.server.unmute()
        again = time.monotonic()
        while await world.source() != EXIT:
            assert time.monotonic() - again < 5
        assert {remedy["remedy"] for remedy in product.notices("remedy")} == {"re-key"}
        after = await world.host.must(("cat", f"/sys/class/net/{state['tunnel']['interface']}/ifindex"))
        assert after == before, "the device is the same: sockets on it live on"
        assert await product.stop() == 0
