"""What a configuration comes to: frozen values that say where secrets are, and never hold them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

from vpnpf.errors import UsageError
from vpnpf.hidden import without
from vpnpf.model import Endpoint, ProfileSpec
from vpnpf.openings import Timed
from vpnpf.plugins import nearest
from vpnpf.secrets import Source


class ClientSettings(Struct, frozen=True):
    """A torrent client as it was configured."""

    name: str
    type: str
    url: str
    username: str = ""
    password: Source | None = None


class TunnelSettings(Struct, frozen=True):
    """A tunnel as it was configured."""

    type: str
    configs: tuple[Path, ...] = ()
    """The provider's files, absolute; one a server."""
    interface: str = ""
    """Device of somebody else's making that is adopted."""
    gateway: str = ""
    """Address in the tunnel that the provider's gateway answers on; empty: as the tunnel says."""
    username: str = ""
    password: Source | None = None
    namespace: bool = False
    """Whether the tunnel has a network namespace of its own."""
    publish: tuple[Endpoint, ...] = ()
    """Where to listen outside for TCP that goes to the same port in there."""


class ProfileSettings(Struct, frozen=True):
    """A profile with all that the plug-ins get."""

    spec: ProfileSpec
    tunnel: TunnelSettings
    options: Mapping[str, object] = field(default_factory=dict)
    """The provider's own."""
    clients: Mapping[str, ClientSettings] = field(default_factory=dict)
    """By forward."""
    account: Source | None = None
    """Where user name and password of the account at the provider are, on two lines; None: where `vpnpf login` put them."""
    exit_check: str | None = None
    """URL that answers with the address it sees, or None."""
    timed: tuple[Timed, ...] = ()
    """Entries of the allow-list whose end counts from when they are first put in force. In `spec` it counts from when
    the file was read, so a policy is put in force by `openings.settle`, with the ends that were kept."""

    def __repr__(self) -> str:
        # Some providers have a token among their options.
        return without(self, "options")


class Config(Struct, frozen=True):
    """A whole configuration."""

    path: Path
    profiles: Mapping[str, ProfileSettings]
    clients: Mapping[str, ClientSettings] = field(default_factory=dict)
    """By name, also those that no profile has."""
    group: str = ""
    """Whose members may watch the profiles; empty: nobody's. Whether there is such a group is seen when it is needed."""

    def profile(self, name: str | None) -> ProfileSettings:
        """The profile of this name, or the only one. Raises UsageError."""
        known = tuple(self.profiles)
        if name is None:
            if len(known) == 1:
                return self.profiles[known[0]]
            raise UsageError("choosing a profile", f"{self.path} has several", f"name one of: {', '.join(known)}")
        if name not in self.profiles:
            raise UsageError("choosing a profile", f'{self.path} has no profile "{name}"', nearest(name, known))
        return self.profiles[name]
