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
    Announcement,
    Failure,
    Lease,
    Manifest,
    MappingAnswer,
    MappingRequest,
    Misconfigured,
    NatPmpGateway,
    NoAnswer,
    Protocol,
    ProviderIO,
    Refused,
    Transient,
    Tunnel,
    Unsupported,
)
from vpnpf_providers.choosing import HINT_SILENT, LIFETIME, RETRY_REFUSED, gateway_of, gateway_option

_HINT_REFUSED = (
    "the gateway has no NAT-PMP, or it is off for this account or key; "
    "if the gateway has another address, set it as options.gateway"
)


class NatPmp:
    """`provider = "natpmp"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="natpmp",
        name="NAT-PMP gateway",
        summary="any VPN server whose gateway speaks NAT-PMP",
        verified="real daemon",
        verified_with="miniupnpd",
        options=(
            gateway_option("address of the gateway inside the tunnel; otherwise the tunnel says"),
            LIFETIME,
        ),
        max_forwards=16,
        announces=True,
    )

    def __init__(self, options: Mapping[str, object]) -> None:
        self._gateway = cast("str | None", options.get("gateway"))
        self._lifetime = cast("int", options.get("lifetime", RECOMMENDED_LIFETIME))

    async def acquire(self, io: ProviderIO, tunnel: Tunnel, request: MappingRequest) -> Lease:
        """Get or renew a lease. Raises Failure."""
        gateway = self._gateway_of(io, tunnel)
        if request.renewal and request.previous is not None:
            return await self._renew(gateway, request.previous)
        try:
            exit_address = await _first(gateway, request.previous)
            granted_at = io.now()
            answer = await self._map(gateway, request)
        except NoAnswer as error:
            raise NoAnswer(error.doing, error.cause, HINT_SILENT.format(gateway.address)) from error
        return _lease(request.spec.protocols, answer, granted_at, exit_address)

    async def release(self, io: ProviderIO, tunnel: Tunnel, lease: Lease) -> None:
        """Delete the mappings. Raises Failure."""
        await self._gateway_of(io, tunnel).unmap_all(lease.protocols, lease.internal_port)

    async def listen(self, io: ProviderIO, tunnel: Tunnel) -> Announcement:
        """Wait until the gateway announces itself (RFC 6886 section 3.2.1). Raises Failure."""
        return await io.hear(gateway_of(self._gateway, tunnel))

    def _gateway_of(self, io: ProviderIO, tunnel: Tunnel) -> NatPmpGateway:
        return NatPmpGateway(io, gateway_of(self._gateway, tunnel))

    async def _map(self, gateway: NatPmpGateway, request: MappingRequest) -> MappingAnswer:
        spec, previous = request.spec, request.previous
        internal, wish = _tuple_for(gateway.io, request)
        answer = await gateway.map_all(spec.protocols, internal, wish, self._lifetime)
        as_before = previous is not None and _ports(answer) == (previous.internal_port, previous.external_port)
        if spec.internal_port is not None or answer.external_port == answer.internal_port or as_before:
            return answer
        return await self._same_inside(gateway, spec.protocols, answer)

    async def _renew(self, gateway: NatPmpGateway, held: Lease) -> Lease:
        """Ask again for what is held (RFC 6886 section 3.3: suggesting the port assigned now)."""
        granted_at = gateway.io.now()
        try:
            answer = await gateway.map_all(
                held.protocols, held.internal_port, held.external_port, self._lifetime, renewal=True
            )
        except (Misconfigured, Unsupported) as error:
            # It gave the port once, so it can: whatever it says now may pass while the lease still holds.
            raise Transient(error.doing, error.cause, error.hint) from error
        exit_address = held.exit_address
        if answer.external_port != held.external_port:
            exit_address = await _exit_address(gateway)
        return _lease(held.protocols, answer, granted_at, exit_address)

    async def _same_inside(
        self, gateway: NatPmpGateway, protocols: tuple[Protocol, ...], answer: MappingAnswer
    ) -> MappingAnswer:
        """Move the mapping to an internal port that is the same as the external one, if the gateway lets us.

        The external port is free again for a moment; if somebody else takes it, what the gateway gives then is kept.
        """
        await gateway.unmap_all(protocols, answer.internal_port)
        port = answer.external_port
        return await gateway.map_all(protocols, port, port, self._lifetime)


def _tuple_for(io: ProviderIO, request: MappingRequest) -> tuple[int, int]:
    """Internal and suggested external port to send; of the lease held last both, since the gateway knows it by them."""
    spec, previous = request.spec, request.previous
    wish = spec.external_port or (previous.external_port if previous else io.random_port())
    if previous is not None and previous.external_port == wish:
        return spec.internal_port or previous.internal_port, wish
    return spec.internal_port or wish, wish


async def _first(gateway: NatPmpGateway, previous: Lease | None) -> str | None:
    """The exit address. A refusal counts as an answer only at the very first: a gateway that gave a port will again."""
    try:
        return (await gateway.external_address()).address
    except Refused as error:
        if previous is not None and previous.lifetime:
            raise
        raise Misconfigured(error.doing, error.cause, _HINT_REFUSED, RETRY_REFUSED) from error


async def _exit_address(gateway: NatPmpGateway) -> str | None:
    """Ask beside a renewal: that the answer does not come is no reason to lose the port."""
    try:
        return (await gateway.external_address()).address
    except Failure:
        return None


def _ports(answer: MappingAnswer) -> tuple[int, int]:
    return answer.internal_port, answer.external_port


def _lease(
    protocols: tuple[Protocol, ...], answer: MappingAnswer, granted_at: float, exit_address: str | None
) -> Lease:
    return Lease(
        external_port=answer.external_port,
        internal_port=answer.internal_port,
        protocols=protocols,
        granted_at=granted_at,
        lifetime=float(answer.lifetime),
        exit_address=exit_address,
        epoch=answer.epoch,
        epoch_at=answer.at,
    )
