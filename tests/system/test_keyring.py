"""A real keyring (gnome-keyring in a D-Bus session of its own), and systemd's own encryption of credentials."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Self

import pytest

from mock_provider.product import Product, unique_profile, write_config
from mock_provider.qbittorrent import QBittorrent
from tests.unit.test_login import PASSWORD, PLUGIN, TYPED, USER

pytestmark = pytest.mark.system

ASK = """
import sys
from vpnpf import keyrings
from vpnpf.errors import Misconfigured
from vpnpf.secret_places import read_account
keyrings.QUIET = float(sys.argv[1])
for _ in range(3):
    try:
        print(repr(read_account("acme")))
    except Misconfigured as error:
        print(f"{error} ({error.hint})")
"""
PROMPTER = "Activating service name='org.gnome.keyring.SystemPrompter'"


class Session:
    """A D-Bus session with gnome-keyring, unlocked or not; an async context manager."""

    def __init__(self, home: Path, *, unlock: bool = True) -> None:
        self.home = home
        names = ("run", "data", "config", "cache")
        self.env = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "STATE_DIRECTORY": str(home / "state"),
            "RUNTIME_DIRECTORY": str(home / "run" / "vpnpf"),
            "PYTHONPATH": str(home / "plugin"),
            "XDG_RUNTIME_DIR": str(home / "run"),
            **{f"XDG_{name.upper()}_HOME": str(home / name) for name in names[1:]},
        }
        for name in names:
            (home / name).mkdir(mode=0o700, exist_ok=True)
        self.said = b""
        """What D-Bus wrote, once it has ended."""
        how = "printf pw | gnome-keyring-daemon --unlock" if unlock else "gnome-keyring-daemon --start"
        self._start = f"{how} --components=secrets >/dev/null 2>&1; echo $DBUS_SESSION_BUS_ADDRESS; exec cat"

    async def __aenter__(self) -> Self:
        self._bus = await asyncio.create_subprocess_exec(
            "dbus-run-session", "--", "sh", "-c", self._start, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=self.env
        )
        assert self._bus.stdout is not None
        self.env["DBUS_SESSION_BUS_ADDRESS"] = (await self._bus.stdout.readline()).decode().strip()
        return self

    async def __aexit__(self, *_error: object) -> None:
        # Its standard input ends, so does cat, and so the session and all that is in it.
        _, self.said = await self._bus.communicate(b"")

    async def run(self, *arguments: str, typed: str = "") -> tuple[int, str, str]:
        """vpnpf, or Python with `-c`."""
        argv = [sys.executable, *(arguments if arguments[0] == "-c" else ("-m", "vpnpf", *arguments))]
        child = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=self.env)
        out, err = await child.communicate(typed.encode())
        assert child.returncode is not None
        assert b"Traceback" not in err
        return child.returncode, out.decode(), err.decode()


@pytest.fixture
def home():
    """A short path: sockets are in it. With a provider that has an account."""
    with tempfile.TemporaryDirectory() as directory:
        info = Path(directory, "plugin", "acme-1.0.dist-info")
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[vpnpf.providers]\nacme = acme_plugin:Acme\n")
        (info.parent / "acme_plugin.py").write_text(PLUGIN)
        yield Path(directory)


def holding(directory, text):
    """Files with a text in them."""
    return [path for path in directory.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def test_login_stores_another_process_reads_and_logout_removes(home):
    async with Session(home) as session:
        status, out, err = await session.run("login", "acme", "--stdin", typed=TYPED)
        assert (status, err) == (0, "")
        assert out == "Acme VPN: logged in; kept in the keyring (vpnpf, account-acme)\n"
        assert (home / "data/keyrings/login.keyring").exists()
        assert holding(home, PASSWORD) == []
        said = (await session.run("-c", ASK, "60"))[1].splitlines()
        assert said == [repr(f"{USER}\n{PASSWORD}")] * 3
    # It is kept over the end of the session.
    async with Session(home) as session:
        assert (await session.run("-c", ASK, "60"))[1].splitlines() == said
        status, out, _ = await session.run("logout", "acme")
        assert "removed from the keyring (vpnpf, account-acme)\n" in out
        said = (await session.run("-c", ASK, "60"))[1]
        assert said.count("nobody has logged in") == 3
        assert "(vpnpf login acme)" in said
        assert "nothing to remove" in (await session.run("logout", "acme"))[1]


async def test_a_locked_keyring_is_said_and_asked_once(home):
    async with Session(home) as session:
        await session.run("login", "acme", "--stdin", typed=TYPED)
    async with Session(home, unlock=False) as session:
        said = (await session.run("-c", ASK, "60"))[1]
        status, _, err = await session.run("login", "acme", "--stdin", typed=TYPED)
        assert status == 78
        assert "it is locked" in err
        assert "vpnpf login acme --store file" in err
    assert said.count("it is locked (unlock the keyring, or keep it in a file: vpnpf login acme --store file)") == 3
    assert session.said.decode().count(PROMPTER) == 2  # one for each process
    # The control: without the pause each call opens a window.
    async with Session(home, unlock=False) as session:
        await session.run("-c", ASK, "0")
    assert session.said.decode().count(PROMPTER) == 3


async def test_a_run_reads_a_clients_password_from_it(provider, home, tmp_path):
    profile = unique_profile()
    async with QBittorrent(provider.lab.client, tmp_path / "qbittorrent") as client, Session(home) as session:
        config = write_config(tmp_path, provider, client, profile)
        (tmp_path / "qb.password").unlink()
        config.write_text(config.read_text().replace('{ file = "qb.password" }', '{ keyring = "torrents" }'))
        command = ("login", "qb", "--stdin", "--config", str(config))
        with provider.lab.client.inside():
            refused = await session.run(*command, typed="wrong\n")
            assert refused[0] == 78
            assert "wrong user name or password" in refused[2]
            status, out, err = await session.run(*command, typed=client.password + "\n")
        assert (status, err) == (0, "")
        assert "the keyring (vpnpf, torrents)" in out
        env = {"DBUS_SESSION_BUS_ADDRESS": session.env["DBUS_SESSION_BUS_ADDRESS"]}
        async with Product(provider.lab.client, tmp_path, config, profile, env=env) as product:
            await product.until(lambda state: state["phase"] == "ready")
            assert product.forward()["proofs"]["client"]["ok"]
            assert await product.stop() == 0
        assert holding(tmp_path / "state", client.password) == []


# -- systemd --------------------------------------------------------------------------------------

CREDENTIAL = """
set -eu
mkdir -p -m 700 "$HOME/host" "$HOME/store" /etc/credstore.encrypted
mount --bind "$HOME/host" /var/lib/systemd
mount --bind "$HOME/store" /etc/credstore.encrypted
{vpnpf} login acme --stdin --store credential
stat -c %a%u /etc/credstore.encrypted/vpnpf-account-acme
cat /etc/credstore.encrypted/vpnpf-account-acme >&2
mkdir -m 700 "$HOME/given"
systemd-creds decrypt --name=vpnpf-account-acme /etc/credstore.encrypted/vpnpf-account-acme "$HOME/given/vpnpf-account-acme"
CREDENTIALS_DIRECTORY="$HOME/given" {python} -c 'from vpnpf.secret_places import read_account; print(repr(read_account("acme")))'
if systemd-creds decrypt --name=another /etc/credstore.encrypted/vpnpf-account-acme - 2>/dev/null; then exit 9; fi
{vpnpf} logout acme
ls /etc/credstore.encrypted
"""


def test_a_credential_is_encrypted_for_this_machine_and_comes_back_whole(home):
    """In a mount namespace of its own: the machine's key and its credentials stay as they are."""
    there = Path("/etc/credstore.encrypted").exists()
    script = CREDENTIAL.format(python=sys.executable, vpnpf=f"{sys.executable} -m vpnpf")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        input=TYPED.encode(),
        capture_output=True,
        env=Session(home).env,
        check=False,
    )
    if not there:
        Path("/etc/credstore.encrypted").rmdir()
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, err
    assert "LoadCredentialEncrypted=vpnpf-account-acme:/etc/credstore.encrypted/vpnpf-account-acme\n" in out
    assert "\n6000\n" in out
    assert f"\n{f'{USER}{chr(10)}{PASSWORD}'!r}\n" in out
    assert PASSWORD not in err
    assert "removed from /etc/credstore.encrypted/vpnpf-account-acme\n" in out
    assert list((home / "store").iterdir()) == []
