"""The conversation with a PCP server: what is sent, and what its answers turn into."""

from __future__ import annotations

import itertools
import struct

import pytest
from msgspec.structs import replace

from mock_provider.faults import Faults
from mock_provider.natpmp import Dnat
from mock_provider.pcp import PcpMachine
from mock_provider.pcp_wire import PcpError
from vpnpf.errors import (
    Failure,
    Misconfigured,
    NoAnswer,
    OtherVersion,
    Refused,
    Transient,
    Unsupported,
    WishRefused,
)
from vpnpf.model import BOTH, Protocol
from vpnpf.protocol.epoch import Epoch, pcp_lost
from vpnpf.protocol.pcp import ErrorAnswer, Filter, NatPmpOnly
from vpnpf.protocol.pcp_gateway import PcpGateway, failure_of
from vpnpf.testing import FakeIO, Fate, Sent

UDP, TCP = Protocol.UDP, Protocol.TCP
ADDRESS, US, NEIGHBOUR = "10.2.0.1", "10.2.0.2", "10.2.0.3"
EXIT = "198.51.100.11"
NUMBER = {6: TCP, 17: UDP}


class World:
    """A gateway, the machine at its end, and what was sent."""

    def __init__(self, **options) -> None:
        self.faults = Faults()
        self.machine = PcpMachine(self.faults, now=1000.0, choose=min, **options)
        self.io = FakeIO(self._far_side)
        self.gateway = PcpGateway(self.io, ADDRESS)
        self.nonce = self.gateway.new_nonce()
        self.seen_as = US

    def _far_side(self, sent: Sent) -> bytes | Fate:
        assert (sent.address, sent.port) == (ADDRESS, 5351)
        return self.machine.handle(sent.data, self.seen_as, sent.at).answer or Fate.SILENT

    async def map(self, protocols=BOTH, internal=6881, external=40000, lifetime=7200, **options):
        return await self.gateway.map(protocols, internal, external, lifetime, **{"nonce": self.nonce, **options})

    def take(self, protocol: Protocol, port: int) -> None:
        """Somebody else gets an external port, in one protocol."""
        data = struct.pack("!BBHHHI", 0, 1 if protocol is UDP else 2, 0, port - 20000, port, 7200)
        assert self.machine.handle(data, NEIGHBOUR, self.io.now()).answer[3] == 0

    def others(self) -> set[Dnat]:
        return {rule for rule in self.machine.table if rule.address == NEIGHBOUR}

    @property
    def ours(self) -> set[tuple[Protocol, int, int]]:
        return {
            (rule.protocol, rule.external_port, rule.internal_port) for rule in self.machine.table if rule.address == US
        }

    @property
    def asked(self) -> list[tuple[Protocol, int, int, int, bool]]:
        """The MAP requests that were sent: protocol, internal and external port, lifetime, PREFER_FAILURE."""
        return [
            (
                NUMBER[sent.data[36]],
                *struct.unpack_from("!HH", sent.data, 40),
                int.from_bytes(sent.data[4:8]),
                sent.data[60:61] == b"\2",
            )
            for sent in self.io.sent
            if sent.data[1] == 1
        ]


@pytest.fixture
def world() -> World:
    return World()


# -- probing --------------------------------------------------------------------------------------


async def test_a_sign_of_life_is_an_epoch(world):
    assert await world.gateway.announce() == Epoch(1193046, 1000.0)
    assert world.io.sent[0].data == bytes.fromhex("02000000 00000000 00000000000000000000ffff0a020002")


async def test_a_gateway_without_pcp_says_so_at_once():
    world = World(speaks="natpmp-only")
    for attempt in (world.gateway.announce(), world.map()):
        with pytest.raises(OtherVersion) as told:
            await attempt
        assert told.value.version == 0
        assert "NAT-PMP" in told.value.cause
        assert told.value.retry_after is None
    assert world.io.now() == 1000.0
    assert isinstance(told.value, Unsupported)


