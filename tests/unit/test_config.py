"""The configuration: what people write, every mistake at once, and whatever else may stand in the file."""

import json
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vpnpf import config, config_checker, plugins
from vpnpf.config import load, parse, places
from vpnpf.config_schema import json_schema
from vpnpf.errors import ConfigError, UsageError
from vpnpf.interfaces import Manifest, Objection, Option
from vpnpf.model import Opening, PolicyMode, PortPolicy, Protocol
from vpnpf.openings import Timed
from vpnpf.secrets import Source
from vpnpf.settings import Config
from vpnpf.testing import FakeClock

ROOT = Path(__file__).parents[2]
EXAMPLE = re.search(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
SECRET = "hunter2-in-the-wrong-place"


@pytest.fixture
def directory(tmp_path):
    """With the files that the example names."""
    (tmp_path / "home.conf").write_text("[Interface]\n")
    password = tmp_path / "qb.password"
    password.touch(0o600)
    password.write_text("secret\n")
    return tmp_path


@pytest.fixture
def path(directory):
    return directory / "config.toml"


def mistakes(text, path, clock=None):
    with pytest.raises(ConfigError) as caught:
        parse(text, path, clock)
    assert SECRET not in f"{caught.value} {caught.value.hint}"
    return caught.value.mistakes


def line_of(text, part):
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


# -- what people write ----------------------------------------------------------------------------


def test_who_may_watch_is_a_group_or_nobody(path, directory):
    assert parse(EXAMPLE, path).group == ""
    assert parse(f'{EXAMPLE}\n[control]\ngroup = "vpnpf"\n', path).group == "vpnpf"
    # Whether there is one is seen when it is needed: it may be made after the file is written, or on another machine.
    assert parse(f'{EXAMPLE}\n[control]\ngroup = "no-such-group"\n', path).group == "no-such-group"
    assert [each.what for each in mistakes(f"{EXAMPLE}\n[control]\ngroup = 5\nuser = 1\n", path)] == [
        "it is not text in quotes",
        'unknown key "user"',
    ]


def test_the_example_of_the_readme(path, directory):
    path.write_text(EXAMPLE)
    loaded = load(path)
    profile = loaded.profile(None)
    assert loaded.profile("home") is profile
    assert (profile.spec.name, profile.spec.provider, profile.tunnel.type) == ("home", "protonvpn", "wireguard")
    assert profile.tunnel.configs == (directory / "home.conf",)
    assert profile.spec.policy == PortPolicy(PolicyMode.ALLOW_LIST, forwarded=True)
    (forward,) = profile.spec.forwards
    assert (forward.name, forward.client, forward.client_local) == ("torrent", "qb", True)
    assert forward.protocols == (Protocol.TCP, Protocol.UDP)
    client = profile.clients["torrent"]
    assert (client.type, client.url, client.username) == ("qbittorrent", "http://127.0.0.1:8080", "admin")
    assert client.password == Source("file", str(directory / "qb.password"))


def test_the_comments_of_the_readme_are_true(path):
    for entry in re.findall(r'"[\d-]+/(?:tcp|udp)"', EXAMPLE):
        parse(EXAMPLE.replace('["forwarded"]', f'["forwarded", {entry}]'), path)
    for mode in re.search(r"# (open-all.*)", EXAMPLE)[1].split(" | "):
        parse(EXAMPLE.replace('mode = "allow-list"', f'mode = "{mode}"').replace("allow =", "# allow ="), path)


def test_an_allow_list(path):
    text = EXAMPLE.replace('["forwarded"]', '["8000-8010/udp", "22/TCP"]')
    policy = parse(text, path).profile("home").spec.policy
    ranges = (Opening(22, 22, Protocol.TCP), Opening(8000, 8010, Protocol.UDP))
    assert policy == PortPolicy(PolicyMode.ALLOW_LIST, forwarded=False, openings=ranges)


def test_forwards_with_a_fixed_port_come_last(path):
    text = (
        EXAMPLE.replace('"protonvpn" ', '"natpmp" ')
        + """
[profiles.home.forwards.game]
internal_port = 25565
protocols = ["udp"]
[profiles.home.forwards.camera]
external_port = 50000
"""
    )
    forwards = {forward.name: forward for forward in parse(text, path).profile("home").spec.forwards}
    assert {name: forward.slot for name, forward in forwards.items()} == {"torrent": 0, "camera": 1, "game": 2}
    assert forwards["game"].protocols == (Protocol.UDP,)
    assert forwards["camera"].external_port == 50000


AT_NOON = FakeClock(5000.0, datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp())


def test_an_entry_can_be_a_table_with_source_end_and_comment(path):
    text = EXAMPLE.replace(
        '["forwarded"]',
        """[
  "forwarded", "minecraft",
  { service = "ssh", from = ["2001:db8::/32", "203.0.113.9"], comment = "from work" },
  { port = "8000-8010/udp", for = "2h" },
  { port = "443/tcp", until = 2026-11-25T13:00:00+01:00 },
  { port = "444/tcp", until = "2026-11-25T12:00:01Z" },
]
report_unused = "7d"
close_unused = true""",
    )
    found = mistakes(text, path, AT_NOON)
    assert [str(each).removeprefix(f"{path}:") for each in found] == [
        f"{line_of(text, '443/tcp')}: profiles.home.policy.allow.4.until: its end is past (write a later one, or remove the entry)"
    ]
    without = parse(text, path, AT_NOON, ended=True).profile("home").spec.policy.openings
    assert [str(opening) for opening in without] == ["22/tcp", "444/tcp", "8000-8010/udp", "25565/tcp"]
    profile = parse(text.replace("13:00", "13:01"), path, AT_NOON).profile("home")
    assert profile.spec.policy == PortPolicy(
        PolicyMode.ALLOW_LIST,
        forwarded=True,
        openings=(
            Opening(22, 22, Protocol.TCP, ("2001:db8::/32", "203.0.113.9/32"), "ssh", "from work"),
            Opening(443, 443, Protocol.TCP, ends_at=5060.0),
            Opening(444, 444, Protocol.TCP, ends_at=5001.0),
            Opening(8000, 8010, Protocol.UDP, ends_at=12200.0),
            Opening(25565, 25565, Protocol.TCP, name="minecraft"),
        ),
        report_unused=604800.0,
        close_unused=True,
    )
    assert profile.timed == (Timed("8000-8010/udp for 2h", 7200, (profile.spec.policy.openings[3],)),)


def test_the_examples_of_the_docs(path):
    page = (ROOT / "docs" / "allow-list.md").read_text()
    policy, forwards = re.findall(r"(?m)(?:^    \[profiles.*\n)(?:^    .*\n)+", page)
    text = EXAMPLE.replace('"protonvpn" ', '"gateway" ')
    text = text[: text.index("[profiles.home.policy]")] + text[text.index("[clients") :]
    profile = parse(text + policy + forwards, path, AT_NOON).profile("home")
    assert [str(opening) for opening in profile.spec.policy.openings] == [
        "22/tcp",
        "80/tcp",
        "8000-8010/udp",
        "25565/tcp",
    ]
    assert [each.name for each in profile.spec.forwards] == ["torrent", "game", "nas", "spare"]


def test_each_mistake_of_a_list_has_its_own_line(path):
    text = EXAMPLE.replace(
        'allow = ["forwarded"]               #',
        """allow = [   # "0/tcp",
  "forwarded", "#/tcp",
  "22/tcp", { prot = "80/tcp" },
  'ssh',
  9,
  { port = "70000/tcp", from = [
    "1.2.3.4"] }, "5-1/udp",
  "fine/",
] #""",
    )
    at = {each.where.removeprefix(f"{path}:").replace("profiles.home.policy.", "") for each in mistakes(text, path)}
    first = line_of(text, "allow =")
    assert at == {
        f"{first + 1}: allow.1",
        f"{first + 2}: allow.3",
        f"{first + 2}: allow.3.prot",
        f"{first + 3}: allow.4",
        f"{first + 4}: allow.5",
        f"{first + 5}: allow.6.port",
        f"{first + 6}: allow.7",
        f"{first + 7}: allow.8",
    }


def test_entries_as_a_list_of_tables(path):
    text = EXAMPLE.replace("allow = ", "# allow = ") + (
        '[[profiles.home.policy.allow]]\nservice = "plex"\n[[profiles.home.policy.allow]]\nport = "0/tcp"\n'
    )
    (one,) = mistakes(text, path)
    assert one.where == f"{path}:{line_of(text, '0/tcp')}: profiles.home.policy.allow.1.port"
    policy = parse(text.replace('"0/', '"1/'), path).profile("home").spec.policy
    assert policy.openings == (Opening(1, 1, Protocol.TCP), Opening(32400, 32400, Protocol.TCP, name="plex"))
    assert not policy.forwarded


def test_where_the_packets_of_a_forward_go(path):
    text = (
        EXAMPLE.replace('"protonvpn" ', '"gateway" ')
        + """
[profiles.home.forwards.game]
service = "minecraft"
[profiles.home.forwards.vpn]
mode = "redirect"
service = "preset:openvpn"
to = 1195
from = "203.0.113.0/24"
[profiles.home.forwards.nas]
to = "192.168.77.5:8080"
open = false
[profiles.home.forwards.six]
to = "[fd00:0::5]:8080"
protocols = ["tcp"]
[profiles.home.forwards.text]
to = "8080"
[profiles.home.forwards.plain]
mode = "announce"
"""
    )
    found = {each.name: each for each in parse(text, path).profile("home").spec.forwards}
    assert {name: (each.target, each.internal_port) for name, each in found.items()} == {
        "torrent": (None, None),
        "game": (None, 25565),
        "vpn": (None, 1195),
        "nas": ("192.168.77.5", 8080),
        "six": ("fd00::5", 8080),
        "text": (None, 8080),
        "plain": (None, None),
    }
    assert [found[name].slot for name in ("torrent", "plain", "game", "vpn", "nas", "six", "text")] == list(range(7))
    assert [name for name, each in found.items() if not each.client_local] == ["nas", "six"]
    assert (found["vpn"].sources, found["vpn"].protocols) == (("203.0.113.0/24",), (Protocol.UDP,))
    assert (found["game"].protocols, found["six"].protocols) == ((Protocol.TCP,), (Protocol.TCP,))
    assert [name for name, each in found.items() if each.shut] == ["nas"]


def test_two_forwards_to_the_same_place(path):
    text = (
        EXAMPLE.replace('"protonvpn" ', '"gateway" ')
        + """
[profiles.home.forwards.second]
to = 25565
[profiles.home.forwards.third]
service = "minecraft"
[profiles.home.forwards.fourth]
to = "10.0.0.1:25565"
[profiles.home.forwards.fifth]
to = "10.0.0.1:25565"
"""
    )
    said = [str(mistake) for mistake in mistakes(text, path)]
    assert len(said) == 2
    assert "third.service: 25565 is taken by the forward second" in said[0]
    assert "fifth.to: 25565 is taken by the forward fourth" in said[1]


def test_from_a_namespace_no_other_host_is_reached(path):
    text = EXAMPLE.replace('client = "qb"', 'to = "10.0.0.1:80"').replace(
        "[profiles.home.tunnel]", "[profiles.home.tunnel]\nnamespace = true"
    )
    (one,) = mistakes(text, path)
    assert "reaches no other host" in one.what


def test_without_a_tunnel_there_are_no_rules_of_ours(path):
    text = re.sub(
        r"(?s)\[profiles.home.tunnel\].*?\[profiles.home.forwards",
        '[profiles.home.tunnel]\ntype = "none"\n[profiles.home.forwards',
        EXAMPLE.replace('"protonvpn" ', '"router" '),
    )
    assert (
        parse(text.replace('client = "qb"', "to = 8080"), path).profile("home").spec.forwards[0].internal_port == 8080
    )
    for key, line in (("to", 'to = "10.0.0.1:80"'), ("from", 'from = "10.0.0.1"'), ("open", "open = false")):
        (one,) = mistakes(text.replace('client = "qb"', line), path)
        assert one.where.endswith(f"torrent.{key}")
        assert "without a tunnel" in one.what


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080/", True),
        ("http://localhost", True),
        ("https://192.168.1.5:8080", False),
        ("https://torrents.example/qb/", False),
    ],
)
def test_where_a_client_is(path, url, local):
    profile = parse(EXAMPLE.replace("http://127.0.0.1:8080", url), path).profile("home")
    assert profile.spec.forwards[0].client_local is local
    assert not profile.clients["torrent"].url.endswith("/")


