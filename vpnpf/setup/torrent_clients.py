"""Torrent clients on this machine: those that run, told by process and listening port, and those that have settings here.

A port is asked once, as a stranger would, whether it is a client's web interface and lets anybody in. No password is ever guessed.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from vpnpf.core.reach import Listener
from vpnpf.errors import VpnpfError
from vpnpf.io.listeners import listening
from vpnpf.io.web_interface import lets_in
from vpnpf.model import Protocol
from vpnpf.setup.bounded import within
from vpnpf.setup.found import FoundClient
from vpnpf.setup.torrent_settings import WebSettings, read

_PROGRAMS = {
    "qbittorrent": "qbittorrent",
    "qbittorrent-nox": "qbittorrent",
    "transmission-daemon": "transmission",
    "transmission-gtk": "transmission",
    "transmission-qt": "transmission",
}
_SETTINGS = {
    "qbittorrent": (
        ".config/qBittorrent/qBittorrent.conf",
        ".var/app/org.qbittorrent.qBittorrent/config/qBittorrent/qBittorrent.conf",
        "qBittorrent/config/qBittorrent.conf",
    ),
    "transmission": (
        ".config/transmission-daemon/settings.json",
        ".config/transmission/settings.json",
        "info/settings.json",
    ),
}
"""Below a home directory; the last of each is that of a service with a directory of its own."""
_SERVICES = (
    ("qbittorrent", Path("/var/lib/qbittorrent/qBittorrent/config/qBittorrent.conf")),
    ("transmission", Path("/etc/transmission-daemon/settings.json")),
    ("transmission", Path("/var/lib/transmission-daemon/info/settings.json")),
)
_LARGEST = 256 * 1024
"""Bytes of a settings file."""
_MOST_ASKED = 12
"""Ports that are asked, all together."""
_SECONDS = 5.0
"""For all of it."""


async def find(home: Path | None, types: Iterable[str]) -> tuple[FoundClient, ...]:
    """Those of these types, the running ones first. Never raises for what cannot be looked at."""
    known = frozenset(types)
    try:
        async with asyncio.timeout(_SECONDS):
            sockets = (await listening()).listeners
    except (VpnpfError, TimeoutError):
        sockets = ()
    running = [each for each in sockets if _PROGRAMS.get(each.program) in known and each.protocol is Protocol.TCP]
    homes = {path for path in (home, *map(_home_of, {each.user for each in running})) if path is not None}
    settings: list[tuple[str, WebSettings]] = await within(lambda: list(_settings(sorted(homes), known)), [])
    asked = await _asked(_candidates(running, settings))
    found = {each.url: each for each in asked}
    alive = {each.type for each in asked}
    for kind, web in settings:
        # One that runs elsewhere than its settings say is the one that runs.
        if web.enabled and kind not in alive and web.url not in found:
            found[web.url] = FoundClient(kind, web.url, web.username)
    return tuple(sorted(found.values(), key=lambda each: (not each.runs, each.type, each.url)))


def _candidates(running: list[Listener], settings: list[tuple[str, WebSettings]]) -> Iterator[FoundClient]:
    """What may be a web interface: each port that a client's process listens on, first those that settings name."""
    named = {(kind, web.port): web for kind, web in settings}
    ports = {(_PROGRAMS[each.program], each.port) for each in running if _here(each.address)}
    for kind, port in sorted(ports, key=lambda each: (each not in named, each))[:_MOST_ASKED]:
        web = named.get((kind, port))
        others = [one.username for (type_, _), one in named.items() if type_ == kind]
        user = web.username if web else others[0] if others else ""
        yield FoundClient(kind, (web or WebSettings(port)).url, user)
        # What settings and process say need not fit: encryption may be on or off.
        if web is None:
            yield FoundClient(kind, WebSettings(port, https=True).url, user)


async def _asked(candidates: Iterable[FoundClient]) -> list[FoundClient]:
    """Those that answered as a client does."""
    all_ = list(candidates)

    async def ask(one: FoundClient) -> FoundClient | None:
        free = await lets_in(one.type, [one.url])
        return None if free is None else FoundClient(one.type, one.url, one.username, not free, runs=True)

    return [each for each in await asyncio.gather(*map(ask, all_)) if each is not None]


def _here(address: str) -> bool:
    return address in {"0.0.0.0", "::", "127.0.0.1", "::ffff:127.0.0.1"}  # noqa: S104 - compared, not bound


def _home_of(user: str) -> Path | None:
    try:
        return Path(pwd.getpwnam(user).pw_dir)
    except (KeyError, ValueError):
        return None


def _settings(homes: Iterable[Path], known: frozenset[str]) -> Iterator[tuple[str, WebSettings]]:
    below = [(kind, home / name) for home in homes for kind, names in _SETTINGS.items() for name in names]
    for kind, path in (*below, *_SERVICES):
        text = _text(path) if kind in known else None
        web = read(kind, text) if text else None
        if web is not None:
            yield kind, web


def _text(path: Path) -> str | None:
    """A settings file; None: there is none, or it is not to be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return file.read(_LARGEST).decode(errors="replace")
    except OSError:
        return None
