"""Plug-ins by entry points: ours, somebody else's, broken ones and doubles."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vpnpf import plugins
from vpnpf.errors import Unavailable
from vpnpf.interfaces import Manifest
from vpnpf.plugins import Group

ROOT = Path(__file__).parents[2]
OURS = [
    (group, name)
    for group, points in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"].items()
    for name in points
]

GOOD = """
from vpnpf.api import Manifest
class Other:
    manifest = Manifest(id="other", name="Other", summary="of somebody else", verified="mock")
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package with a provider: its name, the entry point, and the module's text."""

    def do(package, point, text, module="somebodys_plugin"):
        directory = tmp_path / package
        info = directory / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[vpnpf.providers]\n{point}\n")
        (directory / f"{module}.py").write_text(text)
        monkeypatch.syspath_prepend(str(directory))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return do


def refused(name):
    with pytest.raises(Unavailable) as caught:
        plugins.provider(name)
    assert caught.value.hint
    return f"{caught.value} ({caught.value.hint})"


@pytest.mark.parametrize(("group", "name"), OURS)
def test_ours_say_the_id_that_they_are_registered_by(group, name):
    manifest = plugins.manifest(Group(group), name)
    assert manifest.id == name
    assert manifest.name
    assert manifest.summary
    assert not manifest.summary.endswith(".")
    assert manifest.verified
    assert manifest.max_forwards >= 1
    assert all(option.help and not option.help.endswith(".") for option in manifest.options)


def test_ours_are_all_there():
    for group in Group:
        assert set(plugins.names(group)) >= {name for of, name in OURS if of == group}
        assert list(plugins.names(group)) == sorted(plugins.names(group))


def test_names_are_known_without_an_import():
    code = """
import sys
from vpnpf import plugins
assert all(plugins.names(group) for group in plugins.Group)
found = [name for name in sys.modules if name.startswith(("vpnpf_providers", "vpnpf.clients", "vpnpf.tunnels"))]
assert not found, found
plugins.provider("natpmp")
assert "vpnpf_providers.natpmp" in sys.modules
assert "vpnpf_providers.protonvpn" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_somebody_elses(install):
    install("vpnpf-other", "other = somebodys_plugin:Other", GOOD)
    assert "other" in plugins.names(Group.PROVIDERS)
    assert plugins.provider("other").manifest == plugins.manifest(Group.PROVIDERS, "other")
    assert isinstance(plugins.manifest(Group.PROVIDERS, "other"), Manifest)


def test_one_that_is_not_there_names_the_nearest():
    assert 'did you mean "protonvpn"?' in refused("protonvpm")
    assert 'did you mean "protonvpn"?' in refused("ProtonVPN")
    assert "known: " in refused("nonsense")
    assert "known: airvpn, anonine, gateway, " in refused("zzz")


@pytest.mark.parametrize(
    ("text", "point", "said"),
    [
        ("import no_such_module_at_all", "other = somebodys_plugin:Other", "ModuleNotFoundError"),
        ("1 / 0", "other = somebodys_plugin:Other", "ZeroDivisionError"),
        ("def", "other = somebodys_plugin:Other", "SyntaxError"),
        ("raise SystemExit(3)", "other = somebodys_plugin:Other", "SystemExit"),
        (GOOD, "other = somebodys_plugin:Anther", "AttributeError"),
        (GOOD, "other = no_such_module_at_all:Other", "ModuleNotFoundError"),
        (GOOD, "another = somebodys_plugin:Other", "no manifest with the id another"),
        (GOOD.replace("manifest =", "manfest ="), "other = somebodys_plugin:Other", "no manifest with the id other"),
        ("class Other: manifest = 'other'", "other = somebodys_plugin:Other", "no manifest with the id other"),
        (GOOD, "other = somebodys_plugin", "no manifest with the id other"),
    ],
)
def test_a_broken_one_says_what_is_broken_and_whose_it_is(install, text, point, said):
    install("vpnpf-other", point, text)
    name = point.partition(" ")[0]
    assert name in plugins.names(Group.PROVIDERS)
    found = refused(name)
    assert said in found
    assert "vpnpf-other" in found
    assert "\n" not in found


def test_two_of_one_name_are_refused_and_both_named(install):
    install("vpnpf-one", "other = plugin_one:Other", GOOD, "plugin_one")
    install("vpnpf-two", "other = plugin_two:Other", GOOD, "plugin_two")
    assert plugins.names(Group.PROVIDERS).count("other") == 1
    found = refused("other")
    assert "plugin_one:Other (vpnpf-one)" in found
    assert "plugin_two:Other (vpnpf-two)" in found


def test_the_same_one_found_twice_is_one(install):
    """As with an editable install beside a wheel."""
    install("vpnpf-one", "other = somebodys_plugin:Other", GOOD)
    install("vpnpf-two", "other = somebodys_plugin:Other", GOOD)
    assert plugins.manifest(Group.PROVIDERS, "other").id == "other"


def test_it_cannot_take_the_place_of_ours(install):
    install("vpnpf-evil", "protonvpn = somebodys_plugin:Other", GOOD.replace('"other"', '"protonvpn"'))
    found = refused("protonvpn")
    assert "vpnpf-evil" in found
    assert "uninstall" in found
