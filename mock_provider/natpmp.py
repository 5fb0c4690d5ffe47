"""What a NAT-PMP gateway answers, without sockets or clocks: RFC 6886, and ProtonVPN's rules of its own.

Mode "proton":
- internal port 0 is the *symmetric* mapping, one a client: exit:P arrives at client:P. It is meant by
  internal port P as well. Asked for with external port 0 too, the answer says P inside, else 0.
- any other internal port q is *asymmetric*: exit:R arrives at client:q. Four a client, then result 4.
- external wishes are not heard.

Mode "rfc": as miniupnpd. Internal port 0 is refused (result 2), the wish is honoured if the port is free,
else the next free one above it is given; without a wish the internal port is the wish.

In both: UDP and TCP of one internal port share the external port; asking again renews and gives the same;
a grant is capped; what is not renewed ends; state is kept per client address.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mock_provider.faults import Faults
from vpnpf.model import Protocol

PORT = 5351
SHORTEST = 2
MAPPING_LENGTH = 12
PROTOCOLS = {1: Protocol.UDP, 2: Protocol.TCP}
ASYMMETRIC = 4
PORTS = range(33261, 61001)
"""Where ProtonVPN's ports were seen, roughly."""
EPOCH = 1_193_046
"""Seconds that the gateway has been up when it starts here: real ones are millions."""
MODES = ("proton", "rfc")

UNSUPPORTED_VERSION, NOT_AUTHORIZED, OUT_OF_RESOURCES, UNSUPPORTED_OPCODE = 1, 2, 4, 5


@dataclass(frozen=True, slots=True, order=True)
class Dnat:
    """One rule of the exit: packets to `external_port` go to `address`, `internal_port`."""

    protocol: Protocol
    external_port: int
    address: str
    internal_port: int


@dataclass(frozen=True, slots=True)
class Step:
    """What one request or the passing of time brought."""

    answer: bytes | None = None
    remove: tuple[Dnat, ...] = ()
    add: tuple[Dnat, ...] = ()
    """Removed and added in one go."""


@dataclass(slots=True)
class _Mapping:
    external_port: int
    expires: float


@dataclass(slots=True)
class _Reservation:
    """An external port of a client, for as long as one of its protocols is mapped."""

    client: str
    key: int
    """The internal port; 0: symmetric."""
    port: int
    rotations: int
    """Value of `Faults.rotations` when the port was chosen."""
    renewals: int = 0
    """Of the protocol that is mapped first, since the port was chosen."""
    live: dict[Protocol, _Mapping] = field(default_factory=dict)


class Refusal(Exception):
    """An error answer; carries the result code."""

    def __init__(self, result: int) -> None:
        super().__init__(result)
        self.result = result


def choose(free: list[int]) -> int:
    """A port by chance. Tests put their own choice here."""
    return random.choice(free)


