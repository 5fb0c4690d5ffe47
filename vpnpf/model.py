"""The frozen values that everything else speaks in.

Times are seconds on CLOCK_BOOTTIME (they go on during suspend and never jump); only what is shown to
people is turned into wall-clock time, at the rim. Addresses are strings in their canonical form, as
`ipaddress` prints them. Ports are integers from 1 to 65535.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct, field

from vpnpf.hidden import without


class Protocol(StrEnum):
    """A transport protocol whose ports can be forwarded."""

    TCP = "tcp"
    UDP = "udp"


BOTH = (Protocol.TCP, Protocol.UDP)


class FailureKind(StrEnum):
    """What a failure means for the next step; decided by type where it arises, never by text."""

    TRANSIENT = "transient"
    LEASE_LOST = "lease-lost"
    MISCONFIGURED = "misconfigured"
    UNSUPPORTED = "unsupported"
    CRASHED = "crashed"


class EpochRule(StrEnum):
    """By which rule a gateway's epoch tells that it lost its mappings."""

    NATPMP = "nat-pmp"
    """RFC 6886 section 3.6."""
    PCP = "pcp"
    """RFC 6887 section 8.5."""


class Remedy(StrEnum):
    """A step of the ladder: what is tried next against a failure that goes on."""

    RETRY = "retry"
    """The same again."""
    REMAP = "re-map"
    """The lease anew, as if nothing were held."""
    REKEY = "re-key"
    """New keys for the tunnel in place: device, addresses and sockets stay."""
    RESTART = "restart"
    """The tunnel down and up."""
    NEXT_SERVER = "next server"
    """The tunnel to another of the profile's servers."""
    TELL = "tell"
    """Nothing is left to be tried but the same, slowly; the person is told."""


class Wish(StrEnum):
    """What a person can ask for while a profile goes on."""

    RENEW = "renew"
    """What is held, again; and what waits after a failure, now."""
    NEW_PORT = "new-port"
    """Another external port."""
    SERVER = "server"
    """Another of the profile's servers."""


class Phase(StrEnum):
    """Where a profile stands as a whole."""

    STARTING = "starting"
    CONNECTING = "connecting"
    LEASING = "leasing"
    READY = "ready"
    BLOCKED = "blocked"
    """The tunnel is lost: nothing leaves until it is back."""
    FAILED = "failed"
    """Trying again cannot help; the person has to act. Nothing leaves."""
    STOPPING = "stopping"
    STOPPED = "stopped"


# -- what the person asked for ------------------------------------------------------------------


class PolicyMode(StrEnum):
    """What the internet may reach through the tunnel."""

    OPEN_ALL = "open-all"
    BLOCK_ALL = "block-all"
    ALLOW_LIST = "allow-list"


class LockMode(StrEnum):
    """When traffic that would go past the tunnel is blocked."""

    ON = "on"
    """From the start of vpnpf to its clean stop, with and without a tunnel."""
    LOCKDOWN = "lockdown"
    """Also after a clean stop and from boot on, until it is unlocked by hand."""
    OFF = "off"
    """Never: the tunnel carries what it can, and the rest goes its usual way."""


class Opening(Struct, frozen=True, order=True):
    """An entry of the allow-list: an inclusive range of ports of one protocol that new flows may come in to."""

    first: int
    last: int
    protocol: Protocol
    sources: tuple[str, ...] = ()
    """Prefixes that they may come from, in their canonical form, sorted; empty: anybody."""
    name: str = ""
    """As it was written, if that was a name: "minecraft"."""
    comment: str = ""
    ends_at: float | None = None
    """When the kernel closes it by itself, or None."""

    def __str__(self) -> str:
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{ports}/{self.protocol}"

    @property
    def key(self) -> str:
        """What it opens, in words that tell it from all others: "6881/tcp from 192.0.2.0/24, 203.0.113.9/32"."""
        return f"{self} from {', '.join(self.sources)}" if self.sources else str(self)


class PortPolicy(Struct, frozen=True):
    """The port policy of a profile."""

    mode: PolicyMode = PolicyMode.ALLOW_LIST
    forwarded: bool = True
    """Whether the allow-list names "forwarded": every port held in a lease."""
    openings: tuple[Opening, ...] = ()
    """The other entries of the allow-list, sorted; no two of them overlap for one source."""
    report_unused: float | None = None
    """Seconds without an inbound packet after which an opening is reported, or None."""
    close_unused: bool = False
    """Whether it is closed then."""


class ProviderPolicy(Struct, frozen=True):
    """What a provider with a switch of its own lets in, before anything arrives here."""

    mode: PolicyMode
    ports: tuple[Opening, ...] = ()
    """With `allow-list` the ports that are let in, as the internet sees them: numbers and protocol alone."""


