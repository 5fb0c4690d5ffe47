"""The allow-list parser of OpenVPN files: what providers write, what is refused, and what comes out.

What attackers write is in tests/malicious.
"""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vpnpf.errors import ConfigError
from vpnpf.model import Endpoint, Protocol
from vpnpf.protocol import openvpn_directives as directives
from vpnpf.protocol import openvpn_lexer as lexer
from vpnpf.protocol import openvpn_options as options
from vpnpf.protocol.openvpn_config import Remote, parse, render

UDP, TCP = Protocol.UDP, Protocol.TCP


def pem(label, body=b"\x30" + bytes(range(90))):
    return f"-----BEGIN {label}-----\n{base64.encodebytes(body).decode()}-----END {label}-----\n"


STATIC = "-----BEGIN OpenVPN Static key V1-----\n" + "ab" * 16 + "\n"
STATIC = STATIC + ("cd" * 16 + "\n") * 15 + "-----END OpenVPN Static key V1-----\n"
CA = f"<ca>\n{pem('CERTIFICATE')}</ca>\n"
TLS_AUTH = f"<tls-auth>\n#\n# 2048 bit OpenVPN static key\n#\n{STATIC}</tls-auth>\n"
HUNTER = b"\x30hunter2" + bytes(30)
SECRET = base64.b64encode(HUNTER).decode()
CLIENT_KEY = f"<cert>\n{pem('CERTIFICATE')}</cert>\n<key>\n{pem('PRIVATE KEY', HUNTER)}</key>\n"

PROTON = f"""\
# ==============================================================================
# Copyright (c) 2023 Proton AG (Switzerland)
# ==============================================================================

# The server you are connecting to is using a circuit in order to separate entry IP from exit IP
# The same entry IP allows to connect to multiple exit IPs in the same datacenter.

client
dev tun
proto udp

remote 192.0.2.17 1194
remote 192.0.2.17 80
remote 192.0.2.17 51820
server-poll-timeout 20

remote-random
resolv-retry infinite
nobind

# The following setting is only needed for old OpenVPN clients compatibility.
cipher AES-256-GCM

setenv CLIENT_CERT 0
tun-mtu 1500
mssfix 0
persist-key
persist-tun

reneg-sec 0

remote-cert-tls server
auth-user-pass

script-security 2
up /etc/openvpn/update-resolv-conf
down /etc/openvpn/update-resolv-conf

{CA}
<tls-crypt>
# 2048 bit OpenVPN static key
{STATIC}
</tls-crypt>
"""
PIA = f"""\
client
dev tun
proto udp
remote swiss.privacy.example 1198
resolv-retry infinite
nobind
persist-key
persist-tun
cipher aes-128-cbc
auth sha1
tls-client
remote-cert-tls server

auth-user-pass
compress
verb 1
reneg-sec 0
<crl-verify>
{pem("X509 CRL")}
</crl-verify>

{CA}

disable-occ
"""
AIRVPN = f"""\
# --------------------------------------------------------
# Air VPN | Europe
# --------------------------------------------------------
client
dev tun
remote europe3.vpn.example 443
resolv-retry infinite
nobind
persist-key
persist-tun
auth-nocache
verb 3
explicit-exit-notify 5
push-peer-info
setenv UV_IPV6 yes
remote-cert-tls server
comp-lzo no
data-ciphers AES-256-GCM:AES-256-CBC:AES-192-GCM:AES-192-CBC:AES-128-GCM:AES-128-CBC
data-ciphers-fallback AES-256-CBC
proto tcp
auth SHA512
rcvbuf 262144
sndbuf 262144
{CA}{CLIENT_KEY}
<tls-crypt>
{STATIC}</tls-crypt>
"""
MULLVAD = f"""\
client
dev tun
resolv-retry infinite
nobind
persist-key
persist-tun
verb 3
remote-cert-tls server
ping 10
ping-restart 60
sndbuf 524288
rcvbuf 524288
cipher AES-256-GCM
tls-cipher TLS-DHE-RSA-WITH-AES-256-GCM-SHA384:TLS-DHE-RSA-WITH-AES-256-CBC-SHA
proto udp
auth-user-pass
{CA}tun-ipv6
script-security 2
up /etc/openvpn/update-resolv-conf
down /etc/openvpn/update-resolv-conf
fast-io
remote-random
remote 198.51.100.1 1194 # se-got-ovpn-001
remote 2001:db8::1 1195 # se-got-ovpn-002
"""
WINDSCRIBE = f"""\
client
dev tun
proto udp
remote ams.example 443

nobind
auth-user-pass

resolv-retry infinite

auth SHA512
cipher AES-256-CBC
keysize 256
comp-lzo
verb 2
mute-replay-warnings
remote-cert-tls server
persist-key
persist-tun

key-direction 1
{CA}{TLS_AUTH}
"""
IVPN = f"""\
client
dev tun
proto udp
remote gb.gw.example 2049
resolv-retry infinite
nobind
persist-tun
persist-key
verify-x509-name gb name-prefix
cipher AES-256-CBC
remote-cert-tls server
auth-user-pass
tls-cipher TLS-DHE-RSA-WITH-AES-256-CBC-SHA
key-direction 1
keepalive 10 60
{CA}{TLS_AUTH}
"""
PERFECT_PRIVACY = f"""\
auth SHA512
auth-user-pass
cipher AES-256-CBC
client
comp-lzo
dev tun
;fast-io
hand-window 120
inactive 604800
mssfix
mute-replay-warnings
nobind
ns-cert-type server
persist-key
persist-remote-ip
persist-tun
ping 5
ping-restart 120
remote-random
reneg-sec 3600
resolv-retry 60
route-delay 2
route-method exe
script-security 2
tls-cipher TLS-DHE-RSA-WITH-AES-256-GCM-SHA384:TLS-DHE-RSA-WITH-CAMELLIA-256-CBC-SHA
tls-timeout 5
verb 4
tun-mtu 1500
fragment 1300
proto udp
remote 192.0.2.1 148
remote 192.0.2.1 149
key-direction 1
{CA}{CLIENT_KEY}{TLS_AUTH}
"""
ACCESS_SERVER = f"""\
# OVPN_ACCESS_SERVER_PROFILE=x
setenv FORWARD_COMPATIBLE 1
client
server-poll-timeout 4
nobind
dev tun
remote-cert-tls server
setenv opt tls-version-min 1.0 or-highest
setenv opt block-outside-dns
ignore-unknown-option frobnicate
frobnicate 3
port 1195
<connection>
remote a.example
proto tcp
connect-timeout 10
</connection>
<connection>
remote b.example 443 udp
</connection>
{CA}{CLIENT_KEY}tls-auth [inline] 1
{TLS_AUTH}"""
FILES = {
    "protonvpn": PROTON,
    "pia": PIA,
    "airvpn": AIRVPN,
    "mullvad": MULLVAD,
    "windscribe": WINDSCRIBE,
    "ivpn": IVPN,
    "perfect privacy": PERFECT_PRIVACY,
    "access server": ACCESS_SERVER,
}
HERE = Endpoint("192.0.2.17", 80)


