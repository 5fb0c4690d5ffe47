"""Watching a tunnel: when silence is worth a question, what is asked, and what the kernel tells of a device."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.core.routes import PROTOCOL
from vpnpf.firewall import stir
from vpnpf.interfaces import TunnelOptions
from vpnpf.io import netlink
from vpnpf.io.counters import Counters
from vpnpf.model import Endpoint, Tunnel, TunnelPlan
from vpnpf.tunnels import uplink, watch
from vpnpf.tunnels.existing import Existing
from vpnpf.tunnels.none import NoTunnel
from vpnpf.tunnels.questions import query
from vpnpf.tunnels.watch import Counted, Quiet
from vpnpf.tunnels.wireguard import WireGuard


def quiet(*looks):
    """What each look says; a look is (seconds, packets received, packets sent)."""
    made = Quiet()
    return [made.look(Counted(received, sent), at) for at, received, sent in looks]


def test_an_idle_tunnel_is_not_quiet():
    assert quiet((0, 5, 5), (1, 5, 5), (100, 5, 5)) == [0, 0, 0]


def test_what_is_answered_is_not_quiet():
    assert quiet((0, 5, 5), (1, 6, 9), (2, 7, 20), (3, 8, 30)) == [0, 0, 0, 0]


def test_it_is_quiet_since_the_look_that_saw_packets_go_without_an_answer():
    assert quiet((0, 5, 5), (1, 5, 6), (3, 5, 6), (4, 5, 90), (5, 6, 90), (6, 6, 91)) == [0, 0.001, 2, 3, 0, 0.001]


def test_a_device_made_anew_begins_anew():
    assert quiet((0, 5, 500), (1, 5, 501), (2, 5, 0), (3, 5, 0)) == [0, 0.001, 0, 0]


def test_what_was_while_the_machine_slept_says_nothing():
    looks = [(0, 5, 5), (1, 5, 6), (2, 5, 6), (3602, 5, 6), (3603, 5, 7), (3605, 5, 7)]
    assert quiet(*looks) == [0, 0.001, 1, 0, 0.001, 2]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=30))
def test_it_is_never_quiet_for_longer_than_it_was_looked_at(looks):
    said = quiet(*((at, *counted) for at, counted in enumerate(looks)))
    assert all(0 <= seconds <= at + 0.001 for at, seconds in enumerate(said))


class Somebody:
    """Who is asked; and a device that sends and gets nothing, for `looks` looks."""

    def __init__(self, monkeypatch):
        self.answers, self.looks, self.sent, self.asked = True, 0, 0, 0
        monkeypatch.setattr(watch, "PERIOD", 0.002)
        monkeypatch.setattr(watch, "QUIET", 0.01)
        monkeypatch.setattr(watch.questions, "ask", self.ask)
        monkeypatch.setattr(watch.counters, "read", self.read)

    async def ask(self, tunnel, patience):
        self.asked += 1
        return self.answers

    def read(self, interface):
        self.sent += 1
        self.looks -= 1
        if not self.looks % 10:
            self.answers = False
        return Counters(0, 5, 0, self.sent) if self.looks > 0 else None


@pytest.mark.parametrize(("again", "told"), [(True, "the server has not answered"), (False, "its device is gone")])
async def test_who_does_not_answer_although_the_server_lives_is_not_missed_again(monkeypatch, again, told):
    """The control: who answers again after the new handshake is missed again."""
    who, watched = Somebody(monkeypatch), watch.Watch("vpf-home")
    for answers, cause in ((True, "the server has not answered"), (again, told)):
        who.answers, who.looks = answers, 80
        assert (await watched.stirring(None)).cause.startswith(cause)
    watched.close()


@pytest.mark.parametrize(("make", "asked"), [(WireGuard, True), (Existing, False), (NoTunnel, False)])
async def test_nobody_is_asked_where_no_new_handshake_could_be_had(monkeypatch, tmp_path, make, asked):
    """The control: with a tunnel of our own somebody is."""
    who = Somebody(monkeypatch)
    who.looks = 30
    backend = make(TunnelOptions("home", (), runtime=str(tmp_path), interface="wg0"))
    tunnel = Tunnel(TunnelPlan("wg0", Endpoint("198.51.100.10", 51820), ("10.2.0.2/32",)), "a test", "")
    assert (await backend.watch(tunnel)).cause
    assert bool(who.asked) is asked
    if make is not NoTunnel:
        backend._watch.close()


@pytest.mark.parametrize("size", [0, 100, 512, 1252, 1392])
def test_a_question_has_the_size_that_was_asked_for_and_is_well_formed(size):
    data = query(size)
    assert not size or len(data) == size
    counts = struct.unpack_from("!HHHHH", data, 2)
    assert counts == (0x0100, 1, 0, 0, 1)
    assert data[12:17] == b"\0\0\x02\0\x01"
    kind, _, _, length = struct.unpack_from("!HHIH", data, 18)
    assert kind == 41
    assert length == len(data) - 28


# -- what the kernel tells --------------------------------------------------------------------------


def message(kind, payload):
    return struct.pack("=IHHII", 16 + len(payload), kind, 0, 0, 0) + payload + bytes(-len(payload) % 4)


def link(kind, name, flags):
    return message(
        kind, struct.pack("=BxHiII", 0, 1, 7, flags, 0) + struct.pack("=HH", 5 + len(name), 3) + name + b"\0"
    )


@pytest.mark.parametrize(
    ("told", "matters"),
    [
        (link(netlink.DELLINK, b"vpf-home", 1), True),
        (link(netlink.NEWLINK, b"vpf-home", 0), True),
        (link(netlink.NEWLINK, b"vpf-home", netlink.UP), False),
        (link(netlink.DELLINK, b"vpf-home2", 1), False),
        (link(netlink.NEWLINK, b"eth0", 0) + link(netlink.DELLINK, b"vpf-home", 1), True),
        (message(netlink.DELROUTE, bytes([2, 0, 0, 0, 0, PROTOCOL, 0, 1]) + bytes(4)), True),
        (message(netlink.DELROUTE, bytes([2, 0, 0, 0, 0, 3, 0, 1]) + bytes(4)), False),
        (message(netlink.DELADDR, bytes(8) + struct.pack("=HH", 13, 3) + b"vpf-home\0"), True),
        (message(netlink.DELADDR, bytes(8) + struct.pack("=HH", 9, 3) + b"eth0\0"), False),
        (b"", False),
        (b"\xff" * 40, False),
    ],
)
def test_only_the_end_of_our_device_matters(told, matters):
    assert watch.Watch("vpf-home")._tells_of_us(told) is matters


def rule(kind, protocol):
    return message(kind, bytes(12) + struct.pack("=HHB3x", 5, 21, protocol))


@pytest.mark.parametrize(
    ("told", "matters"),
    [
        (rule(netlink.DELRULE, PROTOCOL), True),
        (rule(netlink.DELRULE, 3), False),
        (rule(32, PROTOCOL), False),
        (rule(netlink.DELRULE, 3) + rule(netlink.DELRULE, PROTOCOL), True),
    ],
)
def test_only_the_end_of_our_rules_matters(told, matters):
    assert stir._is_our_rule_gone(told) is matters


@given(st.binary(max_size=200))
def test_whatever_is_told_is_read_without_a_crash(told):
    list(netlink.messages(told))
    watch.Watch("vpf-home")._tells_of_us(told)


# -- the way out ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "device"),
    [
        ('[{"dst":"198.51.100.10","gateway":"192.168.77.1","dev":"eth0","prefsrc":"192.168.77.2"}]', "eth0"),
        ('[{"type":"unreachable","dst":"198.51.100.10","dev":"lo"}]', ""),
        ("", ""),
        ("[]", ""),
        ("{", ""),
        ("[3]", ""),
    ],
)
def test_the_device_on_the_way_to_a_server(printed, device):
    assert uplink.device_of(printed) == device


@pytest.mark.parametrize(
    ("printed", "carried"),
    [
        ('[{"ifname":"eth0","flags":["BROADCAST","UP","LOWER_UP"]}]', True),
        ('[{"ifname":"eth0","flags":["NO-CARRIER","BROADCAST","UP"]}]', False),
        ('[{"ifname":"eth0","flags":["BROADCAST"]}]', False),
        ("", False),
    ],
)
def test_a_link_without_carrier_carries_nothing(printed, carried):
    assert uplink.carries(printed) is carried
