"""OpenVPN's management protocol and what servers push: hostile input never raises, and no secret is shown."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import asdict

from vpnpf.protocol import openvpn_lexer as lexer
from vpnpf.protocol import openvpn_management as management
from vpnpf.protocol import openvpn_push as push
from vpnpf.protocol.openvpn_management import Management, Stage
from vpnpf.protocol.openvpn_push import Pushed

REPLY = (
    "PUSH_REPLY,redirect-gateway def1,dhcp-option DNS 10.8.0.1,sndbuf 0,route-gateway 10.8.0.1,topology subnet,"
    "ping 10,ping-restart 60,tun-mtu 1400,ifconfig-ipv6 fd00:8::3/64 fd00:8::1,ifconfig 10.8.0.3 255.255.255.0,"
    "peer-id 4,cipher AES-256-GCM"
)


def log(text, flags=""):
    return f">LOG:1700000000,{flags},{text}\n".encode()


def pushed(text):
    return log(f"PUSH: Received control message: '{text}'")


def one(line):
    (message,) = Management().receive(line if isinstance(line, bytes) else line.encode() + b"\n")
    return message


# -- what it says ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            ">INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info",
            management.Greeting("OpenVPN Management Interface Version 5 -- type 'help' for more info"),
        ),
        (">HOLD:Waiting for hold release:10", management.Hold(10)),
        (">HOLD:Waiting for hold release", management.Hold(0)),
        (">BYTECOUNT:4711,815", management.ByteCount(4711, 815)),
        (">FATAL:Cannot open TUN/TAP dev", management.Fatal("Cannot open TUN/TAP dev")),
        (">STATE:1700000000,WAIT,,,,,,", management.StateChange(1700000000, Stage.WAIT)),
        (">STATE:1700000000,AUTH,,,,,,", management.StateChange(1700000000, Stage.AUTH)),
        (">STATE:1700000000,GET_CONFIG,,,,,,", management.StateChange(1700000000, Stage.GET_CONFIG)),
        (
            ">STATE:1700000000,ASSIGN_IP,,10.8.0.3,,,,,fd00:8::3",
            management.StateChange(1700000000, Stage.ASSIGN_IP, "", "10.8.0.3", address6="fd00:8::3"),
        ),
        (
            ">STATE:1700000000,CONNECTED,SUCCESS,10.8.0.3,198.51.100.10,1194,192.0.2.2,40000,fd00:8::3",
            management.StateChange(
                1700000000, Stage.CONNECTED, "SUCCESS", "10.8.0.3", "198.51.100.10", 1194, "fd00:8::3"
            ),
        ),
        (
            ">STATE:1700000000,RECONNECTING,ping-restart,,,,,",
            management.StateChange(1700000000, Stage.RECONNECTING, "ping-restart"),
        ),
        (">STATE:1700000000,EXITING,SIGTERM,,,,,", management.StateChange(1700000000, Stage.EXITING, "SIGTERM")),
        (">PASSWORD:Need 'Auth' username/password", management.NeedPassword("Auth", username=True)),
        (">PASSWORD:Need 'Private Key' password", management.NeedPassword("Private Key", username=False)),
        (
            ">PASSWORD:Need 'Auth' username/password SC:1,Please enter token PIN",
            management.NeedPassword("Auth", username=True, challenge="Please enter token PIN"),
        ),
        (">PASSWORD:Verification Failed: 'Auth'", management.VerificationFailed("Auth")),
        (
            ">PASSWORD:Verification Failed: 'Auth' ['no '] more']",
            management.VerificationFailed("Auth", "no '] more"),
        ),
        (">PASSWORD:Verification Failed: 'too many'", management.VerificationFailed("too many")),
        (">PASSWORD:Auth-Token:hunter2", management.AuthToken()),
        (">LOG:1700000000,W,a, b\x1b[2J", management.Log(1700000000, "W", "a, b?[2J")),
        (
            ">LOG:1700000000,,AUTH: Received control message: AUTH_FAILED,no credit",
            management.AuthFailed("no credit"),
        ),
        (">LOG:1700000000,,AUTH: Received control message: AUTH_FAILED", management.AuthFailed()),
        (">NEED-OK:Need 'x' confirmation", management.Other("NEED-OK")),
        ("SUCCESS: pid=3", management.Reply("", ok=True, text="pid=3")),
    ],
)
def test_what_openvpn_says(line, message):
    assert one(line) == message


@pytest.mark.parametrize(
    "line",
    [
        ">STATE:now,CONNECTED,SUCCESS,,,,,",
        ">STATE:1,FROBNICATED,,,,,,",
        ">STATE:",
        ">BYTECOUNT:1",
        ">BYTECOUNT:-1,2",
        ">BYTECOUNT:\u0661,2",
        ">PASSWORD:Need 'Auth",
        ">PASSWORD:",
        ">LOG:",
        ">LOG:1,XYZ,text",
        ">LOG:1,,PUSH: Received control message: 'PUSH_REPLY,ifconfig 10.8.0",
        ">LOG:1,,PUSH: Received control message: 'PUSH_REPLY'x",
        ">UPDOWN:ENV,ifconfig_local=10.8.0.3",
        ">nothing",
        "END",
        "\x00",
    ],
)
def test_what_it_does_not_say(line):
    assert isinstance(one(line), management.Unreadable)


def test_addresses_that_are_none_are_left_out():
    state = one(">STATE:1,CONNECTED,SUCCESS,10.8.0.300,fe80::1%eth0,99999,,,x")
    assert (state.address, state.remote, state.remote_port, state.address6) == (None, None, None, None)


def test_answers_belong_to_commands_in_their_order():
    talk = Management()
    assert talk.send(management.state_on()) == b"state on\n"
    assert talk.send(management.bytecount(5)) == b"bytecount 5\n"
    assert talk.send(management.hold_release()) == b"hold release\n"
    assert talk.send(management.log_on()) == b"log on\n"
    said = talk.receive(b"SUCCESS: a\r\n>HOLD:x:1\r\nERROR: b\r\nSUCCESS: c\r\nSUCCESS: d\r\nSUCCESS: e\r\n")
    replies = [each for each in said if isinstance(each, management.Reply)]
    assert [(each.command, each.ok) for each in replies] == [
        ("state", True),
        ("bytecount", False),
        ("hold", True),
        ("log", True),
        ("", True),
    ]


def test_a_line_too_long_is_dropped_and_the_next_is_read():
    talk = Management()
    begun = talk.receive(b">LOG:1,," + b"A" * management.LONGEST_LINE)
    more = talk.receive(b"A" * management.LONGEST_LINE * 2)
    end = talk.receive(b"AA\n>HOLD:x:3\n")
    assert [type(each) for each in (*begun, *more, *end)] == [management.Unreadable, management.Hold]
    whole = talk.receive(b"A" * (management.LONGEST_LINE + 1) + b"\n>HOLD:x:3\n")
    assert [type(each) for each in whole] == [management.Unreadable, management.Hold]


def test_the_log_of_our_own_commands_is_left_out():
    talk = Management()
    assert talk.receive(log("MANAGEMENT: CMD 'username \"Auth\" hunter2'", "D")) == ()
    assert talk.receive(log("MANAGEMENT: >STATE:1,EXITING,SIGTERM,,,,,")) == ()


def test_texts_are_cut():
    assert len(one(log("A" * 5000)).text) == management.LONGEST_TEXT


# -- what it is told ---------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["hunter2", 'a"b\\c', "a b", "#;'", "", "é\u4e2d", "\\", '"'])
def test_a_password_arrives_as_it_is_and_is_not_shown(secret):
    command = management.password("Auth", secret)
    assert command.data.endswith(b"\n")
    assert lexer.lex(command.data.decode()).words == ("password", "Auth", secret)
    assert repr(command) == "Command('password')"
    assert lexer.lex(management.username("Auth", secret).data.decode()).words == ("username", "Auth", secret)


@pytest.mark.parametrize("secret", ["a\nsignal SIGTERM", "a\r", "a\0b", "a\tb", "A" * 256, "é" * 128, "\ud800"])
def test_a_password_that_openvpn_cannot_take_is_refused_untold(secret):
    with pytest.raises(ValueError, match=r"it (holds|is)") as refused:
        management.password("Auth", secret)
    assert secret not in str(refused.value)


def test_signals():
    assert management.signal("SIGUSR1").data == b"signal SIGUSR1\n"
    with pytest.raises(ValueError, match="not a signal"):
        management.signal("SIGKILL\n")


# -- what the server pushes --------------------------------------------------------------------------


def test_a_push_reply():
    (message,) = Management().receive(pushed(REPLY))
    assert message.pushed == Pushed(
        gateway="10.8.0.1",
        address="10.8.0.3/24",
        address6="fd00:8::3/64",
        dns=("10.8.0.1",),
        topology="subnet",
        mtu=1400,
        ping=10,
        ping_restart=60,
    )


def test_a_push_reply_in_parts():
    talk = Management()
    assert talk.receive(pushed("PUSH_REPLY,dhcp-option DNS 10.8.0.1,topology subnet,push-continuation 2")) == ()
    second = "PUSH_REPLY,dhcp-option DNS 10.8.0.2,route-gateway 10.8.0.1,topology subnet,"
    (message,) = talk.receive(pushed(second + "ifconfig 10.8.0.3 255.255.255.0,push-continuation 1"))
    assert message.pushed.dns == ("10.8.0.1", "10.8.0.2")
    assert (message.pushed.address, message.pushed.gateway) == ("10.8.0.3/24", "10.8.0.1")
    assert talk.receive(pushed("PUSH_REPLY,ping 3"))[0].pushed == Pushed(ping=3)


def test_without_a_topology_the_second_address_is_the_far_end():
    found = push.parse_reply("PUSH_REPLY,ifconfig 10.8.0.6 10.8.0.5")
    assert (found.address, found.gateway) == ("10.8.0.6/32", "10.8.0.5")


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("ifconfig 10.8.0.3", "ifconfig"),
        ("ifconfig 10.8.0.3 255.0.255.0", "ifconfig"),
        ("ifconfig 10.8.0.3 0.0.0.255", "ifconfig"),
        ("ifconfig 10.8.0.3 0.0.0.0", "ifconfig"),
        ("ifconfig 10.8.0.3 128.0.0.0", "ifconfig"),
        ("ifconfig 10.8.0.3/24 255.255.255.0", "ifconfig"),
        ("ifconfig 0.0.0.0 255.255.255.0", "ifconfig"),
        ("ifconfig 127.0.0.1 255.255.255.0", "ifconfig"),
        ("ifconfig 224.0.0.1 255.255.255.0", "ifconfig"),
        ('ifconfig "10.8.0.3 dev lo" 255.255.255.0', "ifconfig"),
        ("ifconfig-ipv6 fe80::1%x/64", "ifconfig-ipv6"),
        ("ifconfig-ipv6 ::/0", "ifconfig-ipv6"),
        ("ifconfig-ipv6 fd00::1/1", "ifconfig-ipv6"),
        ("ifconfig-ipv6 ::ffff:10.8.0.1/128", "ifconfig-ipv6"),
        ("route-gateway dhcp", "route-gateway"),
        ("route-gateway 10.8.0.1 x", "route-gateway"),
        ("dhcp-option DNS 127.0.0.1", "dhcp-option"),
        ("dhcp-option DNS fe80::1%eth0", "dhcp-option"),
        ('dhcp-option DNS "10.8.0.1\toptions x"', "dhcp-option"),
        ("topology tap", "topology"),
        ("tun-mtu 68", "tun-mtu"),
        ("tun-mtu 65536", "tun-mtu"),
        ("ping -1", "ping"),
        ("ping-restart x", "ping-restart"),
    ],
)
def test_what_cannot_be_read_is_left_out_and_named(option, name):
    found = push.parse_reply(f"PUSH_REPLY,topology subnet,{option}")
    assert found == Pushed(topology="subnet", wrong=(name,))


@pytest.mark.parametrize(
    "option", ["up x", "plugin x", "route 0.0.0.0 0.0.0.0 net_gateway", 'x "', "", "dhcp-option WINS x"]
)
def test_other_options_are_nothing_to_us(option):
    assert push.parse_reply(f"PUSH_REPLY,{option}") == Pushed()


def test_resolvers_are_few():
    many = ",".join(f"dhcp-option DNS 10.8.0.{number}" for number in range(1, 99))
    assert len(push.parse_reply(f"PUSH_REPLY,{many}").dns) == 8


@pytest.mark.parametrize(("word", "found"), [("10.8.0.9", True), ("10.8.0.9:53", True), ("[fd00::9]", True)])
def test_resolvers_in_the_newer_form(word, found):
    dns = push.parse_reply(f"PUSH_REPLY,dns server 0 address {word}").dns
    assert (dns in {("10.8.0.9",), ("fd00::9",)}) is found


def test_what_openvpn_took_over():
    talk = Management()
    variables = {
        "ifconfig_local": "10.8.0.3",
        "ifconfig_netmask": "255.255.255.0",
        "ifconfig_ipv6_local": "fd00:8::3",
        "ifconfig_ipv6_netbits": "64",
        "route_vpn_gateway": "10.8.0.1",
        "tun_mtu": "1500",
        "foreign_option_1": "dhcp-option DNS 10.8.0.1",
        "password": "hunter2",
    }
    lines = [">UPDOWN:UP", *(f">UPDOWN:ENV,{name}={value}" for name, value in variables.items()), ">UPDOWN:ENV,END"]
    (message,) = talk.receive("\r\n".join([*lines, ""]).encode())
    assert message.up
    assert message.pushed == Pushed(
        gateway="10.8.0.1",
        address="10.8.0.3/24",
        address6="fd00:8::3/64",
        dns=("10.8.0.1",),
        topology="subnet",
        mtu=1500,
    )
    assert "hunter2" not in repr(message)


# -- hostile bytes -----------------------------------------------------------------------------------

LINES = [
    b">STATE:1,CONNECTED,SUCCESS,10.8.0.3,198.51.100.10,1194,,,fd00::1",
    b">PASSWORD:Verification Failed: 'Auth' ['x']",
    b">UPDOWN:UP",
    b">UPDOWN:ENV,ifconfig_local=10.8.0.3",
    b">UPDOWN:ENV,END",
    pushed(REPLY).strip(),
    b"SUCCESS: x",
]


@given(st.lists(st.one_of(st.sampled_from(LINES), st.binary(max_size=60)), max_size=8), st.data())
@example([b"\xff", b">LOG:1,,PUSH: Received control message: 'PUSH_REPLY,\xff'"], None)
def test_any_bytes_in_any_pieces_say_the_same(lines, draw):
    data = b"\n".join([*lines, b""])
    at = len(data) // 2 if draw is None else draw.draw(st.integers(0, len(data)))
    whole, pieces = Management(), Management()
    said = whole.receive(data)
    assert said == pieces.receive(data[:at]) + pieces.receive(data[at:])
    texts = [text for each in said for text in asdict(each).values() if isinstance(text, str)]
    assert all(text.isprintable() for text in texts)
