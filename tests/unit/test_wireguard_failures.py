"""What WireGuard's back end makes of a handshake that does not come."""

import pytest

from vpnpf.errors import NoAnswer, Offline, Transient
from vpnpf.interfaces import TunnelOptions
from vpnpf.tunnels import wireguard
from vpnpf.tunnels.wireguard import WireGuard

FILE = """\
[Interface]
PrivateKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
Address = 10.2.0.2/32
[Peer]
PublicKey = BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
AllowedIPs = 0.0.0.0/0
Endpoint = vpn.example.net:51820
"""
ADDRESSES = ("198.51.100.10", "198.51.100.11")


class Silent:
    """A device whose peer never answers."""

    name = "vpf-home"

    async def create(self):
        return "a test"

    async def configure(self, text):
        pass

    async def handshake(self):
        return 0

    remove = create


class Nothing:
    def __getattr__(self, name):
        return lambda *_: None


@pytest.fixture
def backend(monkeypatch, tmp_path):
    async def nothing(*_):
        return None

    async def addresses(*_):
        return ADDRESSES

    (tmp_path / "home.conf").write_text(FILE)
    (tmp_path / "home.conf").chmod(0o600)
    made = WireGuard(TunnelOptions("home", (str(tmp_path / "home.conf"),), str(tmp_path), lan=False, held=True))
    made._device, made._around.rp_filter, made._around.resolver = Silent(), Nothing(), Nothing()
    made._around.arp = Nothing()  # the machine's own
    monkeypatch.setattr(made._around.endpoints, "addresses", addresses)
    monkeypatch.setattr(wireguard.routing, "set_up", nothing)
    monkeypatch.setattr(wireguard, "PATIENCE", 0.01)
    return made


@pytest.mark.parametrize(
    ("down", "kind", "after"),
    [("the link eth0 is down", Offline, 0), ("", NoAnswer, 1), (Transient("running ip", "no memory"), NoAnswer, 1)],
)
async def test_the_next_address_has_its_turn_only_if_this_machine_had_a_way_out(
    monkeypatch, backend, down, kind, after
):
    async def is_down(address, mark, outside):
        if isinstance(down, Exception):
            raise down
        return down

    monkeypatch.setattr(wireguard.uplink, "is_down", is_down)
    for _ in range(3):
        plan = await backend.plan()
        with pytest.raises(NoAnswer) as failed:
            await backend.up(plan)
        assert type(failed.value) is kind
    tried = (await backend.plan()).endpoint.address
    assert tried == ADDRESSES[3 * after % 2]
