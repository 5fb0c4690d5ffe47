"""From nothing to a port: `vpnpf init` finds the provider's file and a real qBittorrent, starts what it wrote, and says the port."""

import asyncio
import re
import sys

import pytest

from mock_provider.qbittorrent import QBittorrent
from tests.unit.init_terminal import Terminal

pytestmark = pytest.mark.system

VPNPF = (sys.executable, "-m", "vpnpf")


async def test_it_ends_with_the_port(provider, tmp_path):
    home, directory = tmp_path / "home", tmp_path / "etc"
    (home / "Downloads").mkdir(parents=True)
    provider.client_config(home / "Downloads" / "nl-free.conf")
    host = provider.lab.client
    env = {"HOME": str(home), "TERM": "dumb", "COLUMNS": "100", "LC_ALL": "C.UTF-8"}
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
        env[name] = str(tmp_path / name.lower())
        (tmp_path / name.lower()).mkdir(mode=0o700)
    async with QBittorrent(host, tmp_path / "qbittorrent") as client:
        person = Terminal()
        argv, slave = (*VPNPF, "init", "--directory", str(directory)), person.slave
        process = await host.popen(argv, stdin=slave, stdout=slave, stderr=slave, env=env)
        person.begun()
        port = await asyncio.to_thread(_talk, person, client)
        assert await process.wait() == 0
        person.close()
        assert client.password not in person.said
        assert (await client.preferences())["listen_port"] == port
        ending = await host.popen((*VPNPF, "down", "home"), env=env)
        said = await ending.communicate()
        assert ending.returncode == 0, said
    assert not provider.gateway.mappings


def _talk(person, client):
    person.answer("Which VPN provider do you have", "protonvpn")
    person.until("nl-free.conf")
    person.answer(r"Which configuration file\?.*\[1\] ", "")
    person.until(rf"1\) qBittorrent at {re.escape(client.url)}: it runs, and asks for a password")
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
    person.answer(r"Start it now\? \[Y/n\]", "")
    port = int(person.until(r"the port:\s+(\d+)")[1])
    person.end()
    return port