class Machine:
    """The gateway's mappings. `now` is in seconds on any clock that goes forward."""

    def __init__(
        self,
        faults: Faults,
        *,
        now: float,
        mode: str = "proton",
        lifetime: int = 60,
        exit_address: str = "198.51.100.11",
        ports: Iterable[int] = PORTS,
        epoch: int = EPOCH,
        choose: Callable[[list[int]], int] = choose,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"no mode {mode!r}: there are {', '.join(MODES)}")
        self.faults = faults
        self.mode = mode
        self.lifetime = lifetime
        """Seconds; the longest grant."""
        self.exit_address = exit_address
        self._ports = tuple(ports)
        self._choose = choose
        self._reservations: list[_Reservation] = []
        self._born = now - epoch

    # -- what the server asks ----------------------------------------------------------------

    def handle(self, data: bytes, client: str, now: float) -> Step:
        """Obey one datagram of a client; `answer` None: no gateway answers that."""
        before = self.table
        self._forget_expired(now)
        answer = self._answer(data, client, now)
        return self._step(before, answer)

    def expire(self, now: float) -> Step:
        """End what was not renewed."""
        before = self.table
        self._forget_expired(now)
        return self._step(before)

    def reset_epoch(self, now: float) -> Step:
        """Lose everything, as a gateway that was restarted: the epoch begins at 0."""
        before = self.table
        self._reservations.clear()
        self._born = now
        return self._step(before)

    def forget(self) -> Step:
        """Lose everything while the epoch goes on."""
        before = self.table
        self._reservations.clear()
        self._forget_empty()
        return self._step(before)

    @property
    def next_expiry(self) -> float | None:
        """When the next mapping ends, or None."""
        return min((mapping.expires for held in self._reservations for mapping in held.live.values()), default=None)

    @property
    def table(self) -> frozenset[Dnat]:
        """The whole of the exit's rules as they should be."""
        return frozenset(
            Dnat(protocol, mapping.external_port, held.client, held.key or mapping.external_port)
            for held in self._reservations
            for protocol, mapping in held.live.items()
        )

    def epoch(self, now: float) -> int:
        """Seconds since start of epoch."""
        return int(now - self._born)

    # -- messages ----------------------------------------------------------------------------

    def _answer(self, data: bytes, client: str, now: float) -> bytes | None:
        if len(data) < SHORTEST or data[1] >= 128:
            return None
        version, opcode = data[0], data[1]
        epoch = self.epoch(now) & 0xFFFFFFFF
        if version != 0:
            return struct.pack("!BBHI", 0, opcode | 128, UNSUPPORTED_VERSION, epoch)
        if opcode == 0:
            result = self.faults.result
            address = "0.0.0.0" if result else self.exit_address
            return struct.pack("!BBHI4B", 0, 128, result, epoch, *map(int, address.split(".")))
        protocol = PROTOCOLS.get(opcode)
        if protocol is None:
            return data[:1] + bytes([opcode | 128]) + UNSUPPORTED_OPCODE.to_bytes(2, "big") + data[4:]
        if len(data) < MAPPING_LENGTH:
            return None
        internal, wish, lifetime = struct.unpack_from("!HHI", data, 4)
        try:
            if self.faults.result:
                raise Refusal(self.faults.result)
            if lifetime == 0:
                self._delete(client, protocol, internal)
                granted = (0, internal, 0, 0)
            else:
                granted = (0, *self._map(client, protocol, internal, wish, lifetime, now))
        except Refusal as refusal:
            granted = (refusal.result, internal, 0, 0)
        result, inside, outside, seconds = granted
        return struct.pack("!BBHIHHI", 0, opcode | 128, result, epoch, inside, outside, seconds)

    # -- mappings ----------------------------------------------------------------------------

    def _map(
        self, client: str, protocol: Protocol, internal: int, wish: int, lifetime: int, now: float
    ) -> tuple[int, int, int]:
        """Grant or renew: internal port, external port, lifetime. Raises Refusal."""
        held = self._find(client, protocol, internal)
        if held is None:
            held = self._reserve(client, internal, wish)
        elif next(iter(held.live)) == protocol:
            held.renewals += 1
            after = self.faults.rotate_after
            if held.rotations != self.faults.rotations or (after is not None and held.renewals > after):
                self._rotate(held, internal)
        granted = min(lifetime, self.lifetime, self.faults.longest_grant or lifetime)
        port = self._port_for(held, protocol)
        held.live[protocol] = _Mapping(port, now + granted)
        if held not in self._reservations:
            self._reservations.append(held)
        return internal if internal or wish else port, port, granted

    def _find(self, client: str, protocol: Protocol, internal: int) -> _Reservation | None:
        for held in self._reservations:
            if held.client == client:
                if held.key == internal:
                    return held
                mapping = held.live.get(protocol)
                if held.key == 0 and internal == (mapping.external_port if mapping else held.port):
                    return held
        return None

    def _reserve(self, client: str, internal: int, wish: int) -> _Reservation:
        mine = {held.key for held in self._reservations if held.client == client}
        if self.mode == "rfc":
            if internal == 0:
                raise Refusal(NOT_AUTHORIZED)
            used = self._used()
            port = next((port for port in range(max(wish or internal, 1024), 65536) if port not in used), 0)
            if port == 0:
                raise Refusal(OUT_OF_RESOURCES)
        else:
            if internal != 0 and len(mine - {0}) >= ASYMMETRIC:
                raise Refusal(OUT_OF_RESOURCES)
            port = self._any_port(mine)
        return _Reservation(client, internal, port, self.faults.rotations)

    def _rotate(self, held: _Reservation, internal: int) -> None:
        # Its own internal ports are left out: the symmetric port would else be mistaken for one of them.
        held.port = self._any_port({other.key for other in self._reservations if other.client == held.client})
        if held.key == 0 and internal != 0:
            held.key = internal  # the client asked by number, and the answer echoes it: so that is where packets go
        held.rotations = self.faults.rotations
        held.renewals = 0
        for mapping in held.live.values():
            mapping.external_port = held.port

    def _port_for(self, held: _Reservation, protocol: Protocol) -> int:
        if not (self.faults.tcp_differs and protocol is Protocol.TCP):
            return held.port
        mapping = held.live.get(protocol)
        if mapping and mapping.external_port != held.port:
            return mapping.external_port
        return self._any_port({held.port} | {other.key for other in self._reservations})

    def _any_port(self, without: Iterable[int]) -> int:
        taken = self._used() | set(without)
        free = [port for port in self._ports if port not in taken]
        if not free:
            raise Refusal(OUT_OF_RESOURCES)
        return self._choose(free)

    def _used(self) -> set[int]:
        ports = {held.port for held in self._reservations}
        return ports | {mapping.external_port for held in self._reservations for mapping in held.live.values()}

    def _delete(self, client: str, protocol: Protocol, internal: int) -> None:
        """Internal port 0: all of this client's mappings of the protocol (RFC 6886 section 3.4)."""
        if internal == 0:
            doomed = [held for held in self._reservations if held.client == client]
        else:
            doomed = [held] if (held := self._find(client, protocol, internal)) else []
        for held in doomed:
            held.live.pop(protocol, None)
        self._forget_empty()

    def _forget_expired(self, now: float) -> None:
        for held in self._reservations:
            for protocol in [protocol for protocol, mapping in held.live.items() if mapping.expires <= now]:
                del held.live[protocol]
        self._forget_empty()

    def _forget_empty(self) -> None:
        self._reservations = [held for held in self._reservations if held.live]

    def _step(self, before: frozenset[Dnat], answer: bytes | None = None) -> Step:
        after = self.table
        return Step(answer, tuple(sorted(before - after)), tuple(sorted(after - before)))