async def test_silence_is_known_after_two_tries_and_less_than_4_s(world):
    world.io.drop = True
    for attempt in (world.gateway.announce(), world.map()):
        began, sent = world.io.now(), len(world.io.sent)
        with pytest.raises(NoAnswer):
            await attempt
        assert world.io.now() - began == pytest.approx(3.75)
        first, second = (each.at - began for each in world.io.sent[sent:])
        assert first == 0
        assert 2.7 <= second <= 3.3


async def test_the_jitter_is_drawn_anew_for_each_exchange(world):
    world.io.drop = True
    for _ in range(2):
        with pytest.raises(NoAnswer):
            await world.gateway.announce()
    gaps = [after.at - before.at for before, after in zip(world.io.sent[::2], world.io.sent[1::2], strict=True)]
    assert gaps[0] != gaps[1]


async def test_with_a_longer_budget_it_goes_on_as_the_rfc_wants(world):
    world.io.drop_next(5)
    await PcpGateway(world.io, ADDRESS, budget=300).announce()
    gaps = [after.at - before.at for before, after in zip(world.io.sent, world.io.sent[1:], strict=False)]
    assert len(gaps) == 5
    assert gaps == [pytest.approx(wait, rel=0.5) for wait in (3, 6, 12, 24, 48)]


async def test_refused(world):
    world.io.refuse = True
    with pytest.raises(Refused):
        await world.gateway.announce()


# -- mapping --------------------------------------------------------------------------------------


async def test_both_protocols_get_one_port(world):
    given = await world.map()
    assert (given.internal_port, given.external_port, given.external_address) == (6881, 40000, EXIT)
    assert (given.lifetime, given.granted_at, given.epoch) == (7200, 1000.0, Epoch(1193046, 1000.0))
    assert world.ours == {(TCP, 40000, 6881), (UDP, 40000, 6881)}
    assert world.asked == [(TCP, 6881, 40000, 7200, False), (UDP, 6881, 40000, 7200, True)]


@pytest.mark.parametrize("protocol", [TCP, UDP])
async def test_one_protocol(world, protocol):
    await world.map((protocol,))
    assert world.ours == {(protocol, 40000, 6881)}
    assert world.asked == [(protocol, 6881, 40000, 7200, False)]


async def test_without_a_wish_the_second_protocol_wishes_what_the_first_got(world):
    assert (await world.map(external=0)).external_port == 6881
    assert world.asked == [(TCP, 6881, 0, 7200, False), (UDP, 6881, 6881, 7200, True)]
    assert world.io.sent[1].data[44:60] == bytes.fromhex("00000000000000000000ffffc633640b")


async def test_a_wish_that_somebody_has_is_another_port_or_with_exact_none(world):
    world.take(TCP, 40000)
    assert (await world.map()).external_port == 40001
    world.take(UDP, 50000)
    before = world.machine.table
    with pytest.raises(WishRefused) as told:
        await world.map((UDP,), 6882, 50000, exact=True)
    assert told.value.retry_after == 1800
    assert told.value.hint
    assert isinstance(told.value, Transient)
    assert world.machine.table == before


async def test_a_port_that_is_free_in_one_protocol_only_is_given_back(world):
    world.faults.tcp_differs = True
    with pytest.raises(WishRefused):
        await world.map((UDP, TCP))
    assert not world.ours
    assert world.asked == [
        (UDP, 6881, 40000, 7200, False),
        (TCP, 6881, 40000, 7200, True),
        (UDP, 6881, 0, 0, False),
        # where it would evade to in TCP may be free in UDP
        (TCP, 6881, 40000, 7200, False),
        (UDP, 6881, 33261, 7200, True),
        (TCP, 6881, 0, 0, False),
    ]
    world.faults.tcp_differs = False
    assert (await world.map(external=40010)).external_port == 40010


class WithoutOption(PcpMachine):
    """A server that does not know PREFER_FAILURE; codes below 128 must be understood (RFC 6887 section 7.3)."""

    def _obey(self, data, client, now):
        if data[60:61] == b"\2":
            return self._error(data, PcpError(5), now)
        return super()._obey(data, client, now)


