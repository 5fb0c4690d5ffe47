"""The conversation with a NAT-PMP gateway: what is sent, and what its answers turn into."""

from __future__ import annotations

import asyncio
import struct

import pytest

from mock_provider.faults import Faults
from mock_provider.natpmp import Machine
from vpnpf.errors import Misconfigured, NoAnswer, Refused, Transient, Unsupported
from vpnpf.model import BOTH, Protocol
from vpnpf.protocol.natpmp import AddressAnswer, ErrorAnswer, MappingAnswer
from vpnpf.protocol.natpmp_gateway import NatPmpGateway, failure_of
from vpnpf.testing import FakeIO, Fate, Sent, scripted

UDP, TCP = Protocol.UDP, Protocol.TCP
ADDRESS, US = "10.2.0.1", "10.2.0.2"
OPCODE = {UDP: 1, TCP: 2}


def request(protocol: Protocol, internal: int, external: int, lifetime: int) -> bytes:
    return struct.pack("!BBHHHI", 0, OPCODE[protocol], 0, internal, external, lifetime)


def answer(protocol: Protocol, internal: int, external: int, lifetime: int, result: int = 0) -> bytes:
    return struct.pack("!BBHIHHI", 0, 128 + OPCODE[protocol], result, 1193046, internal, external, lifetime)


def gateway_of(answers) -> NatPmpGateway:
    """A gateway of which every answer is written down, by request."""
    return NatPmpGateway(FakeIO(scripted({(ADDRESS, 5351, asked): said for asked, said in answers.items()})), ADDRESS)


def on_a_machine(mode: str = "rfc", **options) -> tuple[NatPmpGateway, Machine, FakeIO]:
    machine = Machine(Faults(), now=1000.0, mode=mode, choose=min, **options)
    io = FakeIO(lambda sent: machine.handle(sent.data, US, sent.at).answer or Fate.SILENT)
    return NatPmpGateway(io, ADDRESS), machine, io


def asked(io: FakeIO) -> list[tuple[Protocol, int, int, int]]:
    """The mapping requests that were sent: protocol, internal and external port, lifetime."""
    return [
        (UDP if sent.data[1] == 1 else TCP, *struct.unpack("!HHI", sent.data[4:]))
        for sent in io.sent
        if sent.data[1] in {1, 2}
    ]


def is_udp(sent: Sent) -> bool:
    return sent.data[1] == 1


async def test_the_external_address():
    gateway = gateway_of({b"\0\0": bytes.fromhex("00800000 00123456 c633640b")})
    assert await gateway.external_address() == AddressAnswer(1193046, "198.51.100.11")


async def test_a_mapping_is_what_the_answer_says():
    gateway = gateway_of({request(TCP, 6881, 6881, 7200): answer(TCP, 6881, 40000, 3600)})
    assert await gateway.map(TCP, 6881, 6881, 7200) == MappingAnswer(1193046, 6881, 40000, 3600, 1000.0)


async def test_a_mapping_of_no_seconds_is_none():
    gateway = gateway_of({request(TCP, 6881, 6881, 7200): answer(TCP, 6881, 40000, 0)})
    with pytest.raises(Transient, match="lifetime of 0 s"):
        await gateway.map(TCP, 6881, 6881, 7200)


async def test_answers_to_something_else_are_waited_out():
    stray = answer(TCP, 6882, 40001, 3600)
    gateway = gateway_of({request(TCP, 6881, 6881, 7200): [stray, b"", b"\0" * 1100, answer(TCP, 6881, 40000, 3600)]})
    assert (await gateway.map(TCP, 6881, 6881, 7200)).external_port == 40000
    assert len(gateway.io.sent) == 4


async def test_both_protocols_get_one_port_and_the_shortest_lifetime():
    gateway, machine, _ = on_a_machine(lifetime=7200)
    given = await gateway.map_all(BOTH, 6881, 40000, 7200)
    assert (given.internal_port, given.external_port, given.lifetime) == (6881, 40000, 7200)
    assert {(rule.protocol, rule.external_port, rule.internal_port) for rule in machine.table} == {
        (TCP, 40000, 6881),
        (UDP, 40000, 6881),
    }
    gateway = gateway_of(
        {
            request(TCP, 6881, 40000, 7200): answer(TCP, 6881, 40000, 7200),
            request(UDP, 6881, 40000, 7200): answer(UDP, 6881, 40000, 60),
        }
    )
    assert (await gateway.map_all(BOTH, 6881, 40000, 7200)).lifetime == 60


