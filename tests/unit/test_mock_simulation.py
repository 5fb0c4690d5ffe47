"""Providers before a gateway with faults and a scenario, on a virtual clock: no socket, and the same code."""

from __future__ import annotations

import time

import pytest

from mock_provider.behaviour import Behaviour
from mock_provider.faults import Faults
from mock_provider.natpmp import Machine
from mock_provider.scenario_text import parse
from mock_provider.simulation import SimulatedIO
from vpnpf.errors import Failure, Misconfigured, NoAnswer, Refused, Transient
from vpnpf.model import ForwardSpec, Lease, MappingRequest
from vpnpf.protocol import natpmp
from vpnpf.testing import FakeClock, a_tunnel
from vpnpf_providers.natpmp import NatPmp
from vpnpf_providers.protonvpn import ProtonVpn

SPEC = ForwardSpec("torrent")
TUNNEL = a_tunnel()


def simulated(scenario: str = "", *, mode: str = "proton", lifetime: int = 60, **wrong) -> SimulatedIO:
    clock, faults = FakeClock(), Faults(**wrong)
    machine = Machine(faults, now=clock.now(), mode=mode, lifetime=lifetime, choose=min)
    return SimulatedIO(Behaviour(faults, machine), parse(scenario), clock=clock)


async def acquire(io: SimulatedIO) -> Lease:
    return await ProtonVpn({}).acquire(io, TUNNEL, MappingRequest(SPEC))


async def renew(io: SimulatedIO, held: Lease) -> Lease:
    return await ProtonVpn({}).acquire(io, TUNNEL, MappingRequest(SPEC, held, renewal=True))


@pytest.mark.parametrize(
    "wrong",
    [
        {"duplicate": True},
        {"noise": 5},
        {"delay": 0.2},
        {"delay": (0.0, 0.9)},
        {"reorder": 2},
        {"loss": 0.3},
        {"answer_loss": 0.3},
        {"refuse_every": 2},
        {"lengthen": 0},
    ],
)
async def test_what_a_client_should_not_mind(wrong):
    io = simulated(**wrong)
    lease = await acquire(io)
    assert {rule.external_port for rule in io.mapped} == {lease.external_port}


async def test_delays_take_time_on_the_clock():
    io = simulated(delay=0.2)
    await acquire(io)
    requests = {sent.data for sent in io.sent}
    assert io.now() == pytest.approx(1000 + 0.2 * len(requests))


@pytest.mark.parametrize(
    "wrong",
    [
        {"wrong_source": "port"},
        {"wrong_source": True},
        {"says_version": 1},
        {"says_opcode": 7},
        {"shorten": 11},
        {"lengthen": 1},
        {"garbage": 1.0},
        {"silent": True},
        {"loss": 1.0},
        {"reorder": 1000},
    ],
)
async def test_what_is_no_answer(wrong):
    io = simulated(**wrong)
    with pytest.raises(NoAnswer):
        await acquire(io)
    io.behaviour.faults.clear()
    assert (await acquire(io)).external_port


@pytest.mark.parametrize("wrong", [{"says_external_port": 0}, {"says_lifetime": 0}, {"says_internal_port": 9}])
async def test_what_is_no_grant(wrong):
    io = simulated(**wrong)
    with pytest.raises(Failure):
        await acquire(io)


async def test_a_lifetime_beyond_what_was_asked_for_is_not_believed():
    assert (await acquire(simulated(says_lifetime=2**32 - 1))).lifetime == 60


async def test_gone_is_refused_and_then_back():
    io = simulated("from 0 to 1m gone")
    with pytest.raises((Misconfigured, Refused)):
        await acquire(io)
    io.clock.advance(60)
    assert (await acquire(io)).external_port


async def test_what_was_due_meanwhile_happened_at_its_time():
    io = simulated("at 10s announce 2\nat 70s reset-epoch\nat 200s rotate")
    await acquire(io)
    io.clock.advance(100)
    assert not io.mapped, "it ended after 60 s, or at the latest with the reset"
    assert [change.at for change in io.changes] == [10, 70]
    assert [at - 1000 for at, _ in io.announced] == [10, 10.25]
    assert natpmp.parse_address(io.announced[0][1]).address == "198.51.100.11"
    assert io.behaviour.machine.epoch(io.now()) == 30


async def test_days_of_a_bad_gateway_go_by_in_a_moment_and_alike_each_time():
    """A plain loop that renews at half the lifetime keeps a port for three days, and follows it."""
    text = """
        seed 3
        every 1h rotate
        every 300s refuse 1
        from 10m every 7h restart 20s
        every 50m loss 30% for 10m
        every 40m delay 10ms-600ms for 2m
        every 3h reset-epoch
    """

    async def run() -> tuple[list[int], int]:
        io = simulated(text)
        lease, ports, failures = await acquire(io), [], 0
        while io.now() < 1000 + 3 * 86400:
            io.clock.advance(lease.lifetime / 2)
            try:
                lease = await renew(io, lease)
            except Transient:
                failures += 1
                continue
            if lease.external_port not in ports[-1:]:
                ports.append(lease.external_port)
            assert lease.external_port in {rule.external_port for rule in io.mapped}
        return ports, failures

    began = time.process_time()
    first = await run()
    assert len(first[0]) > 50
    assert first[1] > 0
    assert time.process_time() - began < 20, "seconds of work for three days"
    assert await run() == first


async def test_other_addresses_and_ports_are_silent():
    io = simulated(mode="rfc")
    with pytest.raises(NoAnswer):
        await NatPmp({"gateway": "10.9.9.9"}).acquire(io, TUNNEL, MappingRequest(SPEC))
    lease = await NatPmp({}).acquire(io, TUNNEL, MappingRequest(SPEC))
    assert lease.external_port == lease.internal_port == 49152
