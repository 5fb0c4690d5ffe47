"""All that is looked at before the first question."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
from functools import partial
from pathlib import Path

from vpnpf import keyrings, plugins
from vpnpf.config import load
from vpnpf.config_checker import missing
from vpnpf.errors import Unavailable
from vpnpf.interfaces import Manifest
from vpnpf.plugins import Group
from vpnpf.secret_places import account_file
from vpnpf.setup import torrent_clients, tunnel_files
from vpnpf.setup.bounded import within
from vpnpf.setup.found import Found, Standing, TunnelFile

FILE = "config.toml"
SYSTEM = Path("/etc/vpnpf")


def directory() -> Path:
    """Where the configuration goes: /etc/vpnpf as root, which `sudo vpnpf` and the service read; else ~/.config/vpnpf."""
    if os.geteuid() == 0:
        return SYSTEM
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home, "vpnpf")


def persons_home() -> Path | None:
    """The home of who sits there: under sudo, of who called it (sudo(8): SUDO_UID)."""
    caller = os.environ.get("SUDO_UID", "")
    with contextlib.suppress(KeyError, ValueError, OverflowError, RuntimeError):
        if os.geteuid() == 0 and caller.isascii() and caller.isdigit():
            return Path(pwd.getpwuid(int(caller)).pw_dir)
        return Path.home()
    return None


async def look(into: Path | None = None, home: Path | None = None) -> Found:
    """Look at this machine; `into` is where the configuration goes, if it is not the usual place. It takes a few seconds.

    Raises ConfigError if there is a configuration with mistakes: nothing can be added to it before they are mended.
    """
    target = into or directory()
    home = home or persons_home()
    providers, types = _manifests(Group.PROVIDERS), _manifests(Group.CLIENTS)
    standing = read_standing(target / FILE)
    where = tunnel_files.places(home, _here())
    nothing: tuple[tuple[TunnelFile, ...], int] = ((), 0)
    (files, left_out), clients = await asyncio.gather(
        # In a thread that nobody waits for: a file system of the network or of a person may never answer.
        within(partial(tunnel_files.find, where, providers), nothing),
        torrent_clients.find(home, [each.id for each in types]),
    )
    root = os.geteuid() == 0
    return Found(
        providers=providers,
        client_types=types,
        directory=target,
        files=files,
        clients=clients,
        standing=standing,
        root=root,
        keyring=not root and keyrings.session(),
        logged_in=frozenset(each.id for each in providers if each.account and _kept(each.id)),
        left_out=left_out,
    )


def read_standing(path: Path) -> Standing | None:
    """What is configured already. Raises ConfigError."""
    if missing(path):
        return None
    config = load(path, ended=True)
    return Standing(path, tuple(config.profiles), {name: each.url for name, each in config.clients.items()})


def name_file(found: Found, text: str) -> tuple[Found, Path]:
    """What is known, with a file that the person named, and its whole path. Never raises: the file says what is wrong with it."""
    path = Path(text)
    with contextlib.suppress(RuntimeError):  # "~name" of somebody who is not there
        home = persons_home()
        path = home / text[2:] if text.startswith("~/") and home else path.expanduser()
    path = path.absolute()
    if found.file(path) is not None:
        return found, path
    file = tunnel_files.look_at(path, found.providers, named=True)
    assert file is not None  # it was named
    return found.with_file(file), path


def _here() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was removed
        return None


def _kept(provider: str) -> bool:
    try:
        return account_file(provider).exists()
    except OSError:
        return False


def _manifests(group: Group) -> tuple[Manifest, ...]:
    """Of all plug-ins that can be loaded."""
    found = []
    for name in plugins.names(group):
        with contextlib.suppress(Unavailable):
            found.append(plugins.manifest(group, name))
    return tuple(found)
