"""deploy/systemd as it stands, run by a real systemd: all of its restrictions are in force."""

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from mock_provider.capture import leak
from mock_provider.product import traces, unique_profile
from mock_provider.qbittorrent import QBittorrent
from mock_provider.topology import EXIT, INTERNET
from tests.system.systemd_lab import Systemd
from vpnpf.errors import VpnpfError

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


def fields(systemd, pid):
    """What /proc says of a process."""
    lines = Path("/proc", str(pid), "status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


async def started(systemd, profile, unit):
    """Start the unit and wait until the profile is READY; returns its port."""
    await systemd.ctl("start", unit)
    return await ready(systemd, profile)


async def ready(systemd, profile, without=0):
    """Wait until a run, another than that of the process `without`, is READY; returns its port."""

    def status():
        found = systemd.status(profile)
        return found if found.get("phase") == "ready" and found["pid"] != without else None

    return (await systemd.until(status))["forwards"][0]["external_port"]


@contextlib.asynccontextmanager
async def probes(host):
    """Packets for the internet, some bound to the uplink, as fast as the loop turns; yields a function that counts them."""
    sent = 0

    async def send():
        nonlocal sent
        with host.socket(type=socket.SOCK_DGRAM) as free, host.socket(type=socket.SOCK_DGRAM) as bound:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            while True:
                for each in (free, bound):
                    with contextlib.suppress(OSError):
                        each.sendto(b"probe", (INTERNET, 9999))
                sent += 2
                await asyncio.sleep(0.001)

    task = asyncio.create_task(send())
    yield lambda: sent
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_main_job_under_all_restrictions(provider, systemd, profile, unit):
    before, resolver = await traces(provider.lab.client), systemd.read("/etc/resolv.conf")
    async with provider.lab.capture(leak()) as leaked:
        port = await started(systemd, profile, unit)
        assert not systemd.status(profile)["problems"]
        assert (await provider.peer.connect_tcp(EXIT, port)).connected
        assert "written by vpnpf" in systemd.read("/etc/resolv.conf")
        assert await leaked.count() == 0

    assert f"torrent {port}" in await systemd.show(unit, "StatusText")
    main = fields(systemd, await systemd.main_pid(unit))
    assert {int(main[name][0], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd")} == {NET_ADMIN}
    assert main["NoNewPrivs"] == ["1"]
    assert main["Seccomp"] == ["2"]
    assert main["Uid"] != ["0"] * 4

    await systemd.ctl("stop", unit)
    assert await systemd.show(unit, "Result") == "success"
    assert systemd.read("/etc/resolv.conf") == resolver
    assert systemd.path("/etc/resolv.conf").stat().st_uid == 0
    assert not provider.gateway.mappings
    assert await traces(provider.lab.client) == before


async def test_no_system_call_is_made_that_the_unit_refuses(systemd, profile, unit):
    # Killed by the first instead of being told no.
    systemd.drop_in("vpnpf@.service", "kill", "[Service]\nSystemCallErrorNumber=kill\nRestart=no\n")
    await systemd.ctl("daemon-reload")
    await started(systemd, profile, unit)
    await systemd.ctl("stop", unit)
    assert await systemd.show(unit, "Result") == "success"


async def test_the_control_a_refused_system_call_would_be_noticed(systemd, profile, unit):
    # Where the limits differ wireguard-go begins with setrlimit, which is of @resources.
    settings = "SystemCallErrorNumber=kill\nRestart=no\nLimitNOFILE=1024:4096\n"
    systemd.drop_in("vpnpf@.service", "kill", f"[Service]\n{settings}")
    await systemd.ctl("daemon-reload")
    await systemd.ctl("start", unit)
    problem = (await systemd.until(lambda: systemd.status(profile).get("problems")))[0]
    assert "wireguard-go" in problem["doing"]


async def test_it_counts_as_started_when_the_rules_stand_though_there_is_no_port(provider, systemd, profile, unit):
    provider.gateway.refuse = True
    # The provider's file may be root's alone as well, and come as a credential.
    config = systemd.read("/etc/vpnpf/config.toml")
    there = f"/run/credentials/{unit}/proton.conf"
    systemd.put("/etc/vpnpf/config.toml", config.replace('"proton.conf"', f'"{there}"'), 0o640)
    systemd.path("/etc/vpnpf/proton.conf").rename(systemd.path("/etc/proton.conf"))
    systemd.path("/etc/proton.conf").chmod(0o600)
    systemd.drop_in("vpnpf@.service", "key", "[Service]\nLoadCredential=proton.conf:/etc/proton.conf\n")
    await systemd.ctl("daemon-reload")
    async with provider.lab.capture(leak()) as leaked, probes(provider.lab.client) as sent:
        await systemd.ctl("start", unit)
        already = sent()
        await systemd.until(lambda: sent() > already + 50)
        before = await leaked.count()
        await systemd.until(lambda: sent() > already + 100)
        assert await leaked.count() == before  # some got out before it was started, none since

    async def told():
        return (
            await systemd.show(unit, "StatusText") == "failed: torrent without a port; `vpnpf status` has the problems"
        )

    await systemd.until(told)
    assert await systemd.show(unit, "ActiveState") == "active"


async def test_a_restart_lets_nothing_out(provider, systemd, profile, unit):
    port = await started(systemd, profile, unit)
    first = systemd.status(profile)["pid"]
    async with provider.lab.capture(leak()) as leaked, probes(provider.lab.client) as sent:
        await systemd.ctl("restart", unit)
        assert await ready(systemd, profile, first) == port
        assert sent() > 100
        assert await leaked.count() == 0


async def test_the_control_a_restart_by_sigterm_unlocks_in_between(provider, systemd, profile, unit):
    systemd.drop_in("vpnpf@.service", "term", "[Service]\nRestartKillSignal=SIGTERM\n")
    await systemd.ctl("daemon-reload")
    await started(systemd, profile, unit)
    first = systemd.status(profile)["pid"]
    async with provider.lab.capture(leak()) as leaked, probes(provider.lab.client):
        await systemd.ctl("restart", unit)
        await ready(systemd, profile, first)
        assert await leaked.count() > 0


async def test_killed_it_is_started_again_and_nothing_gets_out(provider, systemd, profile, unit):
    port = await started(systemd, profile, unit)
    first = systemd.status(profile)["pid"]
    async with provider.lab.capture(leak()) as leaked, probes(provider.lab.client) as sent:
        os.kill(await systemd.main_pid(unit), signal.SIGKILL)
        assert await ready(systemd, profile, first) == port
        assert sent() > 100
        assert await leaked.count() == 0
    assert await systemd.show(unit, "NRestarts") == "1"
    assert (await provider.peer.connect_tcp(EXIT, port)).connected


async def test_one_that_hangs_is_started_again(provider, systemd, profile, unit):
    # With so short a lease the engine takes a step every second or two.
    provider.gateway.lifetime = 4
    systemd.drop_in("vpnpf@.service", "watchdog", "[Service]\nWatchdogSec=5\n")
    await systemd.ctl("daemon-reload")
    await started(systemd, profile, unit)
    first = systemd.status(profile)["pid"]
    heard = await systemd.show(unit, "WatchdogTimestampMonotonic")

    async def heard_again():
        return await systemd.show(unit, "WatchdogTimestampMonotonic") != heard

    await systemd.until(heard_again)
    assert await systemd.show(unit, "NRestarts") == "0"
    os.kill(await systemd.main_pid(unit), signal.SIGSTOP)
    await ready(systemd, profile, first)
    assert await systemd.show(unit, "NRestarts") == "1"


async def test_a_wrong_configuration_is_not_tried_again(systemd, unit):
    systemd.put("/etc/vpnpf/config.toml", "profiles = 1\n", 0o640)
    with pytest.raises(VpnpfError):
        await systemd.ctl("start", unit)
    assert await systemd.show(unit, "ExecMainStatus") == "78"
    assert await systemd.show(unit, "ActiveState") == "failed"
    assert await systemd.show(unit, "NRestarts") == "0"


async def test_the_status_for_root_and_for_others(systemd, profile, unit):
    await started(systemd, profile, unit)
    status, said = await systemd.run("/usr/local/bin/vpnpf", "status", profile)
    assert (status, "ready" in said.lower()) == (0, True), said
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    status, said = await systemd.run(*nobody, "/usr/local/bin/vpnpf", "status", profile)
    assert status == 77, said
    assert "hint: do it as root" in said


async def test_a_resolver_that_is_a_link_is_lent_and_comes_back(systemd, profile, unit):
    systemd.put("/run/resolved/stub.conf", "nameserver 127.0.0.53\n")
    link = systemd.path("/etc/resolv.conf")
    link.unlink()
    link.symlink_to("../run/resolved/stub.conf")
    await started(systemd, profile, unit)
    assert "written by vpnpf" in systemd.read("/etc/resolv.conf")
    assert systemd.read("/run/resolved/stub.conf") == "nameserver 127.0.0.53\n"
    os.kill(await systemd.main_pid(unit), signal.SIGKILL)
    await ready(systemd, profile, systemd.status(profile)["pid"])
    await systemd.ctl("stop", unit)
    assert link.readlink() == Path("../run/resolved/stub.conf")
    assert {path.name for path in link.parent.glob("resolv.conf*")} == {"resolv.conf"}


async def rebooted(host):
    """Take away what a reboot takes: all rules and routes of ours."""
    await host.must(("nft", "delete", "table", "inet", "vpnpf"))
    for family in ("-4", "-6"):
        await host.must(("ip", family, "rule", "flush", "protocol", "118"))
        await host.must(("ip", family, "route", "flush", "table", "all", "proto", "118"))


async def gets_out(provider, systemd):
    """Whether anything of many packets leaves the machine beside a tunnel."""
    async with provider.lab.capture(leak()) as leaked, probes(provider.lab.client) as sent:
        await systemd.until(lambda: sent() > 50)
        return await leaked.count() > 0


async def test_locked_down_it_is_closed_from_boot_on_until_it_is_unlocked(provider, systemd, profile, unit):
    host, boot = provider.lab.client, "vpnpf-lockdown.service"
    before = await traces(host)
    config = systemd.read("/etc/vpnpf/config.toml")
    systemd.put("/etc/vpnpf/config.toml", f'{config}[profiles.{profile}.lock]\nmode = "lockdown"\n', 0o640)
    await systemd.ctl("start", boot)
    assert await systemd.show(boot, "ConditionResult") == "no"
    await started(systemd, profile, unit)
    await systemd.ctl("stop", unit)
    assert not await gets_out(provider, systemd)

    await rebooted(host)
    assert await gets_out(provider, systemd)  # the control: without the unit the machine is open now
    await systemd.ctl("start", boot)
    assert await systemd.show(boot, "ActiveState") == "active"
    assert not await gets_out(provider, systemd)
    await host.must(("nft", "flush", "ruleset"))
    assert (await host.run(("ip", "route", "get", INTERNET))).status != 0  # the second layer

    await started(systemd, profile, unit)
    await systemd.ctl("stop", unit)
    assert not await gets_out(provider, systemd)
    status, said = await systemd.run("/usr/local/bin/vpnpf", "unlock")
    assert status == 0, said
    assert await traces(host) == before
    await systemd.ctl("restart", boot)
    assert await systemd.show(boot, "ConditionResult") == "no"


async def test_root_unlocks_what_the_service_left_and_the_service_starts_again(provider, systemd, profile, unit):
    before = await traces(provider.lab.client)
    systemd.drop_in("vpnpf@.service", "once", "[Service]\nRestart=no\n")
    await systemd.ctl("daemon-reload")
    await started(systemd, profile, unit)
    os.kill(await systemd.main_pid(unit), signal.SIGKILL)

    async def ended():
        return await systemd.show(unit, "ActiveState") == "failed"

    await systemd.until(ended)
    assert not await gets_out(provider, systemd)
    status, said = await systemd.run("/usr/local/bin/vpnpf", "unlock")
    assert status == 0, said
    assert "unlocked" in said
    assert await traces(provider.lab.client) == before
    first = systemd.status(profile)["pid"]
    await systemd.ctl("start", unit)
    await ready(systemd, profile, first)


async def test_root_is_sent_to_the_service(systemd, profile, unit):
    await systemd.ctl("start", unit)
    status, said = await systemd.run("/usr/local/bin/vpnpf", "run", profile)
    assert status == 69, said
    assert "systemctl start vpnpf@PROFILE" in said


async def test_up_starts_the_unit_and_down_ends_it_for_good(systemd, profile, unit):
    status, said = await systemd.run("/usr/local/bin/vpnpf", "up", profile)
    assert status == 0, said
    assert f"journalctl -u vpnpf@{profile}" in said
    assert f"{profile} is READY: torrent" in said
    assert await systemd.show(unit, "ActiveState") == "active"
    status, said = await systemd.run("/usr/local/bin/vpnpf", "down")
    assert status == 0, said
    await systemd.until(lambda: is_inactive(systemd, unit))
    # Root can read it, the unit's user cannot.
    status, said = await systemd.run("/usr/bin/chmod", "0600", "/etc/vpnpf/config.toml")
    assert status == 0, said
    status, said = await systemd.run("/usr/local/bin/vpnpf", "up", profile)
    assert status == 69, said
    assert "systemd says: it failed" in said
    systemd.put("/etc/vpnpf/config.toml", "[profiles", 0o600)
    status, said = await systemd.run("/usr/local/bin/vpnpf", "up", profile)
    assert status == 78, said
    assert "it is not TOML" in said


async def is_inactive(systemd, unit):
    return await systemd.show(unit, "ActiveState") == "inactive" and await systemd.show(unit, "NRestarts") == "0"