class ForwardSpec(Struct, frozen=True):
    """A forward as it was asked for."""

    name: str
    slot: int = 0
    """Its place among the profile's forwards, from 0."""
    protocols: tuple[Protocol, ...] = BOTH
    internal_port: int | None = None
    """Fixed local port, or None: listen on the external port, whatever it is."""
    external_port: int | None = None
    """The external port to ask for, or None: the gateway's choice."""
    client: str | None = None
    """Name of the torrent client that is told its listen port, or None."""
    client_local: bool = True
    """Whether the client (or the program behind the port) runs here, so that its sockets can be seen."""
    client_device: bool = True
    """Whether the client can be told which device to listen on; if not, it listens on any."""
    client_tests: bool = False
    """Whether the client can have its port knocked on from the internet."""
    target: str | None = None
    """Address of another host that packets are rewritten to, or None: they are for this machine."""
    sources: tuple[str, ...] = ()
    """Prefixes that may come in on it, in their canonical form; empty: anybody."""
    shut: bool = False
    """Whether nobody may come in on it: the port is held and renewed, and opened by nothing but open-all."""


class ProfileSpec(Struct, frozen=True):
    """A profile as it was asked for, without its secrets."""

    name: str
    provider: str
    forwards: tuple[ForwardSpec, ...]
    policy: PortPolicy = field(default_factory=PortPolicy)
    lan: bool = True
    """Whether private prefixes on directly connected links stay reachable."""
    lock: LockMode = LockMode.ON


# -- the tunnel ---------------------------------------------------------------------------------


class Endpoint(Struct, frozen=True):
    """Where the tunnel's own packets go."""

    address: str
    port: int
    protocol: Protocol = Protocol.UDP

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


class LanPrefix(Struct, frozen=True):
    """A private prefix on a directly connected link."""

    interface: str
    prefix: str


class TunnelPlan(Struct, frozen=True):
    """All that is known of a tunnel before it is up: enough for the firewall to go first."""

    interface: str
    endpoint: Endpoint
    addresses: tuple[str, ...]
    """Own addresses with prefix length: "10.2.0.2/32"."""
    dns: tuple[str, ...] = ()
    mark: int = 0
    """Firewall mark on the tunnel's own packets."""
    table: int = 0
    """Routing table that everything else goes through."""
    mtu: int = 1420
    gateway: str | None = None
    """Where the provider's gateway is expected, if the configuration says."""
    lan: tuple[LanPrefix, ...] = ()
    """Directly connected private prefixes that stay reachable outside the tunnel."""
    notes: tuple[str, ...] = ()
    """Comments of the imported configuration that a provider may read: "NAT-PMP (Port Forwarding) = on"."""
    server: int = 0
    """Which of the profile's servers it leads to, from 0."""
    identity: str = ""
    """Names server and key, without telling the key: what is held through one is unknown through another."""
    server_name: str = ""
    """The name in the server's certificates, if the provider told it."""
    place: str = ""
    """Where the server is, for people, if the provider told it."""
    services: tuple[Endpoint, ...] = ()
    """TCP ports of the provider's that vpnpf itself, by the mark, reaches beside the tunnel."""
    direct: bool = False
    """Whether there is no tunnel: the interface is the machine's own link, and the gateway the router on it."""


class Tunnel(Struct, frozen=True):
    """A tunnel that is up."""

    plan: TunnelPlan
    backend: str
    """How it runs: "wireguard (kernel)", "wireguard-go"."""
    gateway: str
    """Address inside the tunnel that the provider's gateway answers on."""

    @property
    def interface(self) -> str:
        """Name of the network device."""
        return self.plan.interface

    @property
    def address(self) -> str:
        """The first own address, without prefix length."""
        return self.plan.addresses[0].partition("/")[0]


class TunnelHealth(Struct, frozen=True):
    """One look at a tunnel."""

    handshake_age: float | None
    """Seconds since the last handshake, or None: there was none."""
    rx: int = 0
    """Bytes received since the device exists."""
    tx: int = 0
    """Bytes sent since the device exists."""
    silent_for: float = 0.0
    """Seconds for which bytes were sent and none came back; 0 when idle. With WireGuard a server that lives ends it
    within 16 s, also if a packet was lost or nobody behind it answers."""
    handshakes: bool = True
    """Whether this kind of tunnel tells of handshakes; otherwise that it is there is all that is known."""


class Rekeyed(Struct, frozen=True):
    """What came of shaking hands anew in place."""

    health: TunnelHealth
    tunnel: Tunnel | None = None
    """The tunnel as it is now, perhaps with other addresses, if the server had forgotten its key and was told it anew: what
    was held there is gone. None: it is as it was."""


class Stirring(Struct, frozen=True):
    """Why a tunnel wants to be looked at before its time."""

    cause: str
    """In a few words: "its device is gone", "the server does not answer"."""
    silent_for: float = 0.0
    """Seconds since the last sign of the server, if it is that; what was sent since then was asking for an answer."""


# -- the lease ----------------------------------------------------------------------------------


