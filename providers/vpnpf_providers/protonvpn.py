"""ProtonVPN: NAT-PMP at the tunnel's gateway, with rules of its own.

- The first forward gets the *symmetric* mapping: asked for with internal port 0 and external port 1, it
  comes back with internal port 0 and some external port P, and packets to P arrive at our port P.
- Up to four more are *asymmetric*: internal port q (not 0) comes back with a further external port R, and
  packets to R arrive at our port q.
- UDP and TCP asked for with the same internal port get the same external port.
- A lease is 60 s whatever is asked. The identical request renews it, and is what keeps the port: the same
  tuple as the first time is sent each time, also after a restart, since a fifth internal port is refused until
  an older one has ended.
- A fixed local port changes nothing of that for the first forward: its packets arrive at P and are redirected on
  this machine, so that five forwards with fixed ports fit too.
- Refused (ICMP port unreachable) at the very first request means that the key, the user name or the server has no
  port forwarding. Refused at a renewal passes, and the mapping is usually intact.
- Nothing but NAT-PMP version 0 over IPv4 is known to be answered.

Source: protonvpn.com/support/port-forwarding-manual-setup, and how Proton's own clients behave on the wire.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from vpnpf.api import (
    Failure,
    FileFacts,
    Lease,
    LeaseLost,
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
    Verdict,
)

LIFETIME = 60
"""Seconds; what the gateway grants."""
WELL_KNOWN_GATEWAY = "10.2.0.1"
"""Proton's manual gives this address for every server."""
SLOTS = 5
"""One symmetric mapping and four asymmetric ones."""
_RETRY_REFUSED = 300.0
"""Seconds; a server that has no port forwarding now may have it after Proton's next change, not sooner."""
_PORTS = 1 << 16

_HINT_OFF = (
    "this key was made with NAT-PMP off, and that is fixed for its life: make a new WireGuard configuration "
    "at account.proton.me with NAT-PMP (Port Forwarding) switched on"
)
_HINT_ANOTHER = "make a new WireGuard configuration at account.proton.me with NAT-PMP (Port Forwarding) switched on; a key cannot be changed"
_HINT_REFUSED = (
    "make the WireGuard configuration at account.proton.me with NAT-PMP (Port Forwarding) switched on, choose a "
    "server for P2P, and have a paid plan; with OpenVPN, add +pmp to the OpenVPN user name"
)


def _switched_off(notes: tuple[str, ...]) -> bool:
    return any(re.fullmatch(r"nat-?pmp.*=\s*off", note.strip(), re.IGNORECASE) for note in notes)


def _judge(facts: FileFacts) -> Verdict:
    """What a file tells: its comments, and the addresses that every WireGuard configuration of Proton's has."""
    noted = any(re.match(r"nat-?pmp \(port forwarding\)", note.strip(), re.IGNORECASE) for note in facts.notes)
    addressed = facts.addresses[:1] == ("10.2.0.2/32",) and WELL_KNOWN_GATEWAY in facts.dns
    if _switched_off(facts.notes):
        return Verdict(
            noted, "its key was made with NAT-PMP (Port Forwarding) off, and so never gets a port", _HINT_ANOTHER
        )
    return Verdict(noted or addressed)


