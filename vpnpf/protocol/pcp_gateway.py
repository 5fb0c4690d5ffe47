"""A conversation with a PCP server, for providers: RFC 6887 sections 8, 9, 11 and 14.

A nonce is the right to renew and to end a mapping, and whoever asks without it is refused for as long as the
mapping lasts. So it is drawn before the first request and kept: also where no answer came, there may be a mapping.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.errors import Failure, Misconfigured, OtherVersion, Transient, Unsupported, WishRefused
from vpnpf.interfaces import ProviderIO
from vpnpf.model import Protocol
from vpnpf.protocol import pcp, pcp_timing
from vpnpf.protocol.epoch import Epoch
from vpnpf.protocol.exchange import Exchange, Schedule

DELETING = Schedule((0.5, 0.5))
"""Two tries are enough for a delete: the mapping ends by itself anyway."""
_TRIES = 16
"""Tries drawn for a schedule; the budget ends it, and the sixteenth would be hours away."""

_Good = TypeVar("_Good", pcp.MapAnswer, pcp.AnnounceAnswer)
_Bad = pcp.ErrorAnswer | pcp.NatPmpOnly
Given = list[tuple[Protocol, pcp.MapAnswer]]


class PcpMapping(Struct, frozen=True):
    """One external port in one or two protocols."""

    internal_port: int
    external_port: int
    external_address: str | None
    """What the internet sees; None: the server does not say."""
    lifetime: int
    """Seconds from `granted_at`: the shortest of the protocols'."""
    granted_at: float
    """When the first request went out, so that it never ends later for us than for the server."""
    epoch: Epoch
    """Of the last answer."""


class PcpGateway:
    """One server, reached through the tunnel.

    `budget` is how many seconds an exchange may take without an answer.
    """

    def __init__(self, io: ProviderIO, address: str, *, budget: float = pcp_timing.FIRST_BUDGET) -> None:
        self.io = io
        self.address = address
        self._budget = budget

    def new_nonce(self) -> bytes:
        """12 bytes for one lease. Keep them from before `map` until the mappings have ended."""
        return self.io.random_bytes(pcp.NONCE_LENGTH)

    async def announce(self) -> Epoch:
        """Ask for a sign of life: whether PCP is spoken there at all. Raises Failure; OtherVersion says what is."""
        doing = f"asking {self.address} whether it speaks PCP"
        request = pcp.encode_announce(self.io.own_address(self.address))
        answer = _good(await self._ask(request, pcp.parse_announce, doing), doing)
        return Epoch(answer.epoch, self.io.now())

    async def map(
        self,
        protocols: tuple[Protocol, ...],
        internal_port: int,
        external_port: int,
        lifetime: int,
        *,
        nonce: bytes,
        external_address: str | None = None,
        exact: bool = False,
        filters: tuple[pcp.Filter, ...] = (),
        renewal: bool = False,
    ) -> PcpMapping:
        """Map every protocol to the same external port, or renew that.

        `external_port` and `external_address` are the wish, 0 and None for none; when renewing, what is held. With
        `exact` another port than wished is refused. `lifetime` is in seconds. Raises Failure; WishRefused if the wish
        or one port for all protocols cannot be had. What was mapped is given back then, unless it is a renewal: what
        is held stays.
        """
        granted_at = self.io.now()
        wanted = pcp.MapRequest(
            client=self.io.own_address(self.address),
            nonce=nonce,
            protocol=protocols[0],
            internal_port=internal_port,
            lifetime=lifetime,
            external_port=external_port,
            external_address=external_address,
            prefer_failure=exact,
            filters=filters,
        )
        try:
            given = await self._map_each(wanted, protocols, renewal=renewal)
        except WishRefused:
            if exact or renewal or len(protocols) == 1:
                raise
            # Somebody has the port in a later protocol alone. Where the gateway evades to in that one, all may be free.
            given = await self._map_each(wanted, protocols[::-1])
        first, last = given[0][1], given[-1][1]
        return PcpMapping(
            internal_port=first.internal_port,
            external_port=first.external_port,
            external_address=first.external_address,
            lifetime=min(answer.lifetime for _, answer in given),
            granted_at=granted_at,
            epoch=Epoch(last.epoch, self.io.now()),
        )

    async def unmap(self, protocols: tuple[Protocol, ...], internal_port: int, nonce: bytes) -> None:
        """End the mappings of all protocols (RFC 6887 section 15.1); succeeds also if there were none.

        One that fails does not keep the others. Raises the first Failure.
        """
        failures = []
        for protocol in protocols:
            try:
                await self._unmap(protocol, internal_port, nonce)
            except Failure as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def _map_each(
        self, wanted: pcp.MapRequest, protocols: tuple[Protocol, ...], *, renewal: bool = False
    ) -> Given:
        """Map one protocol after the other. Raises Failure; what was mapped before is given back."""
        given: Given = []
        try:
            for protocol in protocols:
                request = _also(wanted, protocol, given)
                given.append((protocol, await self._map(request)))
                self._check_wish(request, given)
        except Failure:
            if not renewal:
                await self._give_back(tuple(protocol for protocol, _ in given), wanted.internal_port, wanted.nonce)
            raise
        return given

    async def _map(self, wanted: pcp.MapRequest) -> pcp.MapAnswer:
        """Ask for one mapping. Raises Failure."""
        doing = f"asking {self.address} for a {wanted.protocol} port"
        answer = await self._ask(pcp.encode_map(wanted), partial(pcp.parse_map, wanted=wanted), doing)
        if wanted.prefer_failure and isinstance(answer, pcp.ErrorAnswer) and answer.result == pcp.Result.UNSUPP_OPTION:
            # A server that does not know the option can be asked without it; what it gives is looked at anyway.
            plain = replace(wanted, prefer_failure=False)
            answer = await self._ask(pcp.encode_map(plain), partial(pcp.parse_map, wanted=plain), doing)
        granted = _good(answer, doing)
        if granted.lifetime == 0:
            raise Transient(doing, "it granted a lifetime of 0 s")
        return granted

    def _check_wish(self, request: pcp.MapRequest, given: Given) -> None:
        """Hold the last answer against the wish: miniupnpd breaks PREFER_FAILURE. Raises WishRefused."""
        answer = given[-1][1]
        same = answer.external_port == request.external_port
        if request.external_address is not None:
            same = same and answer.external_address == request.external_address
        if request.prefer_failure and not same:
            said = " and ".join(f"{each.external_port}/{protocol}" for protocol, each in given)
            doing = f"asking {self.address} for port {request.external_port} and no other"
            raise WishRefused(doing, f"it gave {said}", "somebody else has that external port")

    async def _unmap(self, protocol: Protocol, internal_port: int, nonce: bytes) -> None:
        doing = f"giving a {protocol} mapping back to {self.address}"
        wanted = pcp.MapRequest(self.io.own_address(self.address), nonce, protocol, internal_port, lifetime=0)
        parse = partial(pcp.parse_map, wanted=wanted)
        answer = await self._ask(pcp.encode_map(wanted), parse, doing, DELETING)
        if isinstance(answer, pcp.ErrorAnswer) and answer.result == pcp.Result.NO_RESOURCES:
            return  # the end of a mapping needs none: so says miniupnpd where there is no such mapping
        if left := _good(answer, doing).lifetime:
            raise Transient(doing, f"it keeps the mapping for {left} s")

    async def _give_back(self, protocols: tuple[Protocol, ...], internal_port: int, nonce: bytes) -> None:
        """End what a request that failed in the middle has brought; why it failed matters more than this."""
        with contextlib.suppress(Failure):
            await self.unmap(protocols, internal_port, nonce)

    async def _ask(
        self,
        request: bytes,
        parse: Callable[[bytes], _Good | _Bad | None],
        doing: str,
        schedule: Schedule | None = None,
    ) -> _Good | _Bad:
        exchange: Exchange[_Good | _Bad] = Exchange(request, parse, doing, schedule or self._schedule())
        return await self.io.exchange(exchange, self.address, pcp.PORT)

    def _schedule(self) -> Schedule:
        rands = pcp_timing.rand(self.io.random_bytes(2 * _TRIES))
        return pcp_timing.within(pcp_timing.retransmission(rands), self._budget)


