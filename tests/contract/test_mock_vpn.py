"""The mock's own plug-in keeps the contract of a provider with a switch, and is a NAT-PMP provider beside that."""

from __future__ import annotations

import json
import string
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_provider.mock_vpn import PATH, MockVpn, policy_from, policy_json
from mock_provider.panel import register
from tests.contract.gateways import GatewayContract
from tests.contract.switches import POLICIES, Far, SwitchContract
from vpnpf.interfaces import HttpResponse
from vpnpf.model import Opening, PolicyMode, Protocol
from vpnpf.plugins import Group, names
from vpnpf.testing import Asked, a_tunnel

TOKEN = "canary-0123456789"
GARBLED = (
    b"",
    b"<html>maintenance</html>",
    b"null",
    b"[]",
    b"{}",
    b'{"mode": "open-all"}',
    b'{"mode": "open-sesame", "ports": []}',
    b'{"mode": ["open-all"], "ports": []}',
    b'{"mode": "allow-list", "ports": "6881/tcp"}',
    b'{"mode": "allow-list", "ports": {"6881/tcp": 1}}',
    b'{"mode": "allow-list", "ports": [6881]}',
    b'{"mode": "allow-list", "ports": [null]}',
    b'{"mode": "allow-list", "ports": ["6881/tcp", ["6882/tcp"]]}',
    *(json.dumps({"mode": "allow-list", "ports": [port]}).encode() for port in (
        "", "0/tcp", "65536/udp", "9-3/tcp", "6881", "6881/sctp", "6881/TCP", " 6881/tcp", "6881/tcp\n", "-1/tcp",
        "1-/tcp", "\u0661/tcp", "99999999999999999999/tcp", "1-2-3/udp",
    )),
    b'{"mode": ' + b"[" * 30_000,
    b"\xff\xfe\x00",
    b'{"mode": "open-all", "ports": [',
    b"9" * 5000,
)  # fmt: skip


class TestMockVpnSwitch(SwitchContract):
    plugin = MockVpn
    options: ClassVar = {"token": TOKEN}
    secrets = (TOKEN,)

    def answer(self, far: Far, asked: Asked) -> HttpResponse:
        assert asked.url == f"http://{a_tunnel().gateway}{PATH}"
        assert asked.headers["Authorization"] == f"Bearer {TOKEN}"
        if asked.method == "PUT":
            assert asked.content is not None
            far.policy = policy_from(json.loads(asked.content))
            return HttpResponse(202, {}, b"{}")
        return HttpResponse(200, {}, json.dumps(policy_json(far.policy)).encode())

    def garbled(self):
        yield from GARBLED


class TestMockVpn(GatewayContract):
    plugin = MockVpn
    mode = "rfc"
    lifetime = 7200
    options: ClassVar = {"token": TOKEN}
    good_options = (("token", TOKEN), ("gateway", "10.98.0.1"))
    wrong_options = (
        ("token", ""),
        ("token", "x\r\nHost: elsewhere"),
        ("token", "x" * 129),
        ("gateway", "nowhere"),
        ("lifetime", 0),
    )

    @pytest.fixture(autouse=True)
    def registered(self, tmp_path, monkeypatch):
        register(tmp_path / "plugins")
        monkeypatch.syspath_prepend(str(tmp_path / "plugins"))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_goes_there_and_back(policy):
    assert policy_from(json.loads(json.dumps(policy_json(policy)))) == policy


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=8)
    | st.from_regex(r"[0-9]{1,6}(-[0-9]{1,6})?/(tcp|udp)"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["mode", "ports", "x"]), inner),
)
almost = st.fixed_dictionaries(
    {
        "mode": st.sampled_from([*PolicyMode, "x"]),
        "ports": st.lists(
            st.text(string.digits + "-/tcpud", max_size=12) | st.from_regex(r"[0-9]{1,5}/tcp"), max_size=4
        ),
    }
)


@given(json_values | almost)
def test_whatever_is_said_is_a_policy_or_a_value_error(said):
    try:
        policy = policy_from(said)
    except ValueError:
        return
    assert policy.mode in PolicyMode
    for entry in policy.ports:
        assert 1 <= entry.first <= entry.last <= 65535
        assert entry == Opening(entry.first, entry.last, Protocol(entry.protocol))


def test_it_is_registered_by_nobody_but_a_test(tmp_path, monkeypatch):
    assert "mock_vpn" not in names(Group.PROVIDERS)
    register(tmp_path / "plugins")
    monkeypatch.syspath_prepend(str(tmp_path / "plugins"))
    assert "mock_vpn" in names(Group.PROVIDERS)
