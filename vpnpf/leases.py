"""Leases as the store keeps them: enough to ask for the same port after a restart.

They are kept by the identity of the tunnel they were got through: what one server granted (a nonce, a signature) means
nothing to another. Times are left out: CLOCK_BOOTTIME starts anew with the machine, and a lease read back is only a wish.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from vpnpf.errors import Unavailable
from vpnpf.interfaces import Store
from vpnpf.model import Lease, Protocol

Leases = tuple[tuple[str, Lease], ...]
"""By forward."""
REMEMBERED = 16
"""Identities that are kept; the one that was not used for longest goes first."""
_ANY = ""
"""Under which files of the first version, that knew of no identities, are read."""


def moved(earlier: Store, secrets: Store, name: str) -> dict[str, object] | None:
    """What was kept; a file of an earlier version is moved to where secrets are, as soon as that can be written."""
    kept, old = secrets.load(name), earlier.load(name)
    if old is not None and kept is None:
        try:
            secrets.save(name, old)
        except Unavailable:  # the run may still be worth it, and will say that nothing can be saved
            return old
        kept = old
    earlier.forget(name)
    return kept


def merged(kept: Mapping[str, object] | None, identity: str, leases: Leases) -> dict[str, object]:
    """What the store had, with the leases of an identity in it, as JSON can hold it."""
    known = {name: value for name, value in _identities(kept) if name not in {identity, _ANY}}
    newest = dict(list(known.items())[-(REMEMBERED - 1) :])
    return {"version": 2, "leases": {**newest, identity: {name: _to_json(lease) for name, lease in leases}}}


def from_store(value: Mapping[str, object] | None) -> dict[str, dict[str, Lease]]:
    """Leases that were held, by identity (the newest last) and forward; what cannot be read is left out."""
    return {identity: dict(_leases(kept)) for identity, kept in _identities(value)}


def _identities(value: Mapping[str, object] | None) -> Iterator[tuple[str, Mapping[str, object]]]:
    whole = value or {}
    by_identity = whole.get("leases") if whole.get("version") == 2 else {_ANY: whole} if whole else {}  # noqa: PLR2004
    if isinstance(by_identity, dict):
        for identity, kept in by_identity.items():
            if isinstance(kept, dict):
                yield str(identity), cast("Mapping[str, object]", kept)


def _to_json(lease: Lease) -> dict[str, object]:
    return {
        "external_port": lease.external_port,
        "internal_port": lease.internal_port,
        "protocols": [str(protocol) for protocol in lease.protocols],
        "exit_address": lease.exit_address,
        "token": lease.token,
    }


def _leases(kept: Mapping[str, object]) -> Iterator[tuple[str, Lease]]:
    for name, value in kept.items():
        if not isinstance(value, dict):
            continue
        fields = cast("dict[str, object]", value)
        try:
            external, internal = int(str(fields["external_port"])), int(str(fields["internal_port"]))
            protocols = tuple(Protocol(item) for item in cast("list[str]", fields["protocols"]))
        except (KeyError, ValueError, TypeError):
            continue
        if not (0 < external < 65536 and 0 < internal < 65536 and protocols):  # noqa: PLR2004
            continue
        exit_address = fields.get("exit_address")
        yield (
            name,
            Lease(
                external_port=external,
                internal_port=internal,
                protocols=protocols,
                granted_at=0.0,
                lifetime=0.0,
                exit_address=exit_address if isinstance(exit_address, str) else None,
                token=str(fields.get("token", "")),
            ),
        )
