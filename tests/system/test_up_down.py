"""`vpnpf up` and `down` with the verbs in between: a profile in the background, from nothing to nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from mock_provider.product import traces, unique_profile
from mock_provider.topology import EXIT
from vpnpf.control.client import Connection

pytestmark = pytest.mark.system


@pytest.fixture
def profile():
    return unique_profile()


@pytest.fixture
def config(provider, profile, tmp_path):
    provider.client_config(tmp_path / "proton.conf")
    path = tmp_path / "config.toml"
    path.write_text(f"""
[profiles.{profile}]
provider = "protonvpn"
tunnel = {{ type = "wireguard", config = "proton.conf" }}
policy = {{ mode = "allow-list", allow = ["forwarded"] }}
forwards.web = {{ protocols = ["tcp"] }}
""")
    return path


class Cli:
    """`vpnpf` on the lab's client, in directories of its own."""

    def __init__(self, host, directory):
        self.host, self.directory = host, directory
        self.env = {
            "STATE_DIRECTORY": str(directory / "state"),
            "RUNTIME_DIRECTORY": str(directory / "runtime"),
            "HOME": str(directory),
            "PYTHONUNBUFFERED": "1",
        }

    async def begun(self, *words):
        return await self.host.popen((sys.executable, "-m", "vpnpf", *words), stdout=PIPE, stderr=PIPE, env=self.env)

    async def __call__(self, *words):
        """Returns (status, stdout, stderr)."""
        process = await self.begun(*words)
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        assert b"Traceback" not in err
        return process.returncode, out.decode(), err.decode()

    def background(self, profile):
        """The process that holds the profile, or None."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.directory / f"runtime/profile-{profile}.lock").read_text())
            # One that nobody has waited for yet has ended all the same.
            return None if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text() else pid
        return None


@pytest.fixture
async def cli(provider, tmp_path, profile):
    do = Cli(provider.lab.client, tmp_path)
    yield do
    if (pid := do.background(profile)) is not None:
        os.kill(pid, signal.SIGKILL)


async def line(reader, wanted):
    """Lines until one has the words."""
    async with asyncio.timeout(20):
        while wanted not in (said := (await reader.readline()).decode()):
            assert said, f"it ended without: {wanted}"
    return said


async def test_from_nothing_to_nothing(provider, cli, config, profile, tmp_path):
    before = await traces(provider.lab.client)
    code, out, err = await cli("up", profile, "--config", str(config))
    assert (code, out) == (0, ""), err
    log = tmp_path / f"state/run-{profile}.log"
    assert str(log) in err
    assert "READY: the port is open" in err
    assert f"{profile} is READY: web" in err
    assert log.stat().st_mode & 0o777 == 0o600
    pid = cli.background(profile)
    assert os.getsid(pid) == pid

    code, out, _ = await cli("port")
    assert code == 0
    port = int(out)
    assert (await cli("up", profile, "--config", str(config)))[0] == 0
    assert cli.background(profile) == pid

    watch = await cli.begun("watch", profile)
    assert await cli("renew") == (0, f"web: port {port} renewed\n", "")
    code, out, err = await cli("port", "--new")
    assert (code, int(out) != port) == (0, True), err
    await line(watch.stdout, f"the internet reaches you at {EXIT}:{int(out)}")
    assert await cli("port", profile, "--wait", "20") == (0, out, "")
    assert (await cli("status"))[0] in {0, 75}
    code, listed, _ = await cli("server")
    assert code == 0
    assert listed.startswith("* 1 ")

    assert (await cli("down", "--stay"))[0] == 0
    code, out, err = await cli("port")
    assert (code, out) == (75, "")
    assert "is stopped" in err
    assert await traces(provider.lab.client) == before
    code, _, err = await cli("up")
    assert code == 0, err
    assert cli.background(profile) == pid
    assert (await cli("restart"))[0] == 0

    code, out, err = await cli("down")
    assert (code, out) == (0, ""), err
    assert cli.background(profile) is None
    await line(watch.stderr, "was ended on purpose")
    watch.send_signal(signal.SIGINT)
    await watch.communicate()
    assert watch.returncode == 130
    assert not provider.gateway.mappings
    assert await traces(provider.lab.client) == before
    code, _, err = await cli("port")
    assert code == 69
    assert "hint: start one with: vpnpf up" in err


async def test_a_mistake_in_the_configuration_is_said_before_anything_is_started(cli, config, profile):
    config.write_text(config.read_text().replace("protonvpn", "protonvpm"))
    code, out, err = await cli("up", profile, "--config", str(config))
    assert (code, out) == (78, "")
    assert "protonvpm" in err
    assert "in the background" not in err
    assert cli.background(profile) is None


async def test_who_is_not_root_is_given_the_line(provider, cli, config, profile):
    wrapped = ("setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
    argv = (*wrapped, sys.executable, "-m", "vpnpf", "up", profile, "--config", str(config))
    process = await provider.lab.client.popen(argv, stdout=PIPE, stderr=PIPE, env=cli.env)
    _, err = await process.communicate()
    assert process.returncode == 77, err
    assert f"sudo vpnpf up {profile} --config {config}" in err.decode()


async def test_ctrl_c_ends_the_waiting_only_and_up_goes_on_with_it(provider, cli, config, profile):
    provider.gateway.silent = True
    both = (cli("up", profile, "--config", str(config), "--wait", "0.5") for _ in range(2))
    for code, _, err in await asyncio.gather(*both):  # at the same moment: there is one all the same
        assert code == 75, err
        assert f"{profile} is leasing" in err
        assert "it goes on" in err
    pid = cli.background(profile)
    again = await cli.begun("up", profile, "--config", str(config))
    await line(again.stderr, "problem: ")
    again.send_signal(signal.SIGINT)
    _, err = await again.communicate()
    assert again.returncode == 130
    assert f"{profile} goes on by itself" in err.decode()
    provider.gateway.silent = False
    assert (await cli("up", profile, "--config", str(config)))[0] == 0
    assert cli.background(profile) == pid
    assert (await cli("down"))[0] == 0


async def test_up_while_it_ends_or_begins_again_waits_and_is_up_in_the_end(provider, cli, config, profile):
    assert (await cli("up", profile, "--config", str(config)))[0] == 0
    first = cli.background(profile)
    # It gives the port back to nobody, so there is time in which it ends.
    provider.gateway.silent = True
    ending = await cli.begun("down", profile)
    await phase_is(cli, profile, "stopping")
    up = asyncio.create_task(cli("up", profile, "--config", str(config)))
    provider.gateway.silent = False
    code, _, err = await up
    assert code == 0, err
    assert await ending.wait() == 0
    second = cli.background(profile)
    assert second not in {None, first}
    # The same while it restarts.
    provider.gateway.silent = True
    again = await cli.begun("restart", profile)
    await phase_is(cli, profile, "stopping")
    up = asyncio.create_task(cli("up", profile, "--config", str(config)))
    provider.gateway.silent = False
    code, _, err = await up
    assert code == 0, err
    assert await again.wait() == 0
    assert cli.background(profile) == second
    assert (await cli("down"))[0] == 0


async def phase_is(cli, profile, wanted):
    connection = Connection(profile, (cli.directory / "runtime",))
    async with asyncio.timeout(10):
        while (await asyncio.to_thread(connection.get, "/v1"))["phase"] != wanted:  # noqa: ASYNC110 - it is asked
            await asyncio.sleep(0.01)
