"""Events: facts that the engine learns, and wishes of the person."""

from __future__ import annotations

from msgspec import Struct

from vpnpf.model import (
    Connection,
    EpochRule,
    FailureKind,
    FirewallPolicy,
    FirewallReading,
    Lease,
    ListeningSocket,
    ListenSettings,
    PortPolicy,
    ProviderPolicy,
    Stirring,
    Tunnel,
    TunnelHealth,
    TunnelPlan,
    Use,
)


class Tick(Struct, frozen=True):
    """Time went by."""


class StopRequested(Struct, frozen=True):
    """The person or the system wants it to end."""

    force: bool = False
    """Do not give the leases back first."""
    closed: bool = False
    """Another engine follows: what the lock keeps in stays so until that one's rules stand. The newest request counts."""


class PolicyWanted(Struct, frozen=True):
    """The person wants another port policy from now on.

    What was closed because nobody used it is opened again if its entry is another, if the policy no longer closes
    such, or if it is named in `reopen`; the policy in force, wanted once more, opens all of it.
    """

    policy: PortPolicy
    reopen: tuple[str, ...] = ()
    """`Use.what` of what is to be opened again."""


class RenewWanted(Struct, frozen=True):
    """The person wants what is held to be asked for again now, and what waits after a failure to be tried again."""

    forward: str = ""
    """Whose port; empty: of all."""


class NewPortWanted(Struct, frozen=True):
    """The person wants another external port: what is held is given back, and asked for as if nothing had been held."""

    forward: str = ""
    """Whose port; empty: of all."""


class ServerWanted(Struct, frozen=True):
    """The person wants the tunnel to go to another of the profile's servers."""

    server: int | None = None
    """Its number, from 1; None: the next."""


class FirewallApplied(Struct, frozen=True):
    """The answer to ApplyFirewall."""

    generation: int
    policy: FirewallPolicy
    reading: FirewallReading
    key: str = "firewall"


class FirewallRead(Struct, frozen=True):
    """The answer to ReadFirewall."""

    generation: int
    reading: FirewallReading
    key: str = "firewall"


class FirewallRemoved(Struct, frozen=True):
    """The answer to RemoveFirewall."""

    generation: int
    key: str = "firewall"


class TunnelPlanned(Struct, frozen=True):
    """The answer to PlanTunnel."""

    generation: int
    plan: TunnelPlan
    key: str = "tunnel"


class TunnelCameUp(Struct, frozen=True):
    """The answer to StartTunnel."""

    generation: int
    tunnel: Tunnel
    health: TunnelHealth
    key: str = "tunnel"


class TunnelSeen(Struct, frozen=True):
    """The answer to CheckTunnel."""

    generation: int
    health: TunnelHealth
    key: str = "tunnel"


class TunnelRekeyed(Struct, frozen=True):
    """The answer to Rekey: the tunnel shook hands anew."""

    generation: int
    health: TunnelHealth
    tunnel: Tunnel | None = None
    """As in `Rekeyed`."""
    key: str = "tunnel"


class TunnelStirred(Struct, frozen=True):
    """The answer to WatchTunnel."""

    generation: int
    stirring: Stirring
    key: str = "tunnel-watch"


class MtuFitted(Struct, frozen=True):
    """The answer to FitMtu."""

    generation: int
    mtu: int
    """That the device has now."""
    key: str = "mtu"


class FirewallStirred(Struct, frozen=True):
    """The answer to WatchFirewall."""

    generation: int
    key: str = "firewall-watch"


class Announced(Struct, frozen=True):
    """The answer to Listen: the gateway said that it is here."""

    generation: int
    epoch: int
    """Its seconds since start of epoch."""
    at: float
    """When that arrived."""
    rule: EpochRule = EpochRule.NATPMP
    key: str = "announcements"


class ExitSeen(Struct, frozen=True):
    """The answer to CheckExit."""

    generation: int
    address: str
    key: str = "exit"


class TunnelStopped(Struct, frozen=True):
    """The answer to StopTunnel."""

    generation: int
    key: str = "tunnel"


class LeaseGranted(Struct, frozen=True):
    """The answer to Acquire."""

    generation: int
    key: str
    forward: str
    lease: Lease


class LeaseReleased(Struct, frozen=True):
    """The answer to Release."""

    generation: int
    key: str
    forward: str


class ClientSeen(Struct, frozen=True):
    """The answer to SetClient and ReadClient: the settings as read back."""

    generation: int
    key: str
    forward: str
    settings: ListenSettings
    set: bool = False
    """Whether it answers SetClient."""


class SocketsSeen(Struct, frozen=True):
    """The answer to ReadSockets."""

    generation: int
    key: str
    forward: str
    sockets: tuple[ListeningSocket, ...]
    connections: tuple[Connection, ...] | None = None
    """On the same port; None: could not be seen."""


class PortTested(Struct, frozen=True):
    """The answer to CheckPort."""

    generation: int
    key: str
    forward: str
    port: int
    open: bool
    """Whether whoever knocked on it got in."""


class SwitchRead(Struct, frozen=True):
    """The answer to ReadSwitch and SetSwitch: what the provider says that it lets in."""

    generation: int
    policy: ProviderPolicy
    told: ProviderPolicy | None = None
    """What it was set to just before, if it answers SetSwitch."""
    key: str = "switch"


class LeasesSaved(Struct, frozen=True):
    """The answer to SaveLeases."""

    generation: int
    leases: tuple[tuple[str, Lease], ...]
    key: str = "store"


class UsesSaved(Struct, frozen=True):
    """The answer to SaveUses."""

    generation: int
    uses: tuple[Use, ...]
    key: str = "uses"


class WorkFailed(Struct, frozen=True):
    """Any work that did not succeed."""

    generation: int
    key: str
    kind: FailureKind
    doing: str
    cause: str
    hint: str = ""
    retry_after: float | None = None
    silent: bool = False
    """Whether it failed because nothing came back."""
    offline: bool = False
    """Whether that is because this machine has no way out."""
    anywhere: bool = False
    """Whether another server would be no better."""


Answer = (
    FirewallApplied
    | FirewallRead
    | FirewallRemoved
    | TunnelPlanned
    | TunnelCameUp
    | TunnelSeen
    | TunnelRekeyed
    | TunnelStirred
    | MtuFitted
    | FirewallStirred
    | TunnelStopped
    | Announced
    | ExitSeen
    | LeaseGranted
    | LeaseReleased
    | ClientSeen
    | SocketsSeen
    | PortTested
    | SwitchRead
    | LeasesSaved
    | UsesSaved
    | WorkFailed
)
Wanted = PolicyWanted | RenewWanted | NewPortWanted | ServerWanted
"""Wishes of the person for a profile that goes on."""
Event = Tick | StopRequested | Wanted | Answer
