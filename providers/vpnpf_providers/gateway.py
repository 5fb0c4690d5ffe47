"""Any gateway: PCP, then NAT-PMP, then UPnP, whichever it speaks.

What has worked is tried first the next time. It is kept in the lease's token, since a lease is renewed and ended
the way it was had, with its nonce (RFC 6887 section 11.3.2), and in the provider for its other leases.

As with `natpmp`, a mapping is wanted whose external and internal port are the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, cast

from vpnpf.api import (
    RECOMMENDED_LIFETIME,
    Announcement,
    Failure,
    Lease,
    LeaseLost,
    Manifest,
    MappingRequest,
    Misconfigured,
    NoAnswer,
    Option,
    OtherVersion,
    Protocol,
    ProviderIO,
    Refused,
    Transient,
    Tunnel,
    Unsupported,
)
from vpnpf_providers.choosing import HINT_SILENT, LIFETIME, RETRY_REFUSED, gateway_of, gateway_option
from vpnpf_providers.ways import WAYS, Given, Way

AUTO = "auto"
_NONCE = 12
"""Bytes (RFC 6887 section 11.1)."""


def _protocol(value: object) -> str:
    return "" if value in {AUTO, *WAYS} else f"not one of {', '.join((AUTO, *WAYS))}"


OPTIONS = (
    Option("protocol", str, f"{AUTO} (if not given), {', '.join(WAYS)}", _protocol),
    gateway_option("address of the gateway, if it is another than the one that is found"),
    LIFETIME,
)


class Gateway:
    """`provider = "gateway"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="gateway",
        name="any gateway",
        summary="any VPN server whose gateway speaks PCP, NAT-PMP or UPnP",
        verified="real daemon (miniupnpd), mock",
        options=OPTIONS,
        max_forwards=16,
        announces=True,
    )
    hint_refused: ClassVar[str] = (
        "the gateway forwards no ports, or not for this account or key; "
        "if the gateway has another address, set it as options.gateway"
    )
    hint_silent: ClassVar[str] = HINT_SILENT

    def __init__(self, options: Mapping[str, object]) -> None:
        self._gateway = cast("str | None", options.get("gateway"))
        self._lifetime = cast("int", options.get("lifetime", RECOMMENDED_LIFETIME))
        protocol = cast("str", options.get("protocol", AUTO))
        self._names = tuple(WAYS) if protocol == AUTO else (protocol,)
        self._worked: dict[str, str] = {}
        """By gateway: what it was found to speak."""
        self._nonces: dict[str, dict[int, bytes]] = {}
        """By gateway and internal port: kept from before a request, since one without an answer may have mapped."""
        self._ports: dict[str, int] = {}
        """By forward: the port asked for where there is no wish, so that tries without an answer do not pile up."""

    async def acquire(self, io: ProviderIO, tunnel: Tunnel, request: MappingRequest) -> Lease:
        """Get or renew a lease. Raises Failure."""
        address = gateway_of(self._gateway, tunnel)
        kept = self._remembered(request.previous, address)
        if request.renewal and request.previous is not None:
            return await self._renew(io, address, request.previous, kept)
        failures: dict[str, Failure] = {}
        first = kept or self._worked.get(address)
        for name in sorted(self._names, key=lambda each: each != first):
            way = self._way(name, io, address)
            try:
                await way.find()
                given = await self._map(io, way, request, known=kept is not None)
            except (NoAnswer, Refused) as error:
                if way.answered:
                    raise
                failures[name] = error
            except (Misconfigured, Unsupported) as error:
                failures[name] = error
            else:
                self._worked[address] = name
                return self._lease(address, name, request.spec.protocols, given, way.exit)
        raise self._blame(address, failures)

    async def release(self, io: ProviderIO, tunnel: Tunnel, lease: Lease) -> None:
        """End the mappings, the way they were had. Raises Failure."""
        address = gateway_of(self._gateway, tunnel)
        name = self._remembered(lease, address) or self._worked.get(address)
        if name is None:
            raise LeaseLost(f"giving port {lease.external_port} back", "it is not known how it was had")
        await self._way(name, io, address).unmap(lease.protocols, lease.internal_port, lease.external_port)
        self._nonces[address].pop(lease.internal_port, None)

    async def listen(self, io: ProviderIO, tunnel: Tunnel) -> Announcement:
        """Wait until the gateway announces itself (RFC 6886 section 3.2.1, RFC 6887 section 14). Raises Failure."""
        return await io.hear(gateway_of(self._gateway, tunnel))

    def _way(self, name: str, io: ProviderIO, address: str) -> Way:
        return WAYS[name](io, address, self._nonces.setdefault(address, {}))

    def _remembered(self, lease: Lease | None, address: str) -> str | None:
        """How a lease was had from this gateway, None: not known. Its nonce is kept."""
        kept = _read(lease.token) if lease else None
        if lease is None or kept is None or kept.gateway != address:
            return None
        if kept.nonce:
            self._nonces.setdefault(address, {})[lease.internal_port] = kept.nonce
        return kept.protocol

    async def _map(self, io: ProviderIO, way: Way, request: MappingRequest, *, known: bool) -> Given:
        spec, previous = request.spec, request.previous
        internal, wish = self._tuple_for(io, request)
        try:
            given = await way.map(spec.protocols, internal, wish, self._lifetime)
        except Misconfigured:
            if known or previous is None or spec.internal_port is not None:
                raise
            # The port may be held by a lease of ours whose nonce is lost: until it ends, another one has to do.
            port = self._ports[spec.name] = io.random_port()
            given = await way.map(spec.protocols, port, spec.external_port or port, self._lifetime)
        as_before = previous is not None and (given.internal, given.external) == (
            previous.internal_port,
            previous.external_port,
        )
        if spec.internal_port is not None or given.external == given.internal or as_before:
            return given
        # The external port is free again for a moment; if somebody else takes it, what comes then is kept.
        await way.unmap(spec.protocols, given.internal, given.external)
        return await way.map(spec.protocols, given.external, given.external, self._lifetime)

    def _tuple_for(self, io: ProviderIO, request: MappingRequest) -> tuple[int, int]:
        """Internal and suggested external port; of the lease held last both, since the gateway knows it by them."""
        spec, previous = request.spec, request.previous
        wish = spec.external_port or (previous.external_port if previous else 0)
        if not wish:
            if spec.name not in self._ports:
                self._ports[spec.name] = io.random_port()
            wish = self._ports[spec.name]
        if previous is not None and previous.external_port == wish:
            return spec.internal_port or previous.internal_port, wish
        return spec.internal_port or wish, wish

    async def _renew(self, io: ProviderIO, address: str, held: Lease, kept: str | None) -> Lease:
        """Ask again for what is held, in the same way and with the same ports."""
        name = kept or self._worked.get(address)
        if name is None or (name == "pcp" and held.internal_port not in self._nonces.get(address, {})):
            raise LeaseLost(f"renewing port {held.external_port}", "it is not known how it was had from this gateway")
        way = self._way(name, io, address)
        try:
            given = await way.map(held.protocols, held.internal_port, held.external_port, self._lifetime, held)
        except (Misconfigured, Unsupported) as error:
            # It gave the port once, so it can: whatever it says now may pass while the lease still holds.
            raise Transient(error.doing, error.cause, error.hint) from error
        if given.external != held.external_port:
            await way.look()
            return self._lease(address, name, held.protocols, given, way.exit)
        return self._lease(address, name, held.protocols, given, way.exit or held.exit_address)

    def _lease(
        self, address: str, name: str, protocols: tuple[Protocol, ...], given: Given, exit_address: str | None
    ) -> Lease:
        nonce = self._nonces[address].get(given.internal, b"") if name == "pcp" else b""
        return Lease(
            external_port=given.external,
            internal_port=given.internal,
            protocols=protocols,
            granted_at=given.granted_at,
            lifetime=given.lifetime,
            exit_address=exit_address,
            epoch=given.epoch,
            epoch_at=given.epoch_at,
            epoch_rule=given.rule,
            token=json.dumps({"gateway": address, "protocol": name, "nonce": nonce.hex()}),
        )

    def _blame(self, address: str, failures: Mapping[str, Failure]) -> Failure:
        """Of all that went wrong, what tells most: a no, then that nothing listens, then that nobody answers."""
        unheard = failures.get("pcp")
        if isinstance(unheard, NoAnswer | Refused) and isinstance(failures.get("nat-pmp"), Unsupported):
            return unheard  # it speaks PCP, as its answer to NAT-PMP says: what was lost may come through the next time
        for name, error in failures.items():
            # What UPnP cannot is often only that this machine lacks a package.
            weak = name == "upnp" and isinstance(error, Unsupported) and len(failures) > 1
            if isinstance(error, Misconfigured | Unsupported) and not isinstance(error, OtherVersion) and not weak:
                return error
        for error in failures.values():
            if isinstance(error, Refused):
                return Misconfigured(error.doing, error.cause, self.hint_refused, RETRY_REFUSED)
        said = "; ".join(dict.fromkeys(f"{error.doing}: {error.cause}" for error in failures.values()))
        return NoAnswer(f"asking {address} for a port", said, self.hint_silent.format(address))


class _Kept(NamedTuple):
    """How a lease was had, as its token has it."""

    gateway: str
    protocol: str
    nonce: bytes
    """Empty: there is none."""

    def __repr__(self) -> str:
        # Whoever knows the nonce can end the mapping.
        return f"_Kept({self.gateway!r}, {self.protocol!r}, ...)"


def _read(token: str) -> _Kept | None:
    """What a token says; None: it is none of ours."""
    try:
        match json.loads(token):
            case {"gateway": str(gateway), "protocol": str(protocol), "nonce": str(nonce)} if protocol in WAYS:
                kept = _Kept(gateway, protocol, bytes.fromhex(nonce))
            case _:
                return None
    except (ValueError, RecursionError):
        return None
    return kept if len(kept.nonce) == (_NONCE if protocol == "pcp" else 0) else None
