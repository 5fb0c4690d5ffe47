"""What a refusal, or a grant that is longer than asked for, means once a port was had."""

from __future__ import annotations

import pytest

from mock_provider.behaviour import Behaviour
from mock_provider.faults import Faults
from mock_provider.natpmp import Machine
from mock_provider.simulation import SimulatedIO
from vpnpf.core.state import port_of
from vpnpf.errors import Misconfigured, Transient
from vpnpf.model import ForwardSpec, MappingRequest
from vpnpf.testing import a_tunnel
from vpnpf_providers.natpmp import NatPmp
from vpnpf_providers.protonvpn import ProtonVpn

SPEC = ForwardSpec("torrent")
providers = pytest.mark.parametrize(("provider", "mode"), [(ProtonVpn({}), "proton"), (NatPmp({}), "rfc")])


def gateway(mode):
    faults = Faults()
    return SimulatedIO(Behaviour(faults, Machine(faults, now=1000.0, mode=mode, lifetime=7200)))


@providers
async def test_a_refusal_at_the_very_first_is_the_persons_to_solve(provider, mode):
    io = gateway(mode)
    io.behaviour.faults.refuse = True
    with pytest.raises(Misconfigured):
        await provider.acquire(io, a_tunnel(), MappingRequest(SPEC))


@providers
async def test_a_refusal_after_a_port_was_had_passes(provider, mode):
    io = gateway(mode)
    lease = await provider.acquire(io, a_tunnel(), MappingRequest(SPEC))
    io.behaviour.faults.refuse = True
    with pytest.raises(Transient) as told:
        await provider.acquire(io, a_tunnel(), MappingRequest(SPEC, lease))
    assert getattr(told.value, "retry_after", None) is None


@providers
async def test_a_port_that_was_had_elsewhere_says_nothing_of_this_gateway(provider, mode):
    io = gateway(mode)
    lease = await provider.acquire(io, a_tunnel(), MappingRequest(SPEC))
    io.behaviour.faults.refuse = True
    with pytest.raises(Misconfigured):
        await provider.acquire(io, a_tunnel(), MappingRequest(SPEC, port_of(lease)))


@providers
async def test_a_grant_is_never_longer_than_asked_for(provider, mode):
    io = gateway(mode)
    io.behaviour.faults.says_lifetime = 86400
    lease = await provider.acquire(io, a_tunnel(), MappingRequest(SPEC))
    assert lease.lifetime == (60 if mode == "proton" else 7200)
