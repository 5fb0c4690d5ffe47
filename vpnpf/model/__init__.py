"""The frozen values that everything else speaks in.

Times are seconds on CLOCK_BOOTTIME (they go on during suspend and never jump); only what is shown to
people is turned into wall-clock time, at the rim. Addresses are strings in their canonical form, as
`ipaddress` prints them. Ports are integers from 1 to 65535.
"""

from vpnpf.model.client import Connection, ListeningSocket, ListenSettings
from vpnpf.model.firewall import FirewallPolicy, FirewallReading, FirewallStage, ForwardRule, Hits, Use
from vpnpf.model.kinds import BOTH, EpochRule, FailureKind, Phase, Protocol, Remedy, Wish
from vpnpf.model.lease import Lease, MappingRequest
from vpnpf.model.state import PEERS, PROOF_NAMES, Entry, Forward, Peer, Problem, Proof, Proofs, Server, State
from vpnpf.model.tunnel import Endpoint, LanPrefix, Rekeyed, Stirring, Tunnel, TunnelHealth, TunnelPlan
from vpnpf.model.wanted import ForwardSpec, LockMode, Opening, PolicyMode, PortPolicy, ProfileSpec, ProviderPolicy

__all__ = [
    "BOTH",
    "PEERS",
    "PROOF_NAMES",
    "Connection",
    "Endpoint",
    "Entry",
    "EpochRule",
    "FailureKind",
    "FirewallPolicy",
    "FirewallReading",
    "FirewallStage",
    "Forward",
    "ForwardRule",
    "ForwardSpec",
    "Hits",
    "LanPrefix",
    "Lease",
    "ListenSettings",
    "ListeningSocket",
    "LockMode",
    "MappingRequest",
    "Opening",
    "Peer",
    "Phase",
    "PolicyMode",
    "PortPolicy",
    "Problem",
    "ProfileSpec",
    "Proof",
    "Proofs",
    "Protocol",
    "ProviderPolicy",
    "Rekeyed",
    "Remedy",
    "Server",
    "State",
    "Stirring",
    "Tunnel",
    "TunnelHealth",
    "TunnelPlan",
    "Use",
    "Wish",
]
