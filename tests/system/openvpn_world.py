"""A provider whose servers run OpenVPN, and a back end for it."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mock_provider.openvpn import PASSWORD, USERNAME
from mock_provider.provider import MockProvider
from tests.contract.tunnels import TunnelFixtures
from vpnpf.tunnels.openvpn import OpenVpnTunnel


class Fixtures(TunnelFixtures):
    backend = OpenVpnTunnel
    patience = "vpnpf.tunnels.openvpn:PATIENCE"
    far_side = "openvpn"
    account: ClassVar[dict[str, Any]] = {"username": USERNAME, "password": functools.partial(str, PASSWORD)}
    outlives = False

    @pytest.fixture
    async def provider(self):
        async with MockProvider(tunnel=self.far_side) as made:
            yield made

    def write_config(self, provider, directory):
        return provider.client_config(directory / "proton.ovpn")


def openvpn(host, device):
    """The process ids of the openvpn of a device."""
    found = []
    for pid in host.processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            argv = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
            if argv[0].endswith(b"/openvpn") and device.encode() in argv:
                found.append(pid)
    return found
