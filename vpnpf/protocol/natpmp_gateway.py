"""A conversation with a NAT-PMP gateway, for providers: RFC 6886 sections 3.2 to 3.4.

Requests go one after another, as section 3.1 wants. Errors become failures by their result code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from vpnpf.errors import Failure, Misconfigured, Transient, Unsupported
from vpnpf.interfaces import ProviderIO
from vpnpf.model import Protocol
from vpnpf.protocol import natpmp
from vpnpf.protocol.exchange import QUICK, Exchange, Schedule

DELETING = Schedule((0.25, 0.25))
"""Two tries are enough for a delete: the mapping ends by itself anyway."""

ASK_AGAIN = 300.0
"""Seconds until a gateway that said no is asked again: somebody may switch it on meanwhile."""

Given = list[tuple[Protocol, natpmp.MappingAnswer]]


class NatPmpGateway:
    """One gateway, reached through the tunnel."""

    def __init__(self, io: ProviderIO, address: str) -> None:
        self.io = io
        self.address = address

    async def external_address(self) -> natpmp.AddressAnswer:
        """The address that the internet sees. Raises Failure."""
        doing = f"asking {self.address} for the external address"
        answer = await self._ask(natpmp.address_request(), natpmp.parse_address, doing, QUICK)
        assert isinstance(answer, natpmp.AddressAnswer)
        return answer

    async def map(
        self, protocol: Protocol, internal_port: int, external_port: int, lifetime: int
    ) -> natpmp.MappingAnswer:
        """Ask for a mapping; the answer may carry another external port and lifetime. Raises Failure."""
        doing = f"asking {self.address} for a {protocol} port"
        answer = await self._map(protocol, internal_port, external_port, lifetime, doing, QUICK)
        if answer.lifetime == 0:
            raise Transient(doing, "it granted a lifetime of 0 s")
        # A gateway may only shorten it; one that says more may end it as asked, and the port would be dead till then.
        return replace(answer, lifetime=min(answer.lifetime, lifetime))

    async def map_all(
        self,
        protocols: tuple[Protocol, ...],
        internal_port: int,
        external_port: int,
        lifetime: int,
        *,
        renewal: bool = False,
    ) -> natpmp.MappingAnswer:
        """Map every protocol to the same external port; the answer has the shortest lifetime and the last epoch.

        Raises Failure; Transient if the gateway gives the protocols different ports, since a torrent client
        can announce only one. What was mapped is given back then, unless it is a renewal: what is held stays.
        """
        given = await self._map_each(protocols, internal_port, external_port, lifetime, renewal=renewal)
        if _ports(given) > 1 and internal_port != 0 and external_port != 0 and not renewal:
            # Somebody has the wished port in one protocol alone. Where the gateway has evaded to, both may be free.
            await self._give_back(given, internal_port)
            evaded = next(answer.external_port for _, answer in given if answer.external_port != external_port)
            given = await self._map_each(protocols, internal_port, evaded, lifetime)
        if _ports(given) > 1:
            if not renewal:
                await self._give_back(given, internal_port)
            said = " and ".join(f"{answer.external_port}/{protocol}" for protocol, answer in given)
            raise Transient(f"asking {self.address} for one port in all protocols", f"it gave {said}")
        last = given[-1][1]
        return replace(last, lifetime=min(answer.lifetime for _, answer in given))

    async def _map_each(
        self,
        protocols: tuple[Protocol, ...],
        internal_port: int,
        external_port: int,
        lifetime: int,
        *,
        renewal: bool = False,
    ) -> Given:
        """Map one protocol after the other. Raises Failure; what was mapped before is given back."""
        given: Given = []
        try:
            for protocol in protocols:
                wish = external_port
                if given and internal_port != 0 and external_port != 0:
                    # Without an internal port or a wish the same tuple is sent: that is what is answered alike then.
                    wish = given[0][1].external_port
                given.append((protocol, await self.map(protocol, internal_port, wish, lifetime)))
        except Failure:
            if not renewal:
                await self._give_back(given, internal_port)
            raise
        return given

    async def unmap(self, protocol: Protocol, internal_port: int) -> None:
        """End a mapping (RFC 6886 section 3.4); succeeds also if there was none. Raises Failure."""
        doing = f"giving a {protocol} mapping back to {self.address}"
        answer = await self._map(protocol, internal_port, 0, 0, doing, DELETING)
        if answer.lifetime:
            raise Transient(doing, f"it keeps port {answer.external_port} for {answer.lifetime} s")

    async def unmap_all(self, protocols: tuple[Protocol, ...], internal_port: int) -> None:
        """End the mappings of all protocols; one that fails does not keep the others. Raises the first Failure."""
        failures = []
        for protocol in protocols:
            try:
                await self.unmap(protocol, internal_port)
            except Failure as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def _give_back(self, given: Given, internal_port: int) -> None:
        """End what a request that failed in the middle has brought; why it failed matters more than this."""
        for protocol, answer in given:
            with contextlib.suppress(Failure):
                await self.unmap(protocol, internal_port or answer.external_port)

    async def _map(
        self, protocol: Protocol, internal: int, external: int, lifetime: int, doing: str, schedule: Schedule
    ) -> natpmp.MappingAnswer:
        request = natpmp.mapping_request(protocol, internal, external, lifetime)
        parse = partial(natpmp.parse_mapping, protocol=protocol, internal_port=internal)
        answer = await self._ask(request, parse, doing, schedule)
        assert isinstance(answer, natpmp.MappingAnswer)
        return replace(answer, at=self.io.now())

    async def _ask(
        self,
        request: bytes,
        parse: Callable[[bytes], natpmp.Answer | None],
        doing: str,
        schedule: Schedule,
    ) -> natpmp.AddressAnswer | natpmp.MappingAnswer:
        exchange: Exchange[natpmp.Answer] = Exchange(request, parse, doing, schedule)
        answer = await self.io.exchange(exchange, self.address, natpmp.PORT)
        if isinstance(answer, natpmp.ErrorAnswer):
            raise failure_of(answer, doing)
        return answer


def _ports(given: Given) -> int:
    """How many external ports it gave; one is what is wanted."""
    return len({answer.external_port for _, answer in given})


def failure_of(answer: natpmp.ErrorAnswer, doing: str) -> Failure:
    """Say what a result code means for the next step (RFC 6886 section 3.5)."""
    said = f"the gateway said {answer}"
    match answer.result:
        case natpmp.Result.UNSUPPORTED_VERSION:
            return Unsupported(doing, said, "it speaks PCP only, or something else")
        case natpmp.Result.NOT_AUTHORIZED:
            hint = "port forwarding is switched off there, or not for this account"
            return Misconfigured(doing, said, hint, ASK_AGAIN)
        case natpmp.Result.NETWORK_FAILURE:
            return Transient(doing, said, "it has no address on the internet now")
        case natpmp.Result.OUT_OF_RESOURCES:
            hint = "all ports that you may have are mapped; those of a program that ended go with their lifetime"
            return Transient(doing, said, hint)
        case _:
            return Unsupported(doing, said, "it knows NAT-PMP, but not this request", ASK_AGAIN)
