"""A provider and its far side, as the provider contract drives them: no sockets, and virtual time."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import ClassVar, TypeVar

from vpnpf.errors import Failure, Misconfigured
from vpnpf.interfaces import Provider
from vpnpf.leases import from_store, merged
from vpnpf.model import ForwardSpec, Lease, MappingRequest, Protocol, Tunnel
from vpnpf.testing import FakeClock, FakeIO

US, GATEWAY, EXIT = "10.2.0.2", "10.2.0.1", "198.51.100.11"
LONGEST_TEXT = 500
"""Characters of what a person is told of one failure."""
Mapped = set[tuple[Protocol, int, int]]
T = TypeVar("T")


class World:
    """A provider, the tunnel, what is at its far end, and time.

    What a subclass has to write are the far side and its switches. A switch is on until `heal`; what
    `change_port` and `lose` did stays done.
    """

    hostilities: ClassVar[tuple[str, ...]] = ()
    """Answers that no honest far side gives, by names for `hostile`; without any the provider asks nobody."""
    tokens: ClassVar[tuple[str, ...]] = ()
    """Tokens of leases that only this provider could misread."""

    def __init__(self, plugin: type[Provider], options: dict[str, object], io: FakeIO, tunnel: Tunnel) -> None:
        self.plugin, self.options = plugin, options
        self.io, self.tunnel = io, tunnel
        self.provider = plugin(options)
        self.secrets: set[str] = set()
        """What no text for people may hold: passwords, tokens, keys, signatures. The far side adds what it gives out."""
        self.told: list[Failure] = []
        """All that failed, in order; the contract reads each of them."""

    @property
    def clock(self) -> FakeClock:
        return self.io.clock

    def restart(self) -> None:
        """A new process: nothing is remembered but what is stored (`io.store`, and what `stored` makes of a lease)."""
        self.provider = self.plugin(self.options)

    # -- what the engine does ----------------------------------------------------------------

    async def acquire(self, spec: ForwardSpec | None = None, previous: Lease | None = None) -> Lease:
        request = MappingRequest(spec or ForwardSpec("torrent"), previous)
        return await self._heard(self.provider.acquire(self.io, self.tunnel, request))

    async def renew(self, held: Lease, spec: ForwardSpec | None = None) -> Lease:
        request = MappingRequest(spec or ForwardSpec("torrent", protocols=held.protocols), held, renewal=True)
        return await self._heard(self.provider.acquire(self.io, self.tunnel, request))

    async def release(self, lease: Lease) -> None:
        await self._heard(self.provider.release(self.io, self.tunnel, lease))

    async def _heard(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except Failure as failure:
            self.told.append(failure)
            raise

    # -- the far side ------------------------------------------------------------------------

    @property
    def mapped(self) -> Mapped:
        """What the far side really forwards now: protocol, external port, and our port where its packets arrive."""
        raise NotImplementedError

    def change_port(self) -> None:
        """At the next renewal the far side gives another port; the old one is dead from then on."""
        raise NotImplementedError

    def lose(self) -> None:
        """The far side knows nothing any more of what it gave, as after a restart."""
        raise NotImplementedError

    def deny(self) -> None:
        """The account, or the key, has no right to a port: the person has to act."""
        raise NotImplementedError

    def forbid(self) -> None:
        """This server forwards no ports at all."""
        raise NotImplementedError

    def silence(self) -> None:
        """What is asked gets no answer, for as long as `io` waits for one."""
        raise NotImplementedError

    def refuse(self) -> None:
        """Nothing listens there: ICMP port unreachable, or a reset."""
        raise NotImplementedError

    def hostile(self, name: str) -> None:
        """Everything is answered like this one of `hostilities`."""
        raise NotImplementedError

    def vanish(self) -> None:
        """The tunnel's device is gone."""
        self.io.gone = True

    def heal(self) -> None:
        """All is well again."""
        self.io.gone = False

    # -- what is said to people --------------------------------------------------------------

    def check_texts(self) -> None:
        """See that everything that failed was told as it has to be."""
        assert not held_in(repr(self.provider), self.secrets), "a secret is in the provider's repr"
        for failure in self.told:
            assert failure.doing
            assert failure.cause
            for text in (str(failure), failure.hint):
                assert text.isprintable(), f"not printable: {text!r}"
                assert len(text) <= LONGEST_TEXT, f"too long to be read: {text[:80]}..."
            if isinstance(failure, Misconfigured):
                assert failure.hint, f"nothing to do about: {failure}"
            link: BaseException | None = failure
            while link is not None:
                assert not held_in(f"{link!r} {link} {getattr(link, '__notes__', '')}", self.secrets), (
                    f"a secret is in a {type(link).__name__}"
                )
                link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def held_in(text: str, secrets: set[str]) -> bool:
    """Whether one of the secrets is there to be read."""
    return any(secret in text for secret in secrets)


def mappings_of(*leases: Lease) -> Mapped:
    return {(protocol, lease.external_port, lease.internal_port) for lease in leases for protocol in lease.protocols}


def stored(lease: Lease) -> Lease:
    """The lease as the next process reads it."""
    return from_store(merged(None, "here", (("torrent", lease),)))["here"]["torrent"]
