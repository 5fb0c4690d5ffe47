"""The allow-list parser of WireGuard files: what providers write, what attackers write, and what comes out."""

from __future__ import annotations

import base64
import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpnpf.errors import ConfigError
from vpnpf.model import Endpoint
from vpnpf.protocol.wireguard_config import WireGuardConfig, parse

PRIVATE = base64.b64encode(bytes(range(32))).decode()
PUBLIC = base64.b64encode(bytes(range(100, 132))).decode()
SHARED = base64.b64encode(bytes(range(200, 232))).decode()

PROTON = f"""\
[Interface]
# Key for laptop
# Bouncing = 0
# NetShield = 0
# Moderate NAT = off
# NAT-PMP (Port Forwarding) = on
# VPN Accelerator = on
PrivateKey = {PRIVATE}
Address = 10.2.0.2/32
DNS = 10.2.0.1

[Peer]
# NL-FREE#1
PublicKey = {PUBLIC}
AllowedIPs = 0.0.0.0/0
Endpoint = 198.51.100.10:51820
"""
MULLVAD = f"""\
[Interface]
# Device: Brave Mole
PrivateKey = {PRIVATE}
Address = 10.66.12.7/32,fc00:bbbb:bbbb:bb01::3:c06/128
DNS = 10.64.0.1

[Peer]
PublicKey = {PUBLIC}
AllowedIPs = 0.0.0.0/0,::0/0
Endpoint = [2001:db8:10::10]:3012
"""
PIA = f"""\
[Interface]
Address = 10.13.128.97
PrivateKey = {PRIVATE}
DNS = 10.0.0.243,10.0.0.242

[Peer]
PersistentKeepalive = 25
PublicKey = {PUBLIC}
AllowedIPs = 0.0.0.0/0
Endpoint = 203.0.113.7:1337
"""
AIRVPN = f"""\
[Interface]
Address = 10.154.12.8/32, fd7d:76ee:e68f:a993:9fd4:4c9e:d5e3:1/128
PrivateKey = {PRIVATE}
MTU = 1320
DNS = 10.128.0.1, fd7d:76ee:e68f:a993::1

[Peer]
PublicKey = {PUBLIC}
PresharedKey = {SHARED}
Endpoint = europe3.vpn.airdns.org:1637
AllowedIPs = 0.0.0.0/0, ::/0
PersistentKeepalive = 15
"""


def mistakes(text):
    with pytest.raises(ConfigError) as refused:
        parse(text, "proton.conf")
    return refused.value.mistakes


# -- what providers write --------------------------------------------------------------------------


def test_a_file_of_protonvpn():
    config = parse(PROTON, "proton.conf")
    assert config == WireGuardConfig(
        private_key=PRIVATE,
        public_key=PUBLIC,
        host="198.51.100.10",
        port=51820,
        addresses=("10.2.0.2/32",),
        dns=("10.2.0.1",),
        notes=(
            "Key for laptop",
            "Bouncing = 0",
            "NetShield = 0",
            "Moderate NAT = off",
            "NAT-PMP (Port Forwarding) = on",
            "VPN Accelerator = on",
            "NL-FREE#1",
        ),
    )
    assert (config.mtu, config.keepalive, config.listen_port, config.preshared_key) == (1420, 25, None, None)


def test_a_file_of_mullvad():
    config = parse(MULLVAD, "mullvad.conf")
    assert config.addresses == ("10.66.12.7/32", "fc00:bbbb:bbbb:bb01::3:c06/128")
    assert (config.host, config.port) == ("2001:db8:10::10", 3012)


def test_a_file_of_pia():
    config = parse(PIA, "pia.conf")
    assert config.addresses == ("10.13.128.97/32",)
    assert config.dns == ("10.0.0.243", "10.0.0.242")


def test_a_file_of_airvpn():
    config = parse(AIRVPN, "air.conf")
    assert config.preshared_key == SHARED
    assert (config.host, config.port) == ("europe3.vpn.airdns.org", 1637)
    assert (config.mtu, config.keepalive) == (1320, 15)
    assert config.dns == ("10.128.0.1", "fd7d:76ee:e68f:a993::1")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n", "# exported\n"])
def test_line_endings_and_a_byte_order_mark_make_no_difference(ending, start):
    plain = parse(PROTON, "proton.conf")
    found = parse(start + PROTON.replace("\n", ending), "proton.conf")
    assert dataclasses.replace(found, notes=()) == dataclasses.replace(plain, notes=())


