"""ProtonVPN: NAT-PMP at the tunnel's gateway, with rules of its own.

- The first forward gets the *symmetric* mapping: asked for with internal port 0 and external port 1, it
  comes back with internal port 0 and some external port P, and packets to P arrive at our port P.
- Up to four more are *asymmetric*: internal port q (not 0) comes back with a further external port R, and
  packets to R arrive at our port q.
- UDP and TCP asked for with the same internal port get the same external port.
- A lease is 60 s whatever is asked. The identical request renews it, and is what keeps the port: the same
  tuple as the first time is sent each time.
- Refused (ICMP port unreachable) at the first request means that the key, the user name or the server has no
  port forwarding. Refused at a renewal passes, and the mapping is usually intact.
- Nothing but NAT-PMP version 0 over IPv4 is known to be answered.

Source: protonvpn.com/support/port-forwarding-manual-setup, and how Proton's own clients behave on the wire.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import ClassVar

from vpnpf.api import (
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
)

LIFETIME = 60
"""Seconds; what the gateway grants."""
WELL_KNOWN_GATEWAY = "10.2.0.1"
"""Proton's manual gives this address for every server."""
SLOTS = 5
"""One symmetric mapping and four asymmetric ones."""
_RETRY_REFUSED = 300.0
"""Seconds; a server that has no port forwarding now may have it after Proton's next change, not sooner."""

_HINT_OFF = (
    "this key was made with NAT-PMP off, and that is fixed for its life: make a new WireGuard configuration "
    "at account.proton.me with NAT-PMP (Port Forwarding) switched on"
)
_HINT_REFUSED = (
    "make the WireGuard configuration at account.proton.me with NAT-PMP (Port Forwarding) switched on, choose a "
    "server for P2P, and have a paid plan; with OpenVPN, add +pmp to the OpenVPN user name"
)


class ProtonVpn:
    """`provider = "protonvpn"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="protonvpn",
        name="ProtonVPN",
        summary="NAT-PMP at the tunnel's gateway, up to five ports, leases of 60 s",
        verified="mock",
        max_forwards=SLOTS,
    )

    def __init__(self, options: Mapping[str, object]) -> None:
        del options

    async def acquire(self, io: ProviderIO, tunnel: Tunnel, request: MappingRequest) -> Lease:
        """Get or renew a lease. Raises Failure."""
        if request.renewal and request.previous is not None:
            return await self._renew(io, request.previous)
        try:
            gateway, exit_address = await self._find(io, tunnel)
            internal, wish = _tuple_for(io, request)
            answer = await gateway.map_all(request.spec.protocols, internal, wish, LIFETIME)
        except Refused as error:
            hint = _HINT_OFF if _made_without(tunnel) else _HINT_REFUSED
            raise Misconfigured(error.doing, error.cause, hint, _RETRY_REFUSED) from error
        except NoAnswer as error:
            raise NoAnswer(error.doing, error.cause, _hint_silent(tunnel)) from error
        token = json.dumps({"gateway": gateway.address, "internal": internal, "external": wish})
        return _lease(io, request.spec.protocols, answer, exit_address, token)

    async def release(self, io: ProviderIO, tunnel: Tunnel, lease: Lease) -> None:
        """Delete the mappings, as Proton's own client does: with the real internal port, never 0. Raises Failure."""
        del tunnel  # the gateway that gave the lease takes it back
        gateway = NatPmpGateway(io, json.loads(lease.token)["gateway"])
        for protocol in reversed(lease.protocols):
            await gateway.unmap(protocol, lease.internal_port)

    async def _find(self, io: ProviderIO, tunnel: Tunnel) -> tuple[NatPmpGateway, str]:
        """The gateway that answers, and the exit address: asking for it is the cheapest probe."""
        first: Failure | None = None
        for address in dict.fromkeys((tunnel.gateway, WELL_KNOWN_GATEWAY)):
            gateway = NatPmpGateway(io, address)
            try:
                return gateway, (await gateway.external_address()).address
            except (Refused, NoAnswer) as error:
                first = first or error
        assert first is not None
        raise first

    async def _renew(self, io: ProviderIO, held: Lease) -> Lease:
        asked = json.loads(held.token)
        gateway = NatPmpGateway(io, asked["gateway"])
        try:
            answer = await gateway.map_all(held.protocols, asked["internal"], asked["external"], LIFETIME)
        except Misconfigured as error:
            # The gateway gave the port once, so it can: what it says now may pass while the lease still holds.
            raise Transient(error.doing, error.cause, error.hint) from error
        exit_address = held.exit_address
        if answer.external_port != held.external_port:
            exit_address = (await gateway.external_address()).address
        return _lease(io, held.protocols, answer, exit_address, held.token)


def _tuple_for(io: ProviderIO, request: MappingRequest) -> tuple[int, int]:
    """Internal and suggested external port to send: what makes the mapping symmetric or not."""
    spec = request.spec
    if spec.internal_port is not None:
        return spec.internal_port, 0
    return (0, 1) if spec.slot == 0 else (io.random_port(), 0)


def _lease(
    io: ProviderIO, protocols: tuple[Protocol, ...], answer: MappingAnswer, exit_address: str | None, token: str
) -> Lease:
    return Lease(
        external_port=answer.external_port,
        internal_port=answer.internal_port or answer.external_port,
        protocols=protocols,
        granted_at=io.now(),
        lifetime=float(answer.lifetime),
        exit_address=exit_address,
        epoch=answer.epoch,
        token=token,
    )


def _made_without(tunnel: Tunnel) -> bool:
    """Whether the downloaded file says that its key has no port forwarding ("# NAT-PMP (Port Forwarding) = off")."""
    return any(re.fullmatch(r"nat-?pmp.*=\s*off", note.strip(), re.IGNORECASE) for note in tunnel.plan.notes)


def _hint_silent(tunnel: Tunnel) -> str:
    return (
        f"no packet came back through {tunnel.interface}: is the handshake recent, and is {WELL_KNOWN_GATEWAY} "
        "not also an address of your own network?"
    )
