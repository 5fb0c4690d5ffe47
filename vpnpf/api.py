"""The whole plug-in surface: all that a provider, torrent client or tunnel back end may import.

A name that is here stays; what is not here may change at any time.
"""

from vpnpf.errors import (
    Failure,
    LeaseLost,
    Misconfigured,
    NoAnswer,
    Offline,
    OtherVersion,
    PermissionDenied,
    Refused,
    Transient,
    Unavailable,
    Unsupported,
    WishRefused,
)
from vpnpf.interfaces import (
    ClientOptions,
    Http,
    HttpResponse,
    Igd,
    IgdMapping,
    Manifest,
    Option,
    Outside,
    Provider,
    ProviderIO,
    TorrentClient,
    TunnelBackend,
    TunnelOptions,
)
from vpnpf.model import (
    BOTH,
    Endpoint,
    EpochRule,
    ForwardSpec,
    Lease,
    ListenSettings,
    MappingRequest,
    Protocol,
    Tunnel,
    TunnelHealth,
    TunnelPlan,
)
from vpnpf.protocol.announcement import Announcement
from vpnpf.protocol.epoch import Epoch, natpmp_lost, pcp_lost
from vpnpf.protocol.exchange import Exchange, Schedule
from vpnpf.protocol.natpmp import RECOMMENDED_LIFETIME, MappingAnswer
from vpnpf.protocol.natpmp_gateway import NatPmpGateway
from vpnpf.protocol.pcp_gateway import PcpGateway, PcpMapping

__all__ = [
    "BOTH",
    "RECOMMENDED_LIFETIME",
    "Announcement",
    "ClientOptions",
    "Endpoint",
    "Epoch",
    "EpochRule",
    "Exchange",
    "Failure",
    "ForwardSpec",
    "Http",
    "HttpResponse",
    "Igd",
    "IgdMapping",
    "Lease",
    "LeaseLost",
    "ListenSettings",
    "Manifest",
    "MappingAnswer",
    "MappingRequest",
    "Misconfigured",
    "NatPmpGateway",
    "NoAnswer",
    "Offline",
    "Option",
    "OtherVersion",
    "Outside",
    "PcpGateway",
    "PcpMapping",
    "PermissionDenied",
    "Protocol",
    "Provider",
    "ProviderIO",
    "Refused",
    "Schedule",
    "TorrentClient",
    "Transient",
    "Tunnel",
    "TunnelBackend",
    "TunnelHealth",
    "TunnelOptions",
    "TunnelPlan",
    "Unavailable",
    "Unsupported",
    "WishRefused",
    "natpmp_lost",
    "pcp_lost",
]
