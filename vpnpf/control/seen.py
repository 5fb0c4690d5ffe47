"""The state of a profile as its JSON has it: of the control socket, the events, and the status file. Pure.

Whoever shows a profile reads this, never the engine's own values. What a later version adds is passed over, and what an
older one lacks is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec
from msgspec import Struct

from vpnpf.control.told import told

PROOFS = ("tunnel", "lease", "firewall", "client", "listening", "reachable")
"""The chain, each link by its name."""


class SeenProof(Struct, frozen=True):
    """A proof."""

    ok: bool | None = None
    since: datetime | None = None
    checked: datetime | None = None
    evidence: str = ""


class SeenSettings(Struct, frozen=True):
    """A torrent client's settings as read back."""

    port: int
    interface: str = ""
    random_port: bool = False
    port_mapping: bool = False
    read_at: datetime | None = None


class SeenPeer(Struct, frozen=True):
    """Who came in from outside."""

    address: str
    port: int = 0
    protocol: str = ""
    since: datetime | None = None
    connected: bool = False
    came_in: bool = True
    """False: who began it cannot be told."""


class SeenForward(Struct, frozen=True):
    """A forward."""

    name: str
    external_port: int | None = None
    internal_port: int | None = None
    listen_port: int | None = None
    target: str | None = None
    exit_address: str | None = None
    client: str | None = None
    protocols: tuple[str, ...] = ()
    granted_at: datetime | None = None
    lifetime: float | None = None
    """Seconds."""
    renew_at: datetime | None = None
    expires_at: datetime | None = None
    announced: bool = False
    """Whether the port was told to people and programs."""
    client_settings: SeenSettings | None = None
    packets: int = 0
    packets_at: datetime | None = None
    peers: tuple[SeenPeer, ...] = ()
    """The newest first."""
    proofs: dict[str, SeenProof] = {}


class SeenSwitch(Struct, frozen=True):
    """The provider's own switch."""

    mode: str
    ports: tuple[str, ...] = ()
    seen: datetime | None = None


class SeenTunnel(Struct, frozen=True):
    """A tunnel."""

    interface: str
    backend: str = ""
    endpoint: str = ""
    place: str = ""
    addresses: tuple[str, ...] = ()
    gateway: str = ""
    dns: tuple[str, ...] = ()
    mtu: int | None = None
    received: int = 0
    """Bytes, at the last look of the engine."""
    sent: int = 0
    handshake: datetime | None = None


class SeenOpening(Struct, frozen=True):
    """An entry of the allow-list beside "forwarded"."""

    what: str
    until: datetime | None = None
    """None: it stays."""


class SeenPolicy(Struct, frozen=True):
    """What is let in."""

    mode: str = ""
    allow: tuple[str, ...] = ()
    stage: str | None = None
    """The rule set in force; None: none of ours."""
    entries: tuple[SeenOpening, ...] = ()
    """Of `allow` but for "forwarded", with their ends."""


class SeenPosition(Struct, frozen=True):
    """Which of how many servers the tunnel goes to."""

    number: int | None = None
    of: int = 0


class SeenServer(Struct, frozen=True):
    """A server that the profile can go to."""

    number: int
    place: str | None = None
    endpoint: str | None = None
    current: bool = False


class SeenProblem(Struct, frozen=True):
    """A problem."""

    doing: str
    kind: str = ""
    message: str = ""
    hint: str = ""
    failures: int = 1
    since: datetime | None = None
    retry_at: datetime | None = None


class SeenUnused(Struct, frozen=True):
    """An opening that nobody uses."""

    what: str
    opened: datetime | None = None
    last: datetime | None = None
    idle: float = 0.0
    """Seconds."""
    closed: bool = False


class SeenEntry(Struct, frozen=True):
    """A line of the timeline."""

    text: str
    time: datetime | None = None
    event: str = ""
    cause: str = ""
    forward: str | None = None


class Seen(Struct, frozen=True):
    """How a profile stands."""

    time: datetime
    profile: str
    provider: str
    phase: str
    pid: int = 0
    """0 in an event, which does not say it."""
    phase_since: datetime | None = None
    phase_text: str = ""
    phase_cause: str = ""
    phase_hint: str = ""
    version: str = ""
    tunnel: SeenTunnel | None = None
    policy: SeenPolicy = SeenPolicy()
    provider_policy: SeenSwitch | None = None
    disagree: str = ""
    lock: str = ""
    namespace: str | None = None
    """The network namespace that all of this is about; None: the machine's own."""
    forwards: tuple[SeenForward, ...] = ()
    problems: tuple[SeenProblem, ...] = ()
    timeline: tuple[SeenEntry, ...] = ()
    """The oldest first."""
    unused: tuple[SeenUnused, ...] = ()
    server: SeenPosition = SeenPosition()
    servers: tuple[SeenServer, ...] = ()
    exit_seen: str | None = None
    """The address that the internet sees."""


def read(raw: Mapping[str, object]) -> Seen:
    """The state in an answer or event. Raises Unavailable for what is none."""
    return told(raw, Seen, "state")


def converted(raw: object) -> Seen:
    """The same. Raises ValueError (msgspec's ValidationError is one)."""
    return msgspec.convert(raw, Seen)
