"""What the first start finds in made-up homes, and what it passes over."""

import asyncio
import http.server
import json
import os
import pwd
import threading
import time
from pathlib import Path

import pytest

from tests.unit.setup_world import CA, PROVIDERS, plain, proton
from vpnpf.core.reach import Listener, Owner
from vpnpf.io.listeners import Listening
from vpnpf.model import Protocol
from vpnpf.setup import finding, torrent_clients, tunnel_files
from vpnpf.setup.torrent_settings import WebSettings, read


@pytest.fixture
def home(tmp_path):
    (tmp_path / "Downloads").mkdir()
    return tmp_path


def looked(home):
    found, left_out = tunnel_files.find([(home / "Downloads", 1), (home, 0)], PROVIDERS)
    return {each.path.name: each for each in found}, left_out


def test_files_are_told_by_what_is_in_them(home):
    downloads = home / "Downloads"
    (downloads / "on.conf").write_text(proton())
    (downloads / "off.conf").write_text(proton("off"))
    (home / "other.conf").write_text(plain())
    (downloads / "air.ovpn").write_text(f"client\ndev tun\nremote nl.airvpn.org 443\nproto udp\nauth-user-pass\n{CA}")
    (downloads / "gone.conf").write_text(plain("se1-wireguard.relays.mullvad.net:51820"))
    (downloads / "evil.conf").write_text(proton().replace("[Peer]", "PostUp = touch /tmp/owned\n[Peer]"))
    (downloads / "sysctl.conf").write_text("kernel.panic = 1\n")
    (downloads / "notes.ovpn").write_text("remember the milk\n")
    (downloads / "song.mp3").write_text(proton())
    found, left_out = looked(home)
    assert set(found) == {"on.conf", "off.conf", "other.conf", "air.ovpn", "gone.conf", "evil.conf"}
    assert not left_out
    assert found["on.conf"].provider == "protonvpn"
    assert not found["on.conf"].bad
    assert found["on.conf"].endpoint == "203.0.113.7:51820"
    assert "NAT-PMP" in found["off.conf"].no_ports
    assert "account.proton.me" in found["off.conf"].hint
    assert found["other.conf"].provider == ""
    assert not found["other.conf"].bad
    assert found["air.ovpn"].provider == "airvpn"
    assert found["air.ovpn"].needs_login
    assert found["gone.conf"].provider == "mullvad"
    assert "2023-07-01" in found["gone.conf"].no_ports
    assert "PostUp" in found["evil.conf"].mistake
    assert "line" in found["evil.conf"].mistake


def test_what_cannot_be_looked_at_or_leads_elsewhere_is_passed_over(home):
    downloads = home / "Downloads"
    os.mkfifo(downloads / "pipe.conf")
    (downloads / "link.conf").symlink_to("/etc/passwd")
    (downloads / "loop").symlink_to(downloads)
    (downloads / "big.conf").write_text(proton() + "#" * 300_000)
    deep = downloads / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "deep.conf").write_text(proton())
    (downloads / "a" / "one.conf").write_bytes(proton().encode() + b"# \xff\n")
    (downloads / "twice.conf").hardlink_to(downloads / "a" / "one.conf")
    found, _ = looked(home)
    assert len(found) == 1
    assert set(found) <= {"one.conf", "twice.conf"}


def test_the_newest_come_first_and_a_thousand_are_not_read(home):
    for number in range(200):
        path = home / "Downloads" / f"{number:03}.conf"
        path.write_text(proton())
        os.utime(path, (number, number))
    begun = time.monotonic()
    found, left_out = tunnel_files.find([(home / "Downloads", 0)], PROVIDERS)
    assert found[0].path.name == "199.conf"
    assert len(found) == tunnel_files.MOST_FILES
    assert left_out == 200 - tunnel_files.MOST_FILES
    assert time.monotonic() - begun < 4


def test_a_file_that_is_named_says_what_is_wrong_with_it(home):
    for text, what in {
        "nowhere.conf": "No such file",
        "Downloads": "Is a directory",
        "a.txt": "neither a WireGuard",
    }.items():
        (home / "a.txt").write_text("hello")
        one = tunnel_files.look_at(home / text, PROVIDERS, named=True)
        assert what in one.mistake


def test_a_judge_of_a_plug_in_that_breaks_costs_nothing(home):
    def judge(_facts):
        raise ValueError

    broken = type(PROVIDERS[0])(id="broken", name="Broken", summary="", verified="none", judge=judge)
    (home / "x.conf").write_text(plain())
    assert tunnel_files.look_at(home / "x.conf", (broken,)).provider == ""


def test_settings_of_clients():
    nox = "[Preferences]\nWebUI\\Port=8123\nWebUI\\Username=ann\nWebUI\\LocalHostAuth=false\n[Other]\nWebUI\\Port=1\n"
    assert read("qbittorrent", nox) == WebSettings(8123, "ann")
    assert read("qbittorrent", nox.replace("WebUI\\Port=8123\n", "WebUI\\Enabled=false\n")).enabled is False
    assert read("qbittorrent", nox.replace("8123", "99999999")).port == 8080
    assert read("qbittorrent", "") is None
    assert read("transmission", "[1]") is None
    assert read("transmission", "{") is None
    asks = {"rpc-port": 9191, "rpc-username": "tom", "rpc-authentication-required": True}
    assert read("transmission", json.dumps(asks)) == WebSettings(9191, "tom")
    assert read("transmission", json.dumps({"rpc_port": 9191, "rpc_enabled": False})) == WebSettings(
        9191, "", enabled=False
    )
    assert read("transmission", json.dumps({"rpc-port": [1]})).port == 9091


class _Web(http.server.BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012 - of one test

    def do_GET(self):
        self.asked.append(f"{self.path} {self.headers.get('authorization')}")
        self.send_response(403)
        self.end_headers()

    def log_message(self, *_):
        pass


async def test_a_client_is_told_by_its_process_and_asked_once_without_a_password(home, monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    port = server.server_address[1]
    settings = home / ".config" / "qBittorrent" / "qBittorrent.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"[Preferences]\nWebUI\\Port={port}\nWebUI\\Username=ann\n")

    async def sockets():
        owner = Owner(1, "qbittorrent-nox", 0.0)
        return Listening(
            (Listener(Protocol.TCP, "0.0.0.0", port, owner=owner), Listener(Protocol.TCP, "::", 1, owner=None)), 0
        )

    monkeypatch.setattr(torrent_clients, "listening", sockets)
    try:
        (one, *_) = await torrent_clients.find(home, ["qbittorrent"])
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
    assert (one.url, one.username, one.asks_login, one.runs) == (f"http://127.0.0.1:{port}", "ann", True, True)
    assert _Web.asked == ["/api/v2/app/version None"]


def test_under_sudo_it_is_the_callers_home(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", "1")
    assert finding.persons_home() == Path(pwd.getpwuid(1).pw_dir)
    monkeypatch.setenv("SUDO_UID", "one")
    assert finding.persons_home() == Path.home()
    assert finding.directory() == Path("/etc/vpnpf")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    assert finding.directory() == Path("/x/vpnpf")


def test_a_domain_is_one_providers_alone():
    domains = [domain for each in PROVIDERS for domain in each.domains]
    assert len(domains) > 10
    assert len(set(domains)) == len(domains)
