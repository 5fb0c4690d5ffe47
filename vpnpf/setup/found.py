"""What is known before the first question: files, torrent clients, plug-ins, and what is configured already. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.interfaces import Manifest


class TunnelFile(Struct, frozen=True):
    """A provider's configuration file, as our own parser reads it."""

    path: Path
    type: str
    """Of the tunnel: "wireguard" or "openvpn"."""
    endpoint: str = ""
    """Server and port, printable."""
    provider: str = ""
    """Id of the provider that it seems to be of; empty: it does not show."""
    no_ports: str = ""
    """Why no port can be had with it, without full stop."""
    mistake: str = ""
    """Why it cannot be used at all."""
    hint: str = ""
    """The next step, where there is one of these two."""
    needs_login: bool = False
    """Whether its server asks for a user name and a password."""
    changed: float = 0.0
    """When it was written last, wall-clock seconds."""

    @property
    def bad(self) -> str:
        """Why it is not to be used; empty: nothing speaks against it."""
        return self.mistake or self.no_ports


class FoundClient(Struct, frozen=True):
    """A torrent client on this machine."""

    type: str
    url: str
    username: str = ""
    """As its own settings have it; empty: not known."""
    asks_login: bool | None = None
    """Whether it lets nobody in without a password; None: it could not be asked."""
    runs: bool = False
    """Whether it answers now."""


class Standing(Struct, frozen=True):
    """A configuration that is there already."""

    path: Path
    profiles: tuple[str, ...] = ()
    clients: Mapping[str, str] = {}
    """URLs by name."""


class Found(Struct, frozen=True):
    """All of it."""

    providers: tuple[Manifest, ...]
    client_types: tuple[Manifest, ...]
    directory: Path
    """Where the configuration goes."""
    files: tuple[TunnelFile, ...] = ()
    """The newest first."""
    clients: tuple[FoundClient, ...] = ()
    """Those that run first."""
    standing: Standing | None = None
    root: bool = False
    keyring: bool = False
    """Whether there is a keyring that who runs vpnpf can read."""
    logged_in: frozenset[str] = frozenset()
    """Providers for which there is a login already."""
    left_out: int = 0
    """Files that were not looked at, since there are too many."""

    def provider(self, id_: str) -> Manifest:
        """The provider of this id. Raises StopIteration if there is none."""
        return next(each for each in self.providers if each.id == id_)

    def client_type(self, id_: str) -> Manifest:
        """The type of client of this id. Raises StopIteration if there is none."""
        return next(each for each in self.client_types if each.id == id_)

    def file(self, path: Path) -> TunnelFile | None:
        """What is known of a file."""
        return next((each for each in self.files if each.path == path), None)

    def with_file(self, file: TunnelFile) -> Found:
        """The same, and a file that the person named."""
        return replace(self, files=(file, *(each for each in self.files if each.path != file.path)))
