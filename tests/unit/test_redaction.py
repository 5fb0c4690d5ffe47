"""Redaction: no secret survives, wherever it stands; what helps stays readable."""

from __future__ import annotations

import base64
import ipaddress
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.core.redaction import HOST, SECRET, USER, redacted

KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"PrivateKey = {KEY}", "PrivateKey = <secret>"),
        (f"peer {KEY} is gone", "peer <key> is gone"),
        (f"/etc/wireguard.{KEY}.conf", "/etc/wireguard.<key>.conf"),
        ("http://jo:hunter2@10.0.0.2:8080/x", "http://<user>@10.0.0.2:8080/x"),
        ("http://jo:p@ss/w:rd@10.0.0.2:8080/x", "http://<user>@10.0.0.2:8080/x"),
        ("mail jo.doe+vpn@example.org now", "mail <e-mail> now"),
        ("at aa:bb:cc:dd:ee:ff", "at <MAC 1>"),
        ("at AA-BB-CC-DD-EE-FF and aabb.ccdd.eeff", "at <MAC 1> and <MAC 1>"),
        ("account 1234567890123456", "account <number>"),
        ("logging in as p1234567 failed, p1234567", "logging in as <user> failed, <user>"),
        ("account 1234 5678 9012 3456", "account <number>"),
        ("id deadbeefdeadbeef", "id <token>"),
        ("id 123e4567-e89b-12d3-a456-426614174000", "id <token>"),
        ("SID=abc123; path=/", "SID=<secret>; path=/"),
        ("password: hunter2", "password: <secret>"),
        ("--password hunter2 --port 5", "--password <secret> --port 5"),
        ('{"password": "a\\"b c", "port": 5}', '{"password": <secret>, "port": 5}'),
        ('{"username":"jo","port":5}', '{"username":<secret>,"port":5}'),
        ("Authorization: Bearer abc.def-ghi", "Authorization: <secret>"),
        ("/home/jo/vpn/home.conf: missing", "/home/<user>/vpn/home.conf: missing"),
        ("198.51.100.7:40000", "<address 1>:40000"),
        ("[2001:db8::7]:40000", "[<address 1>]:40000"),
        ("asking 2001:db8::7: no answer", "asking <address 1>: no answer"),
        ("fe80::1%eth0", "<address 1>%eth0"),
        ("node-198-51-100-7.example.net and 198.51.100.7", "node-<address 1>.example.net and <address 1>"),
    ],
)
def test_what_is_hidden(text, expected):
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-04T03:02:01.000Z 08:00:00 READY",
        "torrent: port 40000 (tcp and udp), local port 6881, renewed in 23 s",
        "asking 10.2.0.1 for a port: no answer after 4 tries",
        "10.2.0.2/32 192.168.1.0/24 172.16.0.1 100.64.0.1 127.0.0.1 169.254.1.1 0.0.0.0/0 224.0.0.251",
        "::/0 ::1 ff02::fb fe80::/10 fc00::/7",
        "kernel 6.1.0-28-cloud-amd64, Python 3.11.7, nftables v1.0.6",
        "counter packets 3 bytes 123456789012345",
        "profile p12 on vpf-p12345-1, version v1.2.3, x86_64, sp1234567, p1234567x",
        "login: failed with status 403 (wrong name or password)",
        "/etc/vpnpf/config.toml: profiles.home.policy.mode",
        "",
    ],
)
def test_what_stays_readable(text):
    assert redacted(text) == text


def test_the_same_address_has_the_same_name_everywhere():
    text = "198.51.100.7 2001:db8::1 203.0.113.9 198.51.100.7 2001:0DB8:0::1 ::ffff:203.0.113.9"
    assert redacted(text) == "<address 1> <address 2> <address 3> <address 1> <address 2> <address 3>"


def test_what_is_known_is_hidden_in_every_spelling():
    secret = 'p"ä\\ s/1'
    text = f"{secret} | {json.dumps(secret)} | p%22%C3%A4%5C%20s%2F1 | p%22%C3%A4%5C+s%2F1"
    assert redacted(text, {secret: SECRET}) == '<secret> | "<secret>" | <secret> | <secret>'


def test_names_are_whole_words_in_any_case():
    assert redacted("jo@box on BOX, box-2, boxes", {"box": HOST, "jo": USER}) == "<e-mail> on <host>, <host>-2, boxes"


def test_a_name_inside_a_secret_does_not_save_the_rest():
    key = "yAnz5TF+jo+Jte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
    assert redacted(f"<{key}>", {"jo": USER}) == "<<key>>"
    assert redacted("x hunter2@198.51.100.7y z", {"hunter2@198.51.100.7y": SECRET}) == "x <secret> z"


