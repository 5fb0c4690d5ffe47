"""Entries of the allow-list: what people write, each mistake with its next step, and whatever else they may write."""

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from ipaddress import ip_network
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.core.entries import Entry, ports_of
from vpnpf.core.entry_parts import LONGEST, length
from vpnpf.core.overlaps import check_list, said
from vpnpf.core.presets import PRESETS, alone
from vpnpf.core.services import LAST_PORT, TABLE, parse_services
from vpnpf.errors import EX_USAGE
from vpnpf.model import Opening, PolicyMode, PortPolicy, Protocol
from vpnpf.openings import (
    EntryError,
    Services,
    Timed,
    duration,
    key_of,
    moment,
    parse_entry,
    read_entry,
    read_sources,
    settle,
)

TCP, UDP = Protocol
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()
OFFSET = 5000.0 - NOW
"""The machine was booted 5000 s ago."""
FILE = """
# name  port/protocol  aliases
ssh     22/tcp
ssh     22/udp
smtp    25/tcp  mail   # the real one
mail    9925/tcp
domain  53/tcp
domain  53/udp
sctpish 99/sctp
zero    0/tcp
large   65536/tcp
broken
"""
SERVICES = Services(parse_services(FILE, "a file") | dict(TABLE))


def parse(raw):
    return parse_entry(raw, now=NOW, boot_offset=OFFSET, services=SERVICES)


def outcome(read, raw):
    """What it comes to, or the error."""
    try:
        return read(raw)
    except EntryError as error:
        return error


def refused(raw):
    with pytest.raises(EntryError) as caught:
        parse(raw)
    return caught.value


# -- what people write ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "openings"),
    [
        ("22/tcp", [Opening(22, 22, TCP)]),
        (" 22/TCP ", [Opening(22, 22, TCP)]),
        ("0022/tcp", [Opening(22, 22, TCP)]),
        ("8000-8010/udp", [Opening(8000, 8010, UDP)]),
        ("5-5/udp", [Opening(5, 5, UDP)]),
        ("1-65535/tcp", [Opening(1, LAST_PORT, TCP)]),
        ("minecraft", [Opening(25565, 25565, TCP, name="minecraft")]),
        ("SSH", [Opening(22, 22, TCP, name="ssh")]),
        ("domain", [Opening(53, 53, TCP, name="domain"), Opening(53, 53, UDP, name="domain")]),
        ("domain/udp", [Opening(53, 53, UDP, name="domain/udp")]),
        ("smtp", [Opening(25, 25, TCP, name="smtp")]),
        ("mail", [Opening(9925, 9925, TCP, name="mail")]),
        ("preset:openvpn", [Opening(1194, 1194, UDP, name="preset:openvpn")]),
        ("preset:ipsec", [Opening(500, 500, UDP, name="preset:ipsec"), Opening(4500, 4500, UDP, name="preset:ipsec")]),
        ("22/tcp from 203.0.113.9", [Opening(22, 22, TCP, ("203.0.113.9/32",))]),
        (
            "22/tcp FROM 203.0.113.0/24,2001:DB8::/32, 198.51.100.1",
            [Opening(22, 22, TCP, ("198.51.100.1/32", "2001:db8::/32", "203.0.113.0/24"))],
        ),
        ("22/tcp for 2h", [Opening(22, 22, TCP, ends_at=5000.0 + 7200)]),
        ("22/tcp until 2026-11-25T12:10Z", [Opening(22, 22, TCP, ends_at=5600.0)]),
        ("22/tcp until 2026-11-25 13:10:00+01:00", [Opening(22, 22, TCP, ends_at=5600.0)]),
        ("22/tcp#home # of us", [Opening(22, 22, TCP, comment="home # of us")]),
        (
            "22/tcp for 1m from 10.0.0.0/8 # x",
            [Opening(22, 22, TCP, ("10.0.0.0/8",), comment="x", ends_at=5060.0)],
        ),
        ({"port": "22/tcp"}, [Opening(22, 22, TCP)]),
        ({"service": "ssh", "comment": " c "}, [Opening(22, 22, TCP, name="ssh", comment="c")]),
        (
            {"port": "1-2/udp", "from": ["10.0.0.0/8", "::1"], "for": "1h30m"},
            [Opening(1, 2, UDP, ("10.0.0.0/8", "::1/128"), ends_at=5000.0 + 5400)],
        ),
        (
            {"port": "1/udp", "until": datetime(2026, 11, 25, 14, tzinfo=timezone(timedelta(hours=1)))},
            [Opening(1, 1, UDP, ends_at=5000.0 + 3600)],
        ),
    ],
)
def test_what_people_write(raw, openings):
    assert parse(raw) == tuple(openings)


