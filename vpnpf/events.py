"""What happens and what is to be done: closed unions.

- an *event* is a fact that the engine learns: an answer to a piece of work, a tick, a wish of the person;
- *work* is an effect that the engine asks for; each has a `key`, and of one key at most one runs;
- a *notice* is what observers hear beside the state: the few moments worth a line in a log.

Every answer carries the generation of the work it answers; an answer of an older generation is dropped.
"""

from __future__ import annotations

from msgspec import Struct

from vpnpf.model import (
    Endpoint,
    EpochRule,
    FailureKind,
    FirewallPolicy,
    FirewallReading,
    Lease,
    ListeningSocket,
    ListenSettings,
    LockMode,
    MappingRequest,
    Phase,
    PortPolicy,
    Problem,
    ProviderPolicy,
    Remedy,
    Stirring,
    Tunnel,
    TunnelHealth,
    TunnelPlan,
    Use,
)

# -- work: effects ------------------------------------------------------------------------------


class ApplyFirewall(Struct, frozen=True):
    """Swap the rule set, read it back."""

    policy: FirewallPolicy
    key: str = "firewall"


class ReadFirewall(Struct, frozen=True):
    """Compare the kernel's rule set with the one applied last; read the counters."""

    key: str = "firewall"


class RemoveFirewall(Struct, frozen=True):
    """Take our rule set away."""

    key: str = "firewall"


class PlanTunnel(Struct, frozen=True):
    """Read the tunnel's configuration anew, resolve its endpoint."""

    server: int = 0
    """Which of the profile's servers, from 0."""
    key: str = "tunnel"


class StartTunnel(Struct, frozen=True):
    """Bring the tunnel up; what is left of an earlier one goes first."""

    plan: TunnelPlan
    key: str = "tunnel"


class CheckTunnel(Struct, frozen=True):
    """One look at the tunnel."""

    tunnel: Tunnel
    key: str = "tunnel"


class Rekey(Struct, frozen=True):
    """Shake hands anew, in place: the device and the sockets on it stay."""

    tunnel: Tunnel
    key: str = "tunnel"


class WatchTunnel(Struct, frozen=True):
    """Wait until the tunnel wants to be looked at before its time."""

    tunnel: Tunnel
    key: str = "tunnel-watch"


class FitMtu(Struct, frozen=True):
    """Find out how large a packet gets through the tunnel whole, and set its device to that."""

    tunnel: Tunnel
    key: str = "mtu"


class WatchFirewall(Struct, frozen=True):
    """Wait until somebody else changed our rule set."""

    key: str = "firewall-watch"


class StopTunnel(Struct, frozen=True):
    """Take the tunnel down and restore what it changed."""

    key: str = "tunnel"


class Acquire(Struct, frozen=True):
    """Get or renew a lease."""

    forward: str
    tunnel: Tunnel
    request: MappingRequest

    @property
    def key(self) -> str:
        """One conversation with the provider at a time for each forward."""
        return f"lease:{self.forward}"


class Release(Struct, frozen=True):
    """Give a lease back."""

    forward: str
    tunnel: Tunnel
    lease: Lease

    @property
    def key(self) -> str:
        """One conversation with the provider at a time for each forward."""
        return f"lease:{self.forward}"


class SetClient(Struct, frozen=True):
    """Set the torrent client's listen port, then read it back."""

    forward: str
    wanted: ListenSettings

    @property
    def key(self) -> str:
        """One conversation with a client at a time."""
        return f"client:{self.forward}"


class ReadClient(Struct, frozen=True):
    """Read the torrent client's settings back."""

    forward: str

    @property
    def key(self) -> str:
        """One conversation with a client at a time."""
        return f"client:{self.forward}"


class ReadSockets(Struct, frozen=True):
    """Look for the sockets that should be open on the listen port."""

    forward: str
    port: int

    @property
    def key(self) -> str:
        """One look at a time for each forward."""
        return f"listening:{self.forward}"


class Listen(Struct, frozen=True):
    """Wait for the gateway to say that it restarted (RFC 6886 section 3.2.1, RFC 6887 section 14.1.1)."""

    tunnel: Tunnel
    key: str = "announcements"


class CheckExit(Struct, frozen=True):
    """Ask somebody on the internet, through the tunnel, which address he sees."""

    tunnel: Tunnel
    key: str = "exit"


class ReadSwitch(Struct, frozen=True):
    """Ask the provider what its own switch lets in."""

    tunnel: Tunnel
    key: str = "switch"


class SetSwitch(Struct, frozen=True):
    """Set the provider's own switch, then ask what it lets in: that may follow later."""

    tunnel: Tunnel
    wanted: ProviderPolicy
    key: str = "switch"


class SaveLeases(Struct, frozen=True):
    """Keep for the next start what we hold now."""

    identity: str
    """Server and key through which they are held."""
    leases: tuple[tuple[str, Lease], ...]
    key: str = "store"


