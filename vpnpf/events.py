"""What happens and what is to be done: closed unions.

- an *event* is a fact that the engine learns: an answer to a piece of work, a tick, a wish of the person;
- *work* is an effect that the engine asks for; each has a `key`, and of one key at most one runs;
- a *notice* is what observers hear beside the state: the few moments worth a line in a log.

Every answer carries the generation of the work it answers; an answer of an older generation is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from vpnpf.model import (
    FailureKind,
    FirewallPolicy,
    FirewallReading,
    Lease,
    ListeningSocket,
    ListenSettings,
    MappingRequest,
    Phase,
    Problem,
    Tunnel,
    TunnelHealth,
    TunnelPlan,
)

# -- work: effects ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ApplyFirewall:
    """Swap the rule set, read it back."""

    policy: FirewallPolicy
    key: str = "firewall"


@dataclass(frozen=True, slots=True)
class ReadFirewall:
    """Compare the kernel's rule set with the one applied last; read the counters."""

    key: str = "firewall"


@dataclass(frozen=True, slots=True)
class RemoveFirewall:
    """Take our rule set away."""

    key: str = "firewall"


@dataclass(frozen=True, slots=True)
class PlanTunnel:
    """Read the tunnel's configuration anew, resolve its endpoint."""

    key: str = "tunnel"


@dataclass(frozen=True, slots=True)
class StartTunnel:
    """Bring the tunnel up; what is left of an earlier one goes first."""

    plan: TunnelPlan
    key: str = "tunnel"


@dataclass(frozen=True, slots=True)
class CheckTunnel:
    """One look at the tunnel."""

    tunnel: Tunnel
    key: str = "tunnel"


@dataclass(frozen=True, slots=True)
class StopTunnel:
    """Take the tunnel down and restore what it changed."""

    key: str = "tunnel"


@dataclass(frozen=True, slots=True)
class Acquire:
    """Get or renew a lease."""

    forward: str
    tunnel: Tunnel
    request: MappingRequest

    @property
    def key(self) -> str:
        """One conversation with the provider at a time for each forward."""
        return f"lease:{self.forward}"


@dataclass(frozen=True, slots=True)
class Release:
    """Give a lease back."""

    forward: str
    tunnel: Tunnel
    lease: Lease

    @property
    def key(self) -> str:
        """One conversation with the provider at a time for each forward."""
        return f"lease:{self.forward}"


@dataclass(frozen=True, slots=True)
class SetClient:
    """Set the torrent client's listen port, then read it back."""

    forward: str
    wanted: ListenSettings

    @property
    def key(self) -> str:
        """One conversation with a client at a time."""
        return f"client:{self.forward}"


@dataclass(frozen=True, slots=True)
class ReadClient:
    """Read the torrent client's settings back."""

    forward: str

    @property
    def key(self) -> str:
        """One conversation with a client at a time."""
        return f"client:{self.forward}"


@dataclass(frozen=True, slots=True)
class ReadSockets:
    """Look for the sockets that should be open on the listen port."""

    forward: str
    port: int

    @property
    def key(self) -> str:
        """One look at a time for each forward."""
        return f"listening:{self.forward}"


@dataclass(frozen=True, slots=True)
class SaveLeases:
    """Keep for the next start what we hold now."""

    leases: tuple[tuple[str, Lease], ...]
    key: str = "store"


Work = (
    ApplyFirewall
    | ReadFirewall
    | RemoveFirewall
    | PlanTunnel
    | StartTunnel
    | CheckTunnel
    | StopTunnel
    | Acquire
    | Release
    | SetClient
    | ReadClient
    | ReadSockets
    | SaveLeases
)


@dataclass(frozen=True, slots=True)
class Order:
    """A piece of work with its generation."""

    work: Work
    generation: int


# -- events: facts and wishes -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The person or the system wants it to end."""

    force: bool = False
    """Do not give the leases back first."""


