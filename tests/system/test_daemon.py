"""One process for a profile, stopped, started and ended over its socket, with a real tunnel and gateway."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from pathlib import Path

import pytest

from mock_provider.capture import leak
from mock_provider.product import Product, traces, unique_profile
from tests.system.namespace_world import Machine, clean_up, left, ready, write_config
from vpnpf.control.client import Connection, NotRunning
from vpnpf.control.place import name_of
from vpnpf.errors import ConfigError, Transient
from vpnpf.tunnels.namespace import ProfileNamespace

pytestmark = pytest.mark.system


class Asking:
    """The socket of a profile that runs."""

    def __init__(self, directory, profile):
        self.directory = Path(directory, "runtime")
        self.profile = profile
        self.connection = Connection(profile, (self.directory,))

    async def post(self, verb, body=None):
        return await asyncio.to_thread(self.connection.post, f"/v1/{verb}", body)

    async def get(self, path=""):
        return await asyncio.to_thread(self.connection.get, f"/v1{path}")

    async def until(self, phase, name=None):
        """Wait for a phase, by the events, and a forward of that name; returns the state."""

        def wait():
            for event in self.connection.events():
                fits = event["event"] == "state" and event["phase"] == phase
                if fits and name in {None, event["forwards"][0]["name"]}:
                    return event
            raise AssertionError(f"it ended before it was {phase}")

        async with asyncio.timeout(30):
            return await asyncio.to_thread(wait)

    def file(self):
        return json.loads((self.directory / f"status-{self.profile}.json").read_text())


def port_of(state):
    return state["forwards"][0]["external_port"]


@pytest.fixture
def profile():
    name = unique_profile()
    yield name
    clean_up(name)


@pytest.fixture
def config(provider, profile, tmp_path):
    provider.client_config(tmp_path / "proton.conf")
    path = write_config(tmp_path, profile)
    text = path.read_text().replace("namespace = true\n", "")
    path.write_text(text.replace("protonvpn", "natpmp"))
    return path


async def test_stopped_started_restarted_and_shut_down(provider, profile, config, tmp_path):
    host, asking = provider.lab.client, Asking(tmp_path, profile)
    before = await traces(host)
    async with Product(host, tmp_path, config, profile) as product:
        port = port_of(await product.until(ready))
        # Stopped: the machine is as before, and the process answers.
        await asking.post("stop")
        await asking.until("stopped")
        assert await traces(host) == before
        assert not provider.gateway.mappings
        assert (await asking.get())["pid"] == product.pid
        assert (await asking.get("/state"))["phase"] == "stopped"
        async with asyncio.timeout(5):
            while asking.file()["phase"] != "stopped":  # noqa: ASYNC110 - it is written once a second
                await asyncio.sleep(0.05)
        with pytest.raises(Transient, match="is stopped"):
            await asking.post("renew")
        # A broken configuration is told with all its mistakes, and nothing begins.
        good = config.read_text()
        config.write_text(good.replace('provider = "natpmp"', 'provider = "natpmq"').replace("25565", "70000"))
        with pytest.raises(ConfigError) as caught:
            await asking.post("start")
        assert len(caught.value.mistakes) == 2
        assert await traces(host) == before
        config.write_text(good)
        asked = len(provider.gateway.log)
        await asking.post("start")
        state = await asking.until("ready")
        wished = [request.ports[1] for request in provider.gateway.log[asked:] if request.ports and request.ports[2]]
        assert wished[0] == port  # which this gateway gives to nobody twice
        port = port_of(state)
        with pytest.raises(Transient, match="runs already"):
            await asking.post("start")

        # Restarted with a broken one, what runs goes on untouched: the same mapping, no packet past the tunnel.
        config.write_text(good.replace('provider = "natpmp"', 'provider = "natpmq"'))
        with pytest.raises(ConfigError, match="natpmq"):
            await asking.post("restart")
        after = await asking.get("/state")
        assert (after["phase"], after["phase_since"], port_of(after)) == ("ready", state["phase_since"], port)
        # And with another that is right, it is in force afterwards.
        config.write_text(good.replace("forwards.game]", "forwards.play]"))
        await asking.post("restart")
        state = await asking.until("ready", "play")
        assert (await asking.post("renew"))["forwards"] == [{"name": "play", "external_port": port_of(state)}]
        told = (await asking.get("/servers"))["servers"]
        assert [(server["place"], server["current"]) for server in told] == [("proton", True)]

        await asking.post("shutdown")
        async with asyncio.timeout(15):
            assert await product.ended() == 0
    assert await traces(host) == before
    assert not provider.gateway.mappings
    assert not (asking.directory / name_of(profile)).exists()
    assert not (asking.directory / f"status-{profile}.json").exists()
    with pytest.raises(NotRunning):
        await asking.get()


async def test_two_profiles_in_namespaces_of_their_own_run_side_by_side_and_end_together(provider, tmp_path):
    machine, names = Machine(provider.lab.client), [unique_profile(), unique_profile()]
    provider.client_config(tmp_path / "one.conf")
    (await provider.server.add_client()).write(tmp_path / "two.conf")
    files = [write_config(tmp_path, name, f"{file}.conf") for name, file in zip(names, ("one", "two"), strict=True)]
    config = tmp_path / "config.toml"
    config.write_text("".join(file.read_text() for file in files))
    first, second = (Asking(tmp_path, name) for name in names)
    try:
        before = await traces(machine)
        async with (
            provider.lab.capture(leak()) as leaked,
            Product(machine, tmp_path, config, names[0], arguments=(names[1], "--events")) as product,
        ):
            await product.until(lambda _: {each["profile"] for each in product.events if ready_now(each)} == set(names))
            ports = [port_of(await each.get("/state")) for each in (first, second)]
            assert ports[0] != ports[1]
            # One is stopped, and started again: the threads it has by now began in a namespace that has gone.
            await first.post("stop")
            await first.until("stopped")
            await first.post("start")
            assert port_of(await first.until("ready"))
            await asyncio.to_thread(no_thread_stayed, (await first.get())["pid"], names[0], machine)
            assert (await second.get("/state"))["phase"] == "ready"
            # One that is ended does not take the other with it, and that is said.
            await second.post("shutdown")
            await said(product, f"{names[1]}: it has ended; {names[0]} goes on; start it: vpnpf run {names[1]}")
            assert (await first.get("/state"))["phase"] == "ready"
            assert f"{names[0]}: " in product.talk
            assert await product.stop() == 0
            assert await leaked.count() == 0
        assert not provider.gateway.mappings
        assert await traces(machine) == before
        assert not any(map(left, names))
    finally:
        for name in names:
            clean_up(name)


def no_thread_stayed(pid, profile, outside):
    """Wait until each thread of a process is outside or in the profile's namespace as it is now; some are inside."""
    allowed = {ProfileNamespace(profile).path.stat().st_ino, outside.path.stat().st_ino}
    end = time.monotonic() + 5
    while True:
        places = [each.joinpath("ns/net").stat().st_ino for each in Path(f"/proc/{pid}/task").iterdir()]
        odd = [place for place in places if place not in allowed]
        inside = places.count(ProfileNamespace(profile).path.stat().st_ino)
        if not odd and inside > 1:
            return
        assert time.monotonic() < end, places
        time.sleep(0.05)


def ready_now(event):
    return event["event"] == "state" and event["phase"] == "ready"


async def said(product, text):
    """Wait until it has said something."""
    await product.until(lambda _: text in product.talk)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_ended_while_it_looks_its_server_up_leaves_nothing(provider, profile, tmp_path, number):
    host = provider.lab.client
    machine = Machine(host)
    provider.client_config(tmp_path / "proton.conf")
    file = tmp_path / "proton.conf"
    file.write_text(re.sub(r"(?m)^Endpoint.*$", "Endpoint = vpn.example.org:51820", file.read_text()))
    config = write_config(tmp_path, profile)
    before = await traces(host)
    kept = host.resolver.read_text()
    host.resolver.write_text("nameserver 203.0.113.254\n")  # who does not answer
    try:
        async with Product(machine, tmp_path, config, profile) as product:
            async with asyncio.timeout(10):
                while not ProfileNamespace(profile).exists:  # noqa: ASYNC110 - nobody tells of it
                    await asyncio.sleep(0.01)
            product.signal(number)
            async with asyncio.timeout(12):
                assert await product.ended() == 0
        assert not left(profile)
    finally:
        host.resolver.write_text(kept)
    assert await traces(host) == before
