"""The OpenVPN back end's pure parts, and its conversation with a made-up openvpn."""

from __future__ import annotations

import asyncio
import socket

import pytest
from msgspec.structs import replace

from vpnpf.core.draft import dead
from vpnpf.errors import LeaseLost, Misconfigured, NoAnswer, Transient
from vpnpf.model import Endpoint, LanPrefix, Protocol, TunnelPlan
from vpnpf.protocol.openvpn_management import Reply, counts
from vpnpf.protocol.openvpn_push import Pushed
from vpnpf.tunnels.openvpn_arguments import arguments
from vpnpf.tunnels.openvpn_plan import completed
from vpnpf.tunnels.openvpn_session import Login, Session
from vpnpf.wiring import _suffixed

ENDPOINT = Endpoint("203.0.113.5", 1194)
PLAN = TunnelPlan(
    "vpf-home", ENDPOINT, (), mark=0x7670_1B58, table=7000, mtu=1500, lan=(LanPrefix("eth0", "192.168.1.0/24"),)
)
PUSHED = Pushed(gateway="10.8.0.1", address="10.8.0.6/16", dns=("10.8.0.1",), topology="subnet", ping=10)

# -- the command line -----------------------------------------------------------------------------


def options(plan=PLAN, **more):
    words = arguments("/usr/sbin/openvpn", plan, "/proc/self/fd/9", **{"bounded": True, **more})
    program = words[words.index("--") + 1 :]
    assert program[0] == "/usr/sbin/openvpn"
    found = []
    for word in program[1:]:
        if word.startswith("--"):
            found.append((word[2:],))
        else:
            found[-1] += (word,)
    return found


def test_what_the_file_could_say_comes_first_and_scripts_are_off_last():
    found = options()
    assert found[0] == ("config", "/proc/self/fd/0")
    assert found[-1] == ("script-security", "0")


def test_the_server_is_heard_in_few_things_and_the_rest_is_ignored():
    filters = [words[1:] for words in options() if words[0] == "pull-filter"]
    assert filters[-1] == ("ignore", "")
    assert all(each[0] == "accept" for each in filters[:-1])
    accepted = {each[1].split()[0] for each in filters[:-1]}
    assert not accepted & {
        "route",
        "redirect-gateway",
        "dhcp-option",
        "ping-exit",
        "ping-restart",
        "inactive",
        "setenv",
    }


def test_it_needs_nothing_of_the_machine_but_the_device():
    names = {words[0] for words in options()}
    assert {"route-noexec", "ifconfig-noexec", "persist-tun", "management-client", "auth-nocache", "client"} <= names
    assert ("mark", str(PLAN.mark)) in options()
    assert ("dev", "vpf-home") in options()


def test_the_server_has_to_be_one_unless_the_file_proves_it_otherwise():
    wanted = ("remote-cert-tls", "server")
    assert wanted in options(told=frozenset({"cipher", "tls-version-min"}))
    assert wanted not in options(told=frozenset({"verify-x509-name"}))


def test_over_tcp_no_notice_is_sent_at_the_end():
    """openvpn refuses the option there."""
    tcp = replace(PLAN, endpoint=replace(ENDPOINT, protocol=Protocol.TCP))
    assert "explicit-exit-notify" in {words[0] for words in options()}
    assert "explicit-exit-notify" not in {words[0] for words in options(tcp)}


def test_privileges_are_taken_away_where_that_is_allowed():
    for bounded in (True, False):
        words = arguments("/usr/sbin/openvpn", PLAN, "x", bounded=bounded)
        before = words[: words.index("--")]
        assert before[0] == "setpriv"
        assert "--no-new-privs" in before
        assert ("--bounding-set=-all,+net_admin" in before) is bounded


# -- what the server gives --------------------------------------------------------------------------


def test_addresses_gateway_and_resolvers_are_the_servers():
    whole = completed(PLAN, PUSHED)
    assert whole == replace(PLAN, addresses=("10.8.0.6/32",), gateway="10.8.0.1", dns=("10.8.0.1",))


def test_without_a_gateway_the_first_host_of_the_network_is_meant():
    assert completed(PLAN, replace(PUSHED, gateway=None)).gateway == "10.8.0.1"


def test_ipv6_is_taken_along():
    whole = completed(replace(PLAN, mtu=1200), replace(PUSHED, address6="fd00::6/64"))
    assert whole.addresses == ("10.8.0.6/32", "fd00::6/128")
    assert whole.mtu == 1280


@pytest.mark.parametrize(("pushed", "mtu"), [(None, 1500), (1400, 1400), (9000, 1500)])
def test_packets_become_no_larger_than_the_file_allows(pushed, mtu):
    assert completed(PLAN, replace(PUSHED, mtu=pushed)).mtu == mtu


def test_without_an_address_there_is_no_tunnel():
    with pytest.raises(Transient, match="no IPv4 address; not to be read: ifconfig"):
        completed(PLAN, replace(PUSHED, address=None, wrong=("ifconfig",)))


