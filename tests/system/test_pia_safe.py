"""What `vpnpf run` with Private Internet Access must not do: leak, trust the wrong machine, tell secrets, want privileges."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from mock_provider.capture import leak
from mock_provider.https import Answer
from mock_provider.pia import MockPia
from mock_provider.pia_config import environment
from mock_provider.pia_pki import servers_authority
from mock_provider.product import unique_profile
from tests.system.pia_world import World, ready, world
from tests.system.test_privileges import NET_ADMIN, SOCKETS, TUN, USER, as_user, held, lend, mounted

__all__ = ["world"]
pytestmark = pytest.mark.system


async def test_nothing_leaves_but_to_the_endpoint_and_the_services(world):
    first, _ = world.pia.servers
    endpoints = [leak(site.place.address, site.place.port) for site in world.pia.servers]

    def leaked(packet):
        return all(test(packet) for test in endpoints) and not world.services(packet)

    async with world.game():
        async with world.run() as product:
            await product.until(ready)
            port = await world.reached(product)
            product.signal(signal.SIGKILL)
            await product.ended()
        # The rules stand; a token, a key and a fresh list are needed all the same.
        world.pia.account.end_tokens()
        await first.registry.forget()
        world.age_list(days=2)
        async with world.pia.lab.capture(leaked) as outside, world.pia.lab.capture(world.services) as services:
            async with world.run() as product:
                await product.until(ready)
                assert await world.reached(product) == port
                assert world.logins == [200, 200]
                # What is let out for vpnpf is let out for nobody else: beside the tunnel, at least.
                assert not await world.passes_by_the_cable(first.place.address, 443)
                assert await outside.count() == 0
                asked = {packet.destination_port for packet in services.packets}
                assert await services.count()
                assert asked == {443, 1337}
                assert await product.stop() == 0
            assert await outside.count() == 0
            # Control: without the lock, the same program's packets are seen, to the service and elsewhere.
            seen = await services.count()
            assert await world.passes_by_the_cable(first.place.address, 443)
            assert await services.count() > seen
            assert await world.passes_by_the_cable("203.0.113.84", 443)
            assert await outside.count() > 0


async def test_a_machine_that_is_another_is_told_nothing(world):
    """First the login at a server's address, then the registration, then the gateway; each is right in the end."""
    sites = world.pia.servers

    def present(service, cn=""):
        for site in sites:
            getattr(site, service).present(servers_authority().context(cn) if cn else None)

    def wrong(state):
        return any("certificate" in each["message"] for each in state["problems"])

    async with world.game():
        await world.pia.web.www.close()
        for site in (world.pia.web.apiv2, world.pia.web.proxy):
            await site.close()
        present("meta", "oslo417")
        async with world.run() as product:
            await product.until(lambda state: bool(state["problems"]))
            assert all(site.meta.greeted for site in sites)
            assert not any(site.meta.asked for site in sites)
            assert not world.logins
        present("meta")
        present("add_key", "oslo417")
        async with world.run() as product:
            await product.until(wrong)
            assert world.logins == [200], "control: it logs in where the certificate is right"
            assert any(site.add_key.greeted for site in sites)
            assert not any(site.add_key.asked for site in sites)
        present("add_key")
        present("api", "oslo417")
        async with world.run() as product:
            await product.until(wrong)
            assert any(site.add_key.asked for site in sites), "control"
            assert not any(site.api.asked for site in sites)
        present("api")
        async with world.run() as product:
            await product.until(ready)
            assert any(site.api.asked for site in sites), "control"
            await world.reached(product)
            assert await product.stop() == 0


async def test_secrets_are_in_one_place_and_said_nowhere(world):
    site = world.pia.servers[0]
    site.api.fail_next(Answer(500, "no"), path="/bindPort")
    async with world.run() as product:
        await product.until(ready)
        told = f"{product.talk} {product.events}"
        assert await product.stop() == 0
    (token,) = world.pia.account.tokens
    query = site.api.paths("/bindPort")[-1].query
    secrets = [token, token[:62], world.pia.account.password, world.pia.account.username, *query.values()]
    assert query["signature"]
    for secret in secrets:
        assert secret not in told
        assert secret not in json.dumps(product.events)
    assert not [(path, each) for path, text in kept(world.directory / "runtime") for each in secrets if each in text]
    state = kept(world.directory / "state")
    inside = world.directory / "state" / "secrets"
    assert not [path for path, text in state if inside not in path.parents for each in secrets if each in text]
    # Control: that is where they would be found.
    for secret in (token, query["payload"], query["signature"]):
        assert any(secret in text for path, text in state if inside in path.parents)
    assert inside.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in inside.iterdir()} == {0o600}


def kept(directory):
    """All files below, with what is in them, unescaped as JSON would."""
    return [
        (path, path.read_text(errors="replace").replace("\\/", "/").replace('\\"', '"'))
        for path in directory.rglob("*")
        if path.is_file()
    ]


@pytest.fixture
def place():
    """A directory that every user can reach: pytest's own are 0700."""
    directory = Path("/var/tmp", f"vpnpf-{os.getpid()}-{unique_profile()}")
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


async def test_one_privilege_is_enough_without_root(place):
    """As deploy/systemd/vpnpf@.service runs it: the mark of what goes beside the tunnel needs no more than that."""
    async with MockPia() as pia:
        world = World(pia, place)
        world.configure()
        for name in ("state", "runtime"):
            (place / name).mkdir(mode=0o700)
        environment(place)
        lend(place)
        os.chown(world.client.resolver, USER, USER)
        wrap = (*mounted(SOCKETS, TUN), *as_user(USER, "net_admin"))
        async with world.game(), world.run(wrap) as product:
            await product.until(ready)
            assert held(product.pid) == (USER, {NET_ADMIN})
            await world.reached(product)
            assert await product.stop() == 0, product.talk
