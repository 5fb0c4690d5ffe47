"""What the engine expects of its plug-ins and adapters.

Plug-ins (providers, torrent clients, tunnel back ends) own no timers and no files and never sleep;
they get an `io` object, return values, and raise one of the few kinds of `errors.Failure`.
"""

from vpnpf.interfaces.account import Account, AccountIO, Configuration, Credentials, Offer, OutsideIO, Region
from vpnpf.interfaces.client import ClientOptions, PortTesting, TorrentClient
from vpnpf.interfaces.engine import Clock, ExitCheck, Firewall, Lan, Sockets, Store
from vpnpf.interfaces.http import ANSWER_LIMIT, Http, HttpResponse
from vpnpf.interfaces.plugin import FileFacts, Manifest, Objection, Option, Verdict, Verified
from vpnpf.interfaces.provider import Announcing, Igd, IgdMapping, LoggingIn, Provider, ProviderIO, Supplying, Switching
from vpnpf.interfaces.tunnel import Outside, TunnelBackend, TunnelOptions, TunnelSupply

__all__ = [
    "ANSWER_LIMIT",
    "Account",
    "AccountIO",
    "Announcing",
    "ClientOptions",
    "Clock",
    "Configuration",
    "Credentials",
    "ExitCheck",
    "FileFacts",
    "Firewall",
    "Http",
    "HttpResponse",
    "Igd",
    "IgdMapping",
    "Lan",
    "LoggingIn",
    "Manifest",
    "Objection",
    "Offer",
    "Option",
    "Outside",
    "OutsideIO",
    "PortTesting",
    "Provider",
    "ProviderIO",
    "Region",
    "Sockets",
    "Store",
    "Supplying",
    "Switching",
    "TorrentClient",
    "TunnelBackend",
    "TunnelOptions",
    "TunnelSupply",
    "Verdict",
    "Verified",
]
