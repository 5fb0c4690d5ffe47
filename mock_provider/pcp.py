"""What a PCP server answers, without sockets or clocks: RFC 6887, on the mappings of the NAT-PMP gateway.

Which versions the gateway speaks:
- "natpmp-only": version 2 is answered with version 0, result 1 (RFC 6886 section 3.5);
- "both": version 0 is NAT-PMP, version 2 is PCP;
- "pcp-only": version 0 is answered with version 2, UNSUPP_VERSION (RFC 6887 section 9).

Both protocols share one table. A mapping made or renewed with PCP belongs to its nonce: PCP with another nonce and
NAT-PMP, which has none, are refused (RFC 6887 section 11.3). One made with NAT-PMP goes to the first nonce that asks.
Grants are 120 to 86400 s, and never longer than `Machine.lifetime`. FILTER is kept and shown, not enforced.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mock_provider import pcp_wire as wire
from mock_provider.faults import Faults
from mock_provider.natpmp import EPOCH, PORTS, Dnat, Machine, Refusal, Step, choose
from mock_provider.pcp_wire import PcpError, Wanted
from vpnpf.model import Protocol

SPEAKS = ("natpmp-only", "both", "pcp-only")
SHORTEST_GRANT, LONGEST_GRANT = 120, 86400
FROM_NATPMP = {2: wire.NOT_AUTHORIZED, 4: wire.NO_RESOURCES}
"""Result codes of the shared table as PCP has them."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who may renew and end a mapping, and whom it lets in."""

    nonce: bytes
    filters: tuple[bytes, ...] = ()
    """The data of FILTER options, 20 bytes each (RFC 6887 section 13.3)."""


