"""vpnpf as a user of its own, with CAP_NET_ADMIN and nothing else, as deploy/systemd/vpnpf@.service runs it."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from mock_provider.capture import leak
from mock_provider.product import Product, traces, unique_profile, write_config
from mock_provider.qbittorrent import QBittorrent
from mock_provider.topology import EXIT

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
USER = 64901
"""Nobody has this number: what root may do by its own is not lent by accident."""
OTHER = 64902
NET_ADMIN = 1 << 12


def as_user(user, *capabilities):
    """Words before a program: another user, with these capabilities at most."""
    these = "".join(f",+{each}" for each in capabilities)
    return (
        "setpriv",
        f"--reuid={user}",
        f"--regid={user}",
        "--clear-groups",
        f"--inh-caps=-all{these}",
        *((f"--ambient-caps=-all{these}",) if these else ()),
        f"--bounding-set=-all{these}",
        "--no-new-privs",
    )


def mounted(*lines):
    """Words before a program: a view of the file system of its own, changed by these lines of shell."""
    first = (
        "mount --make-rprivate /",
        "mount -t tmpfs -o mode=0755 tmpfs /mnt",
        *reachable(Path(sys.base_prefix), ROOT),
    )
    return ("unshare", "--mount", "sh", "-c", " && ".join([*first, *lines, 'exec "$@"']), "sh")


def reachable(*paths):
    """Lines that let every user reach these directories, though they are in root's home."""
    barred = {path: [each for each in path.parents if not each.stat().st_mode & 0o001] for path in paths}
    aside = [(f"/mnt/{number}", path) for number, path in enumerate(paths) if barred[path]]
    yield from (f"mkdir {place} && mount --rbind {path} {place}" for place, path in aside)
    yield from {f"mount -t tmpfs -o mode=0755 tmpfs {barred[path][-1]}" for _, path in aside}
    yield from (f"mkdir -p {path} && mount --rbind {place} {path}" for place, path in aside)


SOCKETS = f"mount -t tmpfs -o mode=0700,uid={USER},gid={USER} tmpfs /run/wireguard"
"""What RuntimeDirectory=wireguard does, for this program alone."""
TUN = "mknod -m 0666 /mnt/tun c 10 200 && mount --bind /mnt/tun /dev/net/tun"
"""A TUN device for everybody, as udev makes it."""


@pytest.fixture
def profile():
    return unique_profile()


@pytest.fixture
async def client(provider, tmp_path):
    async with QBittorrent(provider.lab.client, tmp_path / "qbittorrent") as daemon:
        yield daemon


@pytest.fixture
def place():
    """A directory that the user can reach: pytest's own are 0700."""
    directory = Path("/var/tmp", f"vpnpf-{os.getpid()}-{unique_profile()}")
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def config(provider, client, profile, place):
    made = write_config(place, provider, client, profile)
    lend(place)
    return made


def lend(directory):
    for path in (directory, *directory.rglob("*")):
        os.chown(path, USER, USER)


def product(provider, place, config, profile, *lines, capabilities=("net_admin",)):
    for name in ("state", "runtime"):
        (place / name).mkdir(mode=0o700, exist_ok=True)
    lend(place)
    wrap = (*mounted(*lines), *as_user(USER, *capabilities))
    return Product(provider.lab.client, place, config, profile, wrap=wrap)


def held(pid):
    """A process's user and all that is in its five sets of capabilities."""
    status = Path("/proc", str(pid), "status").read_text().splitlines()
    user = next(int(line.split()[1]) for line in status if line.startswith("Uid:"))
    return user, {int(line.split()[1], 16) for line in status if line.startswith("Cap")}


async def test_the_main_job_without_root(provider, client, profile, config, place):
    before = await traces(provider.lab.client)
    os.chown(provider.lab.client.resolver, USER, USER)
    async with (
        provider.lab.capture(leak()) as leaked,
        product(provider, place, config, profile, SOCKETS, TUN) as running,
    ):
        await running.until(lambda state: state["phase"] == "ready")
        assert held(running.pid) == (USER, {NET_ADMIN})
        assert not running.notices("problem"), running.talk
        proofs = running.forward()["proofs"]
        assert all(proofs[name]["ok"] for name in ("tunnel", "lease", "firewall", "client", "listening"))
        port = running.forward()["external_port"]
        assert (await provider.peer.connect_tcp(EXIT, port)).connected
        await running.until(lambda _: running.forward()["proofs"]["reachable"]["ok"])
        assert "written by vpnpf" in provider.lab.client.resolver.read_text()
        assert await running.stop() == 0, running.talk
        assert await leaked.count() == 0
    assert not provider.gateway.mappings
    assert await traces(provider.lab.client) == before


async def test_without_a_dns_line_the_resolver_is_not_touched(provider, profile, place):
    provider.client_config(place / "proton.conf")
    tunnel = place / "proton.conf"
    tunnel.write_text("".join(line for line in tunnel.read_text().splitlines(True) if not line.startswith("DNS")))
    config = bare(place, profile)
    async with product(provider, place, config, profile, SOCKETS, TUN) as running:
        await running.until(lambda state: state["phase"] == "ready")
        assert "written by vpnpf" not in provider.lab.client.resolver.read_text()
        assert await running.stop() == 0, running.talk


