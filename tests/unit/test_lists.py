"""`vpnpf providers` and `vpnpf clients`: what a person reads in 80 columns, and what a script does."""

import json
import re

import pytest

from vpnpf import plugins
from vpnpf.cli.lists_words import as_json, details, overview
from vpnpf.cli.main import run_command_line
from vpnpf.interfaces import Manifest, Option
from vpnpf.plugins import Group

BOTH_LISTS = pytest.mark.parametrize(("command", "group"), [("providers", Group.PROVIDERS), ("clients", Group.CLIENTS)])
SUPPLYING = Manifest(
    id="acme",
    name="Acme VPN",
    summary="a port for each session",
    verified="real service",
    verified_with="Acme VPN, 2026-11",
    options=(Option("region", str, "where to go"), Option("key", str, "of the account", required=True)),
    account=True,
    supplies=("wireguard", "openvpn"),
    help="Buy a plan.",
    port_switch=True,
)
OLD = Manifest(id="old", name="Old", summary="no more", verified="not needed", ended="Old ended it on 2020-01-01")


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def do(*arguments):
        status = run_command_line(list(arguments))
        return status, *capsys.readouterr()

    return do


@BOTH_LISTS
def test_the_table_fits_a_terminal_and_has_everybody(run, command, group):
    status, out, err = run(command)
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    names = plugins.names(group)
    places = {name: re.search(rf"^{name} ", out, re.MULTILINE).start() for name in names}
    ended = [name for name in names if plugins.manifest(group, name).ended]
    assert sorted(places, key=places.get) == [*(name for name in names if name not in ended), *ended]
    for name in names:
        manifest = plugins.manifest(group, name)
        said = re.sub(r"\s+", " ", out)
        assert (manifest.ended or manifest.summary) in said
    assert not any(line != line.rstrip() for line in out.splitlines())


@BOTH_LISTS
def test_each_is_explained_in_a_terminal(run, command, group):
    for name in plugins.names(group):
        status, out, err = run(command, name)
        assert (status, err) == (0, "")
        assert max(map(len, out.splitlines())) <= 80
        manifest, said = plugins.manifest(group, name), re.sub(r"\s+", " ", out)
        for text in (manifest.name, manifest.help, manifest.ended, *(option.help for option in manifest.options)):
            assert text in said


@BOTH_LISTS
def test_scripts_get_all_of_it(run, command, group):
    status, out, err = run(command, "--json")
    assert (status, err) == (0, "")
    listed = json.loads(out)
    assert [each["id"] for each in listed] == list(plugins.names(group))
    for each in listed:
        manifest = plugins.manifest(group, each["id"])
        assert each == as_json(manifest)
        assert json.loads(run(command, each["id"], "--json")[1]) == each
        for field in ("name", "summary", "verified", "max_forwards", "help", "ended", "account", "port_switch"):
            assert each[field] == getattr(manifest, field)


def test_what_a_provider_needs_and_how_far_it_was_proven():
    table = "\n".join(overview(Group.PROVIDERS, [OLD, SUPPLYING], 80))
    assert re.search(r"^acme +Acme VPN +the real service$", table, re.MULTILINE)
    needs = "needs a login; makes the tunnel (wireguard or openvpn); options: region, key"
    assert needs in re.sub(r"\s+", " ", table)
    assert table.index("acme") < table.index("without ports to give") < table.index("Old ended it on 2020-01-01")
    one = re.sub(r"\s+", " ", "\n".join(details(Group.PROVIDERS, SUPPLYING, 80)))
    assert 'Acme VPN: provider = "acme"' in one
    assert "What you do: Buy a plan." in one
    assert "proven against: the real service (Acme VPN, 2026-11)" in one
    assert "login: `vpnpf login acme` asks for the account" in one
    assert 'tunnel: it makes it itself: type = "wireguard" or "openvpn" is all to be written' in one
    assert "forwards: one" in one
    assert "port policy of its own" in one
    assert "region (text) where to go key (text, needed) of the account" in one
    client = details(Group.CLIENTS, Manifest(id="t", name="Transmission", summary="by RPC", verified="mock"), 80)
    assert 'Transmission: type = "t"' in client
    assert "keys: url, username and password, in [clients.NAME]" in re.sub(r"\s+", " ", "\n".join(client))
    assert "`vpnpf providers` lists those that have ports." in details(Group.PROVIDERS, OLD, 80)


@pytest.mark.parametrize("level", ["none", "mock", "real daemon", "real service", "not needed", "in my dreams"])
def test_every_level_is_said_in_words(level):
    manifest = Manifest(id="acme", name="Acme", summary="ports", verified=level)
    said = overview(Group.PROVIDERS, [manifest], 80)[1]
    assert said.split("  ")[-1].strip()
    if level not in {"none", "not needed"}:
        assert level in said


def test_a_narrow_terminal_and_none_at_all():
    for width in (0, 1, 30):
        assert overview(Group.PROVIDERS, [SUPPLYING], width)
        assert details(Group.PROVIDERS, SUPPLYING, width)


def test_nobody_is_there():
    assert overview(Group.CLIENTS, [], 80)[0].startswith("ID")


@pytest.mark.parametrize("arguments", [("providers", "protonvpm"), ("providers", "protonvpm", "--json")])
def test_a_name_that_nobody_has(run, arguments):
    status, out, err = run(*arguments)
    assert (status, out) == (64, "")
    assert 'there is no provider "protonvpm"' in err
    assert 'did you mean "protonvpn"?' in err


def test_somebody_elses_words_cannot_command_the_terminal(run, monkeypatch):
    evil = Manifest(id="evil", name="Evil\x1b[2J", summary="x\x1b]0;y\x07", verified="mock", help="z\x1b[1m")
    monkeypatch.setattr(plugins, "names", lambda _group: ("evil",))
    monkeypatch.setattr(plugins, "manifest", lambda _group, _name: evil)
    for arguments in (("providers",), ("providers", "evil"), ("providers", "--json")):
        assert "\x1b" not in run(*arguments)[1]
