"""Notices: what observers hear beside the state, the few moments worth a line in a log."""

from __future__ import annotations

from msgspec import Struct

from vpnpf.model import Endpoint, Lease, LockMode, Phase, PortPolicy, Problem, ProviderPolicy, Remedy, Wish


class PhaseChanged(Struct, frozen=True):
    """The profile went from one phase to another."""

    before: Phase
    after: Phase
    cause: str
    lock: LockMode = LockMode.ON
    ports: tuple[bool, ...] = (True,)
    """Of each forward, whether the policy lets anybody in by its port."""


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


class WishTaken(Struct, frozen=True):
    """What a person asked for is being done."""

    wish: Wish
    forward: str = ""
    """Whose port; empty: of all, or the tunnel."""
    server: int | None = None
    """The number, from 1, of the server that is gone to."""


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
    | WishTaken
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