async def test_a_server_without_prefer_failure_is_asked_without_it_and_its_answer_looked_at(world):
    world.machine = WithoutOption(world.faults, now=1000.0, choose=min)
    assert (await world.map()).external_port == 40000
    assert [row[-1] for row in world.asked] == [False, True, False]
    world.faults.tcp_differs = True
    with pytest.raises(WishRefused, match=r"\d+/tcp and 40010/udp"):
        await world.map((UDP, TCP), 6882, 40010)
    assert world.ours == {(TCP, 40000, 6881), (UDP, 40000, 6881)}


@pytest.mark.parametrize("limits", [(600, 300), (300, 600)])
async def test_the_lifetime_is_the_shortest_of_both(world, limits):
    first, second = limits
    obeys = world.io.far_side

    def limited(sent: Sent) -> bytes | Fate:
        world.machine.lifetime = second if world.ours else first
        return obeys(sent)

    world.io.far_side = limited
    assert (await world.map()).lifetime == 300


@pytest.mark.parametrize("taken", BOTH)
async def test_a_port_that_somebody_has_in_one_protocol_is_evaded_in_both(world, taken):
    """By a server that keeps no number free in the other protocol, as miniupnpd."""
    ports = {(taken, 40000): NEIGHBOUR}

    def far_side(sent: Sent) -> bytes:
        data = bytearray(sent.data)
        protocol, wish = NUMBER[data[36]], int.from_bytes(data[42:44])
        data[1] |= 128
        data[2:24] = bytes(22)
        if sent.data[4:8] == bytes(4):
            assert ports.pop(next(place for place, owner in ports.items() if owner == US and place[0] is protocol))
            return bytes(data)
        while ports.get((protocol, wish)) == NEIGHBOUR:
            if data[60:61] == b"\2":
                data[3] = 11
                return bytes(data)
            wish += 1
        ports[protocol, wish] = US
        data[4:8], data[42:44] = sent.data[4:8], wish.to_bytes(2)
        return bytes(data)

    world.io.far_side = far_side
    assert (await world.map()).external_port == 40001
    assert ports == {(taken, 40000): NEIGHBOUR, (TCP, 40001): US, (UDP, 40001): US}


async def test_a_server_that_breaks_prefer_failure_is_not_believed(world):
    """It says success, and gives the next free port: miniupnpd where the port is in use on the router itself."""
    world.take(TCP, 40000)
    obeys = world.io.far_side

    def deaf(sent: Sent) -> bytes | Fate:
        return obeys(replace(sent, data=sent.data[:60]))

    world.io.far_side = deaf
    with pytest.raises(WishRefused, match="40001/tcp"):
        await world.map(exact=True)
    world.faults.tcp_differs = True
    with pytest.raises(WishRefused, match=r"\d+/tcp and 50000/udp"):
        await world.map((UDP, TCP), external=50000)
    assert not world.ours


async def test_another_address_in_the_second_protocol_is_another_port(world):
    obeys, exits = world.io.far_side, itertools.cycle([EXIT, "198.51.100.12"])

    def moves(sent: Sent) -> bytes | Fate:
        if sent.data[1] == 1 and sent.data[4:8] != bytes(4):
            world.machine.exit_address = next(exits)
        return obeys(replace(sent, data=sent.data[:60]))

    world.io.far_side = moves
    with pytest.raises(WishRefused):
        await world.map()
    assert not world.ours


async def test_filters_go_with_both_protocols(world):
    await world.map(filters=(Filter("203.0.113.0/24"),))
    assert [len(owner.filters) for owner in world.machine.owners.values()] == [1, 1]


async def test_a_grant_of_no_seconds_is_none(world):
    world.io.far_side = lambda sent: b"\2\x81\0\0" + bytes(8) + bytes(12) + sent.data[24:]
    with pytest.raises(Transient, match="lifetime of 0 s"):
        await world.map((TCP,))


# -- the nonce ------------------------------------------------------------------------------------


