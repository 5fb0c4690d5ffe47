"""From nothing to a port: `vpnpf init` finds the provider's file and a real qBittorrent, and what it wrote runs."""

import asyncio
import sys

import pytest

from mock_provider.product import Product
from mock_provider.qbittorrent import QBittorrent
from tests.unit.init_terminal import Terminal

pytestmark = pytest.mark.system


async def test_what_it_wrote_gets_a_port(provider, tmp_path):
    home, directory = tmp_path / "home", tmp_path / "etc"
    (home / "Downloads").mkdir(parents=True)
    provider.client_config(home / "Downloads" / "nl-free.conf")
    async with QBittorrent(provider.lab.client, tmp_path / "qbittorrent") as client:
        person = Terminal()
        env = {"HOME": str(home), "TERM": "dumb", "COLUMNS": "100", "STATE_DIRECTORY": str(tmp_path / "state")}
        argv = (sys.executable, "-m", "vpnpf", "init", "--directory", str(directory))
        slave = person.slave
        process = await provider.lab.client.popen(argv, stdin=slave, stdout=slave, stderr=slave, env=env)
        person.begun()
        await asyncio.to_thread(_talk, person, client)
        assert await process.wait() == 0
        person.close()
        assert client.password not in person.said
        async with Product(provider.lab.client, tmp_path / "run", directory / "config.toml", "home") as product:
            await product.until(lambda state: state["phase"] == "ready")
            port = product.forward()["external_port"]
            assert (await client.preferences())["listen_port"] == port
            assert await product.stop() == 0


def _talk(person, client):
    person.answer("Which VPN provider do you have", "protonvpn")
    person.until("nl-free.conf")
    person.answer(r"Which configuration file\?.*\[1\] ", "")
    person.until(rf"1\) qBittorrent at {client.url}: it runs, and asks for a password")
    person.answer(r"Which torrent client gets the port\? \[1\] ", "")
    person.answer(r"User name of the web interface\?.* ", client.username)
    person.answer("Password of the web interface", "wrong")
    person.until("wrong user name or password")
    person.answer(r"User name of the web interface\?.* ", client.username)
    person.answer("Password of the web interface", client.password)
    person.until(r"qBittorrent [\d.]+ answers")
    person.answer(r"What may come in from the internet\? \[1\] ", "")
    person.answer(r"A name for this profile\? \[home\] ", "")
    person.answer(r"Write it\? \[Y/n\]", "")
    if "Start" in person.until(r"(next: sudo vpnpf|Start it now\? \[Y/n\])")[0]:
        person.answer("", "n")
    person.end()
