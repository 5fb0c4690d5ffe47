"""Any gateway that speaks NAT-PMP (RFC 6886), asked as its authors meant it.

A mapping is wanted whose external and internal port are the same, since a torrent client announces
the port it listens on. Where the gateway gives another external port than the internal one asked for, the
mapping is asked for once more with that port inside; if that cannot be had either, the lease says so and
the packets are redirected on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from vpnpf.api import (
    RECOMMENDED_LIFETIME,
    Lease,
    Manifest,
    MappingAnswer,
    MappingRequest,
    Misconfigured,
    NatPmpGateway,
    NoAnswer,
    Option,
    Protocol,
    ProviderIO,
    Refused,
    Transient,
    Tunnel,
)


def _address(value: object) -> str:
    parts = str(value).split(".")
    good = len(parts) == 4 and all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts)  # noqa: PLR2004
    return "" if good else "not an IPv4 address"


def _lifetime(value: object) -> str:
    return "" if 1 <= cast("int", value) <= 86400 else "not from 1 to 86400 seconds"  # noqa: PLR2004


class NatPmp:
    """`provider = "natpmp"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="natpmp",
        name="NAT-PMP gateway",
        summary="any VPN server whose gateway speaks NAT-PMP",
        verified="real daemon (miniupnpd), mock",
        options=(
            Option("gateway", str, "address of the gateway inside the tunnel; otherwise the tunnel says", _address),
            Option("lifetime", int, f"seconds to ask for; {RECOMMENDED_LIFETIME} if not given", _lifetime),
        ),
        max_forwards=16,
    )

    def __init__(self, options: Mapping[str, object]) -> None:
        self._gateway = cast("str | None", options.get("gateway"))
        self._lifetime = cast("int", options.get("lifetime", RECOMMENDED_LIFETIME))

    async def acquire(self, io: ProviderIO, tunnel: Tunnel, request: MappingRequest) -> Lease:
        """Get or renew a lease. Raises Failure."""
        gateway = NatPmpGateway(io, self._gateway or tunnel.gateway)
        spec, previous = request.spec, request.previous
        if request.renewal and previous is not None:
            return await self._renew(gateway, previous)
        try:
            exit_address = (await gateway.external_address()).address
            wish = spec.external_port or (previous.external_port if previous else io.random_port())
            internal = spec.internal_port or wish
            answer = await gateway.map_all(spec.protocols, internal, wish, self._lifetime)
            if answer.external_port != internal and spec.internal_port is None:
                answer = await self._same_inside(gateway, spec.protocols, answer)
        except Refused as error:
            raise Misconfigured(
                error.doing,
                error.cause,
                "the gateway has no NAT-PMP, or it is off for this account or key; "
                "if the gateway has another address, set it as options.gateway",
                300.0,
            ) from error
        except NoAnswer as error:
            raise NoAnswer(
                error.doing,
                error.cause,
                f"is {gateway.address} the gateway of this tunnel, and not an address of your own network?",
            ) from error
        return _lease(io, spec.protocols, answer, exit_address)

    async def release(self, io: ProviderIO, tunnel: Tunnel, lease: Lease) -> None:
        """Delete the mappings. Raises Failure."""
        gateway = NatPmpGateway(io, self._gateway or tunnel.gateway)
        for protocol in lease.protocols:
            await gateway.unmap(protocol, lease.internal_port)

    async def _renew(self, gateway: NatPmpGateway, held: Lease) -> Lease:
        """Ask again for what is held (RFC 6886 section 3.3: suggesting the port assigned now)."""
        try:
            answer = await gateway.map_all(held.protocols, held.internal_port, held.external_port, self._lifetime)
        except Misconfigured as error:
            # It gave the port once, so it can: whatever it says now may pass while the lease still holds.
            raise Transient(error.doing, error.cause, error.hint) from error
        return _lease(gateway.io, held.protocols, answer, held.exit_address)

    async def _same_inside(
        self, gateway: NatPmpGateway, protocols: tuple[Protocol, ...], answer: MappingAnswer
    ) -> MappingAnswer:
        """Move the mapping to an internal port that is the same as the external one, if the gateway lets us.

        The external port is free again for a moment; if somebody else takes it, what the gateway gives then is kept.
        """
        for protocol in protocols:
            await gateway.unmap(protocol, answer.internal_port)
        port = answer.external_port
        return await gateway.map_all(protocols, port, port, self._lifetime)


def _lease(io: ProviderIO, protocols: tuple[Protocol, ...], answer: MappingAnswer, exit_address: str | None) -> Lease:
    return Lease(
        external_port=answer.external_port,
        internal_port=answer.internal_port,
        protocols=protocols,
        granted_at=io.now(),
        lifetime=float(answer.lifetime),
        exit_address=exit_address,
        epoch=answer.epoch,
    )
