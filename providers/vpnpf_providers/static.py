"""Ports that a person sets on the provider's site: nobody is asked for them, here they are only written down.

What the panel says is taken as it is. Whether it is true is seen as with any port: somebody comes in, or nobody does. Each
provider here differs in what its panel allows and in what a person has to do there; `static` is for all others.

Source: the providers' own help pages and panels (airvpn.org/ports, help of ovpn.com, purevpn.com, torguard.net,
support.vyprvpn.com, help.anonine.com, windscribe.com, support.nordvpn.com), as of 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, cast

from vpnpf.api import (
    Lease,
    LeaseLost,
    Manifest,
    MappingRequest,
    Misconfigured,
    Objection,
    ProviderIO,
    Transient,
    Tunnel,
)
from vpnpf_providers.static_ports import OPTIONS, Panel, Port, check, chosen, end_of, read

REMINDED = 86400.0
"""Seconds before its end from which a person is reminded to set a new port."""
RETRY_ENDED = 300.0
"""Seconds until the clock is looked at again: a machine without one of its own may have begun in another year."""


def _manifest(id_: str, name: str, panel: Panel, summary: str, help_: str, domains: tuple[str, ...] = ()) -> Manifest:
    return Manifest(
        id=id_,
        name=name,
        summary=summary,
        verified="not needed",
        verified_with="it asks nobody; the port is proven as it is used",
        options=OPTIONS,
        check=partial(check, panel),
        max_forwards=64,
        fixed_ports=True,
        help=help_,
        domains=domains,
    )


class Static:
    """`provider = "static"`."""

    panel: ClassVar[Panel] = Panel("at your provider", maps=True)
    manifest: ClassVar[Manifest] = _manifest(
        "static",
        "static ports",
        panel,
        "ports that you set on your provider's site, whichever it is",
        "Forward a port on your provider's site and write its number: ports = [41001]. If its packets arrive at another "
        'port of your machine, write both: ports = ["41001:6881"]. The first forward has the first port, and so on; '
        "external_port in a forward names another. Nobody tells vpnpf when you remove the port there.",
    )

    def __init__(self, options: Mapping[str, object]) -> None:
        self._ports, self._wrong = read(self.panel, options)
        ends = options.get("ends")
        self._ends = end_of(cast("str", ends)) if ends else None
        self._through: dict[str, Tunnel] = {}
        """By forward: the tunnel that its port was last confirmed for."""

    async def acquire(self, io: ProviderIO, tunnel: Tunnel, request: MappingRequest) -> Lease:
        """The port of a forward, as it was written down. Raises Misconfigured, LeaseLost; Transient as a reminder."""
        spec = request.spec
        found = self._wrong[0] if self._wrong else chosen(self._ports, spec)
        if isinstance(found, Objection):
            where = ".".join(str(part) for part in found.key)
            raise Misconfigured(f"looking up the port of {spec.name}", f"{where}: {found.what}", found.hint)
        left = self._left(io, found, tunnel, request)
        self._through[spec.name] = tunnel
        return Lease(found.external, found.internal, spec.protocols, granted_at=io.now(), lifetime=left)

    async def release(self, io: ProviderIO, tunnel: Tunnel, lease: Lease) -> None:
        """Nothing: the port stays as it was set on the site."""

    def _left(self, io: ProviderIO, port: Port, tunnel: Tunnel, request: MappingRequest) -> float | None:
        """Seconds until it ends, or None. Raises Misconfigured or LeaseLost if it has, Transient as a reminder."""
        if self._ends is None:
            return None
        left = self._ends.timestamp() - io.wall()
        doing, at = f"keeping port {port.external}", f"on {self._ends:%Y-%m-%d at %H:%M:%S} UTC"
        hint = f"set a new one {self.panel.place}, change options.ports and options.ends, and start vpnpf anew"
        if left <= 0:
            kind = LeaseLost if request.renewal else Misconfigured
            raise kind(doing, f"it ended {at}", hint, None if request.renewal else RETRY_ENDED)
        if left <= REMINDED and request.renewal and self._through.get(request.spec.name) is tunnel:
            # The lease is held to its end all the same: what was granted stands. Through a new tunnel it is granted anew.
            raise Transient(doing, f"it ends {at}", hint, left)
        return left


class AirVpn(Static):
    """`provider = "airvpn"`."""

    panel: ClassVar[Panel] = Panel("at airvpn.org", lowest=2048, maps=True)
    manifest: ClassVar[Manifest] = _manifest(
        "airvpn",
        "AirVPN",
        panel,
        "ports reserved in the account, the same on every server",
        "Reserve a port at https://airvpn.org/ports/ (2048 or above) for TCP and UDP, and write its number as options.ports. "
        "Leave its local port empty; if you set one, write both: 41001:6881. If you bind it to a device, take the "
        "one that your configuration file was made for. A new port can take some minutes until it works.",
        ("airvpn.org", "airdns.org"),
    )


class Ovpn(Static):
    """`provider = "ovpn"`."""

    panel: ClassVar[Panel] = Panel("at ovpn.com", maps=True)
    manifest: ClassVar[Manifest] = _manifest(
        "ovpn",
        "OVPN",
        panel,
        "ports set in the account, they stay as they are",
        "Sign in at https://www.ovpn.com, set the port under port forwarding, and write its number as options.ports.",
        ("ovpn.com",),
    )


class PureVpn(Static):
    """`provider = "purevpn"`."""

    panel: ClassVar[Panel] = Panel("at purevpn.com")
    manifest: ClassVar[Manifest] = _manifest(
        "purevpn",
        "PureVPN",
        panel,
        "the port forwarding add-on, on servers with -pf in their name",
        "Buy the port forwarding add-on, and in the member area open the ports that you want; write them as options.ports. "
        "Take the configuration of a server with -pf in its name (as in nl2-auto-udp-pf.ptoserver.com): the others "
        "forward nothing, and vpnpf cannot tell them apart.",
        ("ptoserver.com",),
    )


class TorGuard(Static):
    """`provider = "torguard"`."""

    panel: ClassVar[Panel] = Panel("at torguard.net")
    manifest: ClassVar[Manifest] = _manifest(
        "torguard",
        "TorGuard",
        panel,
        "ports requested for the address of one server",
        "At torguard.net, under Services, Manage, Port Forward Request, ask for a port of 10000 or above, once for TCP and "
        "once for UDP, with the server's address and the tunnel that you use. It is bound to that address: write the "
        "address, not a name, as the endpoint in your configuration file, name only one file, and write the port as "
        "options.ports. If it stays PENDING, take another address. Servers in the US block BitTorrent.",
        ("torguard.com", "torguard.net"),
    )


class Windscribe(Static):
    """`provider = "windscribe"`."""

    panel: ClassVar[Panel] = Panel("at windscribe.com", maps=True)
    manifest: ClassVar[Manifest] = _manifest(
        "windscribe",
        "Windscribe",
        panel,
        "an ephemeral port of seven days, or those of a static IP",
        "With a Pro account, ask for an ephemeral port with matching ports at https://windscribe.com/myaccount (Port "
        "Forwarding), and write it as options.ports. It ends after seven days: write when as options.ends, and you "
        "are reminded the day before. Windscribe asks for no more than about one change a week. The ports of a static IP do not end.",
        ("windscribe.com", "whiskergalaxy.com"),
    )


class VyprVpn(Static):
    """`provider = "vyprvpn"`."""

    panel: ClassVar[Panel] = Panel("at vyprvpn.com")
    manifest: ClassVar[Manifest] = _manifest(
        "vyprvpn",
        "VyprVPN",
        panel,
        "all ports, once the NAT firewall of the account is off",
        "Switch the NAT firewall off in your account at vyprvpn.com; then every port of the server's address leads to you. "
        "Write the one that you want as options.ports: all others stay shut here, unless the policy is open-all.",
        ("vyprvpn.com", "goldenfrog.com"),
    )


class Anonine(Static):
    """`provider = "anonine"`."""

    panel: ClassVar[Panel] = Panel("at anonine.com")
    manifest: ClassVar[Manifest] = _manifest(
        "anonine",
        "Anonine",
        panel,
        "one port that is assigned to the account",
        "Switch port forwarding on in the user panel at anonine.com, and write the port that it assigns as options.ports; it "
        "is the same on every server that is marked for it. Servers with a public IP forward all ports.",
        ("anonine.com", "anonine.net"),
    )


class NordVpnDedicated(Static):
    """`provider = "nordvpn-dedicated"`."""

    panel: ClassVar[Panel] = Panel("at my.nordaccount.com", maps=True)
    manifest: ClassVar[Manifest] = _manifest(
        "nordvpn-dedicated",
        "NordVPN Dedicated Server",
        panel,
        "rules of a Dedicated Server; no other NordVPN server has any",
        "In Nord Account, under NordVPN, Dedicated server, Port Forwarding, add two rules with the same ports, one for TCP "
        "and one for UDP, to this device; write the external port as options.ports, and if the internal one is another, "
        "both: 41001:6881. A rule for one protocol is written as 41001/tcp.",
    )
