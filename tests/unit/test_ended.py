"""Providers that forward no ports any more: known by name, and refused with the reason."""

import re

import pytest

from tests.contract.plugin_contract import PluginContract
from vpnpf import plugins
from vpnpf.config import parse
from vpnpf.errors import ConfigError, Unsupported
from vpnpf.model import BOTH, ForwardSpec, Lease, MappingRequest
from vpnpf.plugins import Group
from vpnpf.testing import FakeIO, a_tunnel, scripted
from vpnpf_providers import ended

ENDED = {"ivpn": "2023-09-30", "mullvad": "2023-07-01", "nordvpn": "nordvpn-dedicated", "surfshark": "no ports"}
everyone = pytest.mark.parametrize(("name", "says"), ENDED.items())


def test_these_and_no_others_have_ended():
    found = {name for name in plugins.names(Group.PROVIDERS) if plugins.manifest(Group.PROVIDERS, name).ended}
    assert found == set(ENDED)


@everyone
async def test_asked_all_the_same_it_says_why(name, says):
    provider = plugins.provider(name)({})
    io = FakeIO(scripted({}))
    with pytest.raises(Unsupported) as told:
        await provider.acquire(io, a_tunnel(), MappingRequest(ForwardSpec("torrent")))
    assert told.value.cause == provider.manifest.ended
    assert says in told.value.cause
    assert "vpnpf providers" in told.value.hint
    assert not io.sent


@everyone
def test_a_configuration_with_it_is_told_so_and_nothing_beside(name, says, tmp_path):
    (tmp_path / "home.conf").write_text("[Interface]\n")
    text = f"""
[profiles.home]
provider = "{name}"
tunnel = {{ type = "wireguard", config = "home.conf" }}
options = {{ whatever = 1 }}
forwards.one = {{}}
forwards.two = {{}}
"""
    with pytest.raises(ConfigError) as told:
        parse(text, tmp_path / "config.toml")
    (mistake,) = told.value.mistakes
    assert re.search(r"config.toml:3: profiles.home.provider$", mistake.where)
    assert mistake.what == plugins.manifest(Group.PROVIDERS, name).ended
    assert says in mistake.what
    assert "vpnpf providers" in mistake.hint


@everyone
async def test_there_is_nothing_to_give_back(name, says):
    lease = Lease(41001, 41001, BOTH, 0.0, None)
    await plugins.provider(name)({}).release(FakeIO(scripted({})), a_tunnel(), lease)


class TestMullvad(PluginContract):
    plugin = ended.Mullvad


class TestIvpn(PluginContract):
    plugin = ended.Ivpn


class TestSurfshark(PluginContract):
    plugin = ended.Surfshark


class TestNordVpn(PluginContract):
    plugin = ended.NordVpn
