"""The provider's files on this machine: where people have them, read by our own parsers, never run.

Bounded in depth, number, size and time: a home directory may hold anything. Links are not followed. A directory or file that
cannot be read is passed over.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from vpnpf.errors import ConfigError, Mistake
from vpnpf.interfaces import FileFacts, Manifest, Verdict
from vpnpf.printable import printable
from vpnpf.protocol import openvpn_config, wireguard_config
from vpnpf.setup.found import TunnelFile
from vpnpf.tunnels.config_file import read_bytes

SUFFIXES = {".conf": "wireguard", ".ovpn": "openvpn"}
MOST_FILES = 64
"""That are read."""
_MOST_ENTRIES = 4000
"""Entries of directories that are looked at, all together."""
_LARGEST = 256 * 1024
"""Bytes; a file with certificates in it has a few thousand."""
_SECONDS = 2.0
_LONGEST = 200
"""Characters that are shown of what a file says."""
_SECTIONS = re.compile(rb"^[ \t]*\[(interface|peer)\]", re.IGNORECASE | re.MULTILINE)
_REMOTE = re.compile(rb"^[ \t]*(remote[ \t]|client\b)", re.MULTILINE)


def places(home: Path | None, here: Path | None) -> tuple[tuple[Path, int], ...]:
    """Directories, and how many levels below each are looked into."""
    found = [(Path("/etc/vpnpf"), 1), (Path("/etc/wireguard"), 0), (Path("/etc/openvpn/client"), 0)]
    if home is not None:
        found = [(home / "Downloads", 1), (home / ".config" / "vpnpf", 1), (home, 0), *found]
    return tuple(dict.fromkeys([*found, *([(here, 0)] if here else [])]))


def find(where: Iterable[tuple[Path, int]], providers: tuple[Manifest, ...]) -> tuple[tuple[TunnelFile, ...], int]:
    """The configurations there, the newest first, and how many files were not looked at."""
    until = time.monotonic() + _SECONDS
    named: dict[tuple[int, int], tuple[float, Path]] = {}
    for path, status in _files(where, until):
        named.setdefault((status.st_dev, status.st_ino), (status.st_mtime, path))
    newest = sorted(named.values(), key=lambda each: (-each[0], each[1]))
    found: list[TunnelFile] = []
    for number, (_, path) in enumerate(newest):
        if number >= MOST_FILES or time.monotonic() > until:
            return tuple(found), len(newest) - number
        file = look_at(path, providers)
        if file is not None:
            found.append(file)
    return tuple(found), 0


def _files(where: Iterable[tuple[Path, int]], until: float) -> Iterator[tuple[Path, os.stat_result]]:
    left = _MOST_ENTRIES
    waiting = list(where)
    while waiting:
        directory, levels = waiting.pop(0)
        try:
            entries = os.scandir(directory)
        except OSError:
            continue
        with entries:
            for entry in entries:
                left -= 1
                if left < 0 or time.monotonic() > until:
                    return
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if levels and not entry.name.startswith("."):
                            waiting.append((Path(entry.path), levels - 1))
                        continue
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - thousands of them
                if suffix in SUFFIXES and stat.S_ISREG(status.st_mode) and 0 < status.st_size <= _LARGEST:
                    yield Path(entry.path), status


def look_at(path: Path, providers: tuple[Manifest, ...], *, named: bool = False) -> TunnelFile | None:
    """What a file is. None: no configuration of a tunnel, unless the person `named` it: then it says why."""
    try:
        data = read_bytes(str(path))
        changed = path.stat().st_mtime
    except (ConfigError, OSError) as error:
        first = error.mistakes[0] if isinstance(error, ConfigError) else Mistake(str(path), str(error.strerror))
        return TunnelFile(path, "wireguard", mistake=_shown(first.what), hint=first.hint) if named else None
    kind = _kind(path, data)
    if kind is None:
        if not named:
            return None
        what = "it is neither a WireGuard nor an OpenVPN configuration"
        return TunnelFile(path, "wireguard", mistake=what, hint="download it from your provider")
    try:
        facts, endpoint, asks = _facts(kind, data)
    except ConfigError as error:
        first = error.mistakes[0]
        line = re.search(r":(\d+)$", first.where)
        what = f"line {line[1]}: {first.what}" if line else first.what
        return TunnelFile(path, kind, mistake=_shown(what), hint=_shown(first.hint), changed=changed)
    owner, no_ports, hint = _judged(facts, providers)
    return TunnelFile(path, kind, _shown(endpoint), owner, no_ports, "", hint, asks, changed)


def _kind(path: Path, data: bytes) -> str | None:
    if len({found.lower() for found in _SECTIONS.findall(data)}) > 1:
        return "wireguard"
    openvpn = SUFFIXES.get(path.suffix.lower()) == "openvpn" or b"<ca>" in data
    return "openvpn" if openvpn and _REMOTE.search(data) else None


def _facts(kind: str, data: bytes) -> tuple[FileFacts, str, bool]:
    """What it says, its endpoint in words, and whether it asks for a password. Raises ConfigError."""
    if kind == "openvpn":
        opened = openvpn_config.parse(data, "")
        first = opened.remotes[0]
        facts = FileFacts(kind, first.host, opened.notes)
        return facts, f"{first.host}:{first.port}/{first.protocol}", opened.needs_password
    config = wireguard_config.parse(data.decode(errors="replace"), "")
    host = f"[{config.host}]" if ":" in config.host else config.host
    facts = FileFacts(kind, config.host, config.notes, config.addresses, config.dns)
    return facts, f"{host}:{config.port}", False


def _judged(facts: FileFacts, providers: tuple[Manifest, ...]) -> tuple[str, str, str]:
    """Whose it is, why no port can be had with it, and the next step."""
    host = facts.host.rstrip(".").lower()
    for each in sorted(providers, key=lambda one: bool(one.ended)):
        verdict = _verdict(each, facts)
        if verdict.mine or any(host == domain or host.endswith(f".{domain}") for domain in each.domains):
            if each.ended:
                return each.id, each.ended.rstrip("."), "choose another provider: `vpnpf providers` lists them"
            return each.id, verdict.no_ports, verdict.hint
    return "", "", ""


def _verdict(provider: Manifest, facts: FileFacts) -> Verdict:
    try:
        return provider.judge(facts)
    except Exception:  # noqa: BLE001 - a plug-in's own code, given whatever somebody wrote
        return Verdict()


def _shown(text: str) -> str:
    return printable(text, _LONGEST)
