"""What a provider gave us for some time, and what it is asked for."""

from __future__ import annotations

from msgspec import Struct

from vpnpf.hidden import without
from vpnpf.model.kinds import EpochRule, Protocol
from vpnpf.model.tunnel import Endpoint
from vpnpf.model.wanted import ForwardSpec


class Lease(Struct, frozen=True):
    """An external port that a provider gave us for some time."""

    external_port: int
    """What the internet sees."""
    internal_port: int
    """The port of our tunnel address where its packets arrive."""
    protocols: tuple[Protocol, ...]
    granted_at: float
    lifetime: float | None
    """Seconds granted, or None: it does not end by itself."""
    exit_address: str | None = None
    """The address that the internet sees, as the gateway said."""
    epoch: int | None = None
    """The gateway's seconds since start of epoch at `epoch_at`; None: it has none."""
    epoch_at: float = 0.0
    """When the answer with `epoch` arrived."""
    epoch_rule: EpochRule = EpochRule.NATPMP
    token: str = ""
    """Opaque to the core; what the provider needs to renew or release. Stored, never shown."""

    def __repr__(self) -> str:
        return without(self, "token")

    @property
    def expires_at(self) -> float | None:
        """When the gateway forgets it, or None."""
        return None if self.lifetime is None else self.granted_at + self.lifetime

    @property
    def place(self) -> str:
        """Where the internet finds it, in words: "198.51.100.11:41877", or "port 41877"."""
        at = self.exit_address
        return str(Endpoint(at, self.external_port)) if at else f"port {self.external_port}"

    @property
    def length(self) -> str:
        """How long it was granted for, in words."""
        return f"for {self.lifetime:.0f} s" if self.lifetime is not None else "without an end"


class MappingRequest(Struct, frozen=True):
    """What a provider is asked for."""

    spec: ForwardSpec
    previous: Lease | None = None
    """The lease held now (then this is a renewal) or last (then it is a wish)."""
    renewal: bool = False
    """Whether `previous` is still held."""
