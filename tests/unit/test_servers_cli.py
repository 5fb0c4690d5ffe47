"""`vpnpf servers`: regions of a provider, the nearest first."""

from __future__ import annotations

import json

import pytest

from vpnpf import plugins
from vpnpf.cli import servers as module
from vpnpf.cli.main import run_command_line
from vpnpf.errors import Transient
from vpnpf.interfaces import Manifest, Region
from vpnpf.model import Endpoint, Protocol
from vpnpf.testing import FakeOutside


def knock(address: str) -> Endpoint:
    return Endpoint(address, 443, Protocol.TCP)


REGIONS = (
    Region("nl", "Netherlands", "NL", True, knock("198.51.100.1")),
    Region("us", "US East", "US", False, knock("198.51.100.2")),
    Region("no", "Norway", "NO", True),
    Region("de", "DE \x1b[31mBerlin", "DE", True, knock("198.51.100.3"), virtual=True),
    Region("ca", "CA Toronto", "CA", True, knock("198.51.100.4")),
)


PROFILE = """
[profiles.home]
provider = "pia"
tunnel = { type = "wireguard" }
options = { region = "nl_amsterdam" }
[profiles.home.forwards.torrent]
"""


class Lister:
    """A provider that tells its regions."""

    manifest = Manifest("lister", "Lister", "it lists", "mock", supplies=("wireguard",))
    regions_told = REGIONS
    failure = None
    made: list = []  # noqa: RUF012 - of the test

    def __init__(self, options):
        Lister.made.append(options)

    async def regions(self, io):
        if self.failure:
            raise self.failure
        return self.regions_told


@pytest.fixture
def io(monkeypatch, tmp_path):
    made = FakeOutside()
    made.distances = {"198.51.100.1": 0.0301, "198.51.100.2": 0.0907, "198.51.100.3": 0.0123}
    monkeypatch.setattr(module, "_io", lambda _: made)
    monkeypatch.setattr(plugins, "names", lambda _: ("lister", "natpmp"))
    manifest, provider = plugins.manifest, plugins.provider
    monkeypatch.setattr(plugins, "manifest", lambda group, n: Lister.manifest if n == "lister" else manifest(group, n))
    monkeypatch.setattr(plugins, "provider", lambda n: Lister if n == "lister" else provider(n))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(Lister, "failure", None)
    return made


@pytest.fixture
def servers(io, capsys):
    def do(*arguments):
        code = run_command_line(["servers", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return do


def test_the_nearest_is_first(servers):
    code, out, err = servers("lister")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "REGION  NAME                      COUNTRY  PORTS  MS",
        "de      DE ?[31mBerlin (virtual)  DE       yes    12",
        "nl      Netherlands               NL       yes    30",
        "us      US East                   US       no     91",
        "ca      CA Toronto                CA       yes    -",
        "no      Norway                    NO       yes    off",
    ]


def test_only_a_country_and_only_with_ports(servers):
    assert [line.split()[0] for line in servers("lister", "--country", "nl")[1].splitlines()] == ["REGION", "nl"]
    found = [line.split()[0] for line in servers("lister", "--port-forwarding")[1].splitlines()]
    assert found == ["REGION", "de", "nl", "ca", "no"]


def test_nobody_is_asked_if_it_is_not_to_be_measured(servers, io):
    async def never(*_):
        raise AssertionError("measured")

    io.reach_all = never
    code, out, _ = servers("lister", "--no-measure")
    assert code == 0
    assert out.splitlines()[0].split() == ["REGION", "NAME", "COUNTRY", "PORTS"]
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["ca", "de", "nl", "no", "us"]


def test_as_json(servers):
    code, out, _ = servers("lister", "--json", "--country", "NL")
    assert code == 0
    assert json.loads(out) == [
        {
            "id": "nl",
            "name": "Netherlands",
            "country": "NL",
            "port_forwarding": True,
            "virtual": False,
            "milliseconds": 30.1,
        }
    ]
    assert json.loads(servers("lister", "--json", "--country", "XX")[1]) == []


def test_where_nothing_can_be_reached_that_is_said(servers, io):
    io.distances = {}
    code, out, err = servers("lister")
    assert code == 0
    assert len(out.splitlines()) == 6
    assert "none of them could be reached" in err


def test_no_region_is_left(servers):
    code, _, err = servers("lister", "--country", "XX")
    assert code == 69
    assert "there is no such region" in err
    assert "--country" in err


@pytest.mark.parametrize("country", ["N", "NLD", "N1", "ÄÖ"])
def test_what_is_no_country(servers, country):
    code, _, err = servers("lister", "--country", country)
    assert code == 64
    assert "two letters" in err


def test_a_provider_that_tells_nothing_names_those_that_do(servers):
    code, _, err = servers("natpmp")
    assert code == 64
    assert "its tunnels are made from a file" in err
    assert "those that tell: lister" in err


def test_a_provider_that_has_ended_says_so(servers, monkeypatch):
    monkeypatch.setattr(Lister, "manifest", Manifest("lister", "L", "l", "mock", ended="It ended on 2023-07-01."))
    code, _, err = servers("lister")
    assert code == 64
    assert "It ended on 2023-07-01." in err


def test_an_unknown_provider(servers):
    code, _, err = servers("listr")
    assert code == 64
    assert 'did you mean "lister"?' in err


def test_a_failure_is_told(servers, monkeypatch):
    monkeypatch.setattr(Lister, "failure", Transient("reading the list", "no answer", "wait"))
    code, _, err = servers("lister")
    assert code == 75
    assert "reading the list: no answer" in err


def test_a_configuration_that_is_named_has_to_be_right(servers, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[profiles")
    code, _, err = servers("lister", "--config", str(path))
    assert code == 78
    assert "config.toml" in err


def test_without_a_configuration_it_has_no_options(servers):
    assert servers("lister")[0] == 0
    assert Lister.made[-1] == {}


def test_it_is_made_with_the_options_of_its_profile(io, tmp_path, capsys, monkeypatch):
    path = tmp_path / "config.toml"
    path.write_text(PROFILE)
    told = []
    monkeypatch.setattr(
        plugins, "names", lambda group: ("pia",) if group == "vpnpf.providers" else ("wireguard", "openvpn")
    )
    monkeypatch.setattr(plugins, "provider", lambda _: lambda options: told.append(options) or Lister(options))
    assert run_command_line(["servers", "pia", "--config", str(path)]) == 0, capsys.readouterr().err
    assert told == [{"region": "nl_amsterdam"}]
