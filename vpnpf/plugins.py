"""Plug-ins by entry points: names without importing anything, and exactly the one that is asked for.

Ours register like anybody's, in the groups `vpnpf.providers`, `vpnpf.clients` and `vpnpf.tunnels`.
"""

from __future__ import annotations

import difflib
import sys
from enum import StrEnum
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from vpnpf.errors import Unavailable
from vpnpf.interfaces import Manifest, Provider, TorrentClient, TunnelBackend


class Group(StrEnum):
    """The kinds of plug-ins."""

    PROVIDERS = "vpnpf.providers"
    CLIENTS = "vpnpf.clients"
    TUNNELS = "vpnpf.tunnels"


def names(group: Group) -> tuple[str, ...]:
    """All ids of a group, sorted; imports none of them."""
    return tuple(sorted({point.name for point in _points(group)}))


def _points(group: Group) -> tuple[EntryPoint, ...]:
    return tuple(point for point in _registered(tuple(sys.path)) if point.group == group)


@cache
def _registered(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """All entry points of ours on a search path, read once: that takes a look at every package installed."""
    del path
    return tuple(point for group in Group for point in entry_points(group=group))


def nearest(name: str, known: tuple[str, ...]) -> str:
    """A hint for a name that is not known: the nearest one, or all of them."""
    close = difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.7)
    return f'did you mean "{close[0]}"?' if close else "known: " + ", ".join(known)


def provider(name: str) -> type[Provider]:
    """Load a provider. Raises Unavailable if there is none of this name, or it is broken."""
    found: type[Provider] = _load(Group.PROVIDERS, name)
    return found


def client(name: str) -> type[TorrentClient]:
    """Load a torrent client. Raises Unavailable."""
    found: type[TorrentClient] = _load(Group.CLIENTS, name)
    return found


def tunnel(name: str) -> type[TunnelBackend]:
    """Load a tunnel back end. Raises Unavailable."""
    found: type[TunnelBackend] = _load(Group.TUNNELS, name)
    return found


def manifest(group: Group, name: str) -> Manifest:
    """What a plug-in says of itself. Raises Unavailable."""
    loaded = _load(group, name)
    said: Manifest = loaded.manifest
    return said


def _load(group: Group, name: str):  # type: ignore[no-untyped-def] # noqa: ANN202 - whatever somebody registered
    doing = f"loading the plug-in {name} of {group}"
    found = list(dict.fromkeys(point for point in _points(group) if point.name == name))
    if not found:
        raise Unavailable(doing, "there is none of this name", nearest(name, names(group)))
    if len({point.value for point in found}) > 1:
        places = ", ".join(sorted(f"{point.value} ({_package(point)})" for point in found))
        raise Unavailable(doing, f"there are several: {places}", "uninstall all but one of them")
    point = found[0]
    try:
        loaded = point.load()
    except (Exception, SystemExit) as error:
        cause = f"{point.value} cannot be imported: {type(error).__name__}: {error}"
        raise Unavailable(doing, cause, f"install {_package(point)} anew, or remove it") from error
    said = getattr(loaded, "manifest", None)
    if not isinstance(said, Manifest) or said.id != name:
        raise Unavailable(
            doing, f"{point.value} has no manifest with the id {name}", f"tell who wrote {_package(point)}"
        )
    return loaded


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "its package"