@dataclass(frozen=True, slots=True)
class FirewallApplied:
    """The answer to ApplyFirewall."""

    generation: int
    policy: FirewallPolicy
    reading: FirewallReading
    key: str = "firewall"


@dataclass(frozen=True, slots=True)
class FirewallRead:
    """The answer to ReadFirewall."""

    generation: int
    reading: FirewallReading
    key: str = "firewall"


@dataclass(frozen=True, slots=True)
class FirewallRemoved:
    """The answer to RemoveFirewall."""

    generation: int
    key: str = "firewall"


@dataclass(frozen=True, slots=True)
class TunnelPlanned:
    """The answer to PlanTunnel."""

    generation: int
    plan: TunnelPlan
    key: str = "tunnel"


@dataclass(frozen=True, slots=True)
class TunnelCameUp:
    """The answer to StartTunnel."""

    generation: int
    tunnel: Tunnel
    health: TunnelHealth
    key: str = "tunnel"


@dataclass(frozen=True, slots=True)
class TunnelSeen:
    """The answer to CheckTunnel."""

    generation: int
    health: TunnelHealth
    key: str = "tunnel"


@dataclass(frozen=True, slots=True)
class TunnelStopped:
    """The answer to StopTunnel."""

    generation: int
    key: str = "tunnel"


@dataclass(frozen=True, slots=True)
class LeaseGranted:
    """The answer to Acquire."""

    generation: int
    key: str
    forward: str
    lease: Lease


@dataclass(frozen=True, slots=True)
class LeaseReleased:
    """The answer to Release."""

    generation: int
    key: str
    forward: str


@dataclass(frozen=True, slots=True)
class ClientSeen:
    """The answer to SetClient and ReadClient: the settings as read back."""

    generation: int
    key: str
    forward: str
    settings: ListenSettings
    set: bool = False
    """Whether it answers SetClient."""


@dataclass(frozen=True, slots=True)
class SocketsSeen:
    """The answer to ReadSockets."""

    generation: int
    key: str
    forward: str
    sockets: tuple[ListeningSocket, ...]


@dataclass(frozen=True, slots=True)
class LeasesSaved:
    """The answer to SaveLeases."""

    generation: int
    leases: tuple[tuple[str, Lease], ...]
    key: str = "store"


@dataclass(frozen=True, slots=True)
class WorkFailed:
    """Any work that did not succeed."""

    generation: int
    key: str
    kind: FailureKind
    doing: str
    cause: str
    hint: str = ""
    retry_after: float | None = None


Answer = (
    FirewallApplied
    | FirewallRead
    | FirewallRemoved
    | TunnelPlanned
    | TunnelCameUp
    | TunnelSeen
    | TunnelStopped
    | LeaseGranted
    | LeaseReleased
    | ClientSeen
    | SocketsSeen
    | LeasesSaved
    | WorkFailed
)
Event = Tick | StopRequested | Answer


# -- notices: what observers hear ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """The profile went from one phase to another."""

    before: Phase
    after: Phase
    cause: str


@dataclass(frozen=True, slots=True)
class PortGranted:
    """A lease came in with a port that differs from the last one."""

    forward: str
    lease: Lease
    before: int | None
    """The external port until now, or None."""


@dataclass(frozen=True, slots=True)
class LeaseRenewed:
    """The same port for longer."""

    forward: str
    lease: Lease


@dataclass(frozen=True, slots=True)
class PortAnnounced:
    """Everything up to the listening socket follows the port: it can be told to the world."""

    forward: str
    lease: Lease
    listen_port: int
    before: int | None
    """The external port announced until now, or None."""


@dataclass(frozen=True, slots=True)
class PortLost:
    """A port that was announced is gone."""

    forward: str
    external_port: int
    cause: str


@dataclass(frozen=True, slots=True)
class ProblemNoticed:
    """Something failed: the first time, or now in another way."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class ProblemOver:
    """What failed works again."""

    problem: Problem


Notice = PhaseChanged | PortGranted | LeaseRenewed | PortAnnounced | PortLost | ProblemNoticed | ProblemOver