def read(text):
    return parse(text.encode(), "a.ovpn")


def words(config):
    return {each[0]: each[1:] for each in config.options}


def mistakes(text):
    with pytest.raises(ConfigError) as refused:
        parse(text if isinstance(text, bytes) else text.encode(), "a.ovpn")
    return refused.value.mistakes


# -- what providers write --------------------------------------------------------------------------


def test_a_file_of_protonvpn():
    config = read(PROTON)
    assert config.remotes == tuple(Remote("192.0.2.17", port, UDP) for port in (1194, 80, 51820))
    assert (config.remote_random, config.needs_password, config.mtu) == (True, True, 1500)
    assert config.options == (
        ("client",),
        ("dev", "tun"),
        ("nobind",),
        ("cipher", "AES-256-GCM"),
        ("tls-version-min", "1.2"),
        ("remote-cert-tls", "server"),
        ("reneg-sec", "0"),
        ("tun-mtu", "1500"),
        ("mssfix", "0"),
        ("auth-user-pass",),
    )
    assert [name for name, _ in config.inline] == ["ca", "tls-crypt"]
    assert "Copyright (c) 2023 Proton AG (Switzerland)" in config.notes


@pytest.mark.parametrize(
    ("name", "first", "kept"),
    [
        ("pia", Remote("swiss.privacy.example", 1198, UDP), {"cipher": ("aes-128-cbc",), "compress": ()}),
        ("airvpn", Remote("europe3.vpn.example", 443, TCP), {"auth": ("SHA512",), "comp-lzo": ("no",)}),
        ("mullvad", Remote("198.51.100.1", 1194, UDP), {"ping": ("10",), "ping-restart": ("60",)}),
        ("windscribe", Remote("ams.example", 443, UDP), {"comp-lzo": ("no",), "key-direction": ("1",)}),
        ("ivpn", Remote("gb.gw.example", 2049, UDP), {"verify-x509-name": ("gb", "name-prefix"), "ping": ("10",)}),
        ("perfect privacy", Remote("192.0.2.1", 148, UDP), {"remote-cert-tls": ("server",), "mssfix": ()}),
        ("access server", Remote("a.example", 1195, TCP), {"key-direction": ("1",), "tls-version-min": ("1.2",)}),
    ],
)
def test_a_file_of_others(name, first, kept):
    config = read(FILES[name])
    assert config.remotes[0] == first
    assert kept.items() <= words(config).items()