def test_a_moment_without_a_zone_is_the_machines(monkeypatch):
    monkeypatch.setenv("TZ", "XYZ-5")
    __import__("time").tzset()
    try:
        assert moment("2026-11-25T17:00") == moment(datetime(2026, 11, 25, 17)) == NOW  # noqa: DTZ001 - the point
        assert parse("1/tcp until 2026-11-25T17:01")[0].ends_at == 5060.0
    finally:
        monkeypatch.undo()
        __import__("time").tzset()


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("90m", 5400), ("2h", 7200), ("7d", 604800), (" 1D2h3M4s ", 93784)]
)
def test_durations(text, seconds):
    assert duration(text) == seconds


# -- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "what", "hint", "part"),
    [
        ("0/tcp", "0 is no port", "1 to 65535", ""),
        ("65536/tcp", "65536 is no port", "1 to 65535", ""),
        ("1-65536/udp", "65536 is no port", "1 to 65535", ""),
        ("0-5/udp", "0 is no port", "1 to 65535", ""),
        ("9" * 5000 + "/udp", "is no port", "1 to 65535", ""),
        ("9" * 9000 + "/udp", "too long", "8192", ""),
        ("9-5/tcp", "runs backwards", 'write "5-9/tcp"', ""),
        ("22", "names no protocol", '"22/tcp" or "22/udp"', ""),
        ("22-25", "names no protocol", '"22-25/tcp"', ""),
        ("70000", "70000 is no port", "1 to 65535", ""),
        ("22/sctp", '"sctp" is no protocol', "22/tcp", ""),
        ("22/", '"" is no protocol', "22/tcp", ""),
        ("tcp/22", "no port", 'write "22/tcp"', ""),
        ("tcp22", "no port", 'write "22/tcp"', ""),
        ("22-tcp", "no port", 'write "22/tcp"', ""),
        ("22:25/tcp", "no port", 'write "22-25/tcp"', ""),
        ("-1/tcp", "no port", "22/tcp", ""),
        ("٢٢/tcp", "no port", "22/tcp", ""),
        ("\x1b[2J/tcp", '"?[2J/tcp" is no port', "22/tcp", ""),
        ("", "empty", "22/tcp", ""),
        (" # only that", "empty", "22/tcp", ""),
        ("minecraf", 'no service "minecraf"', 'did you mean "minecraft"?', ""),
        ("nothing-like-that", "no service", "22/tcp", ""),
        ("sctpish", "no service", "", ""),
        ("large", "no service", "", ""),
        ("ikev2", "no service", 'did you mean "preset:ikev2"?', ""),
        ("preset:openvpm", 'no preset "openvpm"', 'did you mean "preset:openvpn"?', ""),
        ("preset:x", "no preset", "known: preset:ikev2", ""),
        ("preset:pptp", "GRE", "OpenVPN", ""),
        ("ssh/udp", "ssh is not on udp", "ssh/tcp", ""),
        ("forwarded", "stands alone", "forward", ""),
        ("forwarded for 2h", "stands alone", "forward", ""),
        ("22/tcp please", '"please" after "22/tcp"', "from, for and until", ""),
        ("22/tcp from", 'nothing follows "from"', "leave it out", "from"),
        ("22/tcp from 10.0.0.1 from 10.0.0.2", "twice", "once", ""),
        ("22/tcp from ,", "empty", "leave it out", "from"),
        ("22/tcp from home.example", "neither an address nor a prefix", "203.0.113.9", "from"),
        ("22/tcp from 10.0.0.256", "neither an address nor a prefix", "203.0.113.9", "from"),
        ("22/tcp from fe80::1%eth0", "neither an address nor a prefix", "203.0.113.9", "from"),
        ("22/tcp from 203.0.113.9/24", "8 bits", '"203.0.113.0/24" for all 256', "from"),
        ("22/tcp from ::ffff:203.0.113.9", "IPv4", '"203.0.113.9"', "from"),
        ("22/tcp from 224.0.0.1", "multicast", "", "from"),
        ("22/tcp from 10.0.0.0/8, 10.1.0.0/16", "10.1.0.0/16 is within 10.0.0.0/8", "leave it out", "from"),
        ("22/tcp from 10.0.0.1, 10.0.0.1/32", "twice", "leave it out", "from"),
        ("22/tcp for ever", "not a duration", "2h", "for"),
        ("22/tcp for 2", "not a duration", "2h", "for"),
        ("22/tcp for 1h1d", "not a duration", "2h", "for"),
        ("22/tcp for 0h", "over at once", "longer", "for"),
        ("22/tcp for 3651d", "ten years", "no end", "for"),
        ("22/tcp until tomorrow", "not a moment", "2026-12-01T10:00", "until"),
        ("22/tcp until 2026-12-01", "not a moment", "2026-12-01T10:00", "until"),
        ("22/tcp until 2026-13-01T10:00Z", "no such moment", "2026-12-01T10:00", "until"),
        ("22/tcp until 2026-11-25T11:59:59Z", "past", "later", "until"),
        ("22/tcp until 2026-11-25T12:00Z", "past", "later", "until"),
        ("22/tcp until 2099-11-25T12:00Z", "ten years", "no end", "until"),
        ("22/tcp for 2h until 2026-12-01T10:00Z", "both", "one", "until"),
        ("22/tcp # " + "x" * 121, "120", "shorter", "comment"),
        ("22/tcp # a\x1bb", "one line", "", "comment"),
        ({}, "exactly one of port and service", 'port = "22/tcp"', ""),
        ({"port": "22/tcp", "service": "ssh"}, "exactly one", "", ""),
        ({"port": 22}, "no protocol", '"22/tcp"', "port"),
        ({"port": 0}, "0 is no port", "1 to 65535", "port"),
        ({"port": -1}, "-1 is no port", "1 to 65535", "port"),
        ({"port": True}, "not text", "22/tcp", "port"),
        ({"port": "ssh"}, "no port", 'service = "ssh"', "port"),
        ({"port": "22"}, "no protocol", "22/tcp", "port"),
        ({"service": "22/tcp"}, "is a port", 'port = "22/tcp"', "service"),
        ({"service": 1}, "not text", "", "service"),
        ({"port": "22/tcp", "form": "x"}, 'unknown key "form"', "from", ""),
        ({"port": "22/tcp", "from": []}, "nobody", "leave it out", "from"),
        ({"port": "22/tcp", "from": 3}, "neither", "203.0.113.9", "from"),
        ({"port": "22/tcp", "for": 3600}, "not a duration", "2h", "for"),
        ({"port": "22/tcp", "until": date(2026, 12, 1)}, "not a moment", "", "until"),
        ({"port": "22/tcp", "comment": 1}, "not text", "", "comment"),
        (22, "neither text", "22/tcp", ""),
        (None, "neither text", "22/tcp", ""),
    ],
)
def test_a_mistake_says_what_is_wrong_where_and_the_next_step(raw, what, hint, part):
    error = refused(raw)
    assert what in error.what
    assert hint in error.hint
    assert error.part == part
    assert error.exit_code == EX_USAGE
    assert str(error).endswith(error.what)