async def test_the_second_protocol_wishes_for_the_port_that_the_first_was_given():
    gateway = gateway_of(
        {
            request(TCP, 6881, 40000, 7200): answer(TCP, 6881, 40001, 7200),
            request(UDP, 6881, 40001, 7200): answer(UDP, 6881, 40001, 7200),
        }
    )
    assert (await gateway.map_all(BOTH, 6881, 40000, 7200)).external_port == 40001


@pytest.mark.parametrize(("internal", "wish"), [(0, 1), (50001, 0)])
async def test_without_an_internal_port_or_a_wish_the_same_tuple_is_sent_twice(internal, wish):
    gateway, _, io = on_a_machine("proton")
    await gateway.map_all(BOTH, internal, wish, 60)
    assert asked(io) == [(TCP, internal, wish, 60), (UDP, internal, wish, 60)]


async def test_a_wish_that_another_has_in_one_protocol_is_evaded_in_both():
    gateway = gateway_of(
        {
            request(TCP, 6881, 40000, 7200): answer(TCP, 6881, 40000, 7200),
            request(UDP, 6881, 40000, 7200): answer(UDP, 6881, 40001, 7200),
            request(TCP, 6881, 0, 0): answer(TCP, 6881, 0, 0),
            request(UDP, 6881, 0, 0): answer(UDP, 6881, 0, 0),
            request(TCP, 6881, 40001, 7200): answer(TCP, 6881, 40001, 7200),
            request(UDP, 6881, 40001, 7200): answer(UDP, 6881, 40001, 7200),
        }
    )
    assert (await gateway.map_all(BOTH, 6881, 40000, 7200)).external_port == 40001
    assert len(gateway.io.sent) == 6


@pytest.mark.parametrize(("mode", "internal", "wish"), [("proton", 0, 1), ("proton", 50001, 0), ("rfc", 6881, 6881)])
async def test_two_ports_are_a_failure_and_both_are_given_back(mode, internal, wish):
    gateway, machine, io = on_a_machine(mode)
    machine.faults.tcp_differs = True
    with pytest.raises(Transient, match=r"it gave \d+/tcp and \d+/udp"):
        await gateway.map_all(BOTH, internal, wish, 60)
    assert not machine.table
    assert all(inside for _, inside, _, lifetime in asked(io) if lifetime == 0)


async def test_two_ports_are_told_even_if_giving_them_back_fails():
    gateway, machine, io = on_a_machine()
    machine.faults.tcp_differs = True
    io.meets = lambda sent: len(sent.data) == 12 and sent.data[8:] == bytes(4)
    io.drop = True
    with pytest.raises(Transient, match="it gave"):
        await gateway.map_all(BOTH, 6881, 6881, 60)
    deletes = [row for row in asked(io) if row[3] == 0]
    assert deletes == ([(TCP, 6881, 0, 0)] * 2 + [(UDP, 6881, 0, 0)] * 2) * 2


@pytest.mark.parametrize(("mode", "internal", "wish"), [("proton", 0, 1), ("rfc", 6881, 6881)])
async def test_half_of_what_was_asked_for_is_given_back(mode, internal, wish):
    gateway, machine, io = on_a_machine(mode)
    io.meets = is_udp
    io.drop = True
    with pytest.raises(NoAnswer):
        await gateway.map_all(BOTH, internal, wish, 60)
    assert not machine.table