class ProtonVpn:
    """`provider = "protonvpn"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="protonvpn",
        name="ProtonVPN",
        summary="NAT-PMP at the tunnel's gateway, up to five ports, leases of 60 s",
        verified="mock",
        max_forwards=SLOTS,
        username_suffix="+pmp",
        domains=("protonvpn.net", "protonvpn.com"),
        judge=_judge,
        help="With a paid plan, make a WireGuard configuration at account.proton.me with NAT-PMP (Port Forwarding) switched on, "
        "for a server that allows P2P, and name the file as tunnel.config. With OpenVPN, take the file of such a server and "
        "the OpenVPN user name of the account; +pmp is added to it.",
    )

    def __init__(self, options: Mapping[str, object]) -> None:
        del options

    async def acquire(self, io: ProviderIO, tunnel: Tunnel, request: MappingRequest) -> Lease:
        """Get or renew a lease. Raises Failure."""
        if request.renewal and request.previous is not None:
            return await self._renew(io, tunnel, request.previous)
        try:
            gateway, exit_address = await self._find(io, tunnel)
            granted_at = io.now()
            asked = _Asked(gateway.address, *_tuple_for(io, request))
            answer = await gateway.map_all(request.spec.protocols, asked.internal, asked.external, LIFETIME)
        except Misconfigured as error:
            if _had_before(request):
                # Through this key a port was had before: a gateway that restarts refuses too, and that passes soon.
                raise Transient(error.doing, error.cause, _HINT_REFUSED) from error
            hint = _HINT_OFF if _made_without(tunnel) else _HINT_REFUSED
            raise Misconfigured(error.doing, error.cause, hint, _RETRY_REFUSED) from error
        except NoAnswer as error:
            raise NoAnswer(error.doing, error.cause, _hint_silent(tunnel)) from error
        return _lease(request.spec.protocols, answer, granted_at, exit_address, json.dumps(asked._asdict()))

    async def release(self, io: ProviderIO, tunnel: Tunnel, lease: Lease) -> None:
        """Delete the mappings, as Proton's own client does: with the real internal port, never 0. Raises Failure."""
        gateway = NatPmpGateway(io, _gateway_of(tunnel, _read(lease.token)))
        await gateway.unmap_all(lease.protocols, lease.internal_port)

    async def _find(self, io: ProviderIO, tunnel: Tunnel) -> tuple[NatPmpGateway, str | None]:
        """The gateway that answers, and the exit address: asking for it is the cheapest probe.

        A refusal counts only here: a gateway that has answered will do so again. It says more than silence does.
        """
        silent: NoAnswer | None = None
        refused: Refused | None = None
        for address in _gateways(tunnel):
            gateway = NatPmpGateway(io, address)
            try:
                return gateway, (await gateway.external_address()).address
            except Refused as error:
                refused = error
            except NoAnswer as error:
                silent = silent or error
        if refused is not None:
            raise Misconfigured(refused.doing, refused.cause) from refused
        assert silent is not None
        raise silent

    async def _renew(self, io: ProviderIO, tunnel: Tunnel, held: Lease) -> Lease:
        asked = _read(held.token)
        if asked is None:
            raise LeaseLost(f"renewing port {held.external_port}", "what was kept of its request cannot be read")
        gateway = NatPmpGateway(io, _gateway_of(tunnel, asked))
        granted_at = io.now()
        try:
            answer = await gateway.map_all(held.protocols, asked.internal, asked.external, LIFETIME, renewal=True)
        except (Misconfigured, Unsupported) as error:
            # The gateway gave the port once, so it can: what it says now may pass while the lease still holds.
            raise Transient(error.doing, error.cause, error.hint) from error
        exit_address = held.exit_address
        if answer.external_port != held.external_port:
            exit_address = await _exit_address(gateway)
        return _lease(held.protocols, answer, granted_at, exit_address, held.token)


class _Asked(NamedTuple):
    """The request that brought a lease, as its token has it."""

    gateway: str
    internal: int
    external: int


def _read(token: str) -> _Asked | None:
    """The request that a token is about; None: it is none of ours."""
    try:
        kept = json.loads(token)
    except (ValueError, RecursionError):
        return None
    match kept:
        case {"gateway": str(gateway), "internal": int(internal), "external": int(external)}:
            good = 0 <= internal < _PORTS and 0 <= external < _PORTS
            return _Asked(gateway, internal, external) if good else None
        case _:
            return None


def _tuple_for(io: ProviderIO, request: MappingRequest) -> tuple[int, int]:
    """Internal and suggested external port to send: what makes the mapping symmetric or not."""
    if request.spec.slot == 0:
        return 0, 1
    if request.spec.internal_port is not None:
        return request.spec.internal_port, 0
    before = _read(request.previous.token) if request.previous else None
    return (before.internal if before and before.internal else io.random_port()), 0


def _gateways(tunnel: Tunnel) -> tuple[str, ...]:
    """Where the gateway may answer, the likelier first: IPv4 only, since nothing else of Proton's is known to."""
    return tuple(dict.fromkeys(address for address in (tunnel.gateway, WELL_KNOWN_GATEWAY) if "." in address))


def _gateway_of(tunnel: Tunnel, asked: _Asked | None) -> str:
    """The gateway that gave a lease, if this tunnel may have it: it may be another tunnel than then."""
    gateways = _gateways(tunnel)
    return asked.gateway if asked is not None and asked.gateway in gateways else gateways[0]


async def _exit_address(gateway: NatPmpGateway) -> str | None:
    """Ask beside a renewal: that the answer does not come is no reason to lose the port."""
    try:
        return (await gateway.external_address()).address
    except Failure:
        return None


def _lease(
    protocols: tuple[Protocol, ...], answer: MappingAnswer, granted_at: float, exit_address: str | None, token: str
) -> Lease:
    return Lease(
        external_port=answer.external_port,
        internal_port=answer.internal_port or answer.external_port,
        protocols=protocols,
        granted_at=granted_at,
        lifetime=float(answer.lifetime),
        exit_address=exit_address,
        epoch=answer.epoch,
        epoch_at=answer.at,
        token=token,
    )


def _had_before(request: MappingRequest) -> bool:
    """Whether a port was had through this key: in this run (then its lifetime is known), or by what was stored of it."""
    previous = request.previous
    return previous is not None and (bool(previous.lifetime) or _read(previous.token) is not None)


def _made_without(tunnel: Tunnel) -> bool:
    """Whether the downloaded file says that its key has no port forwarding ("# NAT-PMP (Port Forwarding) = off")."""
    return _switched_off(tunnel.plan.notes)


def _hint_silent(tunnel: Tunnel) -> str:
    return (
        f"no packet came back through {tunnel.interface}: is its handshake recent, and is the server up? "
        f"Asked: {', '.join(_gateways(tunnel))}"
    )
