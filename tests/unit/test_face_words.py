"""What the face says: true in each phase, and no more certain than what is known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vpnpf.control.seen import Seen, SeenForward, SeenOpening, SeenPolicy, SeenPosition, SeenProblem, SeenTunnel
from vpnpf.core.timeline import phase_words
from vpnpf.model import Phase
from vpnpf.tui import words
from vpnpf.tui.view import Reach, View, next_forward

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC).timestamp()


def at(seconds):
    """So many seconds from now."""
    return datetime.fromtimestamp(NOW + seconds, UTC)


def view(phase="ready", stage="connected", lock="on", reach=Reach.ATTACHED, **more):
    seen = {"policy": SeenPolicy("allow-list", ("forwarded",), stage), "lock": lock, **more}
    return View("home", NOW, reach=reach, seen=Seen(at(-12), "home", "mock", phase, **seen))


@pytest.mark.parametrize(
    ("phase", "stage", "lock", "word", "means"),
    [
        ("starting", None, "on", "CONNECTING", "as it did before"),
        ("connecting", "connecting", "on", "CONNECTING", "Only vpnpf's own"),
        ("leasing", "connected", "on", "PROTECTED", "past the tunnel"),
        ("leasing", "blocked", "on", "CONNECTING", "Only vpnpf's own"),
        ("ready", "connected", "on", "PROTECTED", "past the tunnel"),
        ("ready", None, "on", "CONNECTING", "as it did before"),
        ("blocked", "blocked", "on", "BLOCKED", "Only vpnpf's own"),
        ("blocked", "connected", "on", "BLOCKED", "past the tunnel"),
        ("failed", "connected", "on", "NEEDS YOU", "past the tunnel"),
        ("failed", "connecting", "on", "NEEDS YOU", "Only vpnpf's own"),
        ("failed", None, "on", "NEEDS YOU", "as it did before"),
        ("stopping", "connected", "on", "STOPPING", "past the tunnel"),
        ("stopping", None, "on", "STOPPING", "as it did before"),
        ("stopped", None, "on", "NOT PROTECTED", "its usual way"),
        ("stopped", None, "lockdown", "BLOCKED", "sudo vpnpf unlock"),
        ("stopped", "locked", "lockdown", "BLOCKED", "sudo vpnpf unlock"),
        ("ready", "connected", "lockdown", "PROTECTED", "past the tunnel"),
        ("ready", "connected", "off", "NOT PROTECTED", "lock is off"),
        ("connecting", "connecting", "off", "NOT PROTECTED", "lock is off"),
        ("blocked", "blocked", "off", "NOT PROTECTED", "its usual way"),
        ("failed", "connected", "off", "NEEDS YOU", "lock is off"),
        ("stopped", None, "off", "NOT PROTECTED", "its usual way"),
    ],
)
def test_a_phase_says_what_is_blocked_in_it(phase, stage, lock, word, means):
    standing = words.standing(view(phase, stage, lock))
    assert standing.word == word
    assert means in standing.means


def test_with_a_namespace_only_what_is_in_there_is_called_protected():
    standing = words.standing(view(namespace="vpnpf-home"))
    assert standing.word == "PROTECTED"
    assert standing.means == "In its namespace vpnpf-home: nothing gets to the internet past the tunnel."
    assert words.standing(view("stopped", None, namespace="vpnpf-home")).means.startswith("vpnpf is stopped")


def test_protected_is_only_said_of_rules_that_are_in_force_now():
    for phase in Phase:
        for lock in ("on", "lockdown", "off"):
            for stage in (None, "connecting", "connected", "blocked", "locked"):
                for reach in Reach:
                    protected = words.standing(view(phase, stage, lock, reach)).word == "PROTECTED"
                    true = (lock != "off", stage == "connected", reach is not Reach.AWAY, phase in {"leasing", "ready"})
                    assert protected == all(true), (phase, lock, stage, reach)


def test_without_a_tunnel_it_is_no_vpn_in_any_phase():
    tunnel = SeenTunnel("eth0", "no tunnel", gateway="192.168.1.1")
    seen = view(tunnel=tunnel, lock="off")
    assert words.standing(seen).word == "NO VPN"
    assert words.server(seen.seen) == "router 192.168.1.1"
    assert words.exposed(seen.seen, NOW) == ""
    assert "own filters" in words.mode(seen.seen)


def test_an_opening_that_ends_says_how_long_it_is_left():
    entries = (SeenOpening("22/tcp"), SeenOpening("6000/tcp", at(90)))
    policy = SeenPolicy("allow-list", ("forwarded", "22/tcp", "6000/tcp"), "connected", entries)
    said = words.exposed(view(policy=policy).seen, NOW)
    assert said.startswith("open: forwarded, 22/tcp, 6000/tcp (")
    assert said.endswith(" left)")
    assert said.count("left") == 1


@pytest.mark.parametrize(
    ("stage", "lock", "said"),
    [
        ("connected", "on", "firewall: no way past the tunnel"),
        ("connected", "off", "firewall: what leaves is free"),
        ("locked", "lockdown", "firewall: all is shut"),
        ("blocked", "on", "firewall: all is shut but vpnpf"),
        (None, "on", "firewall: no rules of vpnpf"),
    ],
)
def test_the_rule_set_is_said_by_what_it_does(stage, lock, said):
    assert words.stage(view("ready", stage, lock).seen) == said


def test_what_is_not_known_is_said():
    assert words.standing(View("home", NOW)).word == "LOOKING"
    assert words.standing(View("home", NOW, trouble="it is away")).word == "NOT KNOWN"
    gone = words.standing(view(reach=Reach.AWAY))
    assert (gone.word, "12 s ago: READY" in gone.means) == ("NOT KNOWN", True)
    assert words.happening(View("home", NOW)) == "Looking for vpnpf…"
    assert words.happening(View("home", NOW, trouble="it is away")) == "It is away"


def test_what_happens_has_the_phases_words_its_time_and_its_cause():
    text = phase_words(Phase.BLOCKED)
    seen = view("blocked", "blocked", phase_text=text, phase_since=at(-75), phase_cause="the server is silent")
    assert words.happening(seen) == f"{words.sentence(text)}, for 75 s: the server is silent"


def lease(granted=-10, lifetime=60.0, renew=20, expires=50, port=40000):
    when = [None if each is None else at(each) for each in (granted, renew, expires)]
    forward = SeenForward("a", port, granted_at=when[0], lifetime=lifetime, renew_at=when[1], expires_at=when[2])
    return words.renewal(view(forwards=(forward,)))


@pytest.mark.parametrize(
    ("found", "level", "said", "ends", "done"),
    [
        (lease(), "good", "renewed in 20 s", "lease ends in 50 s", 1 / 3),
        (lease(granted=0), "good", "renewed in 20 s", "lease ends in 50 s", 0.0),
        (lease(renew=0), "good", "renewed now", "lease ends in 50 s", 1.0),
        (lease(renew=-2), "good", "renewed now", "lease ends in 50 s", 1.0),
        (lease(renew=-12), "warn", "renewal overdue by 12 s", "lease ends in 50 s", 1.0),
        (lease(renew=-40, expires=-5), "warn", "renewal overdue by 40 s", "lease ended 5 s ago", 1.0),
        (lease(lifetime=None, renew=None, expires=None), "good", "nothing to renew", "the lease has no end", None),
        (lease(renew=None), "good", "no renewal is planned", "lease ends in 50 s", None),
        (lease(port=None), "unknown", "no lease at this moment", "", None),
    ],
)
def test_a_renewal_counts_down(found, level, said, ends, done):
    assert (found.level, found.said, found.ends) == (level, said, ends)
    assert found.done == (None if done is None else pytest.approx(done))


def test_a_renewal_is_not_counted_down_while_nobody_answers():
    forward = SeenForward("a", 40000, renew_at=at(20), expires_at=at(50))
    found = words.renewal(view(forwards=(forward,), reach=Reach.AWAY))
    assert (found.done, found.ends) == (None, "lease ends in 50 s")
    assert "not known" in found.said


def test_a_problem_says_how_often_and_when_again():
    problem = SeenProblem("asking", failures=3, retry_at=at(7))
    assert (words.times(problem), words.again(problem, NOW)) == ("3 times", "tried again in 7 s")
    assert (words.times(SeenProblem("asking")), words.again(SeenProblem("asking"), NOW)) == ("once", "")
    assert words.again(problem, NOW + 8) == "tried again now"


def test_the_forwards_are_gone_round():
    seen = view(forwards=tuple(SeenForward(name) for name in ("a", "b", "c")))
    assert (words.which(seen), next_forward(seen)) == ("a, 1 of 3", "b")
    assert next_forward(View("home", NOW)) == ""
    alone = view(forwards=(SeenForward("a"),))
    assert (words.which(alone), next_forward(alone)) == ("a", "a")


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (SeenForward("a", 4000, listen_port=4000), ""),
        (SeenForward("a", 4000, listen_port=6881), "local port 6881"),
        (SeenForward("a", 4000, listen_port=22, target="10.0.0.7"), "goes on to 10.0.0.7 port 22"),
    ],
)
def test_where_a_port_leads(forward, said):
    assert words.goes(forward) == said


def test_the_server_and_which_of_how_many():
    tunnel = SeenTunnel("wg0", "wireguard", "203.0.113.5:51820", "Zürich")
    seen = view(tunnel=tunnel, server=SeenPosition(2, 3)).seen
    assert words.server(seen) == "Zürich, 203.0.113.5:51820 (2 of 3)"
    assert words.server(view().seen) == "no tunnel"


def test_ages_and_rates():
    assert [words.ago(each) for each in (None, 0.2, 4, 7300)] == ["", "now", "4 s ago", "2 h 1 min ago"]
    assert words.rate(1536) == "1.5 KiB/s"
    assert words.clock(None, NOW) == "?"
    assert len(words.clock(at(-90), NOW)) == 8
    assert len(words.clock(at(-90 * 86400), NOW)) == 6