def test_what_the_hints_say_is_taken():
    for raw in ("22", "9-5/tcp", "tcp/22", "22-tcp", "22:25/tcp", "ssh/udp", "ikev2", "minecraf", "preset:openvpm"):
        written = re.search(r'"([^"]+)"', refused(raw).hint)
        assert parse(written[1])


# -- services and presets -------------------------------------------------------------------------


def test_our_table_comes_before_the_machines_file():
    assert SERVICES.find("ssh") == TABLE["ssh"]
    assert SERVICES.find("smtp").source == "a file"


def test_without_a_file_there_is_our_table(tmp_path):
    assert Services.load(tmp_path / "none").known == TABLE
    assert Services.load(tmp_path).known == TABLE
    (tmp_path / "odd").write_bytes(b"\xff\xfe\0 1/tcp\nown 7/tcp\n")
    assert Services.load(tmp_path / "odd").find("own").ports == ((7, 7, TCP),)


def test_this_machines_file_knows_the_usual_names():
    assert Path("/etc/services").exists()
    loaded = Services.load()
    for name in ("minecraft", "plex", "ssh", "https", "rdp", "domain", "imaps"):
        assert loaded.find(name), name


def test_the_tables_are_sound_and_say_where_from():
    for name, each in (*TABLE.items(), *PRESETS.items()):
        assert re.fullmatch("[a-z0-9-]+", name)
        assert each.source
        openings = [Opening(*ports) for ports in each.ports]
        assert openings
        assert check_list(openings) == []
        assert all(1 <= opening.first <= opening.last <= LAST_PORT for opening in openings)
    assert list(TABLE) == sorted(TABLE)


