"""WireGuard with real packets."""

from __future__ import annotations

import pytest

from tests.contract.tunnels import TunnelSuite
from vpnpf.tunnels.wireguard import WireGuard

pytestmark = pytest.mark.system


class TestWireGuard(TunnelSuite):
    backend = WireGuard
    patience = "vpnpf.tunnels.wireguard:PATIENCE"

    def write_config(self, provider, directory):
        return provider.client_config(directory / "proton.conf")