async def test_renewing_with_the_nonce_keeps_the_port(world):
    held = await world.map()
    for _ in range(20):
        world.io.clock.advance(held.lifetime / 2)
        fresh = await world.map(external_address=held.external_address, renewal=True)
        assert (fresh.external_port, fresh.lifetime) == (40000, 7200)
        assert fresh.granted_at == world.io.now()
        assert not pcp_lost(held.epoch, fresh.epoch)
        held = fresh
    assert len(world.ours) == 2


async def test_another_nonce_is_refused_until_the_mapping_ends(world):
    await world.map(lifetime=600)
    world.io.clock.advance(100)
    with pytest.raises(Misconfigured) as told:
        await world.map(nonce=b"another one!")
    assert told.value.retry_after == 500
    assert "another program or an earlier run" in told.value.hint
    with pytest.raises(Misconfigured):
        await world.gateway.unmap(BOTH, 6881, b"another one!")
    assert len(world.ours) == 2
    world.io.clock.advance(500)
    await world.map(nonce=b"another one!")


async def test_a_mapping_whose_answer_was_lost_is_had_with_the_nonce_that_was_kept(world):
    world.io.drop_answers = True
    with pytest.raises(NoAnswer):
        await world.map()
    assert world.ours == {(TCP, 40000, 6881)}
    world.io.drop_answers = False
    assert (await world.map()).external_port == 40000
    with pytest.raises(Misconfigured):
        await world.map(nonce=world.gateway.new_nonce())


async def test_nonces_differ(world):
    nonces = {world.gateway.new_nonce() for _ in range(20)}
    assert len(nonces) == 20
    assert {len(nonce) for nonce in nonces} == {12}


async def test_a_gateway_that_forgot_everything_maps_anew_and_its_epoch_tells(world):
    held = await world.map()
    world.io.clock.advance(60)
    world.machine.reset_epoch(world.io.now() - 3)
    fresh = await world.map(renewal=True)
    assert pcp_lost(held.epoch, fresh.epoch)
    assert len(world.ours) == 2


async def test_a_renewal_that_brings_another_port(world):
    await world.map()
    world.faults.rotate()
    fresh = await world.map(renewal=True)
    assert fresh.external_port != 40000
    assert world.ours == {(TCP, fresh.external_port, 6881), (UDP, fresh.external_port, 6881)}


# -- failing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [6, 17])
async def test_half_a_mapping_is_given_back_and_half_a_renewal_is_not(world, number):
    lost = lambda sent: sent.data[1] == 1 and sent.data[36] == number and sent.data[4:8] != bytes(4)  # noqa: E731
    world.io.meets, world.io.drop = lost, True
    with pytest.raises(NoAnswer):
        await world.map()
    assert not world.ours
    world.io.drop = False
    await world.map()
    world.io.drop = True
    with pytest.raises(NoAnswer):
        await world.map(renewal=True)
    assert len(world.ours) == 2


async def test_two_ports_at_a_renewal_are_a_failure_that_gives_nothing_back(world):
    await world.map((UDP, TCP))
    world.faults.tcp_differs = True
    before = len(world.asked)
    with pytest.raises(WishRefused):
        await world.map((UDP, TCP), renewal=True)
    assert world.ours == {(TCP, 40000, 6881), (UDP, 40000, 6881)}
    assert [row[0] for row in world.asked[before:]] == [UDP, TCP]


async def test_whichever_datagram_is_lost_the_mapping_comes_and_ends_no_later_than_it_says(world):
    for number in range(2):
        world.machine.reset_epoch(world.io.now())
        begun = iter(range(100))
        world.io.meets = lambda _sent, begun=begun, number=number: next(begun) == number
        world.io.drop_answers = True
        given = await world.map(lifetime=120)
        assert len(world.ours) == 2
        assert given.granted_at + given.lifetime <= world.machine.next_expiry
        world.io.drop_answers = False


