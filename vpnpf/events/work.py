"""Work: effects that the engine asks for. Each has a `key`, and of one key at most one piece runs."""

from __future__ import annotations

from msgspec import Struct

from vpnpf.model import FirewallPolicy, Lease, ListenSettings, MappingRequest, ProviderPolicy, Tunnel, TunnelPlan, Use


class ApplyFirewall(Struct, frozen=True):
    """Swap the rule set, read it back."""

    policy: FirewallPolicy
    key: str = "firewall"


class ReadFirewall(Struct, frozen=True):
    """Compare the kernel's rule set with the one applied last; read the counters."""

    key: str = "firewall"


class RemoveFirewall(Struct, frozen=True):
    """Take our rule set away."""

    key: str = "firewall"


class PlanTunnel(Struct, frozen=True):
    """Read the tunnel's configuration anew, resolve its endpoint."""

    server: int = 0
    """Which of the profile's servers, from 0."""
    key: str = "tunnel"


class StartTunnel(Struct, frozen=True):
    """Bring the tunnel up; what is left of an earlier one goes first."""

    plan: TunnelPlan
    key: str = "tunnel"


class CheckTunnel(Struct, frozen=True):
    """One look at the tunnel."""

    tunnel: Tunnel
    key: str = "tunnel"


class Rekey(Struct, frozen=True):
    """Shake hands anew, in place: the device and the sockets on it stay."""

    tunnel: Tunnel
    key: str = "tunnel"


class WatchTunnel(Struct, frozen=True):
    """Wait until the tunnel wants to be looked at before its time."""

    tunnel: Tunnel
    key: str = "tunnel-watch"


class FitMtu(Struct, frozen=True):
    """Find out how large a packet gets through the tunnel whole, and set its device to that."""

    tunnel: Tunnel
    key: str = "mtu"


class WatchFirewall(Struct, frozen=True):
    """Wait until somebody else changed our rule set."""

    key: str = "firewall-watch"


class StopTunnel(Struct, frozen=True):
    """Take the tunnel down and restore what it changed."""

    key: str = "tunnel"


class Acquire(Struct, frozen=True):
    """Get or renew a lease."""

    forward: str
    tunnel: Tunnel
    request: MappingRequest

    @property
    def key(self) -> str:
        """One conversation with the provider at a time for each forward."""
        return f"lease:{self.forward}"


class Release(Struct, frozen=True):
    """Give a lease back."""

    forward: str
    tunnel: Tunnel
    lease: Lease

    @property
    def key(self) -> str:
        """One conversation with the provider at a time for each forward."""
        return f"lease:{self.forward}"


class SetClient(Struct, frozen=True):
    """Set the torrent client's listen port, then read it back."""

    forward: str
    wanted: ListenSettings

    @property
    def key(self) -> str:
        """One conversation with a client at a time."""
        return f"client:{self.forward}"


class ReadClient(Struct, frozen=True):
    """Read the torrent client's settings back."""

    forward: str

    @property
    def key(self) -> str:
        """One conversation with a client at a time."""
        return f"client:{self.forward}"


class ReadSockets(Struct, frozen=True):
    """Look for the sockets that should be open on the listen port."""

    forward: str
    port: int

    @property
    def key(self) -> str:
        """One look at a time for each forward."""
        return f"listening:{self.forward}"


class CheckPort(Struct, frozen=True):
    """Have the torrent client's port knocked on from the internet."""

    forward: str
    port: int

    @property
    def key(self) -> str:
        """One test at a time for each forward."""
        return f"port-test:{self.forward}"


class Listen(Struct, frozen=True):
    """Wait for the gateway to say that it restarted (RFC 6886 section 3.2.1, RFC 6887 section 14.1.1)."""

    tunnel: Tunnel
    key: str = "announcements"


class CheckExit(Struct, frozen=True):
    """Ask somebody on the internet, through the tunnel, which address he sees."""

    tunnel: Tunnel
    key: str = "exit"


class ReadSwitch(Struct, frozen=True):
    """Ask the provider what its own switch lets in."""

    tunnel: Tunnel
    key: str = "switch"


class SetSwitch(Struct, frozen=True):
    """Set the provider's own switch, then ask what it lets in: that may follow later."""

    tunnel: Tunnel
    wanted: ProviderPolicy
    key: str = "switch"


class SaveLeases(Struct, frozen=True):
    """Keep for the next start what we hold now."""

    identity: str
    """Server and key through which they are held."""
    leases: tuple[tuple[str, Lease], ...]
    key: str = "store"


class SaveUses(Struct, frozen=True):
    """Keep for the next start when each opening was used last."""

    uses: tuple[Use, ...]
    key: str = "uses"


Work = (
    ApplyFirewall
    | ReadFirewall
    | RemoveFirewall
    | PlanTunnel
    | StartTunnel
    | CheckTunnel
    | Rekey
    | WatchTunnel
    | FitMtu
    | WatchFirewall
    | StopTunnel
    | Listen
    | CheckExit
    | Acquire
    | Release
    | SetClient
    | ReadClient
    | ReadSockets
    | CheckPort
    | ReadSwitch
    | SetSwitch
    | SaveLeases
    | SaveUses
)


class Order(Struct, frozen=True):
    """A piece of work with its generation."""

    work: Work
    generation: int
