"""What a person wishes of a profile that goes on: the port again, another port, another server."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import FORWARD, PLAN, SPEC, START, TUNNEL, World
from vpnpf.core.state import initial
from vpnpf.core.view import view
from vpnpf.core.wishes import ONE_WISH, why_not_port, why_not_renew, why_not_server
from vpnpf.events import (
    Acquire,
    ApplyFirewall,
    LeaseGranted,
    NewPortWanted,
    PlanTunnel,
    PortAnnounced,
    PortLost,
    ProblemNoticed,
    ProblemOver,
    Release,
    RenewWanted,
    SaveLeases,
    ServerWanted,
    SetClient,
    SetSwitch,
    StartTunnel,
    StopRequested,
    Tick,
    WishTaken,
)
from vpnpf.model import (
    BOTH,
    Endpoint,
    FailureKind,
    FirewallStage,
    ForwardSpec,
    Lease,
    Phase,
    ProfileSpec,
    Server,
    Wish,
)

GAME = ForwardSpec("game", slot=1, internal_port=25565)
TWO = ProfileSpec("home", "mock", (FORWARD, GAME))
PLANS = tuple(
    replace(PLAN, server=n, identity=f"key {n}", endpoint=Endpoint(f"203.0.113.{n + 5}", 51820), place=place)
    for n, place in enumerate(("Oslo", "Bergen", "Narvik"))
)
TOKEN = Lease(39999, 39999, BOTH, 0.0, 0.0, token="signature")
HELD = {PLAN.identity: {"torrent": TOKEN}}


def two(**changes):
    return World(initial(TWO, PLAN, START), **changes).ready()


def several(number=3):
    return World(initial(SPEC, PLANS[0], START, servers=number), plans=PLANS).ready()


def wish(world, event):
    """Hand it in; returns what is asked for by it and all that follows at once."""
    world.orders.clear()
    world.take(event)
    world.settle()
    return [order.work for order in world.orders]


def asked(works, kind):
    return [work for work in works if isinstance(work, kind)]


def wishes(world):
    return [entry for entry in world.machine.timeline if entry.kind == "wish"]


# -- the port again -----------------------------------------------------------------------------


def test_what_is_held_is_asked_for_again_at_once():
    world = two().wait(7)
    works = wish(world, RenewWanted())
    assert [(work.forward, work.request.renewal) for work in asked(works, Acquire)] == [
        ("torrent", True),
        ("game", True),
    ]
    assert [forward.lease.granted_at for forward in world.machine.forwards] == [world.now, world.now]
    assert [forward.renew_at for forward in world.machine.forwards] == [world.now + 30] * 2
    assert world.phase is Phase.READY


def test_one_forward_alone():
    world = two().wait(7)
    assert [work.forward for work in asked(wish(world, RenewWanted("game")), Acquire)] == ["game"]


def test_nobody_is_asked_for_an_unknown_forward():
    world = two().wait(7)
    assert wish(world, RenewWanted("nobody")) == []
    assert wish(world, NewPortWanted("nobody")) == []
    assert wishes(world) == []


def test_a_key_that_is_held_down_is_one_wish():
    world = World().ready().wait(7)
    for _ in range(50):
        world.take(RenewWanted())
        world.settle()
        world.now += ONE_WISH / 100
    assert len(world.ordered(Acquire)) == 2
    assert len(wishes(world)) == 1
    world.now += ONE_WISH
    assert len(asked(wish(world, RenewWanted()), Acquire)) == 1


def test_a_failure_after_a_wish_backs_off_as_any_other():
    world = World().ready().wait(7)
    world.fail(Acquire)
    assert len(asked(wish(world, RenewWanted()), Acquire)) == 1
    world.wait(0.5)
    assert len(world.ordered(Acquire)) == 1
    assert world.phase is Phase.READY


def test_what_waits_after_a_failure_is_tried_at_once():
    world = World()
    world.fail(Acquire, retry_after=3000.0)
    world.begin().wait(60)
    assert len(world.ordered(Acquire)) == 1
    world.faults.clear()
    world.take(RenewWanted())
    world.settle()
    world.wait(1)
    assert world.phase is Phase.READY
    assert len(world.ordered(Acquire)) == 2


@pytest.mark.parametrize(
    ("work", "forwards"),
    [(Acquire, (FORWARD,)), (StartTunnel, (FORWARD,)), (ApplyFirewall, (FORWARD,)), (StartTunnel, ())],
)
def test_a_failed_profile_tries_again_now(work, forwards):
    world = World(initial(replace(SPEC, forwards=forwards), PLAN, START))
    world.fail(work, FailureKind.MISCONFIGURED)
    world.begin().wait(7200)
    assert world.phase is Phase.FAILED
    world.faults.clear()
    tried = len(world.ordered(work))
    world.wait(7200)
    assert len(world.ordered(work)) == tried, "it would have gone on by itself"
    world.take(RenewWanted())
    world.settle()
    world.until(lambda: world.phase is Phase.READY, 5)


def test_a_torrent_client_that_refused_is_tried_now():
    world = World()
    world.fail(SetClient, FailureKind.MISCONFIGURED)
    world.begin().wait(3)
    world.faults.clear()
    assert asked(wish(world, RenewWanted()), SetClient)


# -- another port -------------------------------------------------------------------------------


def test_what_is_held_is_given_back_before_another_is_asked_for():
    world = two().wait(7)
    world.port = 41000
    works = wish(world, NewPortWanted("torrent"))
    names = [type(work).__name__ for work in works if isinstance(work, Release | Acquire)]
    assert names == ["Release", "Acquire"]
    (release,), (acquire,) = asked(works, Release), asked(works, Acquire)
    assert (release.forward, release.lease.external_port) == ("torrent", 40000)
    assert (acquire.request.previous, acquire.request.renewal) == (None, False)


def test_everybody_follows_the_new_port_and_the_old_one_is_closed():
    world = two().wait(7)
    game = world.machine.forwards[1]
    world.port = 41000
    wish(world, NewPortWanted("torrent"))
    world.until(lambda: world.phase is Phase.READY, 5)
    assert world.settings["torrent"].port == 41000
    assert world.open_ports() == {41000, 40001}
    assert world.machine.forwards[1].lease == game.lease
    assert [notice.forward for notice in world.heard(PortLost)] == ["torrent"]
    assert world.heard(PortAnnounced)[-1].lease.external_port == 41000


def test_the_old_port_is_open_until_it_is_given_back():
    world = World().ready()
    world.held.add(Release)
    wish(world, NewPortWanted())
    assert world.open_ports() == {40000}
    assert world.phase is Phase.READY
    world.held.clear()
    world.held.add(Acquire)
    world.settle()
    assert world.open_ports() == set()
    assert world.phase is Phase.LEASING


def test_a_token_that_keeps_the_port_is_dropped():
    world = World(initial(SPEC, PLAN, START, HELD, remaps=False))
    world.ready()
    assert world.ordered(Acquire)[0].work.request.previous == TOKEN
    works = wish(world, NewPortWanted())
    (acquire,) = asked(works, Acquire)
    assert acquire.request.previous is None
    assert asked(works, SaveLeases)


def test_another_server_is_not_asked_for_the_unwanted_port():
    world = several()
    world.held.add(Release)
    wish(world, NewPortWanted())
    works = wish(world, ServerWanted(2))
    world.until(lambda: world.phase is Phase.READY, 5)
    assert asked(works, Acquire)[0].request.previous is None


@pytest.mark.parametrize("kind", FailureKind)
def test_it_goes_on_if_nobody_takes_it_back(kind):
    world = World().ready()
    world.fail(Release, kind, retry_after=3000.0)
    world.port = 41000
    wish(world, NewPortWanted())
    world.until(lambda: world.phase is Phase.READY, 5)
    assert world.forward.lease.external_port == 41000
    assert world.open_ports() == {41000}
    assert world.problems == []
    assert len(world.ordered(Release)) == 1


def test_a_renewal_under_way_is_overtaken():
    world = World().ready()
    world.held.add(Acquire)
    world.wait(31)
    late = world.waiting(Acquire)
    world.port = 41000
    works = wish(world, NewPortWanted())
    assert asked(works, Release)
    world.take(LeaseGranted(late.generation, late.work.key, "torrent", TOKEN))
    assert world.forward.lease is None
    world.held.clear()
    world.settle()
    assert world.forward.lease.external_port == 41000


def test_a_renewal_that_failed_before_is_over_with_the_new_port():
    world = World().ready()
    world.fail(Acquire)
    world.wait(40)
    assert world.problems
    world.faults.clear()
    wish(world, NewPortWanted())
    assert world.problems == []
    assert len(world.heard(ProblemNoticed)) == len(world.heard(ProblemOver))


def test_while_nothing_is_held_it_is_asked_for_at_once_without_a_wish():
    world = World(initial(SPEC, PLAN, START, HELD))
    world.fail(Acquire, retry_after=3000.0)
    world.begin().wait(20)
    world.faults.clear()
    works = wish(world, NewPortWanted())
    (acquire,) = asked(works, Acquire)
    assert acquire.request.previous is None
    assert not asked(works, Release)


def test_a_request_for_the_old_port_is_overtaken():
    world = World(initial(SPEC, PLAN, START, HELD))
    world.held.add(Acquire)
    world.begin()
    assert world.waiting(Acquire).work.request.previous == TOKEN
    wish(world, NewPortWanted())
    assert world.waiting(Acquire).work.request.previous is None


def test_without_the_tunnel_it_is_given_back_once_there_is_one():
    world = World().ready()
    world.held.add(StartTunnel)
    world.handshake_age = 181.0
    world.until(lambda: world.machine.tunnel is None, 60)
    assert not asked(wish(world, NewPortWanted()), Release)
    world.held.clear()
    world.handshake_age = 1.0
    world.settle()
    world.until(lambda: world.phase is Phase.READY, 10)
    names = [type(order.work).__name__ for order in world.ordered(Release, Acquire)]
    assert names == ["Release", "Acquire"]


def test_a_lease_that_ends_meanwhile_leaves_no_wish():
    world = World().ready()
    world.held.add(Release)
    wish(world, NewPortWanted())
    world.sleep(61)
    assert (world.forward.lease, world.forward.wish, world.forward.unwanted) == (None, None, False)


def test_asked_for_twice_it_is_changed_once():
    world = World().ready()
    wish(world, NewPortWanted())
    assert wish(world, NewPortWanted()) == []
    world.now += ONE_WISH
    assert asked(wish(world, NewPortWanted()), Release)


def test_a_port_that_the_configuration_asks_for_is_kept_while_it_is_held():
    spec = ProfileSpec("home", "mock", (replace(FORWARD, external_port=40000), GAME))
    world = World(initial(spec, PLAN, START)).ready().wait(7)
    works = wish(world, NewPortWanted())
    assert [work.forward for work in asked(works, Release)] == ["game"]
    assert "external_port" in why_not_port(world.machine, "torrent")
    assert why_not_port(world.machine, "") == ""
    assert wish(world, NewPortWanted("torrent")) == []
    world.port = 41000  # another than it asks for was given
    world.until(lambda: world.forward.lease.external_port == 41000, 60)
    assert why_not_port(world.machine, "torrent") == ""


def test_the_providers_own_switch_lets_nobody_be_shut_out_meanwhile():
    world = World(initial(SPEC, PLAN, START, switchable=True)).ready().wait(5)
    world.held.add(Acquire)
    world.port = 41000
    assert not asked(wish(world, NewPortWanted()), SetSwitch)
    world.held.clear()
    world.settle()
    world.wait(5)
    assert [(opening.first, opening.last) for opening in world.said().ports] == [(41000, 41000)] * 2


def test_which_forwards_there_are_is_said():
    world = two()
    assert why_not_renew(world.machine, "") == why_not_renew(world.machine, "game") == ""
    assert why_not_renew(world.machine, "nobody") == "there is no forward nobody: there is torrent, game"
    assert why_not_port(world.machine, "nobody") == "there is no forward nobody: there is torrent, game"
    none = World(initial(ProfileSpec("home", "mock", ()), PLAN, START)).ready().machine
    assert why_not_renew(none, "") == why_not_port(none, "") == "the profile forwards no port"


# -- another server -----------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "server"), [(None, 1), (2, 1), (3, 2)])
def test_the_tunnel_goes_there_and_all_is_asked_for_again(number, server):
    world = several()
    works = wish(world, ServerWanted(number))
    world.until(lambda: world.phase is Phase.READY, 5)
    assert asked(works, PlanTunnel) == [PlanTunnel(server)]
    assert world.machine.tunnel.plan == PLANS[server]
    assert asked(works, Acquire)[0].request.previous.external_port == 40000


def test_nothing_leaves_beside_the_tunnel_meanwhile():
    world = several()
    world.held.add(StartTunnel)
    wish(world, ServerWanted(3))
    assert world.table.stage is FirewallStage.BLOCKED
    assert world.table.plan == PLANS[2]
    assert view(world.machine).phase_cause == "another server was asked for"


def test_after_the_last_server_comes_the_first():
    world = several()
    wish(world, ServerWanted(3))
    world.wait(5)
    wish(world, ServerWanted())
    world.until(lambda: world.phase is Phase.READY, 5)
    assert world.machine.server == 0


def test_next_asked_for_twice_at_once_is_one_server_on():
    world = several()
    wish(world, ServerWanted())
    wish(world, ServerWanted())
    assert world.machine.server == 1


@pytest.mark.parametrize("work", [PlanTunnel, StartTunnel])
def test_what_is_under_way_for_the_server_that_is_left_is_overtaken(work):
    world = several()
    world.held.add(work)
    wish(world, ServerWanted(2))
    late = world.waiting(work)
    wish(world, ServerWanted(3))
    world.held.clear()
    world.take(world.success(late))
    assert world.machine.tunnel is None
    world.settle()
    world.until(lambda: world.phase is Phase.READY, 5)
    assert world.machine.tunnel.plan == PLANS[2]


def test_it_is_not_counted_against_the_ladder():
    world = several()
    for _ in range(20):
        wish(world, ServerWanted())
        world.wait(5)
    assert world.machine.taken == ()
    assert world.phase is Phase.READY


def test_a_failed_profile_can_be_sent_to_another_server():
    world = World(initial(SPEC, PLANS[0], START, servers=2), plans=PLANS[:2])
    world.fail(StartTunnel, FailureKind.MISCONFIGURED)
    world.begin().wait(600)
    assert world.phase is Phase.FAILED
    world.faults.clear()
    wish(world, ServerWanted())
    world.until(lambda: world.phase is Phase.READY, 5)


@pytest.mark.parametrize(
    ("servers", "number", "why"),
    [
        (3, 2, ""),
        (3, None, ""),
        (3, 1, "server 1 is the one that is used now"),
        (3, 0, "there is no server 0: they are 1 to 3"),
        (3, 4, "there is no server 4: they are 1 to 3"),
        (3, -1, "there is no server -1: they are 1 to 3"),
        (1, None, "the profile has only one server"),
        (1, 1, "the profile has only one server"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(servers, number, why):
    world = several(servers)
    assert why_not_server(world.machine, number) == why
    if why:
        before = world.machine
        assert wish(world, ServerWanted(number)) == []
        assert world.machine == before


def test_ports_that_are_set_on_the_providers_site_are_asked_for_nowhere_else():
    for fixed in (True, False):
        world = World(initial(SPEC, PLANS[0], START, fixed=fixed), plans=PLANS[:1]).ready()
        assert ("provider's site" in why_not_port(world.machine, "")) is fixed
        assert why_not_renew(world.machine, "") == ""
        before = world.machine.forwards
        wish(world, NewPortWanted())
        assert (world.machine.forwards == before) is fixed


# -- for all of them ----------------------------------------------------------------------------

ALL = [RenewWanted(), NewPortWanted(), ServerWanted()]


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_while_stopping_they_change_nothing(event):
    world = several()
    world.held.add(Release)
    world.take(StopRequested())
    before = world.machine
    assert wish(world, event) == []
    assert world.machine == before
    if isinstance(event, ServerWanted):
        assert why_not_server(world.machine, None) == "the profile is stopping"
    world.held.clear()
    world.settle()
    assert world.phase is Phase.STOPPED


def test_stopping_while_a_port_is_given_back_gives_it_back_once():
    world = World().ready()
    world.held.add(Release)
    wish(world, NewPortWanted())
    world.take(StopRequested())
    world.held.clear()
    world.settle()
    assert world.phase is Phase.STOPPED
    assert len(world.ordered(Release)) == 1


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_the_timeline_has_that_it_was_asked_for(event):
    world = several()
    wish(world, event)
    (entry,) = wishes(world)
    (notice,) = world.heard(WishTaken)
    assert entry.cause == "by hand"
    assert notice.wish in Wish


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_before_anything_is_there_they_do_no_harm(event):
    world = World(initial(SPEC, PLANS[0], START, servers=3), plans=PLANS)
    world.take(Tick())
    world.take(event)
    world.settle()
    world.until(lambda: world.phase is Phase.READY, 5)


# -- what a face sees ---------------------------------------------------------------------------


def test_the_servers_become_known_as_they_are_gone_to():
    world = several()
    unknown = (Server(2), Server(3))
    assert view(world.machine).places == (Server(1, "Oslo", PLANS[0].endpoint), *unknown)
    wish(world, ServerWanted(3))
    state = view(world.machine)
    assert state.places == (Server(1, "Oslo", PLANS[0].endpoint), Server(2), Server(3, "Narvik", PLANS[2].endpoint))
    assert state.server == 3


def test_the_packets_of_a_port_are_counted_from_its_first_reading():
    world = World(packets={"torrent": 5}).ready()
    assert view(world.machine).forwards[0].packets == 0
    world.wait(30)
    world.packets["torrent"] = 9
    world.until(lambda: view(world.machine).forwards[0].packets == 4, 20)
    at = world.now
    assert view(world.machine).forwards[0].packets_at == at
    world.wait(60)
    assert view(world.machine).forwards[0].packets_at == at
    world.packets["torrent"] = 2  # somebody emptied the counter
    world.wait(15)
    assert view(world.machine).forwards[0].packets == 6
    world.port = 41000
    wish(world, NewPortWanted())
    assert view(world.machine).forwards[0].packets == 0
    assert view(world.machine).forwards[0].packets_at is None


def test_the_client_is_shown_as_it_was_read_back():
    world = World().ready()
    shown = view(world.machine).forwards[0]
    assert shown.client_settings == world.settings["torrent"]
    assert shown.client_settings_at == world.forward.settings_at


def test_the_handshake_is_a_time():
    world = World().ready()
    world.handshake_age = 20.0
    machine = world.wait(15).machine
    assert view(machine).handshake_at == machine.health_at - 20.0
    direct = replace(machine, tunnel=replace(TUNNEL, plan=replace(PLAN, direct=True)))
    assert view(direct).handshake_at is None
    assert view(replace(machine, tunnel=None)).handshake_at is None