def _also(wanted: pcp.MapRequest, protocol: Protocol, given: Given) -> pcp.MapRequest:
    """The request for the next protocol: once a port is given, that one or none."""
    if not given:
        return replace(wanted, protocol=protocol)
    first = given[0][1]
    return replace(
        wanted,
        protocol=protocol,
        external_port=first.external_port,
        external_address=first.external_address,
        prefer_failure=True,
    )


def _good(answer: _Good | _Bad, doing: str) -> _Good:
    if isinstance(answer, pcp.ErrorAnswer | pcp.NatPmpOnly):
        raise failure_of(answer, doing)
    return answer


def failure_of(answer: pcp.ErrorAnswer | pcp.NatPmpOnly, doing: str) -> Failure:  # noqa: PLR0911 - one kind a line
    """Say what a result code means for the next step (RFC 6887 section 7.4)."""
    if isinstance(answer, pcp.NatPmpOnly):
        return OtherVersion(doing, "the gateway speaks NAT-PMP only", version=0)
    said, wait = f"the gateway said {answer}", float(answer.lifetime)
    match answer.result:
        case pcp.Result.UNSUPP_VERSION:
            return OtherVersion(doing, said, f"it speaks version {answer.version}", wait, version=answer.version)
        case pcp.Result.NOT_AUTHORIZED:
            hint = (
                "port forwarding is switched off there, or not for this account; or the internal port is held by "
                "another program or an earlier run until that mapping ends"
            )
            return Misconfigured(doing, said, hint, wait)
        case pcp.Result.ADDRESS_MISMATCH:
            hint = "something on the way there changes our address (NAT): is it the gateway of this tunnel?"
            return Misconfigured(doing, said, hint, wait)
        case pcp.Result.NETWORK_FAILURE:
            return Transient(doing, said, "it has no address on the internet now", wait)
        case pcp.Result.NO_RESOURCES | pcp.Result.USER_EX_QUOTA:
            hint = "all ports that you may have are mapped; those of a program that ended go with their lifetime"
            return Transient(doing, said, hint, wait)
        case pcp.Result.CANNOT_PROVIDE_EXTERNAL:
            return WishRefused(doing, said, "somebody else has that external port", wait)
        case _:
            return Unsupported(doing, said, "it knows PCP, but not this request", wait)
