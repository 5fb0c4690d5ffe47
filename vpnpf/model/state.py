"""What people see of a profile."""

from __future__ import annotations

from msgspec import Struct

from vpnpf.model.client import ListenSettings
from vpnpf.model.firewall import FirewallReading, FirewallStage, Use
from vpnpf.model.kinds import FailureKind, Phase, Protocol
from vpnpf.model.lease import Lease
from vpnpf.model.tunnel import Endpoint, Tunnel, TunnelHealth
from vpnpf.model.wanted import ForwardSpec, LockMode, PortPolicy, ProviderPolicy


class Proof(Struct, frozen=True):
    """One link of the chain that makes a forward true."""

    ok: bool | None = None
    """True or False as last seen; None: not looked at yet, or nothing to look at."""
    since: float | None = None
    """Since when `ok` has had its value."""
    checked: float | None = None
    """When it was last looked at."""
    evidence: str = ""
    """What was seen, in one line."""


class Proofs(Struct, frozen=True):
    """The chain: each link is worth something only if those before it hold."""

    tunnel: Proof = Proof()
    lease: Proof = Proof()
    firewall: Proof = Proof()
    client: Proof = Proof()
    listening: Proof = Proof()
    reachable: Proof = Proof()


class Peer(Struct, frozen=True):
    """Somebody who is, or was, connected to a forwarded port."""

    address: str
    port: int
    protocol: Protocol
    since: float
    """When it was seen first."""
    connected: bool = True
    """Whether it was there at the last look."""
    came_in: bool = True
    """True: it began the connection; False: who began it could not be told."""


PEERS = 8
"""Of a forward, at most, as told to people."""
PROOF_NAMES = ("tunnel", "lease", "firewall", "client", "listening", "reachable")


class Forward(Struct, frozen=True):
    """A forward as it stands."""

    spec: ForwardSpec
    lease: Lease | None = None
    listen_port: int | None = None
    """The port that the local program listens on, while there is a lease."""
    renew_at: float | None = None
    announced: bool = False
    """Whether the port was complete enough to be told to the outside."""
    proofs: Proofs = Proofs()
    client_settings: ListenSettings | None = None
    """The torrent client's, as read back last; None: not yet, or there is no client."""
    client_settings_at: float | None = None
    """When they were read."""
    packets: int = 0
    """Inbound packets that opened a flow, as counted since the port is what it is."""
    packets_at: float | None = None
    """When that number was last seen to have risen, or None."""
    peers: tuple[Peer, ...] = ()
    """The last that were seen on the port over TCP, newest first."""


class Server(Struct, frozen=True):
    """One of the servers that a profile can go to."""

    number: int
    """From 1."""
    place: str | None = None
    """Where it is, for people; None: not told, or not known before the tunnel was planned for it."""
    endpoint: Endpoint | None = None
    """Where it was when a tunnel to it was last planned, or None."""


class Problem(Struct, frozen=True):
    """A failure that is not over yet."""

    doing: str
    kind: FailureKind
    message: str
    hint: str = ""
    since: float = 0.0
    failures: int = 1
    """How often in a row."""
    retry_at: float | None = None

    @property
    def times(self) -> str:
        """How often it failed, in words."""
        return "1 failure" if self.failures == 1 else f"{self.failures} failures"


class Entry(Struct, frozen=True):
    """A line of the timeline: what changed, and why."""

    at: float
    kind: str
    """As the event of this name: "phase", "granted", "port", "port-lost", "problem", "remedy", ..."""
    text: str
    """What happened, in one line."""
    cause: str = ""
    forward: str = ""
    """Whose it is; empty: the profile's."""


class State(Struct, frozen=True):
    """All that observers may know of a profile, at one moment."""

    profile: str
    provider: str
    phase: Phase
    phase_since: float
    tunnel: Tunnel | None
    health: TunnelHealth | None
    policy: PortPolicy
    firewall: FirewallStage | None
    forwards: tuple[Forward, ...]
    problems: tuple[Problem, ...] = ()
    timeline: tuple[Entry, ...] = ()
    """The last transitions, oldest first."""
    servers: int = 1
    """How many servers the profile can go to."""
    lock: LockMode = LockMode.ON
    namespace: str = ""
    """The network namespace that all of this is about; empty: the machine's own."""
    exit_seen: str | None = None
    """The address that the internet was seen to see, if somebody was asked."""
    policy_stands: bool = False
    """Whether the kernel had a rule set with this port policy when it was last looked at."""
    reading: FirewallReading | None = None
    """What was read back from the kernel last."""
    unapplied: str = ""
    """Why the rule set that is wanted is not there, if the kernel was asked and refused."""
    provider_policy: ProviderPolicy | None = None
    """What the provider's own switch said last through this tunnel; None: it has none, or was not heard yet."""
    provider_policy_at: float | None = None
    """When it said so."""
    disagree: str = ""
    """How that differs from what is wanted here: "the provider still blocks all ports"; empty: not at all."""
    uses: tuple[Use, ...] = ()
    """Of every opening and forwarded port that was seen open."""
    server: int = 1
    """Number of the server that is gone to."""
    places: tuple[Server, ...] = ()
    """All servers, with what is known of them."""
    phase_cause: str = ""
    """Why the phase is what it is; empty where that goes without saying."""
    handshake_at: float | None = None
    """When the tunnel shook hands last; None: it has not, or its kind does not tell."""