@pytest.mark.parametrize(("kind", "device", "tests"), [("qbittorrent", True, False), ("transmission", False, True)])
def test_what_a_client_can_be_told_is_known_from_its_manifest(path, kind, device, tests):
    (forward,) = parse(EXAMPLE.replace('"qbittorrent"', f'"{kind}"'), path).profile("home").spec.forwards
    assert (forward.client_device, forward.client_tests) == (device, tests)


def test_a_home_directory_is_meant_by_a_tilde(path, tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("home")
    (home / "x.conf").touch()
    monkeypatch.setenv("HOME", str(home))
    text = EXAMPLE.replace('"home.conf"', '"~/x.conf"')
    assert parse(text, path).profile("home").tunnel.configs == (home / "x.conf",)


def test_one_of_several_profiles(path):
    text = EXAMPLE + EXAMPLE[: EXAMPLE.index("[clients")].replace("home]", "away]").replace("home.", "away.").replace(
        "away.conf", "home.conf"
    )
    loaded = parse(text, path)
    assert loaded.profile("away").spec.name == "away"
    with pytest.raises(UsageError, match="several") as caught:
        loaded.profile(None)
    assert "home, away" in caught.value.hint
    with pytest.raises(UsageError, match='no profile "hom"') as caught:
        loaded.profile("hom")
    assert caught.value.hint == 'did you mean "home"?'


def test_a_byte_order_mark_and_windows_line_ends(path):
    path.write_bytes(b"\xef\xbb\xbf" + EXAMPLE.replace("\n", "\r\n").encode())
    assert load(path).profile("home")


# -- mistakes -------------------------------------------------------------------------------------

ONE_EACH = [
    # what is replaced, by what, the key that is named, words of the mistake, words of the hint
    ("provider =", "provder =", "profiles.home.provder", 'unknown key "provder"', 'did you mean "provider"?'),
    ("provider =", "provder =", "profiles.home.provider", 'the key "provider" is missing', "plug-in"),
    ('"protonvpn" ', '"protonvnp" ', "profiles.home.provider", 'no provider "protonvnp"', 'did you mean "protonvpn"?'),
    ('"protonvpn" ', "7 ", "profiles.home.provider", "not text in quotes", "plug-in"),
    ('"wireguard"', '"wiregard"', "profiles.home.tunnel.type", 'no tunnel type "wiregard"', '"wireguard"'),
    ('"home.conf"', '"hom.conf"', "profiles.home.tunnel.config", "there is no file", "provider"),
    ('"home.conf"', '""', "profiles.home.tunnel.config", "it is empty", "file"),
    ('"home.conf"', '"~nobody-of-this-name/x"', "profiles.home.tunnel.config", "there is no file", "provider"),
    ('"allow-list"', '"alow-list"', "profiles.home.policy.mode", "'allow-list'", ""),
    ('"allow-list"', '"block-all"', "profiles.home.policy.allow", "means nothing", "allow-list"),
    ('"forwarded"', '"70000/tcp"', "profiles.home.policy.allow.0", "70000 is no port", "1 to 65535"),
    ('"forwarded"', '"0/tcp"', "profiles.home.policy.allow.0", "0 is no port", "1 to 65535"),
    ('"forwarded"', '"9-5/tcp"', "profiles.home.policy.allow.0", "runs backwards", "5-9/tcp"),
    ('"forwarded"', '"22"', "profiles.home.policy.allow.0", "names no protocol", "22/tcp"),
    ('"forwarded"', '"minecarft"', "profiles.home.policy.allow.0", "no service", 'did you mean "minecraft"?'),
    ('"forwarded"', '"preset:pptp"', "profiles.home.policy.allow.0", "GRE", "OpenVPN"),
    ('"forwarded"', "22", "profiles.home.policy.allow.0", "neither text in quotes nor a table", "forwarded"),
    ('"forwarded"', '"ssh", "22/tcp"', "profiles.home.policy.allow.1", "22/tcp is there twice", "remove"),
    ('"forwarded"', '"forwarded", "FORWARDED"', "profiles.home.policy.allow.1", "twice", "remove"),
    ('"forwarded"', '"1-9/udp", "5/udp"', "profiles.home.policy.allow.1", "changes nothing", "remove"),
    ('"forwarded"', '"1-9/udp", "5-12/udp"', "profiles.home.policy.allow.1", "overlaps 1-9/udp", "one entry"),
    ('"allow-list"', '"allow-list"\nreport_unused = "soon"', "profiles.home.policy.report_unused", "no", "7d"),
    ('"allow-list"', '"allow-list"\nclose_unused = true', "profiles.home.policy.close_unused", "after which", "7d"),
    ('["forwarded"]', '"forwarded"', "profiles.home.policy.allow", "not a list", "forwarded"),
    ('client = "qb"', 'client = "qq"', "profiles.home.forwards.torrent.client", 'no client "qq"', "qb"),
    ('client = "qb"', "internal_port = 0", "profiles.home.forwards.torrent.internal_port", "not a port", "local port"),
    ('client = "qb"', "internal_port = 65536", "profiles.home.forwards.torrent.internal_port", "not a port", "local"),
    ('client = "qb"', 'internal_port = "80"', "profiles.home.forwards.torrent.internal_port", "whole number", "local"),
    ('client = "qb"', "external_port = 1.5", "profiles.home.forwards.torrent.external_port", "whole number", "ask"),
    ('client = "qb"', "protocols = []", "profiles.home.forwards.torrent.protocols", "no protocol", "tcp"),
    ('client = "qb"', 'protocols = ["sctp"]', "profiles.home.forwards.torrent.protocols.0", "'tcp' or 'udp'", ""),
    ('client = "qb"', 'mode = "foward"', "profiles.home.forwards.torrent.mode", "'announce' or 'redirect'", "port"),
    ('client = "qb"', 'mode = "redirect"', "profiles.home.forwards.torrent.mode", "where to", "to = 8080"),
    (
        'client = "qb"',
        'client = "qb"\nmode = "redirect"',
        "profiles.home.forwards.torrent.mode",
        "its peers",
        "announce",
    ),
    ('client = "qb"', 'client = "qb"\nto = 6881', "profiles.home.forwards.torrent.to", "its peers", "leave it out"),
    ('client = "qb"', 'client = "qb"\nservice = "ssh"', "profiles.home.forwards.torrent.service", "already", "leave"),
    (
        'client = "qb"',
        'mode = "announce"\ninternal_port = 8080',
        "profiles.home.forwards.torrent.mode",
        "it is a redirect",
        'mode = "redirect"',
    ),
    (
        'client = "qb"',
        'mode = "announce"\nservice = "minecraft"',
        "profiles.home.forwards.torrent.mode",
        "minecraft waits on a port of its own",
        'mode = "redirect"',
    ),
    (
        'client = "qb"',
        "to = 8080\ninternal_port = 80",
        "profiles.home.forwards.torrent.internal_port",
        "already",
        "one",
    ),
    ('client = "qb"', "to = 0", "profiles.home.forwards.torrent.to", "not a port", "8080"),
    ('client = "qb"', "to = 1.5", "profiles.home.forwards.torrent.to", "not text", "8080"),
    ('client = "qb"', 'to = ""', "profiles.home.forwards.torrent.to", "it is empty", "8080"),
    ('client = "qb"', 'to = "nas:8080"', "profiles.home.forwards.torrent.to", "not an address", "192.168.77.5:8080"),
    ('client = "qb"', 'to = "10.0.0.1:65536"', "profiles.home.forwards.torrent.to", "no port", "192.168.77.5:8080"),
    ('client = "qb"', 'to = "fd00::5:80"', "profiles.home.forwards.torrent.to", "not an address", "192.168.77.5:8080"),
    ('client = "qb"', 'to = "127.0.0.1:80"', "profiles.home.forwards.torrent.to", "loopback", "to = 80"),
    ('client = "qb"', 'to = "203.0.113.9:80"', "profiles.home.forwards.torrent.to", "no private address", "LAN"),
    ('client = "qb"', 'service = "minecarft"', "profiles.home.forwards.torrent.service", "no service", '"minecraft"'),
    ('client = "qb"', 'service = "preset:pptp"', "profiles.home.forwards.torrent.service", "GRE", "OpenVPN"),
    ('client = "qb"', 'service = "preset:ikev2"', "profiles.home.forwards.torrent.service", "4500/udp", "OpenVPN"),
    ('client = "qb"', 'service = "valheim"', "profiles.home.forwards.torrent.service", "several ports", "to = PORT"),
    ('client = "qb"', "from = []", "profiles.home.forwards.torrent.from", "nobody", "leave it out"),
    ('client = "qb"', 'from = "here"', "profiles.home.forwards.torrent.from", "neither an address", "203.0.113.9"),
    ('client = "qb"', 'open = "no"', "profiles.home.forwards.torrent.open", "neither true nor false", ""),
    (
        'client = "qb"',
        'client = "qb"\ninternal_port = 6881',
        "profiles.home.forwards.torrent.internal_port",
        "has to listen on the external port",
        "leave it out",
    ),
    ('"qbittorrent"', '"qbitorrent"', "clients.qb.type", 'no client type "qbitorrent"', '"qbittorrent"'),
    ('"http://127.0.0.1:8080"', '"127.0.0.1:8080"', "clients.qb.url", "not an http or https URL", "http://127"),
    ('"http://127.0.0.1:8080"', '"http://127.0.0.1:0"', "clients.qb.url", "not an http or https URL", "http://127"),
    ('"http://127.0.0.1:8080"', '"http://127.0.0.1 :80"', "clients.qb.url", "a blank", "http://127"),
    ('"http://127.0.0.1:8080"', '"http://[::1"', "clients.qb.url", "not a URL", "http://127"),
    ('"http://127.0.0.1:8080"', f'"http://a:{SECRET}@127.0.0.1"', "clients.qb.url", "user name or password", "http"),
    ('"http://127.0.0.1:8080"', '"http://127.0.0.1/#x"', "clients.qb.url", "query or a fragment", "http"),
    ('"http://127.0.0.1:8080"', '"http://192.168.1.5:8080"', "clients.qb.url", "unencrypted", "https"),
    ('{ file = "qb.password" }', f'"{SECRET}"', "clients.qb.password", "not written here", "keyring"),
    ('{ file = "qb.password" }', f'{{ is = "{SECRET}" }}', "clients.qb.password.is", "unknown key", "keyring"),
    ('{ file = "qb.password" }', "{}", "clients.qb.password", "exactly one place", "credential"),
    ('{ file = "qb.password" }', '{ file = "x", env = "Y" }', "clients.qb.password", "exactly one place", "file"),
    ('{ file = "qb.password" }', '{ file = "none" }', "clients.qb.password", "no such file", "install -m 600"),
    ('"admin"', f'["{SECRET}"]', "clients.qb.username", "not text", "user"),
    ("[profiles.home.policy]", "[profiles.home.polcy]", "profiles.home.polcy", "unknown key", '"policy"'),
    ("[profiles.home.tunnel]", "[profiles.home.lock]", "profiles.home.tunnel", "is missing", "tunnel"),
    ("[profiles.home.tunnel]", "[profiles.home.options]", "profiles.home.options.type", "unknown option", "no options"),
    ("[profiles.home.forwards.torrent]", "[other]", "profiles.home", "no port is asked for", "forwards.torrent"),
    ("[profiles.home.forwards.torrent]", "[other]", "other", "unknown key", "profiles, clients"),
    (
        "[profiles.home.forwards.torrent]",
        '[profiles.home.forwards."a b"]',
        "profiles.home.forwards.a b",
        "not a name",
        "",
    ),
]


@pytest.mark.parametrize(("old", "new", "key", "what", "hint"), ONE_EACH)
def test_a_mistake_names_line_key_and_next_step(path, old, new, key, what, hint):
    text = EXAMPLE.replace(old, new, 1)
    found = mistakes(text, path)
    (one,) = [mistake for mistake in found if mistake.where.endswith(f": {key}") and what in mistake.what]
    assert hint in one.hint
    line = int(re.fullmatch(rf"{re.escape(str(path))}:(\d+): .*", one.where)[1])
    if "missing" not in what and what != "no port is asked for":
        changed = EXAMPLE[: EXAMPLE.index(old)].count("\n")
        name = re.compile(re.escape(re.sub(r"\.\d$", "", key).rpartition(".")[2]) + r'("?\]| = )')
        assert line == next(n for n, each in enumerate(text.splitlines(), 1) if n > changed and name.search(each))


def test_all_mistakes_come_at_once_and_in_order(path):
    text = EXAMPLE
    wrong = []
    several = ('"protonvnp" ', '"wiregard"', '"alow-list"', 'client = "qq"', '"qbitorrent"', '"127.0.0.1:8080"')
    for old, new, key, _, _ in (each for each in ONE_EACH if each[1] in several):
        text = text.replace(old, new, 1)
        wrong.append(key)
    found = mistakes(text, path)
    assert [mistake.where.rpartition(" ")[2] for mistake in found] == wrong


def test_two_forwards_of_the_same(path):
    text = (
        EXAMPLE.replace('"protonvpn" ', '"natpmp" ')
        + """
[profiles.home.forwards.second]
client = "qb"
[profiles.home.forwards.third]
internal_port = 80
external_port = 50000
[profiles.home.forwards.fourth]
internal_port = 80
external_port = 50000
"""
    )
    said = [str(mistake) for mistake in mistakes(text, path)]
    assert len(said) == 3
    assert "second.client: qb is taken by the forward torrent" in said[0]
    assert "fourth.internal_port: 80 is taken by the forward third" in said[1]
    assert "fourth.external_port: 50000 is taken by the forward third" in said[2]


def test_more_forwards_than_the_provider_gives(path):
    text = EXAMPLE + "".join(f"[profiles.home.forwards.f{number}]\n" for number in range(5))
    (one,) = mistakes(text, path)
    assert "6 forwards; protonvpn gives at most 5" in one.what


def test_a_password_file_that_others_can_read(path, directory):
    (directory / "qb.password").chmod(0o644)
    (one,) = mistakes(EXAMPLE, path)
    assert "0644" in one.what
    assert one.hint.startswith("chmod 600 ")


def test_options_of_a_plugin(path, monkeypatch):
    def check(value):
        raise RuntimeError(SECRET)

    options = (Option("city", str, "where to"), Option("fast", bool, "how"), Option("odd", int, "of ours", check))
    manifest = Manifest("protonvpn", "P", "", "", options=options)
    monkeypatch.setattr(config_checker.plugins, "manifest", lambda *arguments: manifest)
    text = EXAMPLE.replace(
        "[profiles.home.tunnel]", 'options = { ciy = "x", fast = 1, odd = 3 }\n[profiles.home.tunnel]'
    )
    unknown, type_of, odd = mistakes(text, path)
    assert (unknown.what, unknown.hint) == ('unknown option "ciy"', 'did you mean "city"?')
    assert type_of.what == "not true or false"
    assert "RuntimeError" in odd.what
    text = text.replace('ciy = "x", fast = 1, odd = 3', 'city = "x", fast = true')
    assert parse(text, path).profile("home").options == {"city": "x", "fast": True}


def with_manifest(monkeypatch, **fields):
    manifest = Manifest("protonvpn", "P", "", "mock", **fields)
    monkeypatch.setattr(config_checker.plugins, "manifest", lambda *arguments: manifest)


def with_options(text):
    return EXAMPLE.replace("[profiles.home.tunnel]", f"options = {{ {text} }}\n[profiles.home.tunnel]")


def said_of(found):
    """Key, what and hint of mistakes."""
    return [(m.where.rpartition("profiles.home.")[2], m.what, m.hint) for m in found]


def test_each_item_of_a_list_is_checked(path, monkeypatch):
    with_manifest(
        monkeypatch, options=(Option("cities", list, "where to", lambda item: "no city" if item == 3 else ""),)
    )
    assert said_of(mistakes(with_options('cities = ["x", 3, "y", 3]'), path)) == [
        ("options.cities.1", "no city", "where to"),
        ("options.cities.3", "no city", "where to"),
    ]
    assert parse(with_options('cities = ["x"]'), path)


def test_an_option_that_is_needed(path, monkeypatch):
    with_manifest(
        monkeypatch, options=(Option("city", str, "where to", required=True),), help="Choose one on the site."
    )
    missing = ("options.city", 'the option "city" is missing', "where to. Choose one on the site")
    assert said_of(mistakes(EXAMPLE, path)) == [missing]
    assert said_of(mistakes(with_options('other = "x"'), path))[1:] == [missing]
    assert parse(with_options('city = "x"'), path)


def test_what_is_wrong_with_options_and_forwards_together(path, monkeypatch):
    asked = []

    def check(options, forwards):
        asked.append((options, [forward.name for forward in forwards]))
        return (
            Objection(("options", "city"), "too far for so many", "take another"),
            Objection(("forwards", "torrent"), "too many for so far"),
        )

    with_manifest(monkeypatch, options=(Option("city", str, "where to"),), check=check)
    assert said_of(mistakes(with_options('city = "x"'), path)) == [
        ("options.city", "too far for so many", "take another"),
        ("forwards.torrent", "too many for so far", ""),
    ]
    assert asked == [({"city": "x"}, ["torrent"])]
    # It sees right options alone, and nothing without those that are needed.
    assert len(mistakes(with_options('city = "x", more = 1'), path)) == 3
    assert len(mistakes(with_options("city = 3"), path)) == 3
    assert [options for options, _ in asked] == [{"city": "x"}, {"city": "x"}, {}]
    with_manifest(monkeypatch, options=(Option("city", str, "where to", required=True),), check=check)
    assert len(mistakes(with_options("city = 3"), path)) == 1
    assert len(asked) == 3


def test_a_check_that_fails_is_a_mistake_and_no_crash(path, monkeypatch):
    with_manifest(monkeypatch, check=lambda options, forwards: options[SECRET])
    ((key, what, _),) = said_of(mistakes(EXAMPLE, path))
    assert key == "options"
    assert "KeyError" in what


def test_a_broken_plugin_is_a_mistake_and_no_crash(path, monkeypatch):
    def broken(group, name):
        raise plugins.Unavailable("loading", "ImportError: it is broken", "install it anew")

    monkeypatch.setattr(config_checker.plugins, "manifest", broken)
    one, other = mistakes(EXAMPLE, path)
    assert (other.what, other.hint) == (one.what, one.hint)
    assert (one.what, one.hint) == ("ImportError: it is broken", "install it anew")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "there is no profile"),
        ("profiles = 3", "not a table"),
        ("[profiles]\nhome = 3", "not a table"),
        ("[[profiles]]\nhome = 3", "not a table"),
        ("[profiles.home\n", "not TOML"),
        ("a = 1\na = 2", "not TOML"),
        ("a = " + "9" * 5000, "too long"),
        ("a = " + "[" * 5000, "nested"),
        ("a = " + "{a=" * 400 + "1" + "}" * 400, "nested"),
        (f"profiles.home.options.{'.'.join('a' * 5000)} = 1", "nested"),
    ],
)
def test_what_is_hardly_a_configuration(path, text, what):
    assert what in mistakes(text, path)[0].what