def test_what_one_forwarded_port_can_carry():
    assert {name: bool(alone(preset)) for name, preset in PRESETS.items()} == {
        "ikev2": True,
        "ipsec": True,
        "openvpn": False,
        "pptp": True,
    }
    assert "GRE" in alone(PRESETS["pptp"])
    assert "500/udp and 4500/udp" in alone(PRESETS["ikev2"])


# -- keys, and ends that are kept -------------------------------------------------------------------


def test_the_key_is_one_however_it_was_written():
    assert key_of("SSH from 10.0.0.2,10.0.0.1 for 120m # x") == key_of(
        {"service": "ssh", "from": ["10.0.0.1", "10.0.0.2/32"], "for": "2h", "comment": "y"}
    )
    assert key_of("22/tcp for 2h") == "22/tcp for 2h"
    different = [
        "22/tcp",
        "22/udp",
        "22/tcp for 2h",
        "22/tcp for 3h",
        "22/tcp from ::1",
        "22/tcp until 2026-12-01T10:00",
    ]
    assert len({key_of(each) for each in different}) == len(different)


def test_a_for_counts_from_when_it_was_first_put_in_force():
    (first,), (second,) = parse("22/tcp for 1h"), parse("80/tcp for 2h")
    timed = (Timed("a", 3600, (first,)), Timed("b", 7200, (second,)))
    stays = Opening(1, 1, TCP)
    policy = PortPolicy(PolicyMode.ALLOW_LIST, openings=(stays, first, second))
    settled, ends = settle(policy, timed, {}, 6000.0)
    assert ends == {"a": 9600.0, "b": 13200.0}
    assert [each.ends_at for each in settled.openings] == [None, 9600.0, 13200.0]
    # A restart later: nothing begins anew, and what has ended stays closed.
    again, kept = settle(policy, timed, ends, 9600.0)
    assert kept == ends
    assert [(each.first, each.ends_at) for each in again.openings] == [(1, None), (80, 13200.0)]


# -- openings in each other's way -------------------------------------------------------------------


def checked(*raws):
    return check_list([opening for raw in raws for opening in parse(raw)])


