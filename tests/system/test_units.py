"""deploy/systemd as it stands, run by a real systemd: all of its restrictions are in force."""

import pytest

from mock_provider.capture import leak
from mock_provider.product import traces, unique_profile
from mock_provider.qbittorrent import QBittorrent
from mock_provider.topology import EXIT
from tests.system.systemd_lab import Systemd

pytestmark = pytest.mark.system

NET_ADMIN = 1 << 12
CONFIG = """\
[profiles.{profile}]
provider = "protonvpn"
[profiles.{profile}.tunnel]
type = "wireguard"
config = "proton.conf"
[profiles.{profile}.policy]
mode = "allow-list"
allow = ["forwarded"]
[profiles.{profile}.forwards.torrent]
client = "qb"
[clients.qb]
type = "qbittorrent"
url = "{url}"
username = "{username}"
password = {{ credential = "qb" }}
"""


@pytest.fixture
def profile():
    return unique_profile()


@pytest.fixture
async def client(provider, tmp_path):
    async with QBittorrent(provider.lab.client, tmp_path / "qbittorrent") as daemon:
        yield daemon


@pytest.fixture
async def systemd(provider, client, profile, tmp_path):
    provider.client_config(tmp_path / "proton.conf")
    text = CONFIG.format(profile=profile, url=client.url, username=client.username)
    async with Systemd(provider.lab.client) as running:
        running.put("/etc/vpnpf/config.toml", text, 0o600)
        running.put("/etc/vpnpf/proton.conf", (tmp_path / "proton.conf").read_text(), 0o600)
        running.put("/etc/vpnpf/qb.password", client.password, 0o600)
        running.drop_in("vpnpf@.service", "password", "[Service]\nLoadCredential=qb:/etc/vpnpf/qb.password\n")
        await running.run("systemd-tmpfiles", "--create", "/opt/source/deploy/systemd/tmpfiles.conf")
        await running.ctl("daemon-reload")
        yield running


@pytest.fixture
def unit(profile):
    return f"vpnpf@{profile}.service"


async def test_the_main_job(provider, systemd, profile, unit):
    before, resolver = await traces(provider.lab.client), systemd.read("/etc/resolv.conf")
    async with provider.lab.capture(leak()) as leaked:
        await systemd.ctl("start", unit)
        await systemd.until(lambda: systemd.status(profile).get("phase") == "ready")
        state = systemd.status(profile)
        assert not state["problems"]
        port = state["forwards"][0]["external_port"]
        assert (await provider.peer.connect_tcp(EXIT, port)).connected
        assert await leaked.count() == 0
    await systemd.ctl("stop", unit)
    assert await systemd.show(unit, "Result") == "success"
    assert systemd.read("/etc/resolv.conf") == resolver
    assert await traces(provider.lab.client) == before