@pytest.mark.parametrize(
    "changes",
    [{"address": "192.168.1.9/24"}, {"gateway": "192.168.1.1"}, {"dns": ("9.9.9.9", "192.168.1.1")}],
    ids=["address", "gateway", "resolver"],
)
def test_what_belongs_to_the_lan_is_not_the_servers_to_give(changes):
    with pytest.raises(Misconfigured, match=r"belongs to the LAN 192\.168\.1\.0/24 of eth0") as raised:
        completed(PLAN, replace(PUSHED, **changes))
    assert "lock.lan" in raised.value.hint
    assert completed(replace(PLAN, lan=()), replace(PUSHED, **changes)).addresses


@pytest.mark.parametrize(
    ("username", "sent"),
    [("", ""), ("me", "me+pmp"), ("me+pmp", "me+pmp"), ("me+pmp+nr", "me+pmp+nr"), ("me+pmpx", "me+pmpx+pmp")],
)
def test_the_suffix_of_a_user_name_is_there_once(username, sent):
    assert _suffixed(username, "+pmp") == sent
    assert _suffixed(username, "") == username


# -- the conversation --------------------------------------------------------------------------------


class Program:
    """openvpn without openvpn."""

    pid = 1
    ended = False

    async def why(self):
        return "Exiting due to fatal error"

    async def stop(self):
        self.ended = True


class Clock:
    def __init__(self):
        self.at = 0.0

    def now(self):
        return self.at

    def wall(self):
        return self.at


class Talk:
    """Both ends of a management connection."""

    def __init__(self, password="s3cret"):
        self.clock, self.program, self.password, self.asked = Clock(), Program(), password, 0

    async def __aenter__(self):
        ours, theirs = socket.socketpair()
        self.far_reader, self.far_writer = await asyncio.open_unix_connection(sock=theirs)
        connection = await asyncio.open_unix_connection(sock=ours)
        self.session = Session(self.program, connection, ENDPOINT, self._login, self.clock)
        for command in ("state on", "log on", "bytecount 1"):
            assert await self.heard() == command
        return self

    async def __aexit__(self, *_):
        await self.session.close()
        self.far_writer.close()

    async def _login(self):
        self.asked += 1
        if isinstance(self.password, Exception):
            raise self.password
        return Login("me", self.password)

    def say(self, *lines):
        self.far_writer.write("".join(f"{line}\n" for line in lines).encode())

    async def heard(self):
        async with asyncio.timeout(2):
            return (await self.far_reader.readline()).decode().rstrip("\n")

    def connect(self):
        push = "PUSH_REPLY,topology subnet,route-gateway 10.8.0.1,ifconfig 10.8.0.6 255.255.0.0,ping 10"
        self.say(
            f">LOG:1,,PUSH: Received control message: '{push}'",
            ">STATE:1,CONNECTED,SUCCESS,10.8.0.6,203.0.113.5,1194,,",
        )

    async def until(self, condition):
        async with asyncio.timeout(2):
            while not condition():
                await self.session._change(1)

    async def connected(self):
        self.connect()
        return await self.session.connected(2)


async def test_it_is_let_go_gets_its_login_and_tells_what_was_pushed():
    async with Talk() as talk:
        talk.say(">INFO:OpenVPN", ">HOLD:Waiting for hold release:0")
        assert await talk.heard() == "hold release"
        talk.say(">PASSWORD:Need 'Auth' username/password")
        assert await talk.heard() == 'username "Auth" "me"'
        assert await talk.heard() == 'password "Auth" "s3cret"'
        pushed = await talk.connected()
        assert (pushed.address, pushed.gateway, pushed.ping) == ("10.8.0.6/16", "10.8.0.1", 10)
        assert talk.session.is_connected


async def test_without_an_answer_it_says_what_openvpn_said():
    async with Talk() as talk:
        talk.say(">LOG:1,N,TLS Error: TLS handshake failed", ">LOG:1,W,WARNING: something", ">LOG:1,I,hello")
        waiting = asyncio.create_task(talk.session.connected(15))
        await asyncio.sleep(0)
        talk.clock.at = 15.0
        talk.say(">BYTECOUNT:0,0")
        with pytest.raises(NoAnswer, match=r"203\.0\.113\.5:1194: no answer in 15 s; openvpn says: TLS Error"):
            await waiting


async def test_a_try_that_failed_is_told_before_patience_ends():
    async with Talk() as talk:
        talk.say(">STATE:1,RECONNECTING,connection-reset,,,,,")
        with pytest.raises(Transient, match="the connection was closed"):
            await talk.session.connected(15)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (">PASSWORD:Verification Failed: 'Auth'", "refused the user name or the password"),
        (">PASSWORD:Verification Failed: 'Auth' ['no plan']", "password: no plan"),
        (">PASSWORD:Need 'Private Key' password", "encrypted key"),
        (">PASSWORD:Need 'Auth' username/password SC:1,Your code", "more than a user name and a password"),
    ],
)
async def test_what_only_the_person_can_change_is_told_so(line, cause):
    async with Talk() as talk:
        talk.say(line)
        with pytest.raises(Misconfigured, match=cause) as raised:
            await talk.session.connected(15)
        assert raised.value.hint
        assert not talk.asked
        with pytest.raises(LeaseLost, match=cause):
            await talk.session.health()