def test_connection_blocks_are_servers():
    assert read(ACCESS_SERVER).remotes == (Remote("a.example", 1195, TCP), Remote("b.example", 443, UDP))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("endpoint", [HERE, Endpoint("2001:db8::1", 443, TCP)])
def test_what_is_written_anew_reads_the_same(name, endpoint):
    config = read(FILES[name])
    again = read(render(config, endpoint))
    assert again.remotes == (Remote(endpoint.address, endpoint.port, endpoint.protocol),)
    dropped = {"fragment"} if endpoint.protocol is TCP else set()
    assert again.options == tuple(each for each in config.options if each[0] not in dropped)
    assert (again.inline, again.mtu, again.notes) == (config.inline, config.mtu, ())
    assert render(again, endpoint) == render(config, endpoint)


@pytest.mark.parametrize("name", FILES)
def test_nothing_dropped_is_written(name):
    written = {line.split()[0] for line in render(read(FILES[name]), HERE).split("\n") if line}
    assert not written & (directives.DROPPED - {"nobind"})
    assert not written & {"script-security", "up", "down", "setenv", "push-peer-info", "#"}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n"])
def test_line_endings_and_a_byte_order_mark_make_no_difference(ending, start):
    assert read(start + PROTON.replace("\n", ending)) == read(PROTON)


def test_text_around_certificates_is_left_out():
    around = f"Certificate:\n    Data: up x\n{pem('CERTIFICATE')}\ntrailing\n{pem('CERTIFICATE')}"
    (name, text), *_ = read(PIA.replace(CA, f"<ca>\n{around}</ca>\n")).inline
    assert (name, text.count("BEGIN"), "up" in text) == ("ca", 2, False)


def test_an_old_script_security_alone_is_dropped():
    assert read(PIA + "script-security 2\n") == read(PIA)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ("up /opt/x", "up: it would run a command as root", "runs no commands"),
        ("plugin /opt/x.so", "plugin would run code as root", "runs no commands"),
        ("log /x", "log would write or read files", "remove the line"),
        ("ca ca.crt", "ca names a file", "put the file inline: <ca>, its text, </ca>"),
        ("auth-user-pass pass.txt", "auth-user-pass names a file", "tunnel.username and tunnel.password"),
        ("user nobody", "user is vpnpf's to choose", "remove the line"),
        ("server 10.8.0.0 255.255.255.0", "server is for servers", "use a file for clients"),
        ("http-proxy x 1", "http-proxy is not supported", "from your provider"),
        ("remot x 1", "unknown directive", "did you mean remote?"),
        ("cypher AES-256-GCM", "unknown directive", "did you mean cipher?"),
        ("proto tcp", "proto is there already, in line 3, with another value", "keep one of them"),
        ("cipher AES-256-GCM", "cipher is there already, with another value", "keep one of them"),
    ],
)
def test_a_refusal_names_the_line_the_directive_and_the_next_step(line, what, hint):
    (mistake,) = mistakes(PIA + line + "\n")
    assert mistake.where == f"a.ovpn:{PIA.count(chr(10)) + 1}"
    assert what in mistake.what
    assert hint in mistake.hint


def test_every_mistake_is_told_in_the_order_of_lines():
    found = mistakes("up x\n<ca>\nx\n</ca>\nlog y\n<connection>\ndown z\n</connection>\nremote\n")
    assert [each.where for each in found] == [f"a.ovpn:{line}" for line in (1, 2, 5, 7, 9)]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("client\n", "", ""),
        ("client\n", "verb 1\n", "client is missing"),
        ("dev tun\n", "", "dev is missing"),
        ("remote swiss.privacy.example 1198\n", "", "remote is missing"),
        ("auth-user-pass\n", "", "there is no way to log in"),
        (CA, "", "<ca> is missing"),
        (CA, CA + CLIENT_KEY.partition("<key>")[0], "one of <cert> and <key> is missing"),
        (CA, CA + TLS_AUTH + TLS_AUTH.replace("tls-auth>", "tls-crypt>"), "more than one of <tls-auth>"),
    ],
)
def test_what_is_missing_is_named(old, new, what):
    text = PIA.replace("tls-client\n", "") if "client is" in what else PIA
    text = text.replace(old, new, 1)
    if what:
        (mistake,) = mistakes(text)
        assert what in mistake.what
        assert mistake.hint
    else:
        assert read(text).remotes


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (pem("ENCRYPTED PRIVATE KEY"), "has a password"),
        (pem("RSA PRIVATE KEY").replace("\n", "\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\n", 1), "has a password"),
        (pem("PRIVATE KEY") * 2, "more than one"),
        (pem("CERTIFICATE"), "something else"),
        (pem("PRIVATE KEY").replace("MAAB", "!AAB"), "damaged"),
        (pem("PRIVATE KEY").replace("-----END", "----END"), "does not end"),
        ("", "holds no PRIVATE KEY"),
    ],
)
def test_a_key_of_no_use_is_refused(body, what):
    (mistake,) = mistakes(PIA + f"<cert>\n{pem('CERTIFICATE')}</cert>\n<key>\n{body}</key>\n")
    assert what in mistake.what
    assert mistake.hint