class Lease(Struct, frozen=True):
    """An external port that a provider gave us for some time."""

    external_port: int
    """What the internet sees."""
    internal_port: int
    """The port of our tunnel address where its packets arrive."""
    protocols: tuple[Protocol, ...]
    granted_at: float
    lifetime: float | None
    """Seconds granted, or None: it does not end by itself."""
    exit_address: str | None = None
    """The address that the internet sees, as the gateway said."""
    epoch: int | None = None
    """The gateway's seconds since start of epoch at `epoch_at`; None: it has none."""
    epoch_at: float = 0.0
    """When the answer with `epoch` arrived."""
    epoch_rule: EpochRule = EpochRule.NATPMP
    token: str = ""
    """Opaque to the core; what the provider needs to renew or release. Stored, never shown."""

    def __repr__(self) -> str:
        return without(self, "token")

    @property
    def expires_at(self) -> float | None:
        """When the gateway forgets it, or None."""
        return None if self.lifetime is None else self.granted_at + self.lifetime

    @property
    def place(self) -> str:
        """Where the internet finds it, in words: "198.51.100.11:41877", or "port 41877"."""
        at = self.exit_address
        return str(Endpoint(at, self.external_port)) if at else f"port {self.external_port}"

    @property
    def length(self) -> str:
        """How long it was granted for, in words."""
        return f"for {self.lifetime:.0f} s" if self.lifetime is not None else "without an end"


class MappingRequest(Struct, frozen=True):
    """What a provider is asked for."""

    spec: ForwardSpec
    previous: Lease | None = None
    """The lease held now (then this is a renewal) or last (then it is a wish)."""
    renewal: bool = False
    """Whether `previous` is still held."""


# -- the firewall -------------------------------------------------------------------------------


class ForwardRule(Struct, frozen=True):
    """A forwarded port as the firewall sees it."""

    name: str
    protocols: tuple[Protocol, ...]
    arrives: int
    """Destination port of the packets as they leave the tunnel."""
    listen: int
    """Port that the local program listens on; where it differs from `arrives`, packets are redirected."""
    expires_at: float | None = None
    """When the kernel closes it by itself, or None."""
    target: str | None = None
    """Address of another host, private and beyond another device, that packets are rewritten to; None: this machine."""
    sources: tuple[str, ...] = ()
    """Prefixes that may come in on it; empty: anybody."""
    shut: bool = False
    """Whether nobody may come in on it, unless everything is open."""
    keep_source: bool = False
    """Whether the target sees who calls: only if its way back leads through this machine."""


class FirewallStage(StrEnum):
    """Which of the rule sets is meant; see docs/security.md for what each allows."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    BLOCKED = "blocked"
    LOCKED = "locked"
    """No vpnpf runs, and nothing is to leave all the same: mode "lockdown"."""


class FirewallPolicy(Struct, frozen=True):
    """A whole rule set as a value; equal values are equal rule sets."""

    stage: FirewallStage
    plan: TunnelPlan
    inbound: PortPolicy
    """What may come in through the tunnel; only looked at in stage CONNECTED."""
    forwards: tuple[ForwardRule, ...] = ()
    lock: LockMode = LockMode.ON


class Hits(Struct, frozen=True):
    """Packets and bytes counted on a rule since it exists."""

    packets: int = 0
    octets: int = 0


class FirewallReading(Struct, frozen=True):
    """What was read back from the kernel."""

    intact: bool
    """Whether it is what was applied last, rule by rule."""
    evidence: str
    """One line: what was seen, or what differs."""
    hits: tuple[tuple[str, Protocol, Hits], ...] = ()
    """(forward, protocol, inbound packets that opened a flow on its port)."""
    openings: tuple[tuple[str, Hits], ...] = ()
    """(`Opening.key`, inbound packets that opened a flow on it), of those whose counter can be read."""


class Use(Struct, frozen=True):
    """How an opening, or a forwarded port, has been used so far."""

    what: str
    """`Opening.key`, or "forward NAME"."""
    since: float
    """When it was first seen open."""
    last: float | None = None
    """When its counter was last seen to have risen, or None."""
    idle: float = 0.0
    """Seconds since then (or since it was opened) in which it was seen open and its counter stood still: what nobody
    looked at, while vpnpf was not running or the tunnel was down, is not among them."""
    reported: bool = False
    """Whether it was said that nobody uses it."""
    closed: bool = False
    """Whether it was closed for that."""


# -- the torrent client -------------------------------------------------------------------------


class ListenSettings(Struct, frozen=True):
    """How a torrent client is set to listen."""

    port: int
    interface: str
    """Device it is bound to; empty: any."""
    random_port: bool = False
    port_mapping: bool = False
    """Whether its own UPnP or NAT-PMP is on, which would fight with ours."""


class ListeningSocket(Struct, frozen=True):
    """A socket that the kernel holds open for inbound packets."""

    protocol: Protocol
    address: str
    """Bound address; "0.0.0.0" or "::": any."""
    port: int
    device: str = ""
    """Device it is bound to; empty: any."""


# -- what people see ----------------------------------------------------------------------------


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
