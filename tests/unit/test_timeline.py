"""The timeline: a line for each transition worth keeping, bounded, in order."""

from __future__ import annotations

import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.engine_world import START, World
from vpnpf.core.talk import talk
from vpnpf.core.timeline import KEPT, LONGEST, NEAR, SOON, entry_of, extended
from vpnpf.events import (
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
    SwitchSeen,
    WishTaken,
)
from vpnpf.model import (
    BOTH,
    Entry,
    FailureKind,
    Lease,
    Phase,
    PolicyMode,
    PortPolicy,
    Problem,
    ProviderPolicy,
    Remedy,
    Wish,
)

LEASE = Lease(40000, 40000, BOTH, START, 60.0, exit_address="198.51.100.7", token="canary")
PROBLEM = Problem("asking 10.2.0.1 for a port", FailureKind.TRANSIENT, "no answer", "look", START, 3, START + 9)

LINES = [
    (PhaseChanged(Phase.STARTING, Phase.CONNECTING, ""), ("phase", "connecting", "", "")),
    (PhaseChanged(Phase.CONNECTING, Phase.LEASING, ""), ("phase", "the tunnel is up, the port is asked for", "", "")),
    (PhaseChanged(Phase.LEASING, Phase.READY, ""), ("phase", "ready: the port is open, and kept", "", "")),
    (PhaseChanged(Phase.READY, Phase.LEASING, "why"), ("phase", "not ready for the moment", "why", "")),
    (
        PhaseChanged(Phase.READY, Phase.BLOCKED, "the device is gone"),
        ("phase", "blocked: the tunnel is lost, nothing leaves", "the device is gone", ""),
    ),
    (PhaseChanged(Phase.LEASING, Phase.FAILED, "refused"), ("phase", "failed: this needs a person", "refused", "")),
    (PhaseChanged(Phase.READY, Phase.STOPPING, ""), ("phase", "stopping", "", "")),
    (PhaseChanged(Phase.STOPPING, Phase.STOPPED, ""), ("phase", "stopped", "", "")),
    (PortGranted("torrent", LEASE, None), ("granted", "the gateway gave port 40000 for 60 s", "", "torrent")),
    (
        PortGranted("torrent", replace(LEASE, lifetime=None), None),
        ("granted", "the gateway gave port 40000 without an end", "", "torrent"),
    ),
    (
        PortGranted("torrent", LEASE, 39999),
        ("granted", "the gateway changed the port from 39999 to 40000", "", "torrent"),
    ),
    (PortAnnounced("torrent", LEASE, 40000, None), ("port", "port 40000 is open to the internet", "", "torrent")),
    (
        PortAnnounced("torrent", LEASE, 6881, 39999),
        ("port", "port 40000 is open to the internet (local port 6881), it was 39999", "", "torrent"),
    ),
    (PortLost("torrent", 40000, "it ran out"), ("port-lost", "port 40000 is lost", "it ran out", "torrent")),
    (
        RemedyTaken(Remedy.REKEY, "no handshake"),
        ("remedy", "the tunnel shakes hands anew", "no handshake", ""),
    ),
    (WishTaken(Wish.RENEW), ("wish", "renewing the port", "by hand", "")),
    (WishTaken(Wish.NEW_PORT, "torrent"), ("wish", "asking for a new port", "by hand", "torrent")),
    (WishTaken(Wish.SERVER, server=2), ("wish", "going to server 2", "by hand", "")),
    (
        PolicyChanged(PortPolicy(), PortPolicy(PolicyMode.OPEN_ALL)),
        ("policy", "the port policy is open-all now, it was allow-list", "", ""),
    ),
    (SwitchSeen(None, ProviderPolicy(PolicyMode.OPEN_ALL)), ("switch", "the provider lets in all ports", "", "")),
    (Disagrees("blocks 22/tcp"), ("disagrees", "the provider blocks 22/tcp, which is not what is wanted", "", "")),
    (Disagrees(""), ("agrees", "the provider lets in what is wanted", "", "")),
    (
        OpeningUnused("22/tcp", 0.0, 604800.0),
        ("unused", "22/tcp: nobody came in for 7 days; close it if it is not needed", "", ""),
    ),
    (MtuLowered(1420, 1280), ("mtu", "packets of more than 1280 bytes do not get through: MTU 1280, not 1420", "", "")),
    (
        GatewayReset("epoch went back"),
        ("gateway-reset", "the gateway lost its mappings, they are asked for again", "epoch went back", ""),
    ),
    (
        ExitDiffers("198.51.100.7", "203.0.113.9"),
        ("exit-differs", "the gateway says 198.51.100.7, but the internet sees 203.0.113.9", "", ""),
    ),
    (ProblemNoticed(PROBLEM), ("problem", "problem with asking 10.2.0.1 for a port", "no answer", "")),
    (
        ProblemOver(PROBLEM),
        ("problem-over", "no more problem with asking 10.2.0.1 for a port", "after 3 failures", ""),
    ),
    (
        ProblemOver(replace(PROBLEM, failures=1)),
        ("problem-over", "no more problem with asking 10.2.0.1 for a port", "after 1 failure", ""),
    ),
]


