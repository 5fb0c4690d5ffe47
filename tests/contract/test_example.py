"""The example of docs/write-a-provider.md keeps the contract of providers: as an author elsewhere would show it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from tests.contract.provider_world import EXIT, GATEWAY, Mapped, World
from tests.contract.providers import ProviderContract
from vpnpf.api import BOTH, Credentials, HttpResponse, NoAnswer, Refused
from vpnpf.testing import Asked, FakeHttp, FakeIO, a_tunnel, scripted

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "vpnpf-example-provider"
NAME = "vpnpf_example_provider"
HOSTILE = {
    "nothing": b"",
    "a page": b"<html>\x1b[2J",
    "a list": b"[]",
    "no port": b"{}",
    "port 0": b'{"port": 0, "seconds": 60}',
    "a port too many": b'{"port": 65536, "seconds": 60}',
    "text": b'{"port": "41877", "seconds": 60}',
    "for no time": b'{"port": 41877, "seconds": 0}',
    "truth": b'{"port": true, "seconds": true}',
    "deep": b"[" * 30_000,
}
LIFETIME = 3600


def load():
    spec = importlib.util.spec_from_file_location(NAME, EXAMPLE / f"{NAME}.py")
    module = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class AcmeWorld(World):
    """Acme's service, with its faults."""

    hostilities = tuple(HOSTILE)

    def __init__(self, plugin, options):
        super().__init__(plugin, options, FakeIO(scripted({})), a_tunnel(GATEWAY))
        self.io.http = FakeHttp(self._answer)
        self.io.login = Credentials("ada", "correct-horse")
        self.secrets |= {"correct-horse", "token-1"}
        self._trouble = ""
        self._port, self._next, self._ends = 0, 41877, 0.0

    @property
    def mapped(self) -> Mapped:
        held = self.clock.now() < self._ends
        return {(protocol, self._port, self._port) for protocol in BOTH} if held else set()

    def change_port(self):
        self._ends, self._next = 0.0, self._next + 1

    lose = change_port

    def deny(self):
        self._trouble = "402"

    def forbid(self):
        self._trouble = "404"

    def silence(self):
        self._trouble = "silence"

    def refuse(self):
        self._trouble = "refuse"

    def hostile(self, name):
        self._trouble = name

    def vanish(self):
        self._trouble = "refuse"  # HTTP has no other word for it here

    def heal(self):
        self._trouble = ""

    def _answer(self, asked: Asked):  # noqa: PLR0911 - one line a trouble
        doing = f"{asked.method} {asked.url}"
        if self._trouble == "silence":
            self.clock.advance(10.0)
            return NoAnswer(doing, "no whole answer within 10 s")
        if self._trouble == "refuse":
            return Refused(doing, "connection refused", "start the program that listens there")
        if self._trouble in HOSTILE:
            return HttpResponse(200, {}, HOSTILE[self._trouble])
        if asked.url.endswith("/v1/token"):
            return HttpResponse(200, {}, b'{"token": "token-1"}')
        if self._trouble:
            return HttpResponse(int(self._trouble), {}, b"")
        if asked.method == "DELETE":
            self._ends = 0.0
            return HttpResponse(204, {}, b"")
        self._port, self._ends = self._next, self.clock.now() + LIFETIME
        said = {"port": self._port, "seconds": LIFETIME, "address": EXIT}
        return HttpResponse(200, {}, json.dumps(said).encode())


class TestAcme(ProviderContract):
    plugin = load().Acme
    world_type = AcmeWorld
    lifetime = LIFETIME
    good_options = (("device", "shed-2"),)
    wrong_options = (("device", ""), ("device", "../x"), ("device", 7))
    # A port is for both protocols, whatever is asked.
    exact = False
    refused = Refused
    patience = 10.0
    silence_hint = ""
    # One request may take 10 s; who gives it three is the engine.
    test_a_release_that_nobody_answers_is_over_soon = None

    @pytest.fixture(autouse=True)
    def registered(self, tmp_path, monkeypatch):
        info = tmp_path / "vpnpf_example_provider-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vpnpf-example-provider\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[vpnpf.providers]\nacme = {NAME}:Acme\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setitem(sys.modules, NAME, sys.modules[self.plugin.__module__])
