"""The services of a provider in the rule set, stage by stage."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.test_nft_render import PLAN, lines
from vpnpf.errors import Misconfigured
from vpnpf.firewall.render import render
from vpnpf.model import Endpoint, FirewallPolicy, FirewallStage, LockMode, PortPolicy, Protocol

SERVICES = (
    Endpoint("198.51.100.10", 1337, Protocol.TCP),
    Endpoint("2001:db8::5", 443, Protocol.TCP),
    Endpoint("198.51.100.10", 1337, Protocol.TCP),
)
OUT = [
    "meta mark 0xca6c ip daddr 198.51.100.10 tcp dport 1337 counter accept",
    "meta mark 0xca6c ip6 daddr 2001:db8::5 tcp dport 443 counter accept",
]
IN = [
    "ip saddr 198.51.100.10 tcp sport 1337 ct state established counter accept",
    "ip6 saddr 2001:db8::5 tcp sport 443 ct state established counter accept",
]


def policy(stage, services=SERVICES, **more):
    return FirewallPolicy(stage, replace(PLAN, services=services), PortPolicy(), **more)


def added(stage, chain):
    """The rules that are there for the services, and where they begin."""
    before, now = lines(policy(stage, ()), chain), lines(policy(stage), chain)
    found = [text for text in now if text not in before]
    assert [text for text in now if text not in found] == before
    return found, now.index(found[0]) if found else None


@pytest.mark.parametrize("stage", [stage for stage in FirewallStage if stage is not FirewallStage.LOCKED])
def test_each_is_let_out_once_by_the_mark_and_its_answers_in(stage):
    out, place = added(stage, "output")
    assert (out, place) == (OUT, 2), "right after the tunnel's own packets"
    into, place = added(stage, "input")
    assert into == IN
    assert lines(policy(stage), "input")[place - 1].startswith("ip saddr 198.51.100.10 udp sport 51820 ct state est")
    assert added(stage, "forward") == ([], None)


def test_locked_and_unlocked_there_is_nothing_of_them():
    for chain in ("output", "input", "forward"):
        assert added(FirewallStage.LOCKED, chain) == ([], None)
    for stage in (FirewallStage.CONNECTED, FirewallStage.BLOCKED):
        unlocked = [render(policy(stage, services, lock=LockMode.OFF)) for services in ((), SERVICES)]
        assert unlocked[0] == unlocked[1], "without a lock nothing keeps them away"


@pytest.mark.parametrize(
    ("service", "why"),
    [
        (Endpoint("198.51.100.10", 1337), "not TCP"),
        (Endpoint("fe80::1%eth0", 1337, Protocol.TCP), "zone"),
        (Endpoint('1.2.3.4" accept', 1337, Protocol.TCP), "address"),
    ],
)
def test_what_is_no_service_is_in_no_rule(service, why):
    with pytest.raises(Misconfigured, match=why):
        render(policy(FirewallStage.CONNECTED, (service,)))
