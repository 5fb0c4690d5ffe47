"""Providers that people look for, and that forward no ports any more, or never did: they are told so, and since when.

Source: mullvad.net/blog (2023-05-29), ivpn.net/blog (2023-06-29), support.surfshark.com, support.nordvpn.com.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vpnpf.api import Lease, Manifest, MappingRequest, ProviderIO, Tunnel, Unsupported


def _manifest(id_: str, name: str, summary: str, ended: str, domains: tuple[str, ...]) -> Manifest:
    return Manifest(id=id_, name=name, summary=summary, verified="not needed", ended=ended, domains=domains)


class Mullvad:
    """`provider = "mullvad"`."""

    manifest: ClassVar[Manifest] = _manifest(
        "mullvad",
        "Mullvad",
        "no ports since 2023",
        "Mullvad ended port forwarding on 2023-07-01, because of abuse",
        ("mullvad.net",),
    )

    def __init__(self, options: Mapping[str, object]) -> None:
        del options

    async def acquire(self, io: ProviderIO, tunnel: Tunnel, request: MappingRequest) -> Lease:
        """Say that there is none. Raises Unsupported."""
        del io, tunnel, request
        hint = "choose another provider: `vpnpf providers` lists them"
        raise Unsupported(f"asking {self.manifest.name} for a port", self.manifest.ended, hint)

    async def release(self, io: ProviderIO, tunnel: Tunnel, lease: Lease) -> None:
        """Nothing: there was no lease."""


class Ivpn(Mullvad):
    """`provider = "ivpn"`."""

    manifest: ClassVar[Manifest] = _manifest(
        "ivpn", "IVPN", "no ports since 2023", "IVPN ended port forwarding on 2023-09-30", ("ivpn.net",)
    )


class Surfshark(Mullvad):
    """`provider = "surfshark"`."""

    manifest: ClassVar[Manifest] = _manifest(
        "surfshark",
        "Surfshark",
        "no ports",
        "Surfshark forwards no ports: as of 2026 it says that it blocks them",
        ("surfshark.com",),
    )


class NordVpn(Mullvad):
    """`provider = "nordvpn"`."""

    manifest: ClassVar[Manifest] = _manifest(
        "nordvpn",
        "NordVPN",
        "no ports but on a Dedicated Server",
        "NordVPN forwards no ports on its standard servers, nor to a Dedicated IP; since 2026 it does on a Dedicated Server, "
        'which is provider = "nordvpn-dedicated"',
        ("nordvpn.com",),
    )