def test_a_mistake_of_toml_names_its_line(path):
    text = EXAMPLE.replace('"home.conf" ', '"home.conf ')
    (one,) = mistakes(text, path)
    assert one.where == f"{path}:{line_of(text, 'home.conf')}"


def test_lines_are_counted_as_editors_count_them(path):
    text = "# \u2028 \x85 breaks no line\n" + EXAMPLE.replace('"allow-list"', '"x"')
    (one,) = mistakes(text, path)
    assert one.where.startswith(f"{path}:{line_of(EXAMPLE, 'allow-list') + 1}:")


# -- the file -------------------------------------------------------------------------------------


def test_where_it_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert places() == (tmp_path / "vpnpf" / "config.toml", Path("/etc/vpnpf/config.toml"))
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places()[0] == tmp_path / ".config" / "vpnpf" / "config.toml"


def test_a_user_without_a_home(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert places() == (Path("/etc/vpnpf/config.toml"),)


def test_no_configuration_anywhere(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "places", lambda: (tmp_path / "a", tmp_path / "b"))
    with pytest.raises(ConfigError) as caught:
        load()
    assert f"{tmp_path / 'a'} and {tmp_path / 'b'}" in str(caught.value)
    assert "--config" in caught.value.mistakes[0].hint


def test_one_that_may_not_be_read_is_said_and_not_passed_over(monkeypatch, tmp_path):
    real = Path.stat

    def denied(self, **options):
        if self.name == "config.toml":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", denied)
    monkeypatch.setattr(Path, "open", lambda self, *arguments: denied(self))
    monkeypatch.setattr(config, "places", lambda: (tmp_path / "config.toml",))
    with pytest.raises(ConfigError, match="Permission denied") as caught:
        load()
    assert "as root" in caught.value.mistakes[0].hint


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"#" * 2_000_000])
def test_a_file_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "config.toml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert caught.value.mistakes[0].hint