def edited(old, new, text=PROTON):
    assert text.count(old) == 1
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "field", "value"),
    [
        ("DNS = 10.2.0.1\n", "", "dns", ()),
        ("DNS = 10.2.0.1", "DNS = 10.2.0.1, lan.example, corp", "dns", ("10.2.0.1",)),
        ("DNS = 10.2.0.1", "DNS = 10.2.0.1\nDNS = 10.2.0.3", "dns", ("10.2.0.1", "10.2.0.3")),
        ("DNS = 10.2.0.1", "DNS = 2a07:b944::2:1, 10.2.0.1", "dns", ("10.2.0.1",)),
        ("10.2.0.2/32", "10.2.0.2/255.255.255.0", "addresses", ("10.2.0.2/24",)),
        ("10.2.0.2/32", "FD00::2/64, 10.2.0.2", "addresses", ("10.2.0.2/32", "fd00::2/64")),
        ("PrivateKey", "privatekey", "private_key", PRIVATE),
        ("PrivateKey =", "\tPrivateKey=", "private_key", PRIVATE),
        ("[Interface]", "[ interface ]  # mine", "private_key", PRIVATE),
        (":51820", ":51820 # the server", "port", 51820),
        ("AllowedIPs = 0.0.0.0/0", "AllowedIPs = ::/0\nAllowedIPs = 0.0.0.0/0", "port", 51820),
        ("[Peer]", "[Peer]\nPersistentKeepalive = 0", "keepalive", 25),
        ("[Peer]", "[Peer]\nPersistentKeepalive = off", "keepalive", 25),
        ("[Peer]", "[Peer]\nPersistentKeepalive = 65535", "keepalive", 65535),
        ("[Peer]", "MTU = 1280\n[Peer]", "mtu", 1280),
        ("[Peer]", "ListenPort = 0\n[Peer]", "listen_port", None),
        ("[Peer]", "ListenPort = 51820\n[Peer]", "listen_port", 51820),
        ("198.51.100.10:", "node-nl-01.protonvpn.net:", "host", "node-nl-01.protonvpn.net"),
    ],
)
def test_what_else_is_understood(old, new, field, value):
    assert getattr(parse(edited(old, new), "proton.conf"), field) == value


def test_keys_are_not_shown():
    config = dataclasses.replace(parse(PROTON, "proton.conf"), preshared_key=SHARED)
    assert PRIVATE not in repr(config)
    assert SHARED not in repr(config)


# -- what is refused -------------------------------------------------------------------------------

S = "hunter2Secret"
"""Stands for a secret in the wrong place: it must never be said again."""
BARE = "gI6EdUSYvn8ugXOt8QQDYcJyiZxIhp3GInSWRfWGE0s="
"""A key alone on its line: up to its padding it looks like the name of a setting."""


def inside(line):
    """The line, in [Interface]; its number is 9."""
    return edited(f"PrivateKey = {PRIVATE}\n", f"PrivateKey = {PRIVATE}\n{line}\n")


def in_peer(line):
    """The line, at the end of the file; its number is 17."""
    return f"{PROTON}{line}\n"


def key(value):
    return edited(f"PrivateKey = {PRIVATE}", f"PrivateKey = {value}")


def address(value):
    return edited("10.2.0.2/32", value)


def dns(value):
    return edited("DNS = 10.2.0.1", f"DNS = {value}")


def endpoint(value):
    return edited("198.51.100.10:51820", value)


def allowed(value):
    return edited("0.0.0.0/0", value)