async def test_a_renewal_that_fails_gives_nothing_back():
    gateway, machine, io = on_a_machine()
    await gateway.map_all(BOTH, 6881, 6881, 60)
    held = machine.table
    io.meets = is_udp
    io.drop = True
    with pytest.raises(NoAnswer):
        await gateway.map_all(BOTH, 6881, 6881, 60, renewal=True)
    io.drop = False
    machine.faults.tcp_differs = True
    with pytest.raises(Transient, match="it gave"):
        await gateway.map_all(BOTH, 6881, 6881, 60, renewal=True)
    assert {rule for rule in machine.table if rule.protocol is UDP} <= held
    assert not [row for row in asked(io) if row[3] == 0]


async def test_a_mapping_ends_with_no_wish_and_no_seconds():
    gateway, machine, io = on_a_machine()
    await gateway.map_all(BOTH, 6881, 40000, 60)
    await gateway.unmap(TCP, 6881)
    assert {rule.protocol for rule in machine.table} == {UDP}
    await gateway.unmap(TCP, 6881)
    assert asked(io)[-1] == (TCP, 6881, 0, 0)


async def test_a_delete_is_tried_twice_and_no_more():
    gateway, _, io = on_a_machine()
    io.drop = True
    began = io.now()
    with pytest.raises(NoAnswer):
        await gateway.unmap(TCP, 6881)
    assert len(io.sent) == 2
    assert io.now() - began == 0.5


async def test_deleting_everything_cannot_be_said():
    gateway, _, io = on_a_machine()
    with pytest.raises(ValueError, match="every mapping"):
        await gateway.unmap(TCP, 0)
    assert not io.sent


async def test_a_gateway_that_keeps_what_is_given_back_is_told_of():
    gateway = gateway_of({request(TCP, 6881, 0, 0): answer(TCP, 6881, 40000, 60)})
    with pytest.raises(Transient, match="it keeps port 40000 for 60 s"):
        await gateway.unmap(TCP, 6881)


async def test_one_protocol_that_cannot_be_given_back_does_not_keep_the_other():
    gateway, machine, io = on_a_machine()
    await gateway.map_all(BOTH, 6881, 40000, 60)
    io.drop_next(2)
    with pytest.raises(NoAnswer, match="giving a tcp mapping back"):
        await gateway.unmap_all(BOTH, 6881)
    assert {rule.protocol for rule in machine.table} == {TCP}
    await gateway.unmap_all(BOTH, 6881)
    assert not machine.table


@pytest.mark.parametrize(
    ("result", "kind", "retry_after"),
    [
        (1, Unsupported, None),
        (2, Misconfigured, 300.0),
        (3, Transient, None),
        (4, Transient, None),
        (5, Unsupported, 300.0),
        (6, Unsupported, 300.0),
        (65535, Unsupported, 300.0),
    ],
)
async def test_result_codes_become_failures(result, kind, retry_after):
    gateway = gateway_of({request(TCP, 6881, 6881, 60): answer(TCP, 6881, 0, 0, result)})
    with pytest.raises(kind, match=rf"asking {ADDRESS} for a tcp port: the gateway said .*result {result}\b") as told:
        await gateway.map(TCP, 6881, 6881, 60)
    assert type(told.value) is kind
    assert told.value.retry_after == retry_after
    assert told.value.hint
    assert str(failure_of(ErrorAnswer(result), "asking")).startswith("asking: ")


async def test_whoever_gives_up_waiting_ends_the_exchange():
    gateway, machine, io = on_a_machine()
    obeys, reached = io.far_side, asyncio.Event()

    def silent(_sent: Sent) -> Fate:
        reached.set()
        return Fate.SILENT

    io.far_side = silent
    waiting = asyncio.create_task(gateway.map_all(BOTH, 6881, 6881, 60))
    await reached.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not machine.table
    io.far_side = obeys
    assert (await gateway.map_all(BOTH, 6881, 6881, 60)).external_port == 6881


async def test_refused_at_every_try_and_refused_once():
    gateway, _, io = on_a_machine()
    io.refuse_next()
    assert (await gateway.map(TCP, 6881, 6881, 60)).external_port == 6881
    io.refuse = True
    with pytest.raises(Refused):
        await gateway.map(TCP, 6881, 6881, 60)
    io.refuse = False
    io.refuse_next()
    io.drop = True
    with pytest.raises(Refused):
        await gateway.map(TCP, 6881, 6881, 60)
