"""What gateways tell everybody on their link when they restart or change their address, in both protocols.

Sent to 224.0.0.1:5350 (RFC 6886 section 3.2.1, RFC 6887 section 14.1.1). Whoever receives it checks that it came
from the gateway's address and port 5351, and holds its epoch against the last one (`epoch`).
"""

from __future__ import annotations

from msgspec import Struct

from vpnpf.model import EpochRule
from vpnpf.protocol import natpmp, pcp

GROUP = "224.0.0.1"
"""All systems on this link."""
PORT = 5350
"""UDP port that clients listen on; shared by all programs of a machine."""


class Announcement(Struct, frozen=True):
    """A gateway that says: I am here."""

    version: int
    """0: NAT-PMP, 2: PCP."""
    epoch: int
    """Seconds since the gateway's start of epoch."""
    address: str | None = None
    """Its external address; None: it has none now, or does not say, as in PCP."""

    @property
    def rule(self) -> EpochRule:
        """How its epoch tells that it lost its mappings."""
        return EpochRule.PCP if self.version == pcp.VERSION else EpochRule.NATPMP


def parse(data: bytes) -> Announcement | None:
    """Read a datagram from the group; None: it is no announcement."""
    match natpmp.parse_address(data):
        case natpmp.AddressAnswer(epoch, address):
            return Announcement(0, epoch, address)
    match pcp.parse_announce(data):
        case pcp.AnnounceAnswer(epoch):
            return Announcement(pcp.VERSION, epoch)
    return None