def test_a_name_that_is_none():
    with pytest.raises(ConfigError):
        load(Path("a\0b"))


# -- whatever else may stand in the file ----------------------------------------------------------

VALUES = st.recursive(
    st.one_of(
        st.text(max_size=12),
        st.integers(),
        st.floats(),
        st.booleans(),
        st.sampled_from(
            [
                "22/tcp for 2h",
                "ssh",
                "from",
                "preset:pptp",
                "10.0.0.1:80",
                "qb",
                "natpmp",
                "forwarded",
                "1-2/tcp",
                "~root/x",
                "~x/y",
                "http://[x",
                "\x1b[2J",
                "a\0b",
                "",
            ]
        ),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return re.sub(r"^(-?\d+)(e|$)", r"\1.0\2", repr(value))
    return json.dumps(value).replace("\\u007f", "?") if not isinstance(value, str) else toml_text(value)


def toml_text(value):
    return (
        '"'
        + "".join(
            c if c.isalnum() and c.isascii() else f"\\U{ord(c):08X}" for c in value if not "\ud800" <= c <= "\udfff"
        )
        + '"'
    )


@st.composite
def mutated(draw):
    """The example with some lines gone, doubled or with other values."""
    lines = []
    for line in EXAMPLE.splitlines():
        match draw(st.sampled_from(["as it is"] * 6 + ["gone", "doubled", "value", "key"])):
            case "gone":
                continue
            case "doubled":
                lines.append(line)
            case "value" if "=" in line:
                line = f"{line.partition('=')[0]} = {toml(draw(VALUES))}"  # noqa: PLW2901
            case "key" if "=" in line:
                line = f"{toml(draw(st.text(max_size=6)))} = {line.partition('=')[2]}"  # noqa: PLW2901
        lines.append(line)
    return "\n".join(lines)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.text(max_size=200), mutated()))
