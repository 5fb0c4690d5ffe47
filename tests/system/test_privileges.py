"""vpnpf as a user of its own, with CAP_NET_ADMIN and nothing else, as deploy/systemd/vpnpf@.service runs it."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from mock_provider.capture import leak
from mock_provider.product import Product, traces, unique_profile, write_config
from mock_provider.qbittorrent import QBittorrent
from mock_provider.topology import EXIT

pytestmark = pytest.mark.system

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
    script = " && ".join(["mount --make-rprivate /", *lines, 'exec "$@"'])
    return ("unshare", "--mount", "sh", "-c", script, "sh")


SOCKETS = f"mount -t tmpfs -o mode=0700,uid={USER},gid={USER} tmpfs /run/wireguard"
"""What RuntimeDirectory=wireguard does, for this program alone."""
TUN = "mount -t tmpfs tmpfs /mnt && mknod -m 0666 /mnt/tun c 10 200 && mount --bind /mnt/tun /dev/net/tun"
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


def product(provider, place, config, profile, *lines, **options):
    for name in ("state", "runtime"):
        (place / name).mkdir(mode=0o700, exist_ok=True)
    lend(place)
    wrap = (*mounted(*lines), *as_user(USER, "net_admin"))
    return Product(provider.lab.client, place, config, profile, wrap=wrap, **options)


def capabilities(pid):
    status = Path("/proc", str(pid), "status").read_text().splitlines()
    return {line[:6]: int(line.split()[1], 16) for line in status if line.startswith("Cap")}


async def test_the_main_job_without_root(provider, client, profile, config, place):
    before = await traces(provider.lab.client)
    os.chown(provider.lab.client.resolver, USER, USER)
    async with (
        provider.lab.capture(leak()) as leaked,
        product(provider, place, config, profile, SOCKETS, TUN) as running,
    ):
        await running.until(lambda state: state["phase"] == "ready")
        assert set(capabilities(running.pid).values()) == {NET_ADMIN}
        assert Path("/proc", str(running.pid)).stat().st_uid == USER
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