@pytest.mark.parametrize(("notice", "expected"), LINES)
def test_each_notice_has_its_line(notice, expected):
    kind, text, cause, forward = expected
    assert entry_of(notice, START) == Entry(START, kind, text, cause, forward)


def test_a_renewal_is_no_transition():
    assert entry_of(LeaseRenewed("torrent", LEASE), START) is None


def test_every_notice_is_in_this_table():
    assert {type(notice) for notice, _ in LINES} | {LeaseRenewed} == set(typing.get_args(Notice))


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("remedy", Remedy)
def test_every_phase_and_remedy_has_words(phase, remedy):
    assert entry_of(PhaseChanged(Phase.READY, phase, ""), START).text
    assert entry_of(RemedyTaken(remedy, "why", "torrent"), START).forward == "torrent"


def test_a_text_is_one_line_and_ends():
    entry = entry_of(PortLost("torrent", 1, "a\n b\tc" + "x" * 5000), START)
    assert entry.cause.startswith("a b cxxx")
    assert len(entry.cause) == LONGEST


def test_a_good_hour_is_a_handful_of_lines():
    world = World().ready()
    world.wait(3600)
    entries = [entry for notice in world.notices if (entry := entry_of(notice, START))]
    assert [entry.kind for entry in entries] == ["phase", "phase", "granted", "port", "phase"]


# -- folding ------------------------------------------------------------------------------------


def at(seconds, text="a", **more):
    return Entry(START + seconds, "phase", text, **more)


def test_the_same_again_is_counted_with_the_last_time():
    timeline = ()
    for second in (1, 2, 90000):
        timeline = extended(timeline, [at(second)])
    assert timeline == (at(90000, "a (3 times)"),)


def test_all_at_once_is_as_one_by_one():
    assert extended((), [at(1), at(2), at(3)]) == (at(3, "a (3 times)"),)


def test_a_short_cycle_is_folded():
    timeline = extended((), [at(n, "ab"[n % 2]) for n in range(100)])
    assert timeline == (at(98, "a (50 times)"), at(99, "b (50 times)"))


def test_what_comes_back_much_later_is_a_story_of_its_own():
    assert len(extended((), [at(0), at(1, "b"), at(SOON + 1)])) == 3
    assert len(extended((), [at(0), at(1, "b"), at(SOON)])) == 2


def test_what_lies_further_back_is_left_alone():
    others = [at(n, str(n)) for n in range(1, NEAR + 1)]
    assert len(extended((), [at(0), *others, at(9)])) == NEAR + 2


@pytest.mark.parametrize("other", [{"cause": "x"}, {"forward": "x"}])
def test_another_cause_or_forward_is_another_entry(other):
    assert extended((), [at(1), at(2, **other)]) == (at(1), at(2, **other))


def test_the_oldest_go_first():
    timeline = extended((), [at(n, str(n)) for n in range(KEPT + 7)])
    assert [entry.text for entry in timeline] == [str(n) for n in range(7, KEPT + 7)]


