"""Why nobody answers, in words."""

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import PLAN, TUNNEL, World
from vpnpf.core.diagnosis import why_silent
from vpnpf.events import Acquire, ProblemNoticed, WorkFailed
from vpnpf.model import FailureKind, LanPrefix, TunnelHealth

ALIVE = TunnelHealth(12.0)


def why(health=ALIVE, gateway="10.2.0.1", **plan):
    world = World().ready()
    tunnel = replace(TUNNEL, plan=replace(PLAN, **plan), gateway=gateway)
    return why_silent(replace(world.machine, tunnel=tunnel, health=health))


def test_the_tunnel_works():
    assert why() == "the tunnel works (handshake 12 s old): nobody answers there"


@pytest.mark.parametrize(
    ("health", "said"),
    [
        (TunnelHealth(400.0), "the way there is dead: the tunnel's handshake is too old: 400 s"),
        (TunnelHealth(None), "the way there is dead: the tunnel never shook hands"),
        (TunnelHealth(3.0, silent_for=30.0), "the way there is dead: the server has been silent for 30 s"),
    ],
)
def test_the_tunnel_is_dead(health, said):
    assert why(health) == said


def test_the_server_itself_does_not_answer():
    machine = replace(World().ready().machine, health=ALIVE, silent_since=1000.0)
    assert why_silent(machine) == "the way there is dead: the server does not answer either"


def test_the_gateway_is_far_from_the_tunnel():
    assert "it may be the wrong gateway" in why(gateway="192.168.1.1")
    assert "wrong" not in why(gateway="10.2.77.1", addresses=("10.2.0.2/32",))
    assert "wrong" not in why(gateway="100.64.0.1", dns=("100.64.0.1",))


def test_the_lan_has_the_same_addresses():
    said = why(gateway="192.168.1.1", lan=(LanPrefix("eth0", "192.168.1.0/24"),))
    assert said == "192.168.1.1 is also an address of your own network (192.168.1.0/24 on eth0)"


def test_without_a_tunnel_nothing_is_said():
    world = World().begin()
    assert why_silent(replace(world.machine, tunnel=None)) == ""


def test_it_stands_in_the_problem_and_is_no_news_each_time_the_handshake_is_older():
    world = World(held={Acquire}).begin()
    for _ in range(5):
        order = world.waiting(Acquire)
        world.pending.remove(order)
        failed = WorkFailed(
            order.generation,
            order.work.key,
            FailureKind.TRANSIENT,
            "asking 10.2.0.1",
            "no answer in 3.75 s",
            silent=True,
        )
        world.take(failed)
        world.wait(20)
    told = [notice.problem for notice in world.heard(ProblemNoticed)]
    assert len(told) == 1
    assert told[0].message == "no answer in 3.75 s; the tunnel works (handshake 0 s old): nobody answers there"