class SaveUses(Struct, frozen=True):
    """Keep for the next start when each opening was used last."""

    uses: tuple[Use, ...]
    key: str = "uses"


Work = (
    ApplyFirewall
    | ReadFirewall
    | RemoveFirewall
    | PlanTunnel
    | StartTunnel
    | CheckTunnel
    | Rekey
    | WatchTunnel
    | FitMtu
    | WatchFirewall
    | StopTunnel
    | Listen
    | CheckExit
    | Acquire
    | Release
    | SetClient
    | ReadClient
    | ReadSockets
    | ReadSwitch
    | SetSwitch
    | SaveLeases
    | SaveUses
)


class Order(Struct, frozen=True):
    """A piece of work with its generation."""

    work: Work
    generation: int


# -- events: facts and wishes -------------------------------------------------------------------


class Tick(Struct, frozen=True):
    """Time went by."""


class StopRequested(Struct, frozen=True):
    """The person or the system wants it to end."""

    force: bool = False
    """Do not give the leases back first."""


class PolicyWanted(Struct, frozen=True):
    """The person wants another port policy from now on.

    What was closed because nobody used it is opened again if its entry is another, if the policy no longer closes
    such, or if it is named in `reopen`; the policy in force, wanted once more, opens all of it.
    """

    policy: PortPolicy
    reopen: tuple[str, ...] = ()
    """`Use.what` of what is to be opened again."""


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
    | SwitchRead
    | LeasesSaved
    | UsesSaved
    | WorkFailed
)
Event = Tick | StopRequested | PolicyWanted | Answer


# -- notices: what observers hear ---------------------------------------------------------------


class PhaseChanged(Struct, frozen=True):
    """The profile went from one phase to another."""

    before: Phase
    after: Phase
    cause: str
    lock: LockMode = LockMode.ON


class PortGranted(Struct, frozen=True):
    """A lease came in with a port that differs from the last one."""

    forward: str
    lease: Lease
    before: int | None
    """The external port until now, or None."""


class LeaseRenewed(Struct, frozen=True):
    """The same port for longer."""

    forward: str
    lease: Lease


class PortAnnounced(Struct, frozen=True):
    """Everything up to the listening socket follows the port: it can be told to the world."""

    forward: str
    lease: Lease
    listen_port: int
    before: int | None
    """The external port announced until now, or None."""
    target: str | None = None
    """Address of another host that it goes on to, at `listen_port`; None: it is for this machine."""

    @property
    def inside(self) -> str:
        """Where packets go from there, in words: "local port 8080", "192.168.77.5:8080"; empty: to the same port here."""
        if self.target is not None:
            return str(Endpoint(self.target, self.listen_port))
        return f"local port {self.listen_port}" if self.listen_port != self.lease.external_port else ""


class PortLost(Struct, frozen=True):
    """A port that was announced is gone."""

    forward: str
    external_port: int
    cause: str


class RemedyTaken(Struct, frozen=True):
    """A step of the ladder is taken."""

    remedy: Remedy
    cause: str
    forward: str = ""
    """Whose failure it is against; empty: the tunnel's."""


class PolicyChanged(Struct, frozen=True):
    """Another port policy is wanted from now on; it is in force once the state's rule set is read back."""

    before: PortPolicy
    after: PortPolicy


class SwitchSeen(Struct, frozen=True):
    """The provider's own switch says something new."""

    before: ProviderPolicy | None
    after: ProviderPolicy


class Disagrees(Struct, frozen=True):
    """What the provider lets in differs from what is wanted here; or, with an empty `how`, no longer does."""

    how: str
    """In words, after "the provider": "blocks all ports"."""


class OpeningUnused(Struct, frozen=True):
    """Nobody has come in on an opening for as long as the policy bears."""

    what: str
    """As in `Use`."""
    since: float
    """When somebody came in last, or when it was opened."""
    after: float
    """Seconds that the policy bears."""
    closed: bool = False
    """Whether it is closed from now on."""


class MtuLowered(Struct, frozen=True):
    """Packets of the usual size do not get through the tunnel whole; smaller ones are sent now."""

    before: int
    after: int


class GatewayReset(Struct, frozen=True):
    """The gateway lost its mappings: all of them are asked for again at once."""

    cause: str


class ExitDiffers(Struct, frozen=True):
    """The internet sees another address than the gateway says: ports that are open there are not open here."""

    gateway: str
    """As the gateway says."""
    seen: str


class ProblemNoticed(Struct, frozen=True):
    """Something failed: the first time, or now in another way."""

    problem: Problem


class ProblemOver(Struct, frozen=True):
    """What failed works again."""

    problem: Problem


Notice = (
    PhaseChanged
    | PortGranted
    | LeaseRenewed
    | PortAnnounced
    | PortLost
    | RemedyTaken
    | PolicyChanged
    | SwitchSeen
    | Disagrees
    | OpeningUnused
    | MtuLowered
    | GatewayReset
    | ExitDiffers
    | ProblemNoticed
    | ProblemOver
)
