"""The router at home, asked as any gateway is, by a machine that has no VPN."""

from __future__ import annotations

from typing import ClassVar

from vpnpf.api import Manifest
from vpnpf_providers.gateway import OPTIONS, Gateway


class Router(Gateway):
    """`provider = "router"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="router",
        name="home router",
        summary="the router at home, by PCP, NAT-PMP or UPnP, without a VPN",
        verified="real daemon",
        verified_with="miniupnpd",
        options=OPTIONS,
        max_forwards=16,
        announces=True,
        direct=True,
        help='Switch UPnP, NAT-PMP or PCP on in the settings of your router, and write tunnel = { type = "none" }.',
    )
    hint_refused: ClassVar[str] = "switch UPnP, NAT-PMP or PCP on in the router's settings, or forward the port there"
    hint_silent: ClassVar[str] = (
        "is {} your router, and is UPnP, NAT-PMP or PCP switched on in its settings? "
        "If it has another address, set it as options.gateway"
    )