async def test_a_nat_on_the_way(world):
    world.seen_as = NEIGHBOUR
    with pytest.raises(Misconfigured, match="address mismatch") as told:
        await world.map()
    assert "NAT" in told.value.hint
    assert told.value.retry_after == 1800


async def test_the_tunnels_address_is_of_the_gateways_family(world):
    with pytest.raises(Unsupported):
        await PcpGateway(world.io, "fd00::1").map((TCP,), 6881, 0, 60, nonce=world.nonce)
    assert not world.io.sent


@pytest.mark.parametrize("result", range(1, 14))
async def test_a_renewal_that_fails_leaves_everything_as_it_was(world, result):
    await world.map()
    world.faults.result = result
    with pytest.raises(Failure, match=f"result {result}"):
        await world.map(renewal=True)
    assert len(world.ours) == 2


@pytest.mark.parametrize(
    ("answer", "kind", "seconds"),
    [
        (ErrorAnswer(1, 1800, version=1), OtherVersion, 1800),
        (ErrorAnswer(2, 77), Misconfigured, 77),
        (ErrorAnswer(3, 1800), Unsupported, 1800),
        (ErrorAnswer(4, 1800), Unsupported, 1800),
        (ErrorAnswer(5, 1800), Unsupported, 1800),
        (ErrorAnswer(6, 1800), Unsupported, 1800),
        (ErrorAnswer(7, 30), Transient, 30),
        (ErrorAnswer(8, 30), Transient, 30),
        (ErrorAnswer(9, 1800), Unsupported, 1800),
        (ErrorAnswer(10, 30), Transient, 30),
        (ErrorAnswer(11, 1800), WishRefused, 1800),
        (ErrorAnswer(12, 1800), Misconfigured, 1800),
        (ErrorAnswer(13, 1800), Unsupported, 1800),
        (ErrorAnswer(99, 1800), Unsupported, 1800),
        (NatPmpOnly(1), OtherVersion, None),
    ],
    ids=str,
)
def test_what_results_mean_for_the_next_step(answer, kind, seconds):
    failure = failure_of(answer, "asking")
    assert type(failure) is kind
    assert failure.retry_after == seconds
    if isinstance(answer, ErrorAnswer):
        assert failure.hint
        assert f"result {answer.result}" in failure.cause
    if isinstance(failure, OtherVersion):
        assert failure.version == (1 if isinstance(answer, ErrorAnswer) else 0)


# -- giving back ----------------------------------------------------------------------------------


async def test_giving_back_ends_the_mappings_and_no_others(world):
    world.take(TCP, 50000)
    await world.map()
    kept = await world.map(internal=6999, external=41000, nonce=b"for another.")
    await world.gateway.unmap(BOTH, 6881, world.nonce)
    assert world.ours == {(protocol, kept.external_port, 6999) for protocol in BOTH}
    assert len(world.others()) == 1
    await world.gateway.unmap(BOTH, 6881, world.nonce)
    assert [row for row in world.asked if row[3] == 0] == 2 * [
        (TCP, 6881, 0, 0, False),
        (UDP, 6881, 0, 0, False),
    ]


async def test_giving_back_what_a_server_without_such_a_mapping_calls_no_resources(world):
    world.faults.result = 8
    await world.gateway.unmap(BOTH, 6881, world.nonce)


async def test_giving_back_that_nobody_answers_is_over_soon_and_tries_both(world):
    await world.map()
    world.io.drop = True
    began, sent = world.io.now(), len(world.io.sent)
    with pytest.raises(NoAnswer):
        await world.gateway.unmap(BOTH, 6881, world.nonce)
    assert world.io.now() - began == 2
    assert len(world.io.sent) - sent == 4


async def test_a_mapping_that_stays_is_told(world):
    await world.map()
    world.io.far_side = lambda sent: (
        b"\2\x81\0\0" + (60).to_bytes(4) + bytes(16) + sent.data[24:42] + b"\x9c\x40" + sent.data[44:]
    )
    with pytest.raises(Transient, match="keeps the mapping for 60 s"):
        await world.gateway.unmap((TCP,), 6881, world.nonce)
