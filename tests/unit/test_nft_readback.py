"""The kernel's account against what was applied: every change is noticed, nothing else is."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.errors import PermissionDenied, Transient, Unsupported
from vpnpf.firewall.nft import refusal
from vpnpf.firewall.readback import carry, difference, fingerprint, leftovers, parse, summary, tally
from vpnpf.firewall.ruleset import Chain, Leftover, PortSet, Rule, Ruleset
from vpnpf.model import Hits, Protocol

DROP = Rule("counter drop", "everything else")
WANTED = Ruleset(
    chains=(
        Chain("output", "output", 0, (Rule('oifname "lo" accept', "local"), Rule("udp dport 53 drop", "DNS"), DROP)),
        Chain("input", "input", 0, (Rule("tcp dport @fwd_a_tcp accept", "forwarded port"), DROP)),
        Chain("portmap", "prerouting", -100, (Rule("tcp dport 1 redirect to :2", "map"),), type="nat", policy="accept"),
    ),
    sets=(PortSet("fwd_a_tcp", ((4000, 100.0), (4001, None))),),
    counters=("fwd_a_tcp",),
)
NOW = 50.0
VERDICTS = {"accept": {"accept": None}, "drop": {"drop": None}, "redirect": {"redirect": {"port": 2}}}


def account() -> dict:
    """What nft 1.0.6 says of WANTED."""
    table = {"family": "inet", "table": "vpnpf"}
    things: list[dict] = [
        {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
        {"table": {"family": "inet", "name": "vpnpf", "handle": 1}},
        {"counter": {**table, "name": "fwd_a_tcp", "handle": 2, "packets": 3, "bytes": 180}},
        {
            "set": {
                **table,
                "name": "fwd_a_tcp",
                "type": "inet_service",
                "handle": 3,
                "flags": ["timeout"],
                "elem": [{"elem": {"val": 4000, "timeout": 60, "expires": 50}}, 4001],
            }
        },
    ]
    for chain in WANTED.chains:
        shape = {"type": chain.type, "hook": chain.hook, "prio": chain.priority, "policy": chain.policy}
        things.append({"chain": {**table, "name": chain.name, "handle": 4, **shape}})
    handle = 5
    for chain in WANTED.chains:
        for rule, comment in zip(chain.rules, chain.comments(), strict=True):
            handle += 1
            match = {"match": {"op": "==", "left": {"payload": {"field": "dport"}}, "right": handle}}
            last = rule.text == DROP.text
            expr = [{"counter": {"packets": 7, "bytes": 99}} if last else match, VERDICTS[rule.verdict]]
            things.append({"rule": {**table, "chain": chain.name, "handle": handle, "comment": comment, "expr": expr}})
    return {"nftables": things}


def listing(document: dict):
    return parse(json.dumps(document))


KNOWN = fingerprint(listing(account()))
RULES = [place for place, each in enumerate(account()["nftables"]) if "rule" in each]
OBJECTS = [place for place, each in enumerate(account()["nftables"]) if "metainfo" not in each]


def test_what_was_applied_is_intact():
    assert difference(WANTED, listing(account()), NOW) == ""
    assert difference(WANTED, listing(account()), NOW, KNOWN) == ""
    assert "6 rules" in summary(WANTED)
    assert "4000/tcp" in summary(WANTED)


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 99))
def test_handles_counters_and_time_do_not_matter(packets, octets, handle):
    document = account()
    for each in document["nftables"]:
        for thing in each.values():
            if "handle" in thing:
                thing["handle"] += handle
            for statement in thing.get("expr", []):
                if "counter" in statement:
                    statement["counter"] = {"packets": packets, "bytes": octets}
            if "packets" in thing:
                thing |= {"packets": packets, "bytes": octets}
    assert difference(WANTED, listing(document), NOW, KNOWN) == ""


@pytest.mark.parametrize("place", OBJECTS)
def test_each_missing_object_is_noticed(place):
    document = account()
    del document["nftables"][place]
    assert difference(WANTED, listing(document), NOW, KNOWN)


@pytest.mark.parametrize("place", RULES)
def test_each_doubled_rule_is_noticed(place):
    document = account()
    document["nftables"].insert(place, copy.deepcopy(document["nftables"][place]))
    assert difference(WANTED, listing(document), NOW, KNOWN)


@given(st.permutations(range(3)))
def test_each_other_order_is_noticed(order):
    document = account()
    output = [each for each in document["nftables"] if each.get("rule", {}).get("chain") == "output"]
    rest = [each for each in document["nftables"] if each not in output]
    document["nftables"] = rest + [output[place] for place in order]
    differs = difference(WANTED, listing(document), NOW, KNOWN)
    assert bool(differs) == (list(order) != [0, 1, 2])


@given(st.data())
def test_each_change_inside_a_rule_is_noticed(data):
    document = account()
    rule = document["nftables"][data.draw(st.sampled_from(RULES))]["rule"]
    change = data.draw(st.sampled_from(["verdict", "match", "less", "more", "comment"]))
    match change:
        case "verdict":
            rule["expr"][-1] = {"continue": None}
        case "match":
            rule["expr"][0] = {"match": {"op": "!=", "left": 1, "right": 2}}
        case "less":
            del rule["expr"][0]
        case "more":
            rule["expr"].insert(0, {"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": 1}})
        case "comment":
            rule["comment"] = "mine"
    assert difference(WANTED, listing(document), NOW, KNOWN)


@pytest.mark.parametrize("place", RULES)
def test_a_wrong_verdict_is_noticed_even_before_anything_is_known(place):
    document = account()
    document["nftables"][place]["rule"]["expr"][-1] = {"continue": None}
    assert "was changed" in difference(WANTED, listing(document), NOW)


@pytest.mark.parametrize(("key", "value"), [("policy", "accept"), ("prio", 10), ("hook", "forward"), ("type", "route")])
def test_each_other_chain_is_noticed(key, value):
    document = account()
    document["nftables"][4]["chain"][key] = value
    assert f"chain output: {key} is {value}" in difference(WANTED, listing(document), NOW, KNOWN)


def test_flags_of_the_table_are_noticed():
    document = account()
    document["nftables"][1]["table"]["flags"] = ["dormant"]
    assert "flags" in difference(WANTED, listing(document), NOW, KNOWN)


@pytest.mark.parametrize(
    ("elements", "evidence"),
    [
        ([4001], "port 4000 is closed"),
        ([{"elem": {"val": 4000, "timeout": 60, "expires": 50}}], "port 4001 is closed"),
        ([{"elem": {"val": 4000, "timeout": 60, "expires": 50}}, 4001, 22], "port 22 is open, but should not be"),
        ([4000, 4001], "port 4000 stays open longer than its lease"),
        ([{"elem": {"val": 4000, "timeout": 999, "expires": 990}}, 4001], "port 4000 stays open longer"),
        (
            [{"elem": {"val": 4000, "expires": 50}}, {"elem": {"val": 4001, "expires": 9}}],
            "port 4001 closes by itself, but should not",
        ),
    ],
)
def test_each_other_element_is_noticed(elements, evidence):
    document = account()
    document["nftables"][3]["set"]["elem"] = elements
    assert evidence in difference(WANTED, listing(document), NOW, KNOWN)


def test_a_port_whose_lease_is_over_may_be_gone():
    document = account()
    document["nftables"][3]["set"]["elem"] = [4001]
    assert difference(WANTED, listing(document), 100.0, KNOWN) == ""
    assert "closed" in difference(WANTED, listing(document), 99.9, KNOWN)


def test_the_table_may_be_gone_altogether():
    assert difference(WANTED, None, NOW) == "the table inet vpnpf is gone"
    assert parse('{"nftables": [{"metainfo": {}}]}') is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nftables": 1}', "nonsense"])
def test_no_listing_is_an_error(text):
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_what_is_in_the_way_is_deleted_in_an_order_that_works():
    document = account()
    table = {"family": "inet", "table": "vpnpf", "handle": 9}
    document["nftables"] += [
        {"counter": {**table, "name": "fwd_gone_udp"}},
        {"set": {**table, "name": "old_fwd_a_tcp", "type": "inet_service", "flags": ["timeout"]}},
        {"map": {**table, "name": "more"}},
        {"chain": {**table, "name": "aside"}},
        {"counter": {**table, "name": "theirs"}},
    ]
    document["nftables"][4]["chain"]["prio"] = 5
    kept = leftovers(WANTED, listing(document), counters=False)
    assert kept == (
        Leftover("chain", "output"),
        Leftover("chain", "aside"),
        Leftover("map", "more"),
        Leftover("set", "old_fwd_a_tcp"),
        Leftover("counter", "theirs"),
    )
    assert Leftover("counter", "fwd_gone_udp") in leftovers(WANTED, listing(document), counters=True)
    assert leftovers(WANTED, None, counters=True) == ()


def test_counters_are_read():
    assert tally(listing(account())) == {("a", Protocol.TCP): Hits(3, 180)}
    assert tally(None) == {}


@given(st.lists(st.none() | st.integers(0, 50), max_size=20))
def test_totals_never_go_back(values):
    """None: somebody took the counter away."""
    key, totals, raw, highest = ("a", Protocol.TCP), {}, {}, 0
    for value in values:
        fresh = {} if value is None else {key: Hits(value, value)}
        totals, raw = carry(totals, raw, fresh), fresh
        total = totals.get(key, Hits()).packets
        assert total >= max(highest, value or 0)
        highest = total


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("Operation not permitted (you must be root)\nnetlink: Error: cache\n", PermissionDenied, "does not allow"),
        ("/dev/stdin:2:21-25: Error: Could not process rule: No such file or directory\nadd\n", Unsupported, "queue"),
        ("/dev/stdin:2:21-25: Error: Could not process rule: Operation not supported\n", Unsupported, "queue"),
        ("/dev/stdin:2:21-25: Error: Could not process rule: Device or resource busy\n", Transient, "busy"),
        ("/dev/stdin:1:1-5: Error: Could not process rule: No such file or directory\n", Transient, "No such file"),
        ("/dev/stdin:99:1-5: Error: syntax error\n", Transient, "syntax error"),
        ("Error: No buffer space available\n", Transient, "No buffer space"),
        ("", Transient, "said nothing"),
    ],
)
def test_what_nft_complains_of_is_told_by_kind(said, kind, words):
    text = "delete set inet vpnpf x\nadd rule inet vpnpf queue num 1\n"
    failure = refusal("applying", said, text)
    assert type(failure) is kind
    assert words in f"{failure} {failure.hint}"
