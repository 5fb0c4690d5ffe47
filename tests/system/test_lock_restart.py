"""A restart over the control socket, with probes on the cable all the time: the machine is open only when it is to be."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import pytest

from mock_provider.capture import leak
from mock_provider.product import traces
from mock_provider.topology import CLIENT
from tests.system.test_daemon import Asking
from tests.system.test_lock import PROBES, World, ready

pytestmark = pytest.mark.system


@pytest.fixture
def world(provider, tmp_path):
    return World(provider, tmp_path)


@contextlib.asynccontextmanager
async def probing(world):
    """Something that tries to get out all the time, and what of it was on the cable."""
    async with world.provider.lab.capture(leak()) as leaked:
        probes = await world.host.popen((sys.executable, "-c", PROBES), stdout=-1)
        try:
            await probes.stdout.readline()
            yield leaked
        finally:
            probes.kill()
            await probes.communicate()


async def restarted(product, asking):
    since = (await asking.get("/state"))["phase_since"]
    await asking.post("restart")
    return await product.until(lambda state: ready(state) and state["phase_since"] != since)


@pytest.mark.parametrize("mode", ["on", "lockdown"])
async def test_a_restart_lets_nothing_out(world, mode):
    before = await traces(world.host)
    asking = Asking(world.directory, world.profile)
    async with world.product(mode) as product:
        await product.until(ready)
        async with probing(world) as leaked:
            await restarted(product, asking)
            # Into the other mode, and back.
            other = {"on": "lockdown", "lockdown": "on"}[mode]
            for each in (other, mode):
                world.product(each)
                await restarted(product, asking)
            assert await leaked.count() == 0
            if mode == "on":
                await asking.post("stop")
                async with asyncio.timeout(10):
                    while not await leaked.count():
                        pass  # the control: stopped, it is open
        assert await product.stop() == 0
    if mode == "lockdown":
        assert (await world.command("unlock", "--config", str(world.config)))[0] == 0
    assert await world.source() == CLIENT
    assert await traces(world.host) == before


async def test_what_cannot_begin_again_stays_blocked_until_it_is_stopped(world):
    before = await traces(world.host)
    asking = Asking(world.directory, world.profile)
    file = world.directory / "proton.conf"
    async with world.product("on") as product:
        await product.until(ready)
        async with probing(world) as leaked:
            await world.provider.server.mute()  # the port cannot be given back, so there is time
            await asking.post("restart")
            kept = file.read_text()
            file.unlink()
            async with asyncio.timeout(20):
                while "cannot begin again" not in product.talk:  # noqa: ASYNC110 - it is said on a pipe
                    await asyncio.sleep(0.05)
            state = await asking.get("/state")
            assert (state["phase"], state["policy"]["stage"]) == ("stopped", "blocked")
            assert f"vpnpf down {world.profile} opens" in state["problems"][0]["hint"]
            assert await leaked.count() == 0
            await asking.post("stop")
            async with asyncio.timeout(10):
                while not await leaked.count():
                    pass
        assert await traces(world.host) == before
        await world.provider.server.unmute()
        file.write_text(kept)
        await asking.post("start")
        await product.until(ready)
        assert await product.stop() == 0
    assert await traces(world.host) == before
