"""The whole plug-in surface: all that a provider, torrent client or tunnel back end may import.

A name that is here stays; what is not here may change at any time.
"""

from vpnpf.errors import (
    Failure,
    LeaseLost,
    Misconfigured,
    NoAnswer,
    PermissionDenied,
    Refused,
    Transient,
    Unavailable,
    Unsupported,
)
from vpnpf.interfaces import (
    ClientOptions,
    Http,
    HttpResponse,
    Igd,
    IgdMapping,
    Manifest,
    Option,
    Provider,
    ProviderIO,
    TorrentClient,
    TunnelBackend,
    TunnelOptions,
)
from vpnpf.model import (
    BOTH,
    Endpoint,
    ForwardSpec,
    Lease,
    ListenSettings,
    MappingRequest,
    Protocol,
    Tunnel,
    TunnelHealth,
    TunnelPlan,
)
from vpnpf.protocol.exchange import Exchange, Schedule
from vpnpf.protocol.natpmp import RECOMMENDED_LIFETIME, MappingAnswer
from vpnpf.protocol.natpmp_gateway import NatPmpGateway

__all__ = [
    "BOTH",
    "RECOMMENDED_LIFETIME",
    "ClientOptions",
    "Endpoint",
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
    "Option",
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
]
