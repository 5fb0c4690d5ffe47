"""A conversation with a NAT-PMP gateway, for providers: RFC 6886 sections 3.2 to 3.4.

Requests go one after another, as section 3.1 wants. Errors become failures by their result code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vpnpf.errors import Failure, Misconfigured, Transient, Unsupported
from vpnpf.interfaces import ProviderIO
from vpnpf.model import Protocol
from vpnpf.protocol import natpmp
from vpnpf.protocol.exchange import QUICK, Exchange, Schedule

DELETING = Schedule((0.25, 0.25))
"""Two tries are enough for a delete: the mapping ends by itself anyway."""


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
        doing = f"asking {self.address} for a {protocol} mapping"
        answer = await self._map(protocol, internal_port, external_port, lifetime, doing, QUICK)
        if answer.lifetime == 0:
            raise Transient(doing, "it granted a lifetime of 0 s")
        return answer

    async def map_all(
        self, protocols: tuple[Protocol, ...], internal_port: int, external_port: int, lifetime: int
    ) -> natpmp.MappingAnswer:
        """Map every protocol to the same external port; the answer has the shortest lifetime.

        Raises Failure; Transient if the gateway gives the protocols different ports, since a torrent client
        can announce only one: both mappings are given back then.
        """
        first = await self.map(protocols[0], internal_port, external_port, lifetime)
        shortest = first
        for protocol in protocols[1:]:
            # The first request's tuple is kept: an identical request is what makes a gateway answer alike.
            wish = external_port if internal_port == 0 else first.external_port
            answer = await self.map(protocol, internal_port, wish, lifetime)
            if answer.external_port != first.external_port:
                for mapped, given in ((protocols[0], first), (protocol, answer)):
                    await self.unmap(mapped, internal_port or given.external_port)
                raise Transient(
                    f"asking {self.address} for one port in both protocols",
                    f"it gave {first.external_port}/{protocols[0]} and {answer.external_port}/{protocol}",
                )
            if answer.lifetime < shortest.lifetime:
                shortest = answer
        return shortest

    async def unmap(self, protocol: Protocol, internal_port: int) -> None:
        """End a mapping (RFC 6886 section 3.4); succeeds also if there was none. Raises Failure."""
        doing = f"giving a {protocol} mapping back to {self.address}"
        await self._map(protocol, internal_port, 0, 0, doing, DELETING)

    async def _map(
        self, protocol: Protocol, internal: int, external: int, lifetime: int, doing: str, schedule: Schedule
    ) -> natpmp.MappingAnswer:
        request = natpmp.mapping_request(protocol, internal, external, lifetime)
        parse = partial(natpmp.parse_mapping, protocol=protocol, internal_port=internal)
        answer = await self._ask(request, parse, doing, schedule)
        assert isinstance(answer, natpmp.MappingAnswer)
        return answer

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


def failure_of(answer: natpmp.ErrorAnswer, doing: str) -> Failure:
    """Say what a result code means for the next step (RFC 6886 section 3.5)."""
    match answer.result:
        case natpmp.Result.NOT_AUTHORIZED:
            return Misconfigured(
                doing,
                f"the gateway said {answer}",
                "port forwarding is switched off there, or not for this account",
                300.0,
            )
        case natpmp.Result.UNSUPPORTED_VERSION:
            return Unsupported(doing, f"the gateway said {answer}", "it speaks PCP only, or something else")
        case natpmp.Result.NETWORK_FAILURE | natpmp.Result.OUT_OF_RESOURCES:
            return Transient(doing, f"the gateway said {answer}")
        case _:
            return Unsupported(doing, f"the gateway said {answer}")
