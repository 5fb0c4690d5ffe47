"""A tunnel that wg-quick brought up: adopted, used, and left as it was found."""

import asyncio
import re

import pytest

from mock_provider.capture import leak
from mock_provider.product import Product, traces
from mock_provider.topology import EXIT
from tests.system.test_lock import World as Machine

pytestmark = pytest.mark.system

CONFIG = """\
[profiles.{profile}]
provider = "protonvpn"
tunnel = {{ type = "existing", interface = "{interface}" }}
forwards.game = {{}}
"""
USERSPACE = {"WG_QUICK_USERSPACE_IMPLEMENTATION": "wireguard-go"}


class World(Machine):
    """A machine with a tunnel of wg-quick's."""

    def __init__(self, provider, directory):
        super().__init__(provider, directory)
        self.interface = f"q{self.profile}"
        self.file = directory / f"{self.interface}.conf"
        text = provider.client_config(directory / "proton.conf").read_text()
        self.file.touch(mode=0o600)
        self.file.write_text(re.sub(r"(?m)^DNS.*\n", "", text))
        self.config.write_text(CONFIG.format(profile=self.profile, interface=self.interface))

    async def quick(self, what):
        done = await self.host.run(("wg-quick", what, str(self.file)), env=USERSPACE)
        assert done.status == 0, done.stderr

    def adopted(self):
        return Product(self.host, self.directory, self.config, self.profile)


@pytest.fixture
async def world(provider, tmp_path):
    made = World(provider, tmp_path)
    await made.quick("up")
    yield made
    await made.host.run(("wg-quick", "down", str(made.file)), env=USERSPACE)


def ready(state):
    return state["phase"] == "ready"


async def test_it_is_used_and_left_as_it_was_found(world):
    assert await world.source() == EXIT
    before = await traces(world.host)
    async with world.provider.lab.capture(leak()) as leaked, world.adopted() as product:
        state = await product.until(ready)
        assert state["tunnel"]["backend"] == "existing (WireGuard)"
        port = product.forward("game")["external_port"]
        outcome = await world.provider.peer.connect_tcp(EXIT, port)
        assert outcome.result == "refused", "it reaches this machine, where nobody listens"
        assert (await world.provider.peer.connect_tcp(EXIT, 22, deadline=0.3)).result != "refused"
        assert await product.stop() == 0
        assert await leaked.count() == 0
    assert await traces(world.host) == before
    assert await world.source() == EXIT


async def test_it_waits_for_one_that_is_gone_and_takes_it_up_again(world):
    async with world.adopted() as product:
        await product.until(ready)
        await world.quick("down")
        said = ("belongs to another program", "no such device")
        await product.until(lambda state: state["phase"] == "blocked" and any(each in product.talk for each in said))
        await world.quick("up")
        async with asyncio.timeout(30):
            await product.until(ready, deadline=30)
        assert await product.stop() == 0


async def test_one_that_is_not_there_is_named_with_what_to_do(world):
    await world.quick("down")
    async with world.adopted() as product:
        assert await product.ended() != 0
        assert f"adopting {world.interface}: there is no such device" in product.talk
        assert f"wg-quick up {world.interface}" in product.talk
    await world.quick("up")


async def test_the_lock_is_not_ours_to_put_up(world):
    world.config.write_text(world.config.read_text().replace("forwards.game", 'lock = { mode = "on" }\nforwards.game'))
    status, said = await world.command("check-config", "--config", str(world.config))
    assert status == 78
    assert "belongs to another program" in said
