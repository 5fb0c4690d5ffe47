"""Leases as the store keeps them: enough to ask for the same port after a restart.

Times are left out: CLOCK_BOOTTIME starts anew with the machine, and a lease read back is only a wish.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from vpnpf.model import Lease, Protocol


def to_store(leases: tuple[tuple[str, Lease], ...]) -> dict[str, object]:
    """By forward, as JSON can hold it."""
    return {
        name: {
            "external_port": lease.external_port,
            "internal_port": lease.internal_port,
            "protocols": [str(protocol) for protocol in lease.protocols],
            "exit_address": lease.exit_address,
            "token": lease.token,
        }
        for name, lease in leases
    }


def from_store(value: Mapping[str, object] | None) -> dict[str, Lease]:
    """Leases that were held, by forward; what cannot be read is left out, since it is only a wish."""
    leases = {}
    for name, kept in (value or {}).items():
        if not isinstance(kept, dict):
            continue
        fields = cast("dict[str, object]", kept)
        try:
            external, internal = int(str(fields["external_port"])), int(str(fields["internal_port"]))
            protocols = tuple(Protocol(item) for item in cast("list[str]", fields["protocols"]))
        except (KeyError, ValueError, TypeError):
            continue
        if not (0 < external < 65536 and 0 < internal < 65536 and protocols):  # noqa: PLR2004
            continue
        exit_address = fields.get("exit_address")
        leases[name] = Lease(
            external_port=external,
            internal_port=internal,
            protocols=protocols,
            granted_at=0.0,
            lifetime=0.0,
            exit_address=exit_address if isinstance(exit_address, str) else None,
            token=str(fields.get("token", "")),
        )
    return leases
