"""What is written after `vpnpf policy`, which part of a policy decides, and both in words."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vpnpf.cli.policy_arguments import flow
from vpnpf.cli.policy_standing import told
from vpnpf.cli.policy_table import lines
from vpnpf.core.admission import HeldPort, address_of, decide
from vpnpf.core.policy_codec import digest, policy_json
from vpnpf.core.policy_words import changed, consequence, difference
from vpnpf.errors import Unavailable, UsageError
from vpnpf.model import ForwardSpec, Opening, PolicyMode, PortPolicy, Protocol
from vpnpf.policy_changes import Times, policy_closed, policy_opened, policy_set

TIMES = Times(1000.0, 1_700_000_000.0)
TCP, UDP = Protocol.TCP, Protocol.UDP
SSH = Opening(22, 22, TCP)
NEAR = Opening(22, 22, TCP, ("203.0.113.0/24",))
START = PortPolicy()


def setting(*words, before=START):
    return policy_set(before, words, TIMES)


# -- set ------------------------------------------------------------------------------------------


def test_a_mode_alone_leaves_the_entries_for_when_they_mean_something_again():
    listed = setting("forwarded", "22/tcp")
    shut = setting("block-all", before=listed)
    assert shut == replace(listed, mode=PolicyMode.BLOCK_ALL)
    assert setting("allow-list", before=shut) == listed


def test_entries_take_the_place_of_those_until_now():
    listed = setting("allow-list", "22/tcp", before=setting("8000-8010/udp"))
    assert (listed.forwarded, listed.openings) == (False, (SSH,))


def test_entries_alone_mean_the_allow_list():
    assert setting("forwarded", before=PortPolicy(PolicyMode.OPEN_ALL)) == START


def test_what_one_entry_can_say():
    (found,) = setting("8000-8010/udp from 203.0.113.0/24 for 2h # game").openings
    assert found == Opening(8000, 8010, UDP, ("203.0.113.0/24",), "", "game", 1000.0 + 7200)


def test_unused_openings_are_looked_for_as_before():
    before = PortPolicy(report_unused=7 * 86400.0, close_unused=True)
    assert setting("22/tcp", before=before) == replace(before, forwarded=False, openings=(SSH,))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "nothing is wanted"),
        (("open-al",), "open-all"),
        (("blok-all",), "block-all"),
        (("block-all", "22/tcp"), "mean nothing with block-all"),
        (("allow-list", "22"), "no protocol"),
        (("22/tcp", "22/tcp"), "twice"),
        (("forwarded", "0/tcp"), "0 is no port"),
    ],
)
def test_what_cannot_be_set_is_named(words, named):
    with pytest.raises(UsageError) as caught:
        setting(*words)
    assert named in f"{caught.value} {caught.value.hint}"


# -- open and close -------------------------------------------------------------------------------


def test_opening_adds_and_closing_takes_away():
    more = policy_opened(START, ("22/tcp",), TIMES)
    assert more == replace(START, openings=(SSH,))
    assert policy_closed(more, ("22/tcp",), TIMES) == START


def test_an_entry_that_is_opened_again_counts_from_now():
    timed = policy_opened(START, ("22/tcp for 1h",), TIMES)
    later = Times(TIMES.boot + 60, TIMES.wall + 60)
    assert policy_opened(timed, ("22/tcp for 1h",), later).openings[0].ends_at == 1060.0 + 3600
    assert policy_opened(timed, ("22/tcp",), later).openings == (SSH,)


def test_an_entry_that_overlaps_one_that_is_there_is_refused():
    with pytest.raises(UsageError, match="changes nothing"):
        policy_opened(replace(START, openings=(SSH,)), ("22/tcp from 203.0.113.0/24",), TIMES)


@pytest.mark.parametrize("mode", [PolicyMode.OPEN_ALL, PolicyMode.BLOCK_ALL])
def test_without_the_allow_list_nothing_is_opened(mode):
    with pytest.raises(UsageError, match=str(mode)):
        policy_opened(PortPolicy(mode), ("22/tcp",), TIMES)


def test_closing_without_a_source_means_whoever_it_is_open_to():
    both = replace(START, openings=(NEAR, replace(NEAR, sources=("198.51.100.0/24",))))
    assert policy_closed(both, ("22/tcp",), TIMES) == START
    assert policy_closed(both, ("22/tcp from 203.0.113.0/24",), TIMES).openings == both.openings[1:]


def test_forwarded_ports_are_closed_by_that_name():
    shut = policy_closed(START, ("forwarded",), TIMES)
    assert not shut.forwarded
    assert policy_opened(shut, ("forwarded",), TIMES) == START
    with pytest.raises(UsageError, match="not on the list"):
        policy_closed(shut, ("forwarded",), TIMES)


def test_what_is_not_there_is_not_closed():
    with pytest.raises(UsageError, match=r'"23/tcp" is not on the list') as caught:
        policy_closed(replace(START, openings=(SSH,)), ("23/tcp",), TIMES)
    assert "22/tcp" in caught.value.hint


# -- explain --------------------------------------------------------------------------------------

TORRENT = HeldPort(ForwardSpec("torrent"), 41000, 41000, 41000)
GAME = HeldPort(ForwardSpec("game", protocols=(TCP,), sources=("203.0.113.0/24",)), 42000, 42000, 25565)
HELD = HeldPort(ForwardSpec("held", shut=True), 43000, 43000, 43000)
PORTS = (TORRENT, GAME, HELD)
INSIDE, OUTSIDE = address_of("203.0.113.9"), address_of("198.51.100.1")


def decided(policy, port, source=OUTSIDE, protocol=TCP, now=1000.0):
    return decide(policy, PORTS, protocol, port, source, now)


@pytest.mark.parametrize(
    ("policy", "port", "source", "admitted", "rule"),
    [
        (PortPolicy(PolicyMode.OPEN_ALL), 9, OUTSIDE, True, "open-all"),
        (PortPolicy(PolicyMode.BLOCK_ALL), 41000, OUTSIDE, False, "block-all"),
        (START, 41000, OUTSIDE, True, "forwarded: torrent"),
        (START, 42000, INSIDE, True, "forwarded: game"),
        (START, 42000, OUTSIDE, False, "allow-list"),
        (START, 43000, OUTSIDE, False, "allow-list"),
        (START, 22, OUTSIDE, False, "allow-list"),
        (replace(START, openings=(SSH,)), 22, OUTSIDE, True, "22/tcp"),
        (replace(START, openings=(NEAR,)), 22, INSIDE, True, "22/tcp"),
        (replace(START, openings=(NEAR,)), 22, OUTSIDE, False, "allow-list"),
        (replace(START, openings=(NEAR,)), 22, None, False, "allow-list"),
        (replace(START, openings=(NEAR,)), 22, address_of("::ffff:203.0.113.9"), True, "22/tcp"),
        (replace(START, openings=(NEAR,)), 22, address_of("2001:db8::1"), False, "allow-list"),
        (PortPolicy(forwarded=False), 41000, OUTSIDE, False, "allow-list"),
        # An entry names the port that the program listens on.
        (PortPolicy(forwarded=False, openings=(Opening(25565, 25565, TCP),)), 42000, OUTSIDE, True, "25565/tcp"),
        (replace(START, openings=(replace(SSH, ends_at=1000.0),)), 22, OUTSIDE, False, "allow-list"),
        (replace(START, openings=(replace(SSH, ends_at=1000.1),)), 22, OUTSIDE, True, "22/tcp"),
    ],
)
def test_which_part_decides(policy, port, source, admitted, rule):
    found = decided(policy, port, source)
    assert (found.admitted, found.rule) == (admitted, rule)
    assert found.why


def test_the_protocol_counts():
    assert not decided(replace(START, openings=(SSH,)), 22, protocol=UDP).admitted
    assert not decided(START, 42000, INSIDE, protocol=UDP).admitted


def test_why_not_names_what_is_nearest():
    assert "203.0.113.0/24" in decided(replace(START, openings=(NEAR,)), 22).why
    assert "held and not open" in decided(START, 43000).why
    assert "has ended" in decided(replace(START, openings=(replace(SSH, ends_at=5.0),)), 22).why
    assert '"forwarded"' in decided(PortPolicy(forwarded=False), 41000).why


@pytest.mark.parametrize(
    "words",
    [
        ("6881",),
        ("0/tcp",),
        ("65536/tcp",),
        ("6881/sctp",),
        ("6881/tcp", "from"),
        ("6881/tcp", "to", "203.0.113.9"),
        ("6881/tcp", "from", "example.org"),
        ("6881/tcp", "from", "203.0.113.0/24"),
        ("6881/tcp", "from", "fe80::1%eth0"),
    ],
)
def test_what_is_no_flow_is_refused(words):
    with pytest.raises(UsageError, match="reading what is to be explained"):
        flow(words)


def test_a_flow():
    assert flow(("6881/TCP from 203.0.113.9",)) == flow(("6881/tcp", "from", "203.0.113.9"))
    assert flow(("6881/udp",)).source is None


@given(st.text(max_size=30))
def test_any_text_is_a_flow_or_a_usage_error(text):
    for read in (lambda: flow((text,)), lambda: setting(text), lambda: policy_opened(START, (text,), TIMES)):
        with contextlib.suppress(UsageError):
            read()


# -- in words -------------------------------------------------------------------------------------


def test_the_difference_is_what_changes_and_no_more():
    new = PortPolicy(openings=(replace(SSH, name="ssh", comment="backup", ends_at=1000.0 + 7200),), forwarded=False)
    assert difference(START, START, 1000.0, 0.0) == []
    minus, plus = difference(START, new, 1000.0, TIMES.offset)
    assert minus == "- forwarded"
    assert plus.startswith("+ 22/tcp (ssh), ends in 2 h 0 min (2023-")
    assert plus.endswith("): backup")
    assert difference(START, replace(START, report_unused=604800.0, close_unused=True), 0.0, 0.0) == [
        "- unused openings are not looked for",
        "+ openings unused for 7 d 0 h are closed",
    ]


def test_what_a_mode_means_is_said_when_it_changes():
    assert consequence(START, START) == ""
    for mode in (PolicyMode.OPEN_ALL, PolicyMode.BLOCK_ALL):
        assert consequence(START, PortPolicy(mode))


def test_a_change_in_one_sentence():
    many = tuple(Opening(port, port, TCP) for port in range(100, 106))
    assert changed(START, PortPolicy(PolicyMode.OPEN_ALL)) == "the port policy is open-all now, it was allow-list"
    assert changed(START, replace(START, openings=(SSH,))).endswith(": 22/tcp opened")
    assert changed(replace(START, openings=(SSH,)), PortPolicy(forwarded=False)).endswith(
        ": 22/tcp closed, forwarded ports closed"
    )
    assert "103/tcp and 2 more opened" in changed(START, replace(START, openings=many))
    assert changed(replace(START, openings=(SSH,)), replace(START, openings=(replace(SSH, ends_at=5.0),)))


def standing(policy, running=True, **more):
    raw = {"profile": "home", "policy": policy_json(policy, TIMES.offset), "digest": digest(policy), **more}
    return told(raw, TIMES, running=running)


def test_a_table_for_people():
    policy = PortPolicy(openings=(replace(NEAR, ends_at=1000.0 + 60), Opening(80, 80, TCP)))
    found = standing(
        policy,
        applied=True,
        stage="connected",
        set_at=TIMES.wall,
        differs=True,
        packets={NEAR.key: 1, "80/tcp": 0},
        forwards=[
            {"name": "web", "external_port": 41000, "arrives": 41000, "listen_port": 8080, "protocols": ["tcp"]},
            {
                "name": "nas",
                "external_port": 42000,
                "arrives": 42000,
                "listen_port": 80,
                "protocols": ["tcp", "udp"],
                "target": "192.168.77.5",
                "sources": ["203.0.113.0/24"],
                "packets": {"tcp": 3, "udp": 0},
            },
        ],
    )
    said = lines(found, TIMES)
    assert said[0] == "home: allow-list: what is listed can come in"
    assert "differs from the configuration" in said[1]
    assert said[2] == "  here: in force, as read back from the kernel"
    assert said[4] == "    forwarded"
    assert said[5].startswith("    22/tcp from 203.0.113.0/24, ends in 60 s (")
    assert said[5].endswith("1 packet came in")
    assert said[6].endswith("nobody came in")
    assert said[8] == "    web: 41000 (tcp) to local port 8080"
    assert said[9] == (
        "    nas: 42000 (tcp and udp) to 192.168.77.5, port 80 from 203.0.113.0/24: 3 tcp, 0 udp packets came in"
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"running": False}, "not in force, vpnpf does not run"),
        ({"applied": False}, "NOT in force, it is being applied"),
        ({"applied": False, "unapplied": "no room"}, "NOT in force: no room"),
        ({"applied": True, "stage": "blocked"}, "in force; without a tunnel nothing comes in"),
    ],
)
def test_whether_it_is_in_force(more, said):
    assert lines(standing(START, **more), TIMES)[2] == f"  here: {said}"


def test_what_is_known_of_its_use():
    policy = PortPolicy(openings=(SSH,))
    uses = {"22/tcp": {"last": TIMES.wall - 300}, "forward web": {"closed": True}}
    web = {"name": "web", "external_port": 41000, "arrives": 41000, "listen_port": 41000, "protocols": ["tcp"]}
    said = lines(standing(policy, packets={"22/tcp": 7}, uses=uses, forwards=[web]), TIMES)
    assert "    22/tcp     7 packets came in, last 5 min ago" in said
    assert said[-1] == "    web: 41000 (tcp), CLOSED because nobody used it"
    said = lines(standing(policy, uses={"22/tcp": {"closed": True}}), TIMES)
    assert said[-1].endswith("CLOSED because nobody used it; `vpnpf policy open` opens it again")


def test_both_layers_are_told():
    provider = {"lets_in": "blocks all ports", "at": TIMES.wall - 12, "disagree": "the provider still blocks all ports"}
    said = lines(standing(START, applied=True, stage="connected", provider=provider), TIMES)
    assert said[3] == "  at the provider: it blocks all ports, as it said 12 s ago; the provider still blocks all ports"
    said = lines(standing(START, provider={"lets_in": "lets in all ports"}), TIMES)
    assert said[3] == "  at the provider: it lets in all ports; as wanted here"


def test_entries_that_mean_nothing_now_are_told_as_such():
    said = lines(standing(PortPolicy(PolicyMode.BLOCK_ALL, openings=(SSH,))), TIMES)
    assert "  entries, back with: vpnpf policy set home allow-list:" in said
    assert not any("entries" in line for line in lines(standing(PortPolicy(PolicyMode.OPEN_ALL)), TIMES))


def test_what_comes_from_elsewhere_cannot_command_the_terminal():
    found = standing(START, applied=False, unapplied="\x1b[2J")
    assert not any("\x1b" in line for line in lines(found, TIMES))


@pytest.mark.parametrize("raw", [{}, {"profile": "home", "policy": {}, "digest": ""}, {"profile": 1}])
def test_an_answer_that_cannot_be_understood(raw):
    with pytest.raises(Unavailable, match="cannot be read"):
        told(raw, TIMES, running=True)


@pytest.mark.parametrize("words", [("6000/tcp", "for", "2m"), ("22/tcp", "from", "203.0.113.0/24")])
def test_an_entry_that_the_shell_took_apart_is_to_be_quoted(words):
    with pytest.raises(UsageError) as caught:
        policy_opened(START, words, TIMES)
    assert "quotes" in caught.value.hint
