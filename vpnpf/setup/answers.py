"""What was answered so far. Each question fills some fields; None is a question that was not asked yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from vpnpf.hidden import without


class Answers(Struct, frozen=True):
    """All that a profile needs. It may hold passwords and tokens, which `repr` does not show."""

    provider: str | None = None
    """Its id."""
    tunnel: str | None = None
    """Type of the tunnel."""
    files: tuple[Path, ...] | None = None
    """The provider's, one a server; empty: the provider makes the configuration, or there is no tunnel."""
    tunnel_user: str | None = None
    """User name at the VPN server; empty: it asks for none."""
    tunnel_secret: str | None = None
    """Its password; empty: it asks for none."""
    region: str | None = None
    """Empty: the nearest, or there are none."""
    options: Mapping[str, object] = {}
    """Of the provider's own options, those that cannot be left out."""
    account_user: str | None = None
    account_secret: str | None = None
    """Of the account at the provider; kept as `vpnpf login` does, not in the configuration."""
    client: str | None = None
    """Which one: the value of a choice; empty: none."""
    client_known: str = ""
    """Name of the client in the configuration that is there already."""
    client_type: str | None = None
    client_url: str | None = None
    client_user: str | None = None
    client_secret: str | None = None
    """Empty: it asks for none."""
    keep: str | None = None
    """Where the passwords go: "file" or "keyring"."""
    policy: str | None = None
    """Mode of the port policy; empty: there is none without a tunnel."""
    name: str | None = None
    """Of the profile."""

    def __repr__(self) -> str:
        return without(self, "options", "tunnel_secret", "account_secret", "client_secret")

    @property
    def has_secret(self) -> bool:
        """Whether there is a password that goes with the configuration."""
        return bool(self.tunnel_secret or self.client_secret)