def test_any_text_is_a_configuration_or_mistakes(path, text):
    try:
        parsed = parse(text, path)
    except ConfigError as error:
        found = error.mistakes
    else:
        assert isinstance(parsed, Config)
        return
    assert found
    for mistake in found:
        assert mistake.where.startswith(str(path))
        assert mistake.what


def test_the_mutations_are_toml():
    """Else the test before would try nothing but the TOML parser."""
    assert tomllib.loads(f"a = {toml({'b': [1.5, True, -3, float('inf'), chr(27)]})}") == {
        "a": {"b": [1.5, True, -3, float("inf"), "\x1b"]}
    }


# -- the schema -----------------------------------------------------------------------------------


def test_the_schema_in_the_docs_is_the_code():
    made = json.dumps(json_schema(), indent=2) + "\n"
    assert (ROOT / "docs" / "config.schema.json").read_text() == made, "make it anew with: make schema"


def test_every_key_has_a_description():
    schema = json_schema()
    for table in schema["$defs"].values():
        assert table["additionalProperties"] is False
        for key, said in table["properties"].items():
            assert said.get("description"), key


@pytest.mark.parametrize(
    ("tunnel", "where", "what"),
    [
        ('namespace = true\ninterface = "wg0"', "tunnel.interface", 'has no "interface"'),
        ('username = "me"', "tunnel.username", 'has no "username"'),
        ('gateway = "10.2.0.1"', "tunnel.gateway", 'has no "gateway"'),
        ('password = { keyring = "a", env = "b" }', "tunnel.password", "exactly one place"),
    ],
)
def test_a_tunnel_takes_the_keys_of_its_type(path, tunnel, where, what):
    found = mistakes(EXAMPLE.replace('type = "wireguard"\n', f'type = "wireguard"\n{tunnel}\n'), path)
    assert any(each.where.endswith(where) and what in each.what for each in found)


@pytest.mark.parametrize("mode", ["on", "lockdown", "off"])
def test_the_lock_has_three_modes(path, mode):
    text = EXAMPLE.replace("[profiles.home.policy]", f'[profiles.home.lock]\nmode = "{mode}"\n[profiles.home.policy]')
    assert parse(text, path).profile("home").spec.lock == mode


def test_the_lock_is_on_unless_it_is_written(path):
    assert parse(EXAMPLE, path).profile("home").spec.lock == "on"