@pytest.mark.parametrize("password", [Misconfigured("reading the password", "it is gone", "put it back"), "new\nline"])
async def test_a_password_that_cannot_be_given_is_told_and_not_shown(password):
    async with Talk(password) as talk:
        talk.say(">PASSWORD:Need 'Auth' username/password")
        with pytest.raises(Misconfigured) as raised:
            await talk.session.connected(15)
        assert raised.value.hint
        assert "new" not in str(raised.value)


async def test_between_tries_it_waits_and_a_new_handshake_does_not():
    async with Talk() as talk:
        await talk.connected()
        talk.say(">STATE:1,RECONNECTING,ping-restart,,,,,", ">HOLD:Waiting for hold release:5")
        stirring = await talk.session.trouble()
        assert stirring.cause == "openvpn connects anew: the server fell silent"
        assert stirring.silent_for > 0
        assert not talk.session.is_connected
        anew = asyncio.create_task(talk.session.connect_anew(15))
        assert await talk.heard() == "hold release"
        talk.connect()
        assert (await anew).address == "10.8.0.6/16"


async def test_a_tunnel_that_stands_is_told_to_connect_anew_and_one_that_connects_by_tcp_is_not():
    async with Talk() as talk:
        await talk.connected()
        anew = asyncio.create_task(talk.session.connect_anew(15))
        assert await talk.heard() == "signal SIGUSR1"
        talk.say("SUCCESS: signal SIGUSR1 thrown", ">STATE:1,RECONNECTING,SIGUSR1,,,,,", ">STATE:1,TCP_CONNECT,,,,,,")
        await talk.until(lambda: talk.session._stage == "TCP_CONNECT")
        anew.cancel()
        anew = asyncio.create_task(talk.session.connect_anew(15))
        await asyncio.sleep(0)
        talk.say(">HOLD:Waiting for hold release:0")
        assert await talk.heard() == "hold release", "and no signal before"
        talk.connect()
        await anew


async def test_the_counters_are_asked_for_and_what_arrives_is_a_sign_of_the_server():
    async with Talk() as talk:
        await talk.connected()
        talk.clock.at = 30.0
        looking = asyncio.create_task(talk.session.health())
        assert await talk.heard() == "load-stats"
        # The answers to what was sent before come first.
        talk.say("SUCCESS: state", "SUCCESS: log", "SUCCESS: bytecount", "SUCCESS: nclients=0,bytesin=70,bytesout=50")
        health = await looking
        assert (health.rx, health.tx, health.handshake_age, health.silent_for) == (70, 50, 0.0, 0.0)


async def test_two_pings_that_are_missing_are_silence_and_one_is_not():
    async with Talk() as talk:
        await talk.connected()
        talk.clock.at = 20.5
        assert not talk.session.is_silent
        talk.clock.at = 21.5
        assert talk.session.is_silent
        stirring = await talk.session.trouble()
        assert (stirring.cause, stirring.silent_for) == ("the server has not pinged for 22 s", 21.5)


async def test_a_server_that_never_said_that_it_pings_is_not_missed():
    async with Talk() as talk:
        talk.say(">LOG:1,,PUSH: Received control message: 'PUSH_REPLY,topology subnet,ifconfig 10.8.0.6 255.255.0.0'")
        talk.say(">STATE:1,CONNECTED,SUCCESS,10.8.0.6,203.0.113.5,1194,,")
        await talk.session.connected(2)
        talk.clock.at = 1000.0
        assert not talk.session.is_silent
        looking = asyncio.create_task(talk.session.health())
        assert await talk.heard() == "load-stats"
        talk.say(*["SUCCESS: "] * 3, "SUCCESS: nclients=0,bytesin=0,bytesout=50")
        assert not dead(await looking)


async def test_an_openvpn_that_closes_the_connection_is_lost():
    async with Talk() as talk:
        await talk.connected()
        talk.far_writer.close()
        assert "openvpn ended: Exiting due to fatal error" in (await talk.session.trouble()).cause
        with pytest.raises(LeaseLost, match="openvpn ended"):
            await talk.session.health()


async def test_who_waits_for_counters_when_it_ends_is_told():
    async with Talk() as talk:
        await talk.connected()
        looking = asyncio.create_task(talk.session.health())
        await talk.heard()
        talk.far_writer.close()
        with pytest.raises(LeaseLost, match="openvpn ended"):
            await looking


def test_a_login_does_not_show_its_password():
    # A provider's user name may be the first half of a token.
    assert repr(Login("first-half", "s3cret")) == "Login(...)"


@pytest.mark.parametrize(
    ("ok", "text", "found"),
    [
        (True, "nclients=0,bytesin=70,bytesout=50", (70, 50)),
        (False, "nclients=0,bytesin=70,bytesout=50", None),
        (True, "bytesin=,bytesout=5", None),
        (True, "hold release succeeded", None),
    ],
)
def test_counters_are_read_or_not_at_all(ok, text, found):
    assert counts(Reply("load-stats", ok, text)) == found