def test_a_time_never_goes_back():
    assert extended((at(5),), [at(3, "b")]) == (at(5), at(5, "b"))


# -- properties ---------------------------------------------------------------------------------

TEXTS = st.text(max_size=30) | st.sampled_from(["a", "b", "a (2 times)", "(3 times)"])
TIMES = st.floats(-1e9, 1e9)
ENTRIES = st.builds(Entry, at=TIMES, kind=st.sampled_from(["phase", "port"]), text=TEXTS, cause=TEXTS)
PORTS = st.integers(1, 65535)
LEASES = st.builds(Lease, PORTS, PORTS, st.just(BOTH), TIMES, st.none() | st.floats(), token=st.just("canary"))
PROBLEMS = st.builds(Problem, TEXTS, st.sampled_from(FailureKind), TEXTS, TEXTS, TIMES, st.integers(), TIMES)
NOTICES = st.one_of(
    st.builds(PhaseChanged, st.sampled_from(Phase), st.sampled_from(Phase), TEXTS),
    st.builds(PortGranted, TEXTS, LEASES, st.none() | PORTS),
    st.builds(LeaseRenewed, TEXTS, LEASES),
    st.builds(PortAnnounced, TEXTS, LEASES, PORTS, st.none() | PORTS),
    st.builds(PortLost, TEXTS, PORTS, TEXTS),
    st.builds(RemedyTaken, st.sampled_from(Remedy), TEXTS, TEXTS),
    st.builds(WishTaken, st.sampled_from(Wish), TEXTS, st.none() | st.integers()),
    st.builds(GatewayReset, TEXTS),
    st.builds(PolicyChanged, st.just(PortPolicy()), st.just(PortPolicy(PolicyMode.BLOCK_ALL))),
    st.builds(SwitchSeen, st.none(), st.just(ProviderPolicy(PolicyMode.BLOCK_ALL))),
    st.builds(Disagrees, TEXTS),
    st.builds(OpeningUnused, TEXTS, st.just(0.0), st.floats(1, 1e7), st.booleans()),
    st.builds(MtuLowered, st.integers(1280, 9000), st.integers(576, 1420)),
    st.builds(ExitDiffers, TEXTS, TEXTS),
    st.builds(ProblemNoticed, PROBLEMS),
    st.builds(ProblemOver, PROBLEMS),
)


@given(NOTICES, st.floats())
def test_an_entry_is_one_line_without_a_token(notice, time):
    entry = entry_of(notice, time)
    if entry is not None:
        assert not {"\n", "\r"} & set(entry.text + entry.cause)
        assert max(len(entry.text), len(entry.cause)) <= LONGEST
        assert "canary" not in entry.text


@given(st.lists(st.lists(ENTRIES, max_size=60), max_size=6))
def test_it_is_bounded_and_ordered_whatever_comes(batches):
    timeline = ()
    for batch in batches:
        before, timeline = timeline, extended(timeline, batch)
        assert len(timeline) <= KEPT
        assert [entry.at for entry in timeline] == sorted(entry.at for entry in timeline)
        assert bool(timeline) == bool(before or batch)
        if batch:
            latest = max(entry.at for entry in (*before, *batch))
            assert timeline[-1].at == latest


@pytest.mark.parametrize(
    ("ports", "said"),
    [
        ((), "ready: the tunnel is up"),
        ((True,), "ready: the port is open, and kept"),
        ((True, True), "ready: the ports are open, and kept"),
        ((False,), "ready: the port is kept; the policy keeps it shut"),
        ((True, False), "ready: the ports are kept; the policy keeps some of them shut"),
        ((False, False), "ready: the ports are kept; the policy keeps them shut"),
    ],
)
def test_ready_says_no_more_than_is_so(ports, said):
    ready = PhaseChanged(Phase.LEASING, Phase.READY, "", ports=ports)
    assert entry_of(ready, START).text == said
    assert talk(ready) == ["READY" + said.removeprefix("ready")]
