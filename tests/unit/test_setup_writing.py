"""What the first start writes: it loads, it says what was answered, and it replaces nothing."""

import os
import stat
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.setup_world import PROVIDERS, QB, file, found, plain, proton
from tests.unit.test_setup_questions import driven
from vpnpf import keyrings
from vpnpf.config import load
from vpnpf.errors import ConfigError, Unavailable
from vpnpf.setup import placing
from vpnpf.setup.finding import name_file, read_standing
from vpnpf.setup.writing import toml

PASSWORD = 'correct "horse" \\ battery \u00e9'


def world(tmp_path, text=None, **given):
    """A machine with one file in Downloads and one client."""
    source = tmp_path / "Downloads" / "proton.conf"
    source.parent.mkdir(exist_ok=True)
    source.write_text(text or proton())
    directory = tmp_path / "etc"
    standing = read_standing(directory / "config.toml")
    return found(directory, files=(file(source),), clients=(QB,), standing=standing, root=True, **given)


def snapshot(directory):
    return {
        path.relative_to(directory): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob("*"))
    }


def test_a_first_one_loads_and_means_what_was_answered(tmp_path):
    known = world(tmp_path)
    answers, _ = driven(known, {"client_secret": PASSWORD})
    written = placing.write(known, answers)
    config = load(written.config)
    profile = config.profile("home")
    assert (profile.spec.provider, profile.tunnel.type, str(profile.spec.policy.mode)) == (
        "protonvpn",
        "wireguard",
        "allow-list",
    )
    assert profile.clients["torrent"].url == QB.url
    copy, secret = known.directory / "proton.conf", known.directory / "qbittorrent.password"
    assert profile.tunnel.configs == (copy,)
    assert copy.read_text() == (tmp_path / "Downloads" / "proton.conf").read_text()
    assert secret.read_text() == PASSWORD + "\n"
    assert [stat.S_IMODE(each.stat().st_mode) for each in (copy, secret)] == [0o600, 0o600]
    assert written.files == (copy, secret)
    assert not written.extended
    assert PASSWORD not in written.config.read_text()
    assert PASSWORD not in placing.preview(known, answers)
    assert not list(known.directory.glob(".*"))


