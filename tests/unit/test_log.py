"""What a person reads and what a script reads of one run."""

from __future__ import annotations

import asyncio
import json
import typing

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import START, World
from vpnpf.core.talk import talk
from vpnpf.core.view import view
from vpnpf.events import (
    Acquire,
    ApplyFirewall,
    CheckTunnel,
    Disagrees,
    ExitDiffers,
    GatewayReset,
    LeaseRenewed,
    MtuLowered,
    Notice,
    OpeningUnused,
    PhaseChanged,
    PolicyChanged,
    PortAnnounced,
    PortGranted,
    PortLost,
    ProblemNoticed,
    ProblemOver,
    RemedyTaken,
    StopTunnel,
    SwitchSeen,
    WishTaken,
)
from vpnpf.hub import KEPT, Hub, Moment
from vpnpf.model import (
    BOTH,
    FailureKind,
    Lease,
    LockMode,
    Phase,
    PolicyMode,
    PortPolicy,
    Problem,
    ProviderPolicy,
    Remedy,
    Wish,
)
from vpnpf.observers.log import write_events, write_talk

LEASE = Lease(40000, 40000, BOTH, START, 60.0, exit_address="198.51.100.7")
HINT = Problem("asking 10.2.0.1 for a port", FailureKind.MISCONFIGURED, "refused", "switch it on", START, 1, START + 9)
WALL = 1_800_000_000.0


class Clock:
    """At START it is 08:00 UTC."""

    def now(self):
        return START

    def wall(self):
        return WALL


async def lines(writer, *updates, **options):
    """What an observer writes of these (state, notices)."""
    hub, said = Hub(), []
    writing = asyncio.ensure_future(writer(hub, Clock(), said.append, **options))
    await asyncio.sleep(0)
    for state, notices in updates:
        hub.publish(state, tuple(Moment(START, notice) for notice in notices))
        for _ in range(3):
            await asyncio.sleep(0)
    hub.close()
    await writing
    return said


def told(world):
    """Everything a person would read of a world's run so far."""
    return [line for notice in world.notices for line in talk(notice)]


# -- lines --------------------------------------------------------------------------------------

LINES = [
    (
        PhaseChanged(Phase.STARTING, Phase.CONNECTING, ""),
        ["connecting: nothing leaves but the tunnel's own packets"],
    ),
    (PhaseChanged(Phase.CONNECTING, Phase.LEASING, ""), ["the tunnel is up, asking for the port"]),
    (PhaseChanged(Phase.LEASING, Phase.READY, ""), ["READY: the port is open, and kept"]),
    (
        PhaseChanged(Phase.READY, Phase.LEASING, "torrent: listening: nothing listens on 40000/udp"),
        ["not READY for the moment (torrent: listening: nothing listens on 40000/udp)"],
    ),
    (
        PhaseChanged(Phase.READY, Phase.BLOCKED, "looking at the tunnel: the device is gone"),
        [
            "BLOCKED: the tunnel is lost, nothing leaves until it is back (looking at the tunnel: the device is gone)",
        ],
    ),
    (
        PhaseChanged(Phase.LEASING, Phase.FAILED, "asking 10.2.0.1: refused"),
        ["FAILED: this needs you; the rules in force stay as they are (asking 10.2.0.1: refused)"],
    ),
    (
        PhaseChanged(Phase.READY, Phase.STOPPING, ""),
        ["stopping: giving the port back, taking the tunnel down"],
    ),
    (PhaseChanged(Phase.STOPPING, Phase.STOPPED, ""), ["stopped: everything is as it was before"]),
    (
        PhaseChanged(Phase.STOPPING, Phase.STOPPED, "putting /etc/resolv.conf back: read-only"),
        ["stopped, but not everything could be put back (putting /etc/resolv.conf back: read-only)"],
    ),
    (PortGranted("torrent", LEASE, None), ["torrent: the gateway gave external port 40000 for 60 s"]),
    (
        PortGranted("torrent", replace(LEASE, lifetime=None), None),
        ["torrent: the gateway gave external port 40000 without an end"],
    ),
    (
        PortGranted("torrent", LEASE, 39999),
        ["torrent: the gateway changed the port from 39999 to 40000; opening the new one first"],
    ),
    (LeaseRenewed("torrent", LEASE), []),
    (PortAnnounced("torrent", LEASE, 40000, None), ["torrent: the internet reaches you at 198.51.100.7:40000"]),
    (
        PortAnnounced("torrent", replace(LEASE, exit_address="2001:db8::7"), 40000, None),
        ["torrent: the internet reaches you at [2001:db8::7]:40000"],
    ),
    (
        PortAnnounced("torrent", replace(LEASE, exit_address=None), 6881, 39999),
        ["torrent: the internet reaches you at port 40000 (local port 6881), it was 39999"],
    ),
    (
        PortLost("torrent", 40000, "the lease ran out before it could be renewed"),
        ["torrent: port 40000 is lost: the lease ran out before it could be renewed"],
    ),
    (
        RemedyTaken(Remedy.REKEY, "asking 10.2.0.1: no answer", "torrent"),
        ["torrent: shaking hands anew, in place (asking 10.2.0.1: no answer)"],
    ),
    (RemedyTaken(Remedy.NEXT_SERVER, "why"), ["going to the next server (why)"]),
    (WishTaken(Wish.RENEW), ["renewing the port (by hand)"]),
    (WishTaken(Wish.NEW_PORT, "torrent"), ["torrent: asking for a new port (by hand)"]),
    (WishTaken(Wish.SERVER, server=2), ["going to server 2 (by hand)"]),
    (
        PhaseChanged(Phase.READY, Phase.BLOCKED, "", LockMode.OFF),
        ["the tunnel is lost: traffic goes its usual way until it is back (lock = off)"],
    ),
    (
        PhaseChanged(Phase.STOPPING, Phase.STOPPED, "", LockMode.LOCKDOWN),
        ["stopped, and locked: nothing leaves until vpnpf runs again, or `vpnpf unlock`"],
    ),
    (
        PolicyChanged(PortPolicy(), PortPolicy(PolicyMode.OPEN_ALL)),
        ["the port policy is open-all now, it was allow-list"],
    ),
    (SwitchSeen(None, ProviderPolicy(PolicyMode.OPEN_ALL)), []),
    (Disagrees("blocks all ports"), ["the provider blocks all ports: that is not what is wanted here"]),
    (Disagrees(""), ["the provider lets in what is wanted"]),
    (
        OpeningUnused("forward game", 0.0, 36 * 3600.0, closed=True),
        ["forward game: nobody came in for 36 hours; closed until `vpnpf policy open` opens it again"],
    ),
    (
        MtuLowered(1420, 1280),
        ["packets of more than 1280 bytes do not get through the tunnel: MTU 1280, not 1420"],
    ),
    (
        GatewayReset("its epoch began anew"),
        ["the gateway lost its mappings, they are asked for again (its epoch began anew)"],
    ),
    (
        ExitDiffers("198.51.100.11", "198.51.100.12"),
        [
            "problem: the gateway says 198.51.100.11, but the internet sees 198.51.100.12: ports may be closed from outside"
        ],
    ),
    (
        ProblemNoticed(HINT),
        [
            "problem: asking 10.2.0.1 for a port: refused; it goes on by itself once that is mended",
            "  hint: switch it on",
        ],
    ),
    (
        ProblemNoticed(replace(HINT, hint="", retry_at=None)),
        ["problem: asking 10.2.0.1 for a port: refused; it is not tried again"],
    ),
    (ProblemOver(replace(HINT, failures=1)), ["over after 1 failure: asking 10.2.0.1 for a port"]),
    (ProblemOver(replace(HINT, failures=7)), ["over after 7 failures: asking 10.2.0.1 for a port"]),
]


