"""Who is said to be connected to a forwarded port, and who to have been."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.engine_world import PLAN, SPEC, START, TUNNEL, World
from vpnpf.core.peers import met, through
from vpnpf.core.redaction import redacted
from vpnpf.core.serialise import state_json
from vpnpf.core.state import initial
from vpnpf.core.view import view
from vpnpf.events import NewPortWanted, ReadSockets, SocketsSeen
from vpnpf.model import PEERS, Connection, Peer, Protocol

OWN = TUNNEL.plan.addresses[0].partition("/")[0]


def connection(number, *, came_in=True, local=OWN, local_port=40000):
    return Connection(local, local_port, f"192.0.2.{number}", 50000 + number, came_in)


def peer(number, since, *, connected=True, came_in=True):
    return Peer(f"192.0.2.{number}", 50000 + number, Protocol.TCP, since, connected, came_in)


def looks(*seen):
    """The list after some looks, a second apart."""
    peers, present = (), frozenset()
    for now, numbers in enumerate(seen):
        peers, present = met(peers, present, tuple(connection(each) for each in numbers), float(now))
    return peers


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ([[]], []),
        ([[1]], [peer(1, 0)]),
        ([[1], [1]], [peer(1, 0)]),
        ([[1], [1, 2]], [peer(2, 1), peer(1, 0)]),
        ([[1], [2]], [peer(2, 1), peer(1, 0, connected=False)]),
        ([[1], []], [peer(1, 0, connected=False)]),
        ([[1], [], [1]], [peer(1, 2)]),
        ([[1, 1]], [peer(1, 0)]),
    ],
)
def test_the_newest_is_first_and_who_left_stays(seen, told):
    assert list(looks(*seen)) == told


def test_newer_ones_push_out_the_oldest_and_who_was_pushed_out_is_not_new_again():
    crowd = list(range(1, PEERS + 4))
    peers = looks([1], crowd, crowd)
    assert len(peers) == PEERS
    assert {each.since for each in peers} == {1.0}
    assert "192.0.2.1" not in {each.address for each in peers}


def test_that_it_cannot_be_told_who_began_is_kept():
    peers, _ = met((), frozenset(), (connection(1, came_in=False),), 3.0)
    assert peers == (peer(1, 3.0, came_in=False),)


def test_only_what_came_by_the_tunnel_on_this_port_counts():
    mine = connection(1)
    others = (connection(2, local="127.0.0.1"), connection(3, local_port=40001), connection(4, local="192.168.1.2"))
    assert through((*others, mine), TUNNEL, 40000) == (mine,)


@given(st.lists(st.lists(st.integers(1, 250), max_size=20), max_size=8))
def test_whatever_is_seen_the_list_is_short_newest_first_and_true(seen):
    peers = looks(*seen)
    assert len(peers) <= PEERS
    assert len({each.address for each in peers}) == len(peers)
    assert list(peers) == sorted(peers, key=lambda each: -each.since)
    last = {f"192.0.2.{each}" for each in (seen[-1] if seen else ())}
    assert all(each.connected == (each.address in last) for each in peers)


class Visited(World):
    """A world in which somebody is connected, or it cannot be seen."""

    there = (connection(7),)

    def success(self, order):
        found = super().success(order)
        if isinstance(order.work, ReadSockets):
            port = order.work.port
            there = self.there
            if there is not None:
                there = tuple(Connection(each.local, port, each.address, each.port, each.came_in) for each in there)
            return SocketsSeen(found.generation, found.key, found.forward, found.sockets, there)
        return found


def ready():
    world = Visited(initial(SPEC, PLAN, START), plan=PLAN)
    world.ready()
    return world


def told(world):
    return state_json(view(world.machine), 0.0)["forwards"][0]["peers"]


def test_the_state_tells_them_and_the_report_would_hide_them():
    (one,) = told(ready())
    assert {key: value for key, value in one.items() if key != "since"} == {
        "address": "192.0.2.7",
        "port": 50007,
        "protocol": "tcp",
        "connected": True,
        "came_in": True,
    }
    assert "192.0.2.7" not in redacted(json.dumps(one))


def test_what_cannot_be_seen_changes_nothing_and_fails_no_look():
    world = ready()
    world.there = None
    world.wait(60)
    assert told(world)[0]["connected"]
    assert not view(world.machine).problems
    assert view(world.machine).forwards[0].proofs.listening.ok


def changes(world, coming):
    """How often the state was another one, second by second, while visitors come and go."""
    before, found = view(world.machine), 0
    for number in range(90):
        world.there = coming(number)
        world.wait(1)
        now = view(world.machine)
        found += now != before
        before = now
    return found


def test_visitors_make_no_more_states_than_there_are_looks():
    came = ready()
    assert changes(came, lambda number: (connection(number + 1),)) == changes(ready(), lambda _: ())
    assert len(told(came)) > 2


def test_after_another_port_nobody_is_said_to_be_there_until_a_look_at_it():
    world = ready()
    world.held = {ReadSockets}
    world.port = 41000
    world.take(NewPortWanted("torrent"))
    world.until(lambda: world.forward.lease.external_port == 41000, 60)
    assert [each["connected"] for each in told(world)] == [False]