def test_another_profile_leaves_the_first_as_it_is_byte_for_byte(tmp_path):
    first = world(tmp_path)
    placing.write(first, driven(first, {"client_secret": "x"})[0])
    target = first.directory / "config.toml"
    before = target.read_bytes().rstrip(b"\n") + b"  # the end, without a newline"
    target.write_bytes(before)
    target.chmod(0o640)
    mine = snapshot(first.directory)
    known = world(tmp_path, plain())
    known = name_file(known, str(tmp_path / "Downloads" / "proton.conf"))[0]
    answers, _ = driven(
        known, {"client": "other qbittorrent", "client_url": "http://127.0.0.1:9999", "client_secret": "y"}
    )
    written = placing.write(known, answers)
    assert written.extended
    assert written.profile == "home-2"
    assert target.read_bytes().startswith(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    after = load(target)
    assert list(after.profiles) == ["home", "home-2"]
    assert list(after.clients) == ["qbittorrent", "qbittorrent-2"]
    fresh = snapshot(first.directory)
    assert {name for name in fresh if name not in mine} == {Path("proton-2.conf"), Path("qbittorrent-2.password")}
    assert all(fresh[name] == data for name, data in mine.items() if name != Path("config.toml"))


def test_a_configuration_that_cannot_be_added_to_is_left_alone(tmp_path):
    known = world(tmp_path)
    known.directory.mkdir()
    (known.directory / "a.conf").write_text(plain())
    target = known.directory / "config.toml"
    target.write_text(
        'profiles = { old = { provider = "natpmp", tunnel = { type = "wireguard", config = "a.conf" }, forwards = { t = {} } } }\n'
    )
    known = world(tmp_path)
    mine = snapshot(known.directory)
    with pytest.raises(ConfigError, match="cannot be added at its end"):
        placing.write(known, driven(known, {"client_secret": "x"})[0])
    assert snapshot(known.directory) == mine


def test_one_that_came_meanwhile_is_not_replaced(tmp_path):
    known = world(tmp_path)
    answers, _ = driven(known, {"client_secret": "x"})
    known.directory.mkdir()
    (known.directory / "config.toml").write_text("# mine\n")
    mine = snapshot(known.directory)
    with pytest.raises(Unavailable, match="there is one by now"):
        placing.write(known, answers)
    assert snapshot(known.directory) == mine


@pytest.mark.parametrize("call", ["link", "fsync", "fchmod"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_whatever_fails_halfway_nothing_stays_behind(tmp_path, monkeypatch, call, number):
    known = world(tmp_path)
    answers, _ = driven(known, {"client_secret": "x"})
    real, calls = getattr(os, call), []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            raise KeyboardInterrupt if number == 2 else OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, call, failing)
    with pytest.raises((Unavailable, KeyboardInterrupt)):
        placing.write(known, answers)
    assert not known.directory.exists()
    monkeypatch.setattr(os, call, real)
    assert placing.write(known, answers).config.exists()  # and the next try is not in the way of the first


def test_what_a_killed_run_left_is_used_or_replaced(tmp_path):
    known = world(tmp_path)
    known.directory.mkdir()
    for name in (".proton.conf.part", ".config.toml.part"):
        (known.directory / name).write_text("half")
    same = known.directory / "proton.conf"
    same.write_text(proton())
    same.chmod(0o600)
    placing.write(known, driven(known, {"client_secret": "x"})[0])
    assert {path.name for path in known.directory.iterdir()} == {"proton.conf", "config.toml", "qbittorrent.password"}


def test_a_password_in_the_keyring_takes_no_name_that_is_there(tmp_path, monkeypatch):
    kept = {"qbittorrent": "somebody's"}
    monkeypatch.setattr(keyrings, "get", lambda name, *_: kept.get(name))
    monkeypatch.setattr(keyrings, "put", lambda name, secret, *_: kept.update({name: secret}))
    monkeypatch.setattr(keyrings, "remove", lambda name, *_: kept.pop(name, None) is not None)
    known = world(tmp_path, keyring=True)
    answers, _ = driven(known, {"client_secret": "x", "keep": "keyring"})
    written = placing.write(known, answers)
    assert kept == {"qbittorrent": "somebody's", "qbittorrent-2": "x"}
    assert written.keyring == ("qbittorrent-2",)
    assert load(written.config).clients["qbittorrent"].password.name == "qbittorrent-2"
    written.config.unlink()
    monkeypatch.setattr(os, "fchmod", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(Unavailable):
        placing.write(known, answers)
    assert set(kept) == {"qbittorrent", "qbittorrent-2"}


@given(st.recursive(st.text() | st.integers() | st.booleans(), lambda inner: st.lists(inner, max_size=3)))
def test_every_value_is_read_back_as_it_was(value):
    assert tomllib.loads(f"a = {toml(value)}")["a"] == value


LIVING = [each.id for each in PROVIDERS if not each.ended]
TYPED = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cf", "Co", "Cn", "Zs")), min_size=1, max_size=30
)
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=40)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(LIVING), NAMES, TYPED, TYPED, TYPED,
    st.sampled_from(["none", "other qbittorrent", "other transmission"]),
    st.sampled_from(["allow-list", "open-all", "block-all"]),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", fullmatch=True),
)  # fmt: skip
def test_whatever_is_answered_it_loads(provider, name, user, secret, region, client, policy, profile):
    with tempfile.TemporaryDirectory() as place:
        source = Path(place, "Down \"loads'", name + ".conf")
        source.parent.mkdir()
        source.write_text(plain())
        known = found(Path(place, "etc"), root=True, files=(file(source, provider=""),))
        said = {
            "provider": provider, "files": str(source), "client": client, "policy": policy, "name": profile,
            "client_user": user, "client_secret": secret, "option ports": "41001", "region": region,
        }  # fmt: skip
        if "," in region or source.name != source.name.strip():
            return
        answers, _ = driven(known, said)
        written = placing.write(known, answers)
        settings_ = load(written.config).profile(profile)
        assert settings_.spec.provider == provider
        if client != "none":
            one = settings_.clients["torrent"]
            assert one.username == ("" if user == "none" else user)
            assert Path(one.password.name).read_text() == secret + "\n"