@pytest.mark.parametrize(("notice", "expected"), LINES)
def test_each_notice_in_words(notice, expected):
    assert talk(notice) == expected


def test_every_notice_and_phase_is_in_this_table():
    assert {type(notice) for notice, _ in LINES} == set(typing.get_args(Notice))
    phases = {notice.after for notice, _ in LINES if isinstance(notice, PhaseChanged)}
    assert phases == set(Phase) - {Phase.STARTING}


def test_verbose_says_renewals_too():
    assert talk(LeaseRenewed("torrent", LEASE), verbose=True) == ["torrent: port 40000 renewed"]


# -- whole stories ------------------------------------------------------------------------------


def test_a_good_run_is_seven_lines_and_an_hour_adds_none():
    world = World().ready()
    world.wait(3600)
    world.stop()
    assert told(world) == [
        "connecting: nothing leaves but the tunnel's own packets",
        "the tunnel is up, asking for the port",
        "torrent: the gateway gave external port 40000 for 60 s",
        "torrent: the internet reaches you at 198.51.100.7:40000",
        "READY: the port is open, and kept",
        "stopping: giving the port back, taking the tunnel down",
        "stopped: everything is as it was before",
    ]


def test_a_changed_port_reads_as_one_story():
    world = World().ready()
    begun = len(told(world))
    world.port = 40005
    world.wait(31)
    assert told(world)[begun:] == [
        "torrent: the gateway changed the port from 40000 to 40005; opening the new one first",
        "not READY for the moment (torrent: the new port 40005 is not open all the way yet)",
        "torrent: the internet reaches you at 198.51.100.7:40005, it was 40000",
        "READY: the port is open, and kept",
    ]


def test_a_lost_tunnel_says_why():
    world = World().ready()
    begun = len(told(world))
    world.fail(CheckTunnel, FailureKind.LEASE_LOST)
    world.wait(10)
    assert told(world)[begun : begun + 2] == [
        "problem: doing CheckTunnel: it was lease-lost",
        "BLOCKED: the tunnel is lost, nothing leaves until it is back (doing CheckTunnel: it was lease-lost)",
    ]


