"""The first start on a real terminal: from nothing to a port, away and back, and all of it ended."""

from __future__ import annotations

import sys

import pytest

from mock_provider.product import traces
from mock_provider.qbittorrent import QBittorrent
from tests.system.screen import Screen
from vpnpf.tui.found import Running, running

pytestmark = pytest.mark.system

VPNPF = (sys.executable, "-m", "vpnpf")


async def test_from_nothing_to_a_port_and_back_to_nothing(provider, tmp_path):
    home, directory, host = tmp_path / "home", tmp_path / "etc", provider.lab.client
    (home / "Downloads").mkdir(parents=True)
    provider.client_config(home / "Downloads" / "proton-nl-9.conf")
    env = {"HOME": str(home)}
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
        (tmp_path / name.lower()).mkdir(mode=0o700)
        env[name] = str(tmp_path / name.lower())
    places = (tmp_path / "runtime_directory",)
    async with QBittorrent(host, tmp_path / "qbittorrent") as client:
        before = await traces(host)
        config = directory / "config.toml"
        async with Screen(host, (*VPNPF, "tui", "--config", str(config)), env) as screen:
            await _answer(screen, client)
            assert not config.exists()
            await screen.press("Tab", "Tab", "Enter")
            # The sheet goes when it is READY, or shows why not.
            await screen.until("PROTECTED", "Ready", deadline=40)
            port = (await client.preferences())["listen_port"]
            await screen.press("q")
            assert f"keeps port {port}" in await screen.until("ended=0")
        assert running(places=places) == (Running("home"),)
        async with Screen(host, VPNPF, env, (80, 24)) as screen:
            await screen.until("PROTECTED", "Ready")
            await screen.press("Q")
            await screen.until("Stop")
            await screen.press("Right", "Enter")
            await screen.until("ended=0", deadline=20)
        assert running(places=places) == ()
        assert await traces(host) == before
    assert not provider.gateway.mappings


async def test_the_demo_opens_the_face_and_leaving_it_ends_all_of_it():
    demo = (sys.executable, "-m", "mock_provider", "demo")
    async with Screen(None, ("env", "-u", "CI", *demo), {}) as screen:
        await screen.until("PROTECTED", "Renewals; after 3", deadline=40)
        await screen.press("q")
        seen = await screen.until("claims held; you ended it", "ended=", deadline=40)
    assert "ended=0" in seen
    assert "FAIL" not in seen
    assert "namespaces and programs gone" in seen


async def _answer(screen, client):
    await screen.until("Which VPN provider do you have?", "ProtonVPN")
    await screen.press("Enter")
    await screen.until("Which configuration file?", "proton-nl-9.conf")
    await screen.press("Enter")
    await screen.until("Which torrent client gets the port?", f"qBittorrent at {client.url}", "it runs")
    await screen.press("Enter")
    await screen.until("User name of the web interface?", "admin")
    await screen.press("Enter")
    await screen.until("Password of the web interface?")
    await screen.type(client.password)
    await screen.press("Enter")
    seen = await screen.until("What may come in from the internet?")
    assert client.password not in seen
    await screen.press("Enter")
    await screen.until("A name for this profile?")
    await screen.press("Enter")
    seen = await screen.until("Nothing is written yet.", 'provider = "protonvpn"')
    assert client.password not in seen