# -- canaries -----------------------------------------------------------------------------------

KEYS = st.binary(min_size=32, max_size=32).map(lambda data: base64.b64encode(data).decode())
TOKENS = st.text("0123456789abcdef", min_size=16, max_size=64)
NUMBERS = st.text("0123456789", min_size=16, max_size=40)
MACS = st.lists(st.text("0123456789abcdef", min_size=2, max_size=2), min_size=6, max_size=6)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz", min_size=6, max_size=12).map(lambda name: f"q{name}z")
PASSWORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=6, max_size=20)
V4 = st.ip_addresses(v=4).filter(lambda address: address.is_global and not address.is_multicast)
V6 = st.ip_addresses(v=6, network="2000::/3")
CANARIES = st.one_of(
    KEYS,
    TOKENS,
    NUMBERS,
    MACS.map(":".join),
    MACS.map("-".join),
    V4.map(str),
    V6.map(str),
    V6.map(lambda address: address.exploded),
    NAMES.map(lambda name: f"{name}@example.org"),
)
MARK = "Qx7"
"""Begins and ends a made-up password, so that any rest of it is found."""
AROUND = st.sampled_from(
    ["", " ", "\n", "(", ")", '"', "'", "=", ": ", "/", ", ", " asking ", ".conf", "é", "<", ">", "_"]
)


def places(secret, before, after):
    """Everywhere a secret could be found."""
    text = f"{before}{secret}{after}"
    yield text
    yield json.dumps({"problems": [{"message": text, "hint": f"see {text}"}]})
    yield json.dumps({"evidence": text}, indent=2, ensure_ascii=False)
    yield f"2026-05-04 03:02:01 torrent: port 40000 is lost ({text})"
    yield f"/etc/vpnpf/{before}{secret}.conf cannot be read"
    yield f"a {text} b {text}"


@given(CANARIES, AROUND, AROUND)
def test_a_canary_never_survives(secret, before, after):
    for text in places(secret, before, after):
        assert secret.lower() not in redacted(text).lower()


@given(NAMES, PASSWORDS, AROUND, AROUND)
def test_neither_name_nor_password_of_a_url_survives(name, password, before, after):
    inside = "".join(c for c in password if c not in "\"\\'")
    url = f"http://{name}:{MARK}{inside}{MARK}@example.org:8080/"
    for text in places(url, before, after):
        said = redacted(text)
        assert name not in said
        assert MARK not in said


@given(PASSWORDS, st.sampled_from(["password", "token", "apikey", "secret", "PresharedKey", "cookie"]))
def test_what_is_set_by_a_name_does_not_survive(password, name):
    secret = MARK + "".join(c for c in password if c not in "\"\\',;&}])") + MARK
    for text in (f"{name}={secret} x", f"{name}: {secret} x", json.dumps({name: secret, "port": 5})):
        assert MARK not in redacted(text)


@given(PASSWORDS, AROUND, AROUND)
def test_a_known_password_does_not_survive(password, before, after):
    for text in places(password, before, after):
        said = redacted(text, {password: "<?>"})
        for way in {password, json.dumps(password)[1:-1]}:
            assert way not in said


@given(NAMES, st.sampled_from(["/home/{}/x", "/Users/{}/x", '"/home/{}"', "file:///home/{}", "/var/home/{}: no"]))
def test_a_home_directory_does_not_survive(name, pattern):
    assert name not in redacted(pattern.format(name))


@given(st.lists(V4 | V6, min_size=1, max_size=20))
def test_placeholders_are_stable_and_tell_addresses_apart(addresses):
    said = redacted("\n".join(map(str, addresses))).split("\n")
    names = {}
    for address, name in zip(map(ipaddress.ip_address, addresses), said, strict=True):
        mapped = getattr(address, "ipv4_mapped", None) or address
        assert names.setdefault(mapped, name) == name
    assert len(set(names.values())) == len(names)


@given(st.text(), st.dictionaries(st.text(max_size=8), st.sampled_from([USER, SECRET]), max_size=3))
def test_it_never_raises_and_twice_is_safe(text, known):
    assert isinstance(redacted(redacted(text, known), known), str)


@pytest.mark.timeout(20)
def test_a_long_text_takes_no_long_time():
    for piece in ("a:", "a", "0", "-", "1.", "::", "http://", "a@", "AaA1/", "%41", '"', "password="):
        redacted(piece * (60_000 // len(piece)))
