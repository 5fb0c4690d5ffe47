"""Three ways to ask a gateway for a port, made alike: PCP (RFC 6887), NAT-PMP (RFC 6886) and UPnP IGD.

A way is one conversation. `find` sees whether the gateway speaks it, as far as that can be seen without a mapping;
`map` makes or renews a mapping of one external port in all protocols; `unmap` ends it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from vpnpf.api import (
    EpochRule,
    Failure,
    Igd,
    IgdMapping,
    Lease,
    LeaseLost,
    NatPmpGateway,
    PcpGateway,
    Protocol,
    ProviderIO,
    Transient,
)

Protocols = tuple[Protocol, ...]


class Given(NamedTuple):
    """What a gateway gave."""

    internal: int
    external: int
    lifetime: float | None
    """Seconds from `granted_at`; None: it does not end by itself."""
    granted_at: float
    epoch: int | None = None
    epoch_at: float = 0.0
    rule: EpochRule = EpochRule.NATPMP


class Pcp:
    """PCP. `nonces` holds the right to each mapping by its internal port, and gets those that are drawn here."""

    def __init__(self, io: ProviderIO, address: str, nonces: dict[int, bytes]) -> None:
        self._gateway = PcpGateway(io, address)
        self._nonces = nonces
        self.answered = False
        """Whether the gateway is known to speak this."""
        self.exit: str | None = None
        """The address that the internet sees, as last heard."""

    async def find(self) -> None:
        """Nothing: not every server answers an ANNOUNCE, so the first mapping tells."""

    async def map(
        self, protocols: Protocols, internal: int, wish: int, lifetime: int, held: Lease | None = None
    ) -> Given:
        """Map, or renew what is `held`. Raises Failure."""
        if internal not in self._nonces:
            self._nonces[internal] = self._gateway.new_nonce()
        mapping = await self._gateway.map(
            protocols,
            internal,
            wish,
            lifetime,
            nonce=self._nonces[internal],
            external_address=held.exit_address if held else None,
            renewal=held is not None,
        )
        self.exit = mapping.external_address
        return Given(
            mapping.internal_port,
            mapping.external_port,
            float(mapping.lifetime),
            mapping.granted_at,
            mapping.epoch.seconds,
            mapping.epoch.at,
            EpochRule.PCP,
        )

    async def look(self) -> None:
        """Nothing: the exit address came with the mapping."""

    async def unmap(self, protocols: Protocols, internal: int, external: int) -> None:
        """End the mappings. Raises Failure; LeaseLost without their nonce."""
        if internal not in self._nonces:
            raise LeaseLost(f"giving port {external} back", "its nonce is not known any more")
        await self._gateway.unmap(protocols, internal, self._nonces[internal])


class NatPmpWay:
    """NAT-PMP."""

    def __init__(self, io: ProviderIO, address: str) -> None:
        self._gateway = NatPmpGateway(io, address)
        self.answered = False
        self.exit: str | None = None

    async def find(self) -> None:
        """Ask for the exit address: the cheapest probe. Raises Failure."""
        self.exit = (await self._gateway.external_address()).address
        self.answered = True

    async def map(
        self, protocols: Protocols, internal: int, wish: int, lifetime: int, held: Lease | None = None
    ) -> Given:
        """Map, or renew what is `held`. Raises Failure."""
        granted_at = self._gateway.io.now()
        answer = await self._gateway.map_all(protocols, internal, wish, lifetime, renewal=held is not None)
        lifetime_given = float(answer.lifetime)
        return Given(answer.internal_port, answer.external_port, lifetime_given, granted_at, answer.epoch, answer.at)

    async def look(self) -> None:
        """Ask for the exit address beside a mapping: that the answer does not come is no reason to lose the port."""
        self.exit = None
        with contextlib.suppress(Failure):
            self.exit = (await self._gateway.external_address()).address

    async def unmap(self, protocols: Protocols, internal: int, external: int) -> None:
        """End the mappings. Raises Failure."""
        del external
        await self._gateway.unmap_all(protocols, internal)


class Upnp:
    """UPnP IGD, version 1 or 2."""

    def __init__(self, io: ProviderIO, address: str) -> None:
        self._io = io
        self._address = address
        self._igd: Igd | None = None
        self.answered = False
        self.exit: str | None = None

    async def find(self) -> None:
        """Look for the device. Raises Failure."""
        await self._device()
        self.answered = True
        await self.look()

    async def map(
        self, protocols: Protocols, internal: int, wish: int, lifetime: int, held: Lease | None = None
    ) -> Given:
        """Map, or renew what is `held`. Raises Failure; Transient if the protocols get different ports.

        What was mapped is given back then, unless something is held.
        """
        granted_at = self._io.now()
        given = await self._map_each(protocols, internal, wish, lifetime, keep=held is not None)
        if len(_ports(given)) > 1 and held is None:
            # Somebody has the wished port in one protocol alone. Where the gateway has evaded to, both may be free.
            await self._give_back(given)
            evaded = next(mapping.external_port for _, mapping in given if mapping.external_port != wish)
            given = await self._map_each(protocols, internal, evaded, lifetime, keep=False)
        if len(_ports(given)) > 1:
            if held is None:
                await self._give_back(given)
            said = " and ".join(f"{mapping.external_port}/{protocol}" for protocol, mapping in given)
            raise Transient(f"asking {self._address} for one port in all protocols", f"it gave {said}")
        first = given[0][1]
        ends = [mapping.lifetime for _, mapping in given if mapping.lifetime is not None]
        return Given(first.internal_port, first.external_port, min(ends, default=None), granted_at)

    async def look(self) -> None:
        """Ask for the exit address; None if there is none now."""
        self.exit = None
        with contextlib.suppress(Failure):
            self.exit = await (await self._device()).external_address()

    async def unmap(self, protocols: Protocols, internal: int, external: int) -> None:
        """End the mappings; one that fails does not keep the others. Raises the first Failure."""
        del internal
        device = await self._device()
        failures = []
        for protocol in protocols:
            try:
                await device.delete_mapping(protocol, external)
            except Failure as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def _device(self) -> Igd:
        if self._igd is None:
            self._igd = await self._io.igd(self._address)
        return self._igd

    async def _map_each(
        self, protocols: Protocols, internal: int, wish: int, lifetime: int, *, keep: bool
    ) -> list[tuple[Protocol, IgdMapping]]:
        device = await self._device()
        given: list[tuple[Protocol, IgdMapping]] = []
        try:
            for protocol in protocols:
                port = given[0][1].external_port if given else wish
                inside = given[0][1].internal_port if given else internal
                given.append((protocol, await device.add_mapping(protocol, port, inside, lifetime)))
        except Failure:
            if not keep:
                await self._give_back(given)
            raise
        return given

    async def _give_back(self, given: list[tuple[Protocol, IgdMapping]]) -> None:
        """End what brought nothing; why it did not matters more than this."""
        for protocol, mapping in given:
            with contextlib.suppress(Failure):
                await (await self._device()).delete_mapping(protocol, mapping.external_port)


def _ports(given: list[tuple[Protocol, IgdMapping]]) -> set[tuple[int, int]]:
    return {(mapping.external_port, mapping.internal_port) for _, mapping in given}


Way = Pcp | NatPmpWay | Upnp
WAYS: dict[str, Callable[[ProviderIO, str, dict[int, bytes]], Way]] = {
    "pcp": Pcp,
    "nat-pmp": lambda io, address, _nonces: NatPmpWay(io, address),
    "upnp": lambda io, address, _nonces: Upnp(io, address),
}
"""By name, in the order in which a gateway that nothing is known of is asked."""