def test_an_outage_of_minutes_is_told_once_and_its_end_too():
    world = World().ready()
    begun = len(told(world))
    world.fail(Acquire)
    world.wait(50)
    world.faults.clear()
    world.wait(10)
    first, remedy, last = told(world)[begun:]
    assert first == "problem: doing Acquire: it was transient"
    assert remedy.startswith("torrent: shaking hands anew, in place")
    assert last.startswith("over after ")


def test_rules_that_somebody_flushed_are_told():
    world = World().ready()
    world.flushed = True
    world.wait(11)
    assert "not READY for the moment (firewall: the table is gone)" in told(world)


def test_what_could_not_be_put_back_is_the_last_word():
    world = World().ready()
    world.fail(StopTunnel)
    world.stop()
    world.wait(10)
    assert told(world)[-1] == ("stopped, but not everything could be put back (doing StopTunnel: it was transient)")


def test_a_firewall_that_does_not_work_names_itself():
    world = World()
    world.fail(ApplyFirewall, FailureKind.UNSUPPORTED)
    world.begin()
    assert told(world)[-1].startswith("FAILED: this needs you")
    assert told(world)[-1].endswith("(doing ApplyFirewall: it was unsupported)")


# -- the writers --------------------------------------------------------------------------------


async def test_lines_begin_with_the_time():
    world = World().ready()
    said = await lines(write_talk, (view(world.machine), world.notices))
    assert said[0] == "08:00:00 connecting: nothing leaves but the tunnel's own packets"
    assert len(said) == 5


async def test_the_first_visitor_is_told_once():
    world = World().ready()
    quiet = view(world.machine)
    world.packets["torrent"] = 1
    world.wait(15)
    seen = view(world.machine)
    world.wait(60)
    said = await lines(write_talk, (quiet, ()), (seen, ()), (view(world.machine), ()))
    assert said == ["08:00:00 torrent: proven from outside: inbound packets counted on the port: 1 tcp"]


async def test_a_visitor_of_another_port_is_told_again():
    world = World().ready()
    world.packets["torrent"] = 1
    world.wait(15)
    first = view(world.machine)
    forward = first.forwards[0]
    other = replace(first, forwards=(replace(forward, lease=replace(LEASE, external_port=40005)),))
    assert len(await lines(write_talk, (first, ()), (other, ()), (first, ()))) == 3


async def test_verbose_is_passed_on():
    state = view(World().machine)
    assert await lines(write_talk, (state, [LeaseRenewed("torrent", LEASE)])) == []
    assert len(await lines(write_talk, (state, [LeaseRenewed("torrent", LEASE)]), verbose=True)) == 1


async def test_notices_that_were_lost_are_counted():
    state = view(World().machine)
    many = [LeaseRenewed("torrent", LEASE)] * (KEPT + 5)
    (said,) = await lines(write_talk, (state, many))
    assert said == "08:00:00 5 notices were lost: this log was not written in time"
    first = json.loads((await lines(write_events, (state, many)))[0])
    assert first == {"event": "missed", "count": 5}


async def test_events_are_one_json_object_a_line():
    world = World().ready()
    said = await lines(write_events, (view(world.machine), world.notices))
    assert all("\n" not in line for line in said)
    events = [json.loads(line) for line in said]
    assert [event["event"] for event in events] == ["phase", "phase", "granted", "port", "phase", "state"]
    assert {event["time"] for event in events} == {"2027-01-15T08:00:00.000Z"}
    assert {event["profile"] for event in events} == {"home"}
    assert events[-1]["phase"] == "ready"


async def test_every_new_state_is_an_event():
    world = World(held={Acquire}).begin()
    first = view(world.machine)
    world.held.clear()
    world.settle()
    said = await lines(write_events, (first, ()), (view(world.machine), ()))
    assert [json.loads(line)["phase"] for line in said] == ["leasing", "ready"]


async def test_a_cause_that_was_just_told_is_not_told_again():
    problem = Problem("logging in", FailureKind.MISCONFIGURED, "refused", "mend it", START, 1, None)
    notices = [
        ProblemNoticed(problem),
        PhaseChanged(Phase.CONNECTING, Phase.FAILED, "logging in: refused"),
        PhaseChanged(Phase.FAILED, Phase.CONNECTING, "another cause"),
    ]
    said = await lines(write_talk, (view(World().machine), notices))
    assert [line[9:] for line in said] == [
        "problem: logging in: refused; it is not tried again",
        "  hint: mend it",
        "FAILED: this needs you; the rules in force stay as they are",
        "connecting: nothing leaves but the tunnel's own packets (another cause)",
    ]


async def test_where_the_tunnel_goes_is_told_when_it_changes():
    def going(place):
        state = view(World().ready().machine)
        return replace(state, tunnel=replace(state.tunnel, plan=replace(state.tunnel.plan, place=place)))

    states = [going(place) for place in ("", "Here (one)", "Here (one)", "There (two)", "Here (one)")]
    said = await lines(write_talk, *((state, ()) for state in states))
    assert [line[9:] for line in said] == [
        "the tunnel goes to Here (one)",
        "the tunnel goes to There (two)",
        "the tunnel goes to Here (one)",
    ]
