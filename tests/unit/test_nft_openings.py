"""The allow-list as sets: what is written, what is refused, what changes when the list does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.test_nft_render import PLAN, RULES, SPANS, apart
from vpnpf.errors import Misconfigured
from vpnpf.firewall.elements import Entry, differences, entries, held, hits_of_openings, is_set_of, used
from vpnpf.firewall.explain import explain
from vpnpf.firewall.openings import from_sources, opening_sets
from vpnpf.firewall.render import render
from vpnpf.firewall.ruleset import Element, OpeningSet, Ruleset, script
from vpnpf.model import (
    FirewallPolicy,
    FirewallStage,
    ForwardRule,
    Hits,
    LockMode,
    Opening,
    PolicyMode,
    PortPolicy,
    Protocol,
)

TCP, UDP = Protocol
LISTS = st.lists(SPANS, max_size=6).map(apart)
CONNECTED = FirewallStage.CONNECTED


def texts(*openings: Opening) -> dict[str, list[str]]:
    return {each.name: [element.text for element in each.elements] for each in opening_sets(openings)}


def test_single_ports_ranges_and_sources_have_sets_of_their_own():
    sources = ("10.0.0.0/8", "10.1.0.0/16", "203.0.113.9/32", "fd00::/8")
    assert texts(Opening(22, 22, TCP), Opening(80, 90, TCP), Opening(53, 53, UDP), Opening(443, 443, TCP, sources)) == {
        "open_tcp": ["22"],
        "open_tcp_ip": ["10.0.0.0/8 . 443", "203.0.113.9 . 443"],
        "open_tcp_ip6": ["fd00::/8 . 443"],
        "open_tcp_ranges": ["80-90"],
        "open_udp": ["53"],
    }


@pytest.mark.parametrize(
    "openings",
    [
        (Opening(80, 90, TCP), Opening(90, 99, TCP)),
        (Opening(1, 65535, TCP), Opening(5, 5, TCP, name="minecraft")),
        (Opening(80, 90, TCP, ("10.0.0.0/8",)), Opening(85, 85, TCP, ("10.1.0.0/16",))),
        (Opening(85, 85, TCP, ("10.1.0.0/16",)), Opening(80, 90, TCP, ("10.0.0.0/8", "fd00::/8"))),
    ],
)
def test_entries_that_overlap_are_refused_by_name(openings):
    if openings[1].first == openings[1].last == 5:
        openings = (openings[0], replace(openings[1], sources=()))
    with pytest.raises(Misconfigured) as caught:
        opening_sets(openings)
    assert all(each.key in str(caught.value) for each in openings)


def test_the_same_ports_of_other_protocols_and_sources_do_not_overlap():
    one = Opening(80, 90, TCP, ("10.0.0.0/8",))
    assert opening_sets((one, replace(one, protocol=UDP), replace(one, sources=("fd00::/8",))))


@pytest.mark.parametrize("source", ["", "10.0.0.1/8", "fe80::1%eth0", "10.0.0.0/8 }; flush ruleset", "host"])
def test_a_source_that_is_no_prefix_is_refused(source):
    with pytest.raises(Misconfigured):
        opening_sets((Opening(80, 80, TCP, (source,)),))
    with pytest.raises(Misconfigured):
        from_sources((source,))


def test_sources_of_a_forward_become_one_match_for_each_family():
    assert from_sources(()) == ("",)
    assert from_sources(("10.1.0.0/16", "10.0.0.0/8", "fd00::/8")) == (
        "ip saddr { 10.0.0.0/8 } ",
        "ip6 saddr { fd00::/8 } ",
    )


# -- changes ------------------------------------------------------------------------------------


Ends = dict[str, float | None]


def kernel_after(openings: OpeningSet, before: Ends, now: float) -> tuple[Ends, set[str]]:
    """What the transaction makes of a set, as the kernel would, and the elements it touches."""
    after, touched = dict(before), set()
    for line in script(Ruleset((), openings=(openings,)), now, held={openings.name: before}).splitlines():
        verb, _, rest = line.partition(" element ")
        if rest and f" {openings.name} " in rest:
            for each in rest.partition("{ ")[2].removesuffix(" }").split(", "):
                text, _, timeout = each.partition(" timeout ")
                touched.add(text)
                if verb == "delete":
                    del after[text]
                else:
                    assert text not in after, "an element that is there would keep its old end"
                    after[text] = now + int(timeout.removesuffix("s")) if timeout else None
    return after, touched


@given(LISTS, LISTS, st.floats(0, 1000), st.floats(0, 1000))
def test_a_change_of_the_list_touches_what_differs_and_nothing_else(old, new, then, later):
    before = {each.name: kernel_after(each, {}, then)[0] for each in opening_sets(old)}
    now = then + later
    for each in opening_sets(new):
        there = {text: until for text, until in before.get(each.name, {}).items() if until is None or until > now}
        after, touched = kernel_after(each, there, now)
        found = {text: Entry(None if until is None else until - now, 0, 0) for text, until in after.items()}
        assert list(differences(each, found, now)) == []
        stays = {e.text for e in each.elements if e.until is None and there.get(e.text, 0) is None}
        assert not touched & stays
        assert kernel_after(each, after, now)[1] == set(), "and the same again touches nothing"


def test_the_same_list_again_is_no_change():
    listed = opening_sets((Opening(22, 22, TCP), Opening(80, 90, TCP, ends_at=100.0), Opening(1, 1, UDP, ("::/0",))))
    there = {each.name: {e.text: e.until for e in each.elements} for each in listed}
    text = script(Ruleset((), openings=listed), 50.0, held=there)
    assert "element" not in text
    assert "flush set" not in text
    assert "flush set" in script(Ruleset((), openings=listed), 50.0), "control"


def test_what_ended_since_it_was_listed_is_not_deleted_again():
    sets = {"open_tcp": {"80": Entry(5.0, 0, 0), "81": Entry(None, 0, 0), "82": Entry(60.0, 0, 0)}}
    assert held(sets, 100.0, 110.0) == {"open_tcp": {"81": None, "82": 160.0}}


# -- the kernel's account -------------------------------------------------------------------------

SET = OpeningSet("open_tcp_ip6", "ipv6_addr . inet_service", True, (Element("::ffff:102:304 . 80-90", "key", 100.0),))
FOUND = {
    "name": "open_tcp_ip6",
    "type": ["ipv6_addr", "inet_service"],
    "flags": ["interval", "timeout"],
    "stmt": [{"counter": None}],
    "elem": [
        {
            "elem": {
                "val": {"concat": ["::ffff:1.2.3.4", {"range": [80, 90]}]},
                "timeout": 60,
                "expires": 50,
                "counter": {"packets": 3, "bytes": 180},
            }
        }
    ],
}


def test_elements_are_read_as_they_were_written():
    read = entries(FOUND)
    assert read == {"::ffff:102:304 . 80-90": Entry(50, 3, 180)}
    assert is_set_of(SET, FOUND)
    assert list(differences(SET, read, 50.0)) == []
    assert used({"open_tcp_ip6": read}) == {("open_tcp_ip6", "::ffff:102:304 . 80-90"): Hits(3, 180)}
    prefix = {"concat": [{"prefix": {"addr": "10.0.0.0", "len": 8}}, 80]}
    assert list(entries({"elem": [22, {"range": [1, 3]}, prefix, "?"]})) == ["22", "1-3", "10.0.0.0/8 . 80", "?"]


@pytest.mark.parametrize(
    "change", [{"type": "inet_service"}, {"flags": ["interval"]}, {"flags": ["timeout"]}, {"stmt": None}]
)
def test_a_set_of_another_shape_is_not_ours(change):
    assert not is_set_of(SET, FOUND | change)


@pytest.mark.parametrize(
    ("found", "evidence"),
    [
        ({}, "80-90 is closed"),
        ({"::ffff:102:304 . 80-90": Entry(None, 0, 0)}, "stays open longer than it should"),
        ({"::ffff:102:304 . 80-90": Entry(99.0, 0, 0)}, "stays open longer than it should"),
        ({"::ffff:102:304 . 80-90": Entry(20.0, 0, 0)}, "closes earlier than it should"),
        ({"::ffff:102:304 . 80-90": Entry(50.0, 0, 0), "22": Entry(None, 0, 0)}, "22 is open, but should not be"),
    ],
)
def test_each_other_element_is_noticed(found, evidence):
    assert any(evidence in each for each in differences(SET, found, 50.0))


def test_hits_are_summed_for_each_opening():
    wanted = render(
        FirewallPolicy(
            CONNECTED,
            PLAN,
            PortPolicy(openings=(Opening(22, 22, TCP), Opening(80, 80, TCP, ("10.0.0.0/8", "fd00::/8")))),
        )
    )
    totals = {("used_tcp", "22"): Hits(1, 60), ("open_tcp_ip", "10.0.0.0/8 . 80"): Hits(2, 120)}
    totals["open_tcp_ip6", "fd00::/8 . 80"] = Hits(3, 240)
    assert hits_of_openings(wanted, totals) == (
        ("22/tcp", Hits(1, 60)),
        ("80/tcp from 10.0.0.0/8, fd00::/8", Hits(5, 360)),
    )
    assert hits_of_openings(wanted, {})[0] == ("22/tcp", Hits())


# -- forwards -----------------------------------------------------------------------------------


def lines(*forwards: ForwardRule, inbound: PortPolicy | None = None, **plan) -> dict[str, list[str]]:
    policy = FirewallPolicy(CONNECTED, replace(PLAN, **plan), inbound or PortPolicy(), forwards)
    return {chain.name: [rule.text for rule in chain.rules] for chain in render(policy).chains}


def test_another_host_is_reached_by_what_was_rewritten_to_it_and_answers_by_this_machine():
    rule = ForwardRule("web", (TCP,), 40000, 8080, target="192.168.77.5", sources=("203.0.113.0/24",))
    found = lines(rule)
    assert found["portmap"] == ['iifname "wg0" meta nfproto ipv4 tcp dport 40000 counter dnat ip to 192.168.77.5:8080']
    assert found["portmask"] == [
        "meta l4proto tcp ct status dnat ct original proto-dst @fwd_web_tcp ip daddr 192.168.77.5 masquerade"
    ]
    assert found["forward"][0] == (
        'iifname "wg0" oifname != "wg0" meta l4proto tcp ct state new ct original proto-dst @fwd_web_tcp'
        ' ct status dnat ip daddr 192.168.77.5 ip saddr { 203.0.113.0/24 } counter name "fwd_web_tcp" accept'
    )
    assert not any("@fwd_web_tcp" in line or "40000" in line or "8080" in line for line in found["input"])
    assert "portmask" not in lines(replace(rule, keep_source=True))
    assert set(lines(rule, inbound=PortPolicy(PolicyMode.BLOCK_ALL))) == {"output", "input", "forward"}


@pytest.mark.parametrize(
    "target", ["203.0.113.5", "8.8.8.8", "127.0.0.1", "fe80::1", "fe80::1%eth0", "::1", "host", "10.0.0.1; x"]
)
def test_a_target_that_is_no_host_on_a_network_of_ours_is_refused(target):
    with pytest.raises(Misconfigured) as caught:
        lines(ForwardRule("web", (TCP,), 40000, 8080, target=target))
    assert caught.value.hint


def test_a_forward_that_is_shut_is_opened_by_open_all_alone():
    rule = ForwardRule("web", (TCP,), 40000, 40000, shut=True)
    listed = PortPolicy(openings=(Opening(40000, 40000, TCP),))
    found = lines(rule, inbound=listed)["input"]
    shut = 'iifname "wg0" meta l4proto tcp ct state new ct original proto-dst { 40000 } counter drop'
    assert found.index(shut) < next(place for place, line in enumerate(found) if "@open_tcp" in line)
    assert not any("@fwd_web" in line for line in found)
    assert any("@fwd_web" in line for line in lines(rule, inbound=PortPolicy(PolicyMode.OPEN_ALL))["input"])


def test_without_forwarded_an_entry_opens_the_port_as_long_and_as_wide_as_it_says():
    rule = ForwardRule("web", (TCP,), 40000, 8080, 90.0)
    policy = PortPolicy(forwarded=False, openings=(Opening(8080, 8080, TCP, ends_at=60.0),))
    ruleset = render(FirewallPolicy(CONNECTED, PLAN, policy, (rule,)))
    assert [each.ports for each in ruleset.sets] == [((40000, 60.0),)]
    limited = replace(policy, openings=(Opening(8080, 8080, TCP, ("10.0.0.0/8",)),))
    ruleset = render(FirewallPolicy(CONNECTED, PLAN, limited, (rule,)))
    assert ruleset.sets == (), "the entry lets in its sources alone"
    assert [chain.name for chain in ruleset.chains][-1] == "portmap", "and they are brought to the listen port"


# -- the explanation ------------------------------------------------------------------------------


def judged(policy: PortPolicy, port: int, source: str, *forwards: ForwardRule, **more):
    return explain(FirewallPolicy(CONNECTED, PLAN, policy, forwards, **more), TCP, port, source, 50.0)


def test_the_rule_that_decides_is_named_with_its_counter():
    openings = (
        Opening(22, 22, TCP, ("203.0.113.0/24",)),
        Opening(80, 90, TCP, ends_at=60.0),
        Opening(91, 91, TCP, ends_at=40.0),
    )
    listed = PortPolicy(openings=openings)
    torrent = ForwardRule("torrent", (TCP,), 40000, 51413)
    found = judged(listed, 22, "203.0.113.9")
    assert (found.verdict, found.label, found.opening) == ("accept", "on the allow list", "22/tcp from 203.0.113.0/24")
    assert "@open_tcp_ip " in found.rule
    assert judged(listed, 22, "198.51.100.1").label == "anything else from the tunnel"
    assert judged(listed, 85, "2001:db8::1").opening == "80-90/tcp"
    assert judged(listed, 91, "203.0.113.9").verdict == "drop", "its time is over"
    found = judged(listed, 40000, "203.0.113.9", torrent)
    assert (found.forward, found.to, found.verdict) == ("torrent", "port 51413", "accept")
    assert judged(PortPolicy(PolicyMode.BLOCK_ALL), 40000, "203.0.113.9", torrent).verdict == "drop"
    assert judged(PortPolicy(PolicyMode.OPEN_ALL), 9, "203.0.113.9").label == "open to all"
    assert judged(listed, 40000, "203.0.113.9", replace(torrent, shut=True)).label == "forward held shut"


@given(LISTS, st.lists(RULES, max_size=3), st.sampled_from(PolicyMode), st.sampled_from(LockMode), st.booleans())
def test_every_decision_is_by_a_rule_that_stands(openings, forwards, mode, lock, forwarded):
    policy = FirewallPolicy(CONNECTED, PLAN, PortPolicy(mode, forwarded, openings), tuple(forwards), lock)
    rules = {rule.text: rule for chain in render(policy).chains for rule in chain.rules}
    ports = {9, *(each.arrives for each in forwards), *(each.first for each in openings)}
    for port in ports:
        for source in ("203.0.113.9", "10.1.2.3", "fd00::1"):
            found = explain(policy, TCP, port, source, 50.0)
            assert rules[found.rule].label == found.label
            assert rules[found.rule].verdict == found.verdict
            assert not (mode is PolicyMode.BLOCK_ALL and found.verdict == "accept")