@pytest.mark.parametrize(
    ("raws", "index", "what"),
    [
        (("22/tcp", "22/TCP"), 1, "22/tcp is there twice"),
        (("22/tcp", "ssh"), 1, "ssh (22/tcp) is there twice"),
        (("8000-8010/tcp", "8005/tcp"), 1, "8005/tcp changes nothing: 8000-8010/tcp lets all of it in"),
        (("8005/tcp", "8000-8010/tcp"), 0, "8005/tcp changes nothing: 8000-8010/tcp lets all of it in"),
        (("8000-8010/tcp", "8010-8020/tcp"), 1, "8010-8020/tcp overlaps 8000-8010/tcp"),
        (("8010-8020/tcp", "8000-8010/tcp"), 1, "8000-8010/tcp overlaps 8010-8020/tcp"),
        (("22/tcp", "22/tcp from 10.0.0.1"), 1, "22/tcp from 10.0.0.1/32 changes nothing: 22/tcp lets"),
        (("22/tcp from 10.0.0.0/8", "22/tcp from 10.0.0.1"), 1, "from 10.0.0.1/32 changes nothing"),
        (("22/tcp from 10.0.0.1", "22/tcp from 10.0.0.0/8"), 0, "from 10.0.0.1/32 changes nothing"),
        (("22/tcp from 10.0.0.1, 11.0.0.1", "22/tcp from 10.0.0.0/8"), 1, "overlaps"),
        (("22/tcp from 0.0.0.0/0", "22/tcp"), 0, "changes nothing"),
        (("22/tcp for 1h", "22/tcp"), 1, "twice"),
    ],
)
def test_of_two_the_one_that_adds_nothing_is_named(raws, index, what):
    ((found, said_, hint),) = checked(*raws)
    assert found == index
    assert what in said_
    assert hint


@pytest.mark.parametrize(
    "raws",
    [
        ("22/tcp", "22/udp"),
        ("8000-8010/tcp", "8011-8020/tcp"),
        ("22/tcp from 10.0.0.1", "22/tcp from 10.0.0.2"),
        ("22/tcp from 0.0.0.0/0", "22/tcp from ::/0"),
        ("1-100/tcp from 10.0.0.0/8", "50-200/tcp from 11.0.0.0/8"),
    ],
)
def test_what_does_not_overlap_may_stay(raws):
    assert checked(*raws) == []


# -- whatever else somebody may write ---------------------------------------------------------------

PORTS = st.integers(1, LAST_PORT)
NETWORKS = st.one_of(
    st.builds(lambda bits, length: ip_network((bits >> (32 - length) << (32 - length), length)),
              st.integers(0, 0xDFFF_FFFF), st.integers(0, 32)),
    st.builds(lambda bits, length: ip_network(((0x2001 << 112 | bits) >> (128 - length) << (128 - length), length)),
              st.integers(0, (1 << 112) - 1), st.integers(16, 128)),
)  # fmt: skip
COMMENTS = st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" "), max_size=100).map(str.strip)
MOMENTS = st.datetimes(timezones=st.none() | st.just(UTC))


@st.composite
def entries(draw):
    low, high = sorted((draw(PORTS), draw(PORTS)))
    protocol = draw(st.sampled_from(Protocol))
    name = st.sampled_from([*TABLE, *(f"preset:{each}" for each in PRESETS), "https/udp"])
    sources = []
    for network in draw(st.lists(NETWORKS, max_size=3)):
        if not any(network.version == other.version and network.overlaps(other) for other in sources):
            sources.append(network)
    ends = draw(st.sampled_from(["", "for", "until"]))
    return Entry(
        draw(st.just(str(Opening(low, high, protocol))) | name),
        tuple(sorted(map(str, sources))),
        draw(st.integers(1, LONGEST)) if ends == "for" else None,
        draw(MOMENTS) if ends == "until" else None,
        draw(COMMENTS),
    )


