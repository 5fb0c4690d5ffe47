"""What the forwards of a profile mean together: who learns the external port, or where its packets are rewritten to.

`announce`: the client, or whoever reads the events, learns the external port and listens on it. `redirect`: the packets
are rewritten to a port that stays the same, here or on another host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Literal

from msgspec import Struct

from vpnpf import plugins
from vpnpf.config_policy import PolicyChecker, Wrong
from vpnpf.config_schema import ForwardTable, Key
from vpnpf.core.networks import is_private
from vpnpf.core.presets import PREFIX, PRESETS, alone
from vpnpf.core.services import LAST_PORT, Service
from vpnpf.interfaces import Manifest
from vpnpf.model import BOTH, ForwardSpec, Protocol
from vpnpf.openings import EntryError, read_sources, service_of

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
NO_NAME = "not a name: letters, digits, - and _, at most 32"
_PEERS = "a torrent client has to listen on the external port itself: that is what it tells its peers"
_TO = 'write to = 8080, or to = "192.168.77.5:8080"'


class _Way(Struct, frozen=True):
    """Where the packets of a forward go."""

    fixed: Literal["to", "internal_port", ""] = ""
    """The key that says a port, if one does."""
    address: str | None = None
    """Of another host."""
    port: int | None = None
    service: Service | None = None


class ForwardChecker:
    """Reads forwards; what is wrong in them goes to `wrong`."""

    def __init__(
        self, wrong: Wrong, policies: PolicyChecker, local: Mapping[str, bool], manifests: Mapping[str, Manifest]
    ) -> None:
        self._wrong = wrong
        self._policies = policies
        self._local = local
        """The clients by name, and whether each is on this machine."""
        self._manifests = manifests
        """Of those clients whose type is known."""

    def forwards(
        self, at: Key, tables: Mapping[str, ForwardTable], *, namespace: bool = False
    ) -> Iterator[ForwardSpec]:
        """The forwards of a profile, in the order of the file."""
        ways = {name: self._way((*at, name), table) for name, table in tables.items()}
        # Those that listen on whatever port comes go first: a provider may have only one that comes out as it went in.
        order = sorted(tables, key=lambda name: ways[name].port is not None)
        slots = {name: slot for slot, name in enumerate(order)}
        seen: dict[tuple[object, ...], str] = {}
        for name, table in tables.items():
            here, way = (*at, name), ways[name]
            if not NAME.fullmatch(name):
                self._wrong(here, NO_NAME, "")
            self._once(here, table, way, seen)
            if table.client is not None and table.client not in self._local:
                known = tuple(self._local)
                hint = plugins.nearest(table.client, known) if known else f"add [clients.{table.client}]"
                self._wrong((*here, "client"), f'there is no client "{table.client}"', hint)
            if way.address is not None and namespace:
                what = "a tunnel with a network namespace of its own reaches no other host"
                self._wrong((*here, "to"), what, "leave namespace out, or run the service in there")
            client = self._manifests.get(table.client or "")
            yield ForwardSpec(
                name=name,
                slot=slots[name],
                protocols=self._protocols(here, table, way),
                internal_port=way.port,
                external_port=table.external_port,
                client=table.client,
                client_local=way.address is None and (table.client is None or self._local.get(table.client, True)),
                client_device=client is None or client.sets_device,
                client_tests=client is not None and client.tests_port,
                target=way.address,
                sources=self._sources(here, table),
                shut=not table.open,
            )

    def _once(self, here: Key, table: ForwardTable, way: _Way, seen: dict[tuple[object, ...], str]) -> None:
        """See that no two forwards are for the same client, or go to or ask for the same port."""
        taken = (
            ("client", table.client, table.client),
            (way.fixed or "service", (way.address, way.port), way.port),
            ("external_port", table.external_port, table.external_port),
        )
        for key, value, port in taken:
            if port is None:
                continue
            kind = "port" if isinstance(value, tuple) else key
            if (kind, value) in seen:
                self._wrong((*here, key), f"{port} is taken by the forward {seen[kind, value]}", "choose another")
            seen[kind, value] = here[-1] if isinstance(here[-1], str) else ""

    def _protocols(self, here: Key, table: ForwardTable, way: _Way) -> tuple[Protocol, ...]:
        if table.protocols is None:
            meant = {protocol for _, _, protocol in way.service.ports} if way.service else set(BOTH)
            return tuple(protocol for protocol in BOTH if protocol in meant)
        if not table.protocols:
            self._wrong((*here, "protocols"), "no protocol", 'leave it out, or write ["tcp", "udp"]')
        return tuple(protocol for protocol in BOTH if str(protocol) in table.protocols)

    def _sources(self, here: Key, table: ForwardTable) -> tuple[str, ...]:
        if table.from_ is None:
            return ()
        try:
            return read_sources(table.from_)
        except EntryError as error:
            self._wrong((*here, "from"), error.what, error.hint)
            return ()

    # -- announce or redirect ---------------------------------------------------------------------------

    def _way(self, here: Key, table: ForwardTable) -> _Way:
        service = self._service(here, table)
        address, port = None, table.internal_port
        fixed: Literal["to", "internal_port", ""] = "internal_port" if port is not None else ""
        if table.to is not None:
            if fixed:
                self._wrong((*here, fixed), '"to" says the port already', "leave one of them out")
            fixed = "to"
            address, port = self._to((*here, "to"), table.to)
        self._mode(here, table, fixed, service)
        if not fixed and service is not None:
            port = service.ports[0][0]
        return _Way(fixed, address, port, service)

    def _mode(self, here: Key, table: ForwardTable, fixed: str, service: Service | None) -> None:
        """See that the mode fits who is behind the port."""
        at = (*here, "mode")
        if table.client is not None:
            if table.mode == "redirect":
                self._wrong(at, _PEERS, 'leave it out, or write mode = "announce"')
            elif fixed:
                self._wrong((*here, fixed), _PEERS, "leave it out")
        elif table.mode == "announce" and fixed:
            what = (
                f"with {fixed} it is a redirect: packets are rewritten to that port, and nobody learns the external one"
            )
            self._wrong(at, what, f'write mode = "redirect", or leave out {fixed}')
        elif table.mode == "announce" and service is not None:
            what = f"{table.service} waits on a port of its own, and nothing here can tell it another one"
            self._wrong(at, what, 'write mode = "redirect": it keeps its port, and who connects uses the external one')
        elif table.mode == "redirect" and not fixed and table.service is None:
            self._wrong(at, "it does not say where to", _TO)

    def _service(self, here: Key, table: ForwardTable) -> Service | None:
        """The service behind the port, if one is named and one port can carry it."""
        name, at = table.service, (*here, "service")
        if name is None:
            return None
        if table.client is not None:
            self._wrong(at, f"the port is for the client {table.client} already", "leave one of them out")
            return None
        preset = PRESETS.get(name.strip().lower().removeprefix(PREFIX)) if PREFIX in name.lower() else None
        try:
            found = service_of(name, self._policies.services)
        except EntryError as error:
            self._wrong(at, error.what, error.hint)
            return None
        if preset is not None and (why := alone(preset)):
            self._wrong(at, why, "run OpenVPN or WireGuard behind it, which take any port")
            return None
        if len({port for first, last, _ in found.ports for port in (first, last)}) > 1:
            what = f"{name} has several ports, and a forward is one"
            self._wrong(at, what, "name one with to = PORT, and leave service out")
            return None
        return found

    def _to(self, at: Key, raw: int | str) -> tuple[str | None, int | None]:
        """Address, None for this machine, and port of "192.168.77.5:8080", "[fd00::5]:8080" or 8080."""
        address, _, port = ("", "", str(raw)) if isinstance(raw, int) else raw.strip().rpartition(":")
        number = int(port) if re.fullmatch("[0-9]{1,5}", port) else 0
        if not 0 < number <= LAST_PORT:
            self._wrong(at, f"it names no port from 1 to {LAST_PORT}", _TO)
            return None, None
        if not address:
            return None, number
        try:
            found = ipaddress.ip_address(address[1:-1] if address[0] + address[-1] == "[]" else address)
            if "%" in address or (":" in address) != (address[0] == "["):
                raise ValueError
        except ValueError:
            self._wrong(at, "it is not an address and a port", _TO)
            return None, None
        if found.is_loopback or found.is_unspecified:
            hint = f"write to = {number}; the program has to listen on the tunnel's address or on any"
            self._wrong(at, "packets from the tunnel never reach the loopback", hint)
        elif not is_private(ipaddress.ip_network(found)) or (found.version == 6 and found.is_link_local):  # noqa: PLR2004
            what = f"{found} is no private address: the packets would go out to the internet again"
            self._wrong(at, what, "take the address that the host has on your LAN")
        else:
            return str(found), number
        return None, number