class PcpMachine(Machine):
    """The gateway's mappings, for both protocols. `now` is in seconds on any clock that goes forward."""

    def __init__(
        self,
        faults: Faults,
        *,
        now: float,
        speaks: str = "both",
        mode: str = "rfc",
        lifetime: int = LONGEST_GRANT,
        exit_address: str = "198.51.100.11",
        ports: Iterable[int] = PORTS,
        epoch: int = EPOCH,
        choose: Callable[[list[int]], int] = choose,
    ) -> None:
        if speaks not in SPEAKS:
            raise ValueError(f"it cannot speak {speaks!r}: there are {', '.join(SPEAKS)}")
        super().__init__(
            faults,
            now=now,
            mode=mode,
            lifetime=lifetime,
            exit_address=exit_address,
            ports=ports,
            epoch=epoch,
            choose=choose,
        )
        self.speaks = speaks
        self._owners: dict[tuple[str, Protocol, int], Owner] = {}
        """By client, protocol and internal port."""

    @property
    def owners(self) -> dict[Dnat, Owner]:
        """The forwards that were made with PCP."""
        by_place = {(rule.address, rule.protocol, rule.internal_port): rule for rule in self.table}
        return {by_place[place]: owner for place, owner in self._owners.items() if place in by_place}

    def announcement(self, now: float) -> bytes:
        """What a server that restarted sends to 224.0.0.1:5350 (RFC 6887 section 14.1.1)."""
        return wire.header(wire.ANNOUNCE, 0, 0, self.epoch(now))

    # -- messages ----------------------------------------------------------------------------

    def _answer(self, data: bytes, client: str, now: float) -> bytes | None:
        if len(data) < 2 or data[1] >= 128:
            return None
        if self.speaks == "natpmp-only" or (data[0] == 0 and self.speaks == "both"):
            return super()._answer(data, client, now)
        if data[0] != 2:
            return self._error(data, PcpError(wire.UNSUPP_VERSION), now)
        if len(data) < wire.HEADER:
            return None
        try:
            return self._obey(data, client, now)
        except PcpError as error:
            return self._error(data, error, now)

    def _obey(self, data: bytes, client: str, now: float) -> bytes:
        """RFC 6887 section 8.2, check by check."""
        opcode = data[1]
        if len(data) > wire.LONGEST or len(data) % 4 or (opcode == wire.MAP and len(data) < wire.MAP_END):
            raise PcpError(wire.MALFORMED_REQUEST)
        if opcode not in (wire.ANNOUNCE, wire.MAP):
            raise PcpError(wire.UNSUPP_OPCODE)
        if data[8:24] != wire.mapped(client):
            raise PcpError(wire.ADDRESS_MISMATCH)
        if self.faults.result:
            raise PcpError(self.faults.result)
        if opcode == wire.ANNOUNCE:
            wire.read_options(data[wire.HEADER :], {})
            return wire.header(wire.ANNOUNCE, 0, 0, self.epoch(now))
        wanted, processed = wire.read_map(data)
        external, address, seconds = wanted.external, wanted.address, 0
        if wanted.lifetime == 0:
            self._end(client, wanted, now)
        else:
            external, seconds = self._grant(client, wanted, now)
            address = wire.mapped(self.exit_address)
        header = wire.header(wire.MAP, 0, seconds, self.epoch(now))
        return header + wire.map_body(wanted, external, address) + processed

    def _error(self, data: bytes, error: PcpError, now: float) -> bytes:
        """The request back, with another header (RFC 6887 section 8.2)."""
        rest = data[wire.HEADER : wire.LONGEST]
        rest += bytes(-len(rest) % 4)
        return wire.header(data[1], error.result, error.seconds, self.epoch(now)) + rest

    # -- mappings ----------------------------------------------------------------------------

    def _grant(self, client: str, wanted: Wanted, now: float) -> tuple[int, int]:
        """Map or renew: external port, lifetime. Raises PcpError; then nothing has changed."""
        protocol = wire.PROTOCOLS.get(wanted.number)
        if protocol is None or wanted.internal == 0:
            raise PcpError(wire.UNSUPP_PROTOCOL)
        owner = self._check_owner(client, protocol, wanted, now)
        if wanted.prefer_failure and wanted.address not in (wire.mapped(self.exit_address), *wire.ANY_ADDRESS):
            raise PcpError(wire.CANNOT_PROVIDE_EXTERNAL)
        before = copy.deepcopy(self._reservations)
        seconds = min(max(wanted.lifetime, SHORTEST_GRANT), LONGEST_GRANT)
        try:
            _, port, granted = super()._map(client, protocol, wanted.internal, wanted.external, seconds, now)
        except Refusal as refusal:
            raise PcpError(FROM_NATPMP[refusal.result]) from refusal
        if wanted.prefer_failure and port != wanted.external:
            self._reservations = before
            raise PcpError(wire.CANNOT_PROVIDE_EXTERNAL)
        filters = wire.keep_filters(owner.filters if owner else (), wanted.filters)
        self._owners[client, protocol, wanted.internal] = Owner(wanted.nonce, filters)
        return port, granted

    def _end(self, client: str, wanted: Wanted, now: float) -> None:
        """End one mapping, or with port 0 all that have this nonce (RFC 6887 section 15.1). Raises PcpError."""
        protocol = wire.PROTOCOLS.get(wanted.number)
        if protocol is None and wanted.number != 0:
            raise PcpError(wire.UNSUPP_PROTOCOL)
        if protocol is not None and wanted.internal != 0:
            self._check_owner(client, protocol, wanted, now)
            super()._delete(client, protocol, wanted.internal)
            return
        for (address, each, internal), owner in list(self._owners.items()):
            if address == client and owner.nonce == wanted.nonce and protocol in (each, None):
                super()._delete(client, each, internal)

    def _check_owner(self, client: str, protocol: Protocol, wanted: Wanted, now: float) -> Owner | None:
        """Who has the mapping now. Raises PcpError for another nonce, for as long as the mapping lasts."""
        owner = self._owner(client, protocol, wanted.internal)
        if owner is not None and owner.nonce != wanted.nonce:
            held = self._find(client, protocol, wanted.internal)
            assert held is not None
            raise PcpError(wire.NOT_AUTHORIZED, math.ceil(held.live[protocol].expires - now))
        return owner

    def _owner(self, client: str, protocol: Protocol, internal: int) -> Owner | None:
        held = self._find(client, protocol, internal)
        if held is None or protocol not in held.live:
            return None
        return self._owners.get((client, protocol, held.key or held.live[protocol].external_port))

    # -- the shared table, as NAT-PMP and time see it ----------------------------------------

    def _map(
        self, client: str, protocol: Protocol, internal: int, wish: int, lifetime: int, now: float
    ) -> tuple[int, int, int]:
        if self._owner(client, protocol, internal):
            raise Refusal(wire.NOT_AUTHORIZED)
        return super()._map(client, protocol, internal, wish, lifetime, now)

    def _delete(self, client: str, protocol: Protocol, internal: int) -> None:
        if internal != 0 and self._owner(client, protocol, internal):
            raise Refusal(wire.NOT_AUTHORIZED)
        owned = [place for place in self._owners if place[:2] == (client, protocol)]
        if internal != 0 or not owned:
            super()._delete(client, protocol, internal)
            return
        for rule in self.table:
            place = (rule.address, rule.protocol, rule.internal_port)
            if place[:2] == (client, protocol) and place not in owned:
                super()._delete(*place)

    def _forget_empty(self) -> None:
        super()._forget_empty()
        places = {(rule.address, rule.protocol, rule.internal_port) for rule in self.table}
        self._owners = {place: owner for place, owner in self._owners.items() if place in places}

    def reset_epoch(self, now: float) -> Step:
        """Lose everything, as a gateway that was restarted."""
        self._owners.clear()
        return super().reset_epoch(now)