REFUSED = {
    # Commands, and what is ours to choose.
    "PostUp": (inside(f"PostUp = touch /tmp/{S}"), 9, "PostUp would run a command"),
    "PreUp": (inside(f"PreUp = {S}"), 9, "PreUp would run a command"),
    "PreDown": (inside(f"PreDown = {S}"), 9, "PreDown would run a command"),
    "PostDown": (inside(f"PostDown = {S}"), 9, "PostDown would run a command"),
    "PostUp with %i": (inside(f"PostUp = iptables -A {S} -i %i -j ACCEPT"), 9, "PostUp would run a command"),
    "postup in small letters": (inside(f"postup={S}"), 9, "PostUp would run a command"),
    "POSTUP behind a tab": (inside(f"\tPOSTUP\t=\t{S}"), 9, "PostUp would run a command"),
    "PostUp without a value": (inside("PostUp ="), 9, "PostUp would run a command"),
    "PostUp in [Peer]": (in_peer(f"PostUp = {S}"), 17, "PostUp would run a command"),
    "PostUp before the sections": (f"PostUp = {S}\n{PROTON}", 1, "PostUp would run a command"),
    "PostUp in a section of its own": (f"{PROTON}[Hooks]\nPostUp = {S}\n", 17, "not a section"),
    "PostUp behind a lone CR": (inside(f"MTU = 1420\rPostUp = {S}"), 10, "PostUp would run a command"),
    "PostUp behind a comment's CR": (inside(f"# note\rPostUp = {S}"), 10, "PostUp would run a command"),
    "PostUp behind CR CR LF": (inside(f"MTU = 1420\r\r\nPostUp = {S}"), 11, "PostUp would run a command"),
    "SaveConfig": (inside("SaveConfig = true"), 9, "SaveConfig would overwrite"),
    "Table": (inside("Table = off"), 9, "Table is chosen by vpnpf"),
    "Table as a number": (inside("Table = 254"), 9, "Table is chosen by vpnpf"),
    "FwMark": (inside("FwMark = 0xca6c"), 9, "FwMark is chosen by vpnpf"),
    # Keys that are not known.
    "an unknown key": (inside(f"Frobnicate = {S}"), 9, "unknown key in [Interface]"),
    "an unknown key in [Peer]": (in_peer(f"Frobnicate = {S}"), 17, "unknown key in [Peer]"),
    "a slip of the pen": (inside(f"Adress = {S}"), 9, "did you mean Address?"),
    "a key of the other section": (inside(f"Endpoint = {S}:1"), 9, "unknown key in [Interface]"),
    "a key of AmneziaWG": (inside("Jc = 4"), 9, "unknown key in [Interface]"),
    "a name in quotes": (inside(f'"PostUp" = {S}'), 9, "unknown key"),
    "a name behind dashes": (inside(f"--PostUp = {S}"), 9, "unknown key"),
    "a Kelvin sign for K": (inside(f"Private\u212aey = {S}"), 9, "unknown key"),
    "a long s": (in_peer(f"Pre\u017fharedKey = {S}"), 17, "unknown key"),
    "Cyrillic letters": (inside(f"\u0420ostUp = {S}"), 9, "unknown key"),
    "no name": (inside(f"= {S}"), 9, "unknown key"),
    "a bare key": (inside(BARE), 9, "unknown key"),
    "a secret for a name": (inside(f"{S} = 1"), 9, "unknown key"),
    "a very long name": (inside("A" * 5000 + " = 1"), 9, "unknown key"),
    # Lines and sections.
    "a line that is no pair": (inside(S), 9, "neither a section nor KEY = VALUE"),
    "a shell line": (inside(f"rm -rf /{S}"), 9, "neither a section nor KEY = VALUE"),
    "a continued line": (inside(f"MTU = 1420\\\n {S}"), 9, "MTU: not a number"),
    "a comment with ;": (inside(f"; {S}"), 9, "neither a section nor KEY = VALUE"),
    "a comment with //": (inside(f"// {S}"), 9, "neither a section nor KEY = VALUE"),
    "a key before the first section": (f"MTU = 1420\n{PROTON}", 1, "a key before the first section"),
    "a second [Interface]": (f"{PROTON}[Interface]\nMTU = 1420\n", 17, "a second [Interface], after line 1"),
    "two peers": (
        f"{PROTON}[Peer]\nPublicKey = {SHARED}\nAllowedIPs = 10.0.0.0/8\n",
        17,
        "a second [Peer], after line 12",
    ),
    "a section twice, in other letters": (f"{PROTON}[PEER]\n", 17, "a second [Peer]"),
    "an unknown section": (f"{PROTON}[{S}]\n", 17, "not a section"),
    "a section with a name": (edited("[Peer]", f"[Peer {S}]"), 12, "not a section"),
    "a section in two brackets": (edited("[Interface]", "[[Interface]]"), 1, "not a section"),
    "a section that does not end": (edited("[Interface]", "[Interface"), 1, "not a section"),
    "a section with a dotless i": (edited("[Interface]", "[\u0131nterface]"), 1, "not a section"),
    "a value behind a section": (edited("[Peer]", f"[Peer] PostUp = {S}"), 12, "not a section"),
    "the private key twice": (inside(f"PrivateKey = {SHARED}"), 9, "PrivateKey is there already, in line 8"),
    "the endpoint twice": (in_peer("Endpoint = 192.0.2.1:1"), 17, "Endpoint is there already, in line 16"),
    "MTU twice": (inside("MTU = 1400\nMTU = 1300"), 10, "MTU is there already, in line 9"),
    "no value": (inside("MTU ="), 9, "MTU has no value"),
    "a value that is a comment": (inside(f"MTU = # {S}"), 9, "MTU has no value"),
    # Characters.
    "NUL": (inside(f"MTU = 14\x0020{S}"), 9, "control character"),
    "NUL before a command": (inside(f"# x\x00\x00PostUp = {S}"), 9, "control character"),
    "ESC in a comment": (inside(f"# \x1b]0;{S}\x07"), 9, "control character"),
    "a vertical tab": (inside(f"MTU = 1420\x0bPostUp = {S}"), 9, "control character"),
    "a form feed": (inside(f"MTU = 1420\x0cPostUp = {S}"), 9, "control character"),
    "NEL": (inside(f"MTU = 1420\x85PostUp = {S}"), 9, "control character"),
    "a line separator": (inside(f"MTU = 1420\u2028PostUp = {S}"), 9, "control character"),
    "a paragraph separator": (inside(f"# a\u2029PostUp = {S}"), 9, "control character"),
    "right-to-left override": (inside(f"# \u202e{S}"), 9, "control character"),
    "a zero-width space": (inside(f"M\u200bTU = {S}"), 9, "control character"),
    "a byte order mark inside": (inside(f"\ufeffMTU = {S}"), 9, "control character"),
    "two byte order marks": (f"\ufeff\ufeff{PROTON}", 1, "control character"),
    "a space that does not break": (inside("MTU\u00a0= 1420"), 9, "control character"),
    # Keys.
    "a short key": (key(base64.b64encode(b"x" * 31).decode()), 8, "PrivateKey: not a key"),
    "a long key": (key(base64.b64encode(b"x" * 33).decode()), 8, "PrivateKey: not a key"),
    "a key in hexadecimal": (key("00" * 32), 8, "PrivateKey: not a key"),
    "a key in quotes": (key(f'"{PRIVATE}"'), 8, "PrivateKey: not a key"),
    "a key with a space": (key(f"{PRIVATE[:20]} {PRIVATE[20:]}"), 8, "PrivateKey: not a key"),
    "a key without padding": (key(PRIVATE[:-1]), 8, "PrivateKey: not a key"),
    "a key with bits that say nothing": (key(f"{PRIVATE[:-2]}9="), 8, "PrivateKey: not a key"),
    "a key in the URL alphabet": (key("_" * 42 + "8="), 8, "PrivateKey: not a key"),
    "a path for a key": (key(f"/etc/{S}"), 8, "PrivateKey: not a key"),
    "a key of other letters": (key("\u0430" * 43 + "="), 8, "PrivateKey: not a key"),
    "a preshared key of zeros": (in_peer("PresharedKey = 0"), 17, "PresharedKey: not a key"),
    # Addresses.
    "an address too long": (address("10.2.0.2.4/32"), 9, "Address: not an address"),
    "an address over 255": (address("10.2.0.256/32"), 9, "Address: not an address"),
    "an address with leading zeros": (address("010.002.000.002/32"), 9, "Address: not an address"),
    "a prefix length of 33": (address("10.2.0.2/33"), 9, "Address: not an address"),
    "a prefix length in other digits": (address("10.2.0.2/\u0663\u0662"), 9, "Address: not an address"),
    "an address in other digits": (address("\u0661\u0660.2.0.2/32"), 9, "Address: not an address"),
    "an address with a command of ip": (address(f"10.2.0.2/32 dev lo; {S}"), 9, "Address: not an address"),
    "an address with a zone": (address("10.2.0.2/32, fe80::1%eth0/64"), 9, "Address: not an address"),
    "a zone with words": (address(f"10.2.0.2/32, fe80::1%x dev {S}/64"), 9, "Address: not an address"),
    "no address between commas": (address("10.2.0.2/32,,"), 9, "Address: not an address"),
    "the address of nobody": (address("0.0.0.0/0"), 9, "Address: not an address"),
    "an address of many": (address("224.0.0.1/32"), 9, "Address: not an address"),
    "an IPv4 address in IPv6": (address("10.2.0.2/32, ::ffff:10.2.0.3/128"), 9, "Address: not an address"),
    "IPv6 alone": (address("fd00::2/128"), 9, "no IPv4 address"),
    # Resolvers.
    "a resolver with a port": (dns("10.2.0.1:53"), 10, "DNS: neither an address nor a domain"),
    "a resolver with options": (dns(f"10.2.0.1 options {S}"), 10, "DNS: neither an address nor a domain"),
    "a resolver with a zone": (dns(f"fe80::1%x; {S}"), 10, "DNS: neither an address nor a domain"),
    "half an address": (dns("10.2.0"), 10, "DNS: neither an address nor a domain"),
    "a URL": (dns(f"https://{S}/dns-query"), 10, "DNS: neither an address nor a domain"),
    "the resolver of nobody": (dns("0.0.0.0"), 10, "DNS: neither an address nor a domain"),
    # The endpoint.
    "no port": (endpoint("198.51.100.10"), 16, "Endpoint: not HOST:PORT with a port"),
    "port 0": (endpoint("198.51.100.10:0"), 16, "Endpoint: not HOST:PORT with a port"),
    "port 65536": (endpoint("198.51.100.10:65536"), 16, "Endpoint: not HOST:PORT with a port"),
    "a negative port": (endpoint("198.51.100.10:-1"), 16, "Endpoint: not HOST:PORT with a port"),
    "a port with a sign": (endpoint("198.51.100.10:+51820"), 16, "Endpoint: not HOST:PORT with a port"),
    "a port with an underscore": (endpoint("198.51.100.10:51_820"), 16, "Endpoint: not HOST:PORT with a port"),
    "a port in other digits": (endpoint("198.51.100.10:\u0665\u0661820"), 16, "Endpoint: not HOST:PORT with a port"),
    "a port like a square": (endpoint("198.51.100.10:5182\u00b2"), 16, "Endpoint: not HOST:PORT with a port"),
    "a huge port": (endpoint("198.51.100.10:" + "9" * 5000), 16, "Endpoint: not HOST:PORT with a port"),
    "no host": (endpoint(":51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "a host with a space": (endpoint(f"vpn.example {S}:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "a host with a command": (endpoint(f"$({S}):51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "a host with a slash": (endpoint(f"{S}/32:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "a host like an option": (endpoint(f"--{S}:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "a host of other letters": (endpoint("\u0435xample.com:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "a host too long": (endpoint("a." * 127 + "aaa:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "a label too long": (endpoint("a" * 64 + ".example:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "an old spelling of an address": (endpoint("3325256714:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "an address in hexadecimal": (endpoint("0xc6.0x33.0x64.0xa:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "a URL for a host": (endpoint(f"https://{S}:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "IPv6 without brackets": (endpoint("2001:db8::1:51820"), 16, "IPv6 in brackets"),
    "IPv4 in brackets": (endpoint("[198.51.100.10]:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "a name in brackets": (endpoint("[vpn.example]:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "a zone in the endpoint": (endpoint(f"[fe80::1%{S} accept; x]:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "the endpoint of nobody": (endpoint("0.0.0.0:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "the endpoint of all": (endpoint("255.255.255.255:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    "the endpoint of a group": (endpoint("[ff02::1]:51820"), 16, "Endpoint: not HOST:PORT with a name"),
    # What goes into the tunnel.
    "only some addresses": (allowed("10.2.0.0/24"), 15, "AllowedIPs does not hold 0.0.0.0/0"),
    "only IPv6": (allowed("::/0"), 15, "AllowedIPs does not hold 0.0.0.0/0"),
    "all in two halves": (allowed("0.0.0.0/1, 128.0.0.0/1"), 15, "AllowedIPs does not hold 0.0.0.0/0"),
    "all but one": (allowed("0.0.0.0/0, !192.168.0.0/16"), 15, "AllowedIPs: not a prefix"),
    "no prefix at all": (allowed(S), 15, "AllowedIPs: not a prefix"),
    # Numbers.
    "an MTU too small": (inside("MTU = 575"), 9, "MTU: not a number from 576 to 65535"),
    "an MTU too large": (inside("MTU = 65536"), 9, "MTU: not a number"),
    "an MTU of a thousand digits": (inside("MTU = " + "9" * 1000), 9, "MTU: not a number"),
    "an MTU in hexadecimal": (inside("MTU = 0x58c"), 9, "MTU: not a number"),
    "an MTU with a fraction": (inside("MTU = 1420.0"), 9, "MTU: not a number"),
    "an MTU in other digits": (inside("MTU = \u0661\u0664\u0662\u0660"), 9, "MTU: not a number"),
    "an MTU with words": (inside(f"MTU = 1420 up; {S}"), 9, "MTU: not a number"),
    "an MTU that has no room for IPv6": (
        edited("10.2.0.2/32", "10.2.0.2/32, fd00::2/128", inside("MTU = 1279")),
        9,
        "IPv6 needs at least 1280",
    ),
    "a listen port too large": (inside("ListenPort = 65536"), 9, "ListenPort: not a number"),
    "a keepalive too long": (in_peer("PersistentKeepalive = 65536"), 17, "PersistentKeepalive: not a number"),
    "a keepalive with a unit": (in_peer("PersistentKeepalive = 25s"), 17, "PersistentKeepalive: not a number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_or_hostile_file_is_refused_by_its_line(name):
    text, line, what = REFUSED[name]
    found = mistakes(text)
    first = found[0]
    assert first.where == f"proton.conf:{line}"
    assert what in str(first)
    for said in map(str, found):
        assert S not in said
        assert BARE[:8] not in said
        assert PRIVATE not in said
        assert said.isprintable()


@pytest.mark.parametrize("line", ["PrivateKey", "Address", "PublicKey", "AllowedIPs", "Endpoint"])
def test_what_is_missing_is_named(line):
    text = "".join(each + "\n" for each in PROTON.splitlines() if not each.startswith(line))
    (mistake,) = mistakes(text)
    assert mistake.where == "proton.conf"
    assert mistake.what.startswith(f"{line} is missing in [")
    assert mistake.hint


@pytest.mark.parametrize("text", ["", "\n", "# nothing", "\ufeff", "[Interface]\n[Peer]\n"])
def test_an_empty_file_lacks_everything(text):
    assert len(mistakes(text)) == 5


def test_all_mistakes_come_at_once_in_the_order_of_the_file():
    text = inside("PostUp = x").replace(PUBLIC, "x").replace(":51820", "").replace("10.2.0.2/32", "x")
    found = mistakes(text)
    assert [mistake.where for mistake in found] == [f"proton.conf:{line}" for line in (9, 10, 15, 17)]


def test_the_keys_of_an_unknown_section_are_not_mistakes_of_their_own():
    found = mistakes(f"{PROTON}[Peer2]\nPublicKey = {SHARED}\nFoo = 1\n")
    assert [mistake.where for mistake in found] == ["proton.conf:17"]


# -- what comes out --------------------------------------------------------------------------------


def read_setconf(text):
    """A tiny reader of wg(8)'s format."""
    section, found = "", {}
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        else:
            name, _, value = line.partition(" = ")
            assert (section, name) not in found
            found[section, name] = value
    return found


def test_what_wg_gets_is_written_anew():
    config = parse(edited("[Peer]", f"ListenPort = 7\n[Peer]\nPresharedKey = {SHARED}"), "proton.conf")
    assert read_setconf(config.setconf(Endpoint("2001:db8::1", 51820), 0x76701B58)) == {
        ("Interface", "PrivateKey"): PRIVATE,
        ("Interface", "FwMark"): "0x76701b58",
        ("Interface", "ListenPort"): "7",
        ("Peer", "PublicKey"): PUBLIC,
        ("Peer", "PresharedKey"): SHARED,
        ("Peer", "Endpoint"): "[2001:db8::1]:51820",
        ("Peer", "AllowedIPs"): "0.0.0.0/0, ::/0",
        ("Peer", "PersistentKeepalive"): "25",
    }


def test_nothing_of_the_file_but_its_values_gets_through():
    marked = re.sub(r"(?m)$", "  # passed-on", PROTON.replace("# Bouncing", "#Bouncing passed-on"))
    config = parse(marked, "proton.conf")
    assert "passed-on" not in config.setconf(Endpoint("198.51.100.10", 51820), 1)


SAFE_LINE = re.compile(r"\[(Interface|Peer)\]|[A-Za-z]+ = [A-Za-z0-9+/=.:, \[\]]+")

keys = st.binary(min_size=32, max_size=32).map(lambda raw: base64.b64encode(raw).decode())
ports = st.integers(1, 65535)
v4 = st.ip_addresses(v=4).map(str)
v6 = st.ip_addresses(v=6).map(str)
addresses = st.one_of(v4, v6, v4.map(lambda each: f"{each}/24"), v6.map(lambda each: f"{each}/64"))
junk = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "#", "=", "[", "]", "%", "\r", "\n", "\t", "\x00", "fe80::1%a b", "off", "0x7f.1", "::ffff:1.2.3.4"]
    ),
)
lines = st.one_of(
    st.sampled_from(["[Interface]", "[Peer]", "", "# note", f"PrivateKey = {PRIVATE}", f"PublicKey = {PUBLIC}"]),
    st.builds("PrivateKey = {}".format, st.one_of(keys, junk)),
    st.builds("Address = {}".format, st.one_of(addresses, junk)),
    st.builds("DNS = {}".format, st.one_of(addresses, junk)),
    st.builds("{} = {}".format, st.sampled_from(["MTU", "ListenPort", "PersistentKeepalive"]), st.integers(-1, 70000)),
    st.builds("Endpoint = {}:{}".format, st.one_of(v4, v6.map("[{}]".format), junk), st.one_of(ports, junk)),
    st.builds("AllowedIPs = 0.0.0.0/0, {}".format, st.one_of(addresses, junk)),
    st.builds("{} = {}".format, junk, junk),
    junk,
)


def accepted(text):
    """The configuration, or None if it was refused."""
    try:
        return parse(text, "any.conf")
    except ConfigError:
        return None


@given(st.one_of(st.text(), st.lists(lines).map("\n".join)))
def test_whatever_a_file_holds_it_is_a_configuration_or_a_mistake(text):
    accepted(text)


rarely = st.one_of(st.just([]), st.just([]), st.lists(lines, max_size=2))
of_the_interface = st.one_of(
    st.builds("DNS = {}".format, addresses), st.builds("MTU = {}".format, st.integers(576, 65535))
)
of_the_peer = st.one_of(
    st.builds("PresharedKey = {}".format, keys), st.builds("PersistentKeepalive = {}".format, st.integers(0, 65535))
)
hosts = st.one_of(v4, v6.map("[{}]".format), st.just("vpn.example"), junk)
before_peer = st.builds(list.__add__, st.lists(of_the_interface, max_size=1), rarely)
after_peer = st.builds(list.__add__, st.lists(of_the_peer, max_size=1), rarely)


@settings(max_examples=500)
@given(st.tuples(before_peer, addresses, hosts, after_peer))
def test_what_is_accepted_is_read_back_as_the_same(parts):
    before, own, host, after = parts
    interface = ["[Interface]", f"PrivateKey = {PRIVATE}", f"Address = 10.2.0.2/32, {own}", *before]
    peer = ["[Peer]", f"PublicKey = {PUBLIC}", "AllowedIPs = 0.0.0.0/0", f"Endpoint = {host}:51820", *after]
    text = "\n".join([*interface, *peer])
    config = accepted(text)
    if config is None:
        return
    again = written(config)
    assert parse(again, "again.conf") == dataclasses.replace(config, notes=())
    for line in [*again.splitlines(), *config.setconf(Endpoint("198.51.100.10", 1), 1).splitlines()]:
        assert SAFE_LINE.fullmatch(line.replace("-", "").replace("_", ""))


def written(config):
    """A provider's file with these values and nothing else."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    interface = {
        "PrivateKey": config.private_key,
        "Address": ", ".join(config.addresses),
        "DNS": ", ".join(config.dns),
        "MTU": config.mtu,
        "ListenPort": config.listen_port,
    }
    peer = {
        "PublicKey": config.public_key,
        "PresharedKey": config.preshared_key,
        "AllowedIPs": "0.0.0.0/0",
        "Endpoint": f"{host}:{config.port}",
        "PersistentKeepalive": config.keepalive,
    }
    text = ""
    for name, section in (("Interface", interface), ("Peer", peer)):
        text += f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in section.items() if value)
    return text