@given(entries())
def test_what_is_written_out_is_read_as_the_same(entry):
    assert read_entry(str(entry)) == entry
    ports = ports_of(entry.what)
    table = {"port" if ports else "service": entry.what, "comment": entry.comment, "until": entry.until}
    table["from"] = list(entry.sources) or None
    table["for"] = length(entry.lasts) if entry.lasts else None
    assert read_entry(table) == entry


@given(entries())
def test_an_entry_opens_what_it_says(entry):
    openings = outcome(parse, str(entry))
    if isinstance(openings, EntryError):
        assert entry.what == "preset:pptp" or entry.until
        assert openings.hint
        return
    assert openings
    for opening in openings:
        assert opening.sources == entry.sources
        assert opening.comment == entry.comment
        assert opening.ends_at is None or opening.ends_at > NOW + OFFSET
    if ports := ports_of(entry.what):
        assert [(each.first, each.last, each.protocol) for each in openings] == [ports]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5)
    | st.datetimes(timezones=st.none() | st.timezones()) | st.just(time(1)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
WORDS = st.sampled_from(
    ["22/tcp", "ssh", "from", "for", "until", "2h", "10.0.0.0/8", "::1", ",", "#", "forwarded", "preset:", "9-5/udp", "/",
     "0001-01-01T00:00", "9999-12-31T23:59", "2026-12-01T10:00-23:59", "999999999d", "tcp", "-", "1.2.3.4/0", "::/-1"]
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(WORDS | st.text(max_size=4), max_size=8).map(" ".join),
    st.from_regex(r"[0-9]{0,6}-?[0-9]{0,6}/?(tcp|udp)?", fullmatch=True),
)
TABLES = st.dictionaries(
    st.sampled_from(["port", "service", "from", "for", "until", "comment"]) | st.text(max_size=6),
    ANYTHING | TEXTS,
    max_size=5,
)


@given(TEXTS | TABLES | ANYTHING)
def test_anything_is_openings_or_an_entry_error(raw):
    openings = outcome(parse, raw)
    if isinstance(openings, EntryError):
        assert openings.what
        assert openings.what.isprintable()
        assert openings.hint.isprintable()
        return
    assert openings
    assert all(1 <= opening.first <= opening.last <= LAST_PORT for opening in openings)
    assert parse(str(read_entry(raw))) == openings
    assert check_list(openings) == []


@given(ANYTHING | TEXTS)
def test_each_part_alone_raises_nothing_else(raw):
    for read in (duration, moment, read_sources, key_of):
        found = outcome(read, raw)
        assert not isinstance(found, EntryError) or found.hint


SMALL = st.sampled_from([(), ("0.0.0.0/0",), ("10.0.0.0/8",), ("10.1.0.0/16", "11.0.0.0/8"), ("10.1.1.1/32",), ("::/0",),
                         ("2001:db8::/32", "10.2.0.0/16"), ("2001:db8::1/128",)])  # fmt: skip
SPANS = st.builds(
    lambda a, b, protocol, sources: Opening(min(a, b), max(a, b), protocol, sources),
    st.integers(1, 12), st.integers(1, 12), st.sampled_from(Protocol), SMALL,
)  # fmt: skip


def collide(one, other):
    def prefixes(opening):
        return list(map(ip_network, opening.sources or ("0.0.0.0/0", "::/0")))

    return (
        one.protocol is other.protocol
        and one.first <= other.last
        and other.first <= one.last
        and any(a.version == b.version and a.overlaps(b) for a in prefixes(one) for b in prefixes(other))
    )


@given(st.lists(SPANS, max_size=7))
def test_a_list_is_refused_if_and_only_if_two_overlap(openings):
    found = check_list(openings)
    assert bool(found) == any(collide(one, other) for one, other in combinations(openings, 2))
    for index, what, hint in found:
        assert what.startswith(said(openings[index]))
        assert hint
        assert any(collide(openings[index], other) for place, other in enumerate(openings) if place != index)
