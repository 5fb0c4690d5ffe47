"""Which sockets packets from the tunnel can get to, and which ports a policy opens to them.

Values and arithmetic alone: the sockets were listed before (`vpnpf.io.listeners`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.model import ForwardSpec, LockMode, PolicyMode, PortPolicy, Protocol

OPEN_ALL = str(PolicyMode.OPEN_ALL)


class Owner(Struct, frozen=True, order=True):
    """A process that holds a socket."""

    pid: int
    program: str
    """Name of its executable; of an interpreter, of the script that it runs."""
    since: float
    """When the process started, on CLOCK_BOOTTIME. The kernel does not tell it of a socket."""
    interpreter: str = ""
    """What runs the script: "python3"."""


class Listener(Struct, frozen=True):
    """A socket that takes packets from anybody."""

    protocol: Protocol
    address: str
    """Bound address; "0.0.0.0": any IPv4 address; "::": any IPv6 address, and IPv4 unless `v6_only`."""
    port: int
    device: str = ""
    """Device it is bound to; empty: any."""
    v6_only: bool = False
    user: str = ""
    """Whose it is."""
    owner: Owner | None = None
    """None: it cannot be seen (`unseen`), or it is the kernel's own, or of a program out of sight in a container."""
    unseen: bool = False
    """Whether the owner is hidden from who looked."""

    @property
    def program(self) -> str:
        """Name of the owner's program, or empty."""
        return self.owner.program if self.owner else ""

    @property
    def who(self) -> str:
        """The owner in words."""
        if self.owner is None:
            what = "its name is hidden from you" if self.unseen else "the kernel's own, or a container's"
            return f"a program of user {self.user} ({what})"
        by = f" ({self.owner.interpreter})" if self.owner.interpreter else ""
        return f"{self.owner.program}{by}, pid {self.owner.pid}, user {self.user}"

    @property
    def any_address(self) -> bool:
        """Whether it takes packets to every address of this machine."""
        return ip_address(self.address).is_unspecified

    def __str__(self) -> str:
        return f"{self.port}/{self.protocol}"


class Place(Struct, frozen=True):
    """Where the sockets are."""

    tunnel: str = ""
    """The tunnel's device; empty: not known, since it is not up."""
    addresses: tuple[str, ...] = ()
    """Own addresses in the tunnel."""
    elsewhere: tuple[str, ...] = ()
    """This machine's addresses on other links, without loopback and link-local ones."""
    lock: LockMode = LockMode.ON
    lan: bool = True
    """Whether the LAN stays reachable while the lock stands."""
    alone: bool = False
    """Whether there is no other link: the tunnel has a network namespace of its own, or there is no tunnel."""


class ForwardPort(Struct, frozen=True):
    """A forward by the port where its packets end."""

    name: str
    protocols: tuple[Protocol, ...]
    listen: int
    chosen: bool = False
    """Whether the port was written down; otherwise the gateway gave it, and its number means nothing."""
    target: str | None = None
    """Another host that packets are rewritten to; what listens there is not seen."""
    sources: tuple[str, ...] = ()
    shut: bool = False


def forward_port(spec: ForwardSpec, listen: int | None) -> ForwardPort | None:
    """A forward as `Exposed` needs it; `listen` is its local port now, if it has one. None: no port is known."""
    port = spec.internal_port or listen
    if port is None:
        return None
    chosen = spec.internal_port is not None
    return ForwardPort(spec.name, spec.protocols, port, chosen, spec.target, spec.sources, spec.shut)


class Exposed(Struct, frozen=True):
    """Ports that a policy opens, and what is behind them."""

    protocol: Protocol
    first: int
    last: int
    why: str
    """What opens them: "open-all", "forward torrent", the name of an entry; empty: an entry without one."""
    sources: tuple[str, ...] = ()
    target: str | None = None
    by_port: bool = True
    """Whether the number of the port says which service it is."""
    forwarded: bool = False
    """Whether it is a forward's: then the rules close it to every other link, as long as the lock stands."""
    listeners: tuple[Listener, ...] = ()

    def __str__(self) -> str:
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{ports}/{self.protocol}"


def exposed(
    policy: PortPolicy, forwards: Iterable[ForwardPort], listeners: Iterable[Listener], place: Place
) -> tuple[Exposed, ...]:
    """Every port that a policy opens, with the sockets that can be reached on it."""
    reached = [each for each in listeners if reaches(each, place)]
    return tuple(
        replace(
            span,
            listeners=tuple(
                each
                for each in reached
                if each.protocol is span.protocol and span.first <= each.port <= span.last and span.target is None
            ),
        )
        for span in _spans(policy, tuple(forwards))
    )


def _spans(policy: PortPolicy, forwards: tuple[ForwardPort, ...]) -> Iterator[Exposed]:
    if policy.mode is PolicyMode.OPEN_ALL:
        for protocol in Protocol:
            yield Exposed(protocol, 1, 65535, OPEN_ALL)
    if policy.mode is PolicyMode.ALLOW_LIST:
        for entry in policy.openings:
            yield Exposed(entry.protocol, entry.first, entry.last, entry.name or entry.comment, entry.sources)
    for forward in forwards:
        if policy.mode is PolicyMode.OPEN_ALL or (
            policy.mode is PolicyMode.ALLOW_LIST and policy.forwarded and not forward.shut
        ):
            for protocol in forward.protocols:
                sources = forward.sources if policy.mode is PolicyMode.ALLOW_LIST else ()
                why = f"forward {forward.name}"
                port = forward.listen
                yield Exposed(protocol, port, port, why, sources, forward.target, forward.chosen, forwarded=True)


def reaches(listener: Listener, place: Place) -> bool:
    """Whether packets that come through the tunnel get to a socket, as far as ports are open."""
    if listener.device and (listener.device == "lo" or (place.tunnel and listener.device != place.tunnel)):
        return False
    address = ip_address(listener.address)
    if address.is_unspecified:
        return True
    if address.is_loopback or address.is_multicast or address.is_link_local or listener.address in place.elsewhere:
        return False
    # What is bound to an address that this machine does not have yet may wait for the tunnel.
    return listener.address in place.addresses or not place.addresses


def answers_beside(listener: Listener, listeners: Iterable[Listener], place: Place) -> bool:
    """Whether a socket that the tunnel reaches, or another of its program on this port, is reached by other links."""
    if place.alone:
        return False
    if listener.any_address and not listener.device:
        return True
    return any(
        (each.protocol, each.port, each.program, each.user)
        == (listener.protocol, listener.port, listener.program, listener.user)
        and (each.address in place.elsewhere or (each.any_address and each.device not in {"lo", place.tunnel}))
        for each in listeners
    )