def bare(place, profile):
    """A configuration with a forward that has no client."""
    config = place / "config.toml"
    config.write_text(f"""
[profiles.{profile}]
provider = "protonvpn"
tunnel = {{ type = "wireguard", config = "proton.conf" }}
forwards.game = {{ }}
""")
    return config


def loose(host):
    """The reverse path filter of all devices: "1" is strict, "2" loose."""
    with host.inside():
        return Path("/proc/sys/net/ipv4/conf/all/rp_filter").read_text().strip()


async def problem_of(running):
    """The first problem it tells of."""
    await running.until(lambda state: bool(state["problems"]))
    return running.state["problems"][0]


async def test_a_resolver_that_may_not_be_written_is_told_and_nothing_leaks(provider, profile, place):
    provider.client_config(place / "proton.conf")
    config = bare(place, profile)
    os.chown(provider.lab.client.resolver, 0, 0)
    before = await traces(provider.lab.client)
    async with (
        provider.lab.capture(leak()) as leaked,
        product(provider, place, config, profile, SOCKETS, TUN) as running,
    ):
        problem = await problem_of(running)
        assert problem["doing"] == "writing /etc/resolv.conf"
        assert "deploy/systemd/resolver" in problem["hint"]
        assert await running.stop() == 0, running.talk
        assert await leaked.count() == 0
    assert await traces(provider.lab.client) == before


async def test_a_strict_filter_that_may_not_be_loosened_is_told(provider, profile, place):
    provider.client_config(place / "proton.conf")
    config = bare(place, profile)
    os.chown(provider.lab.client.resolver, USER, USER)
    provider.lab.client.sysctl("net.ipv4.conf.all.rp_filter", 1)
    # As under ProtectKernelTunables=yes.
    tunables = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"
    async with product(provider, place, config, profile, SOCKETS, TUN, tunables) as running:
        problem = await problem_of(running)
        assert problem["doing"].startswith("writing /proc/sys/net/ipv4/conf/all/rp_filter")
        assert "sysctl.conf" in problem["hint"]
        assert await running.stop() == 0, running.talk
    assert loose(provider.lab.client) == "1"


async def test_a_strict_filter_is_loosened_by_the_capability_alone(provider, profile, place):
    provider.client_config(place / "proton.conf")
    config = bare(place, profile)
    os.chown(provider.lab.client.resolver, USER, USER)
    provider.lab.client.sysctl("net.ipv4.conf.all.rp_filter", 1)
    before = await traces(provider.lab.client)
    async with product(provider, place, config, profile, SOCKETS, TUN) as running:
        await running.until(lambda state: state["phase"] == "ready")
        assert loose(provider.lab.client) == "2"
        assert await running.stop() == 0, running.talk
    assert await traces(provider.lab.client) == before


CLOSED = "mknod -m 0600 /mnt/tun c 10 200 && mount --bind /mnt/tun /dev/net/tun"
ROOTS = "mount -t tmpfs -o mode=0700 tmpfs /run/wireguard"


@pytest.mark.parametrize(
    ("lines", "said", "hint"),
    [
        ((SOCKETS, CLOSED), "opening /dev/net/tun: this user may not", "chmod 0666 /dev/net/tun"),
        ((ROOTS, TUN), "/var/run/wireguard: this user may not write to it", "RuntimeDirectory=wireguard"),
    ],
)
async def test_what_this_user_lacks_is_said_before_anything_has_changed(provider, profile, place, lines, said, hint):
    provider.client_config(place / "proton.conf")
    config = bare(place, profile)
    before = await traces(provider.lab.client)
    async with product(provider, place, config, profile, *lines) as running:
        assert await running.ended() == 77
        assert said in running.talk
        assert hint in running.talk
    assert await traces(provider.lab.client) == before


async def test_without_the_capability_it_does_not_start(provider, profile, place):
    provider.client_config(place / "proton.conf")
    config = bare(place, profile)
    running = product(provider, place, config, profile, SOCKETS, TUN, capabilities=())
    async with running:
        assert await running.ended() == 77
        assert "CAP_NET_ADMIN" in running.talk


async def test_another_user_is_told_that_the_status_is_not_his(provider, client, profile, config, place):
    os.chown(provider.lab.client.resolver, USER, USER)
    async with product(provider, place, config, profile, SOCKETS, TUN) as running:
        await running.until(lambda state: state["phase"] == "ready")
        asking = (sys.executable, "-m", "vpnpf", "status", profile)
        env = {"RUNTIME_DIRECTORY": str(place / "runtime"), "HOME": "/nonexistent"}
        done = await provider.lab.client.run((*as_user(OTHER), *asking), env=env)
        assert done.status == 77
        assert "do it as root, or as the user that runs vpnpf" in done.stderr
        assert "[control] group" in done.stderr
        done = await provider.lab.client.run((*as_user(USER), *asking), env=env)
        # The file is written once a second at most, so it may not say READY yet.
        assert done.status in {0, 75}, done.stderr
        assert profile in done.stdout
        assert await running.stop() == 0
