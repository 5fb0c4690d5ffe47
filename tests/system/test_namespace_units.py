"""The unit of deploy/systemd with the drop-in for a namespace, run by a real systemd."""

import pytest

from mock_provider.capture import leak
from mock_provider.product import traces, unique_profile
from mock_provider.topology import EXIT
from tests.system.namespace_world import write_config
from tests.system.systemd_lab import LOG, UNITS, Systemd

pytestmark = pytest.mark.system

PROGRAM = """
import socket
with socket.socket() as server:
    server.bind(("", 25565))
    server.listen()
    print(open("/etc/resolv.conf").read(), flush=True)
    server.accept()
"""


@pytest.fixture
def profile():
    return unique_profile()


@pytest.fixture
async def systemd(provider, profile, tmp_path):
    provider.client_config(tmp_path / "proton.conf")
    async with Systemd(provider.lab.client) as running:
        running.put("/etc/vpnpf/config.toml", write_config(tmp_path, profile).read_text(), 0o600)
        running.put("/etc/vpnpf/proton.conf", (tmp_path / "proton.conf").read_text(), 0o600)
        await running.run("systemd-tmpfiles", "--create", "/opt/source/deploy/systemd/tmpfiles.conf")
        running.drop_in(f"vpnpf@{profile}.service", "namespace", (UNITS / "namespace.conf").read_text())
        await running.ctl("daemon-reload")
        yield running


async def test_a_program_of_root_joins_what_a_unit_without_root_keeps(provider, systemd, profile):
    unit = f"vpnpf@{profile}.service"
    before, resolver = await traces(provider.lab.client), systemd.read("/etc/resolv.conf")

    def status():
        found = systemd.status(profile)
        return found if found.get("phase") == "ready" else None

    async with provider.lab.capture(leak()) as leaked:
        await systemd.ctl("start", unit)
        port = (await systemd.until(status))["forwards"][0]["external_port"]
        status_of, said = await systemd.run(
            "systemd-run",
            "--unit=game",
            "/usr/local/bin/vpnpf",
            "exec",
            profile,
            "--",
            "/usr/bin/python3",
            "-c",
            PROGRAM,
        )
        assert status_of == 0, said

        async def connected():
            return (await provider.peer.connect_tcp(EXIT, port)).connected

        await systemd.until(connected)
        assert systemd.read("/etc/resolv.conf") == resolver
        assert f"vpnpf-{profile}" in (await systemd.run("ip", "netns"))[1]
        await systemd.ctl("restart", unit)
        await systemd.until(status)
        await systemd.ctl("stop", unit)
        assert "stays" not in systemd.read(LOG)
        assert f"vpnpf-{profile}" in (await systemd.run("ip", "netns"))[1]
        assert await leaked.count() == 0
    assert await traces(provider.lab.client) == before