def test_a_file_too_long_is_refused_at_once():
    (mistake,) = mistakes(b"#" * (1 << 20) + b"\n")
    assert "longer than" in mistake.what


def test_no_secret_is_shown():
    config = read(AIRVPN)
    assert SECRET in render(config, HERE)
    assert SECRET not in repr(config)
    assert "BEGIN" not in repr(config)
    damaged = AIRVPN.replace(SECRET, SECRET + "!")
    assert all("hunter" not in str(each) and SECRET not in str(each) for each in mistakes(damaged))


def test_the_identity_names_server_and_key_and_tells_neither():
    config, other_key = read(AIRVPN), read(AIRVPN.replace(SECRET, SECRET.replace("h1bn", "h1bm")))
    other_server = read(AIRVPN.replace("europe3", "europe4"))
    told = {each.identity() for each in (config, other_key, other_server)}
    assert len(told) == 3
    assert all(re.fullmatch(r"openvpn [0-9a-f]{12} [0-9a-f]{12}", each) for each in told)
    proton = read(PROTON)
    assert proton.identity(proton.remotes[0]) == proton.identity()
    two = read(MULLVAD)
    assert two.identity(two.remotes[0]) != two.identity(two.remotes[1])


# -- tables ----------------------------------------------------------------------------------------


def test_a_directive_is_either_dropped_or_refused_or_read():
    assert not directives.DROPPED & directives.REFUSED.keys()
    assert not directives.DROPPED & options.READERS.keys()
    assert {"up", "down", "setenv", "script-security"} <= directives.REFUSED.keys() & options.READERS.keys()


@pytest.mark.parametrize("name", sorted(directives.REFUSED.keys() - options.READERS.keys()))
def test_a_refused_directive_is_refused_in_every_spelling(name):
    for spelling in (name, f"--{name}", f'"{name}"', f"'{name}'", f"\t{name}\t", f"setenv opt {name}"):
        (mistake,) = mistakes(f"{PIA}{spelling} x\n")
        assert mistake.what.startswith(f"{name} ")


# -- lexing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a b\tc", ("a", "b", "c")),
        ('"a b" c', ("a b", "c")),
        ("'a \\b' c", ("a \\b", "c")),
        ('"a"b', ("a", "b")),
        ("a'b' c", ("a'b'", "c")),
        ("a\\ b", ("a b",)),
        ('"a\\"b"', ('a"b',)),
        ("a\\\\b", ("a\\b",)),
        ("\\ a", ("a",)),
        ('\\"a b', ('"a', "b")),
        ("a#b ;c", ("a#b",)),
        ("a # b", ("a",)),
        ("\\# b", ()),
        ('""', ("",)),
        ("", ()),
        (" \t", ()),
    ],
)
def test_words(line, found):
    assert lexer.lex(line).words == found
    assert lexer.lex(line + "\n").words == found


@pytest.mark.parametrize("line", ['"a', "'a", "a\\", "\\a", "a\\'b", "a " * 17, "a" * 300])
def test_lines_without_words(line):
    with pytest.raises(lexer.Unlexable):
        lexer.lex(line)


@given(st.lists(st.text(st.characters(exclude_categories=("Cc", "Cs"))).filter(str), min_size=1, max_size=16))
@example(['"', "\\", "'", "#", ";", " ", "a b"])
def test_quoted_words_come_back(said):
    assert lexer.lex(" ".join(map(lexer.quoted, said))).words == tuple(said)


@given(st.binary(max_size=400))
@example(b"<a>\n</a>x")
@example(b"\xff\xfe")
def test_any_bytes_are_read_or_refused(data):
    for text in (data, PIA.encode() + data, data + PIA.encode()):
        try:
            config = parse(text, "a.ovpn")
        except ConfigError:
            continue
        assert parse(render(config, HERE).encode(), "b").options == config.options
