"""Mutated configuration files and management lines: `python -m tests.fuzz.configs`, a part of `make fuzz`.

Each goes through the parser of its kind. What is accepted must read the same when written anew, and hold nothing but
what the oracle knows to be harmless; OpenVPN's words are held against a lexer that was written apart.
"""

from __future__ import annotations

import argparse
import ipaddress
import random
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace

from msgspec.structs import asdict

from tests.figures import Figure, show
from tests.fuzz import oracle_openvpn as oracle
from tests.malicious import corpus
from vpnpf.errors import ConfigError
from vpnpf.model import Endpoint, Protocol
from vpnpf.protocol import openvpn_config, openvpn_lexer, wireguard_config
from vpnpf.protocol.openvpn_management import Management, PushReply, StateChange, UpDown

HERE = Endpoint("192.0.2.1", 1194)
OVPN = corpus.ovpn()
MORE = b"""\
client
proto udp
remote b.example 443 tcp
remote-random
cipher AES-256-GCM
data-ciphers AES-256-GCM:AES-128-GCM
auth SHA256
tls-version-min 1.3
verify-x509-name "CN = a b" subject
keepalive 10 60
mssfix 1400 mtu
reneg-sec 3600 60
tun-mtu 1400
comp-lzo
auth-user-pass
<connection>
remote 192.0.2.9 1194 udp
</connection>
setenv opt block-outside-dns
"""
WIREGUARD = corpus.WIREGUARD.encode()
TALK = b"""\
>INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info
>HOLD:Waiting for hold release:10
>STATE:1700000000,CONNECTED,SUCCESS,10.8.0.3,198.51.100.10,1194,,,fd00::3
>PASSWORD:Need 'Auth' username/password
>PASSWORD:Verification Failed: 'Auth' ['no']
>LOG:1700000000,,PUSH: Received control message: 'PUSH_REPLY,route-gateway 10.8.0.1,topology subnet,ping 10,\
dhcp-option DNS 10.8.0.1,tun-mtu 1400,ifconfig-ipv6 fd00::3/64 fd00::1,ifconfig 10.8.0.3 255.255.255.0,\
push-continuation 1'
>UPDOWN:UP
>UPDOWN:ENV,ifconfig_local=10.8.0.3
>UPDOWN:ENV,ifconfig_netmask=255.255.255.0
>UPDOWN:ENV,END
>BYTECOUNT:1,2
SUCCESS: x
""".replace(b"\\\n", b"")
PIECES = [
    *(case.bad for case in (*corpus.OVPN_CASES.values(), *corpus.WIREGUARD_CASES.values())),
    *(each + b"\n" for each in (OVPN + MORE + WIREGUARD + TALK).split(b"\n")),
    *(b'"', b"'", b"\\", b"#", b";", b"--", b"<", b">", b"</", b"\t", b" ", b"\r", b"\n", b"\0", b"\xef\xbb\xbf"),
    *(b"\x0b", b"\xc2\xa0", b"\xe2\x80\xa8", b"%", b",", b"=", b"[", b"]", b"[inline]", b"none", b"setenv opt "),
]
WORD = re.compile(rb"[^ \t\r\n]+")


class Mutator:
    """Inputs without end, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._ways = (self.put, self.put, self.cut, self.flip, self.double, self.swap, self.word, self.word)

    def next(self, good: bytes) -> bytes:
        """A good one after one to four changes; few, since one bad line is enough to be refused."""
        for _ in range(self._dice.choice((1, 1, 1, 1, 2, 4))):
            good = self._dice.choice(self._ways)(good)
        return good

    def line(self) -> str:
        """A line of what lexers care for."""
        return "".join(self._dice.choice('ab\\\\""\'# ;\t') for _ in range(self._dice.randrange(24)))

    def put(self, data: bytes) -> bytes:
        at, piece = self._at(data), self._dice.choice(PIECES)
        if self._dice.random() < 0.7:
            at = data.rfind(b"\n", 0, at) + 1
        return data[:at] + piece + data[at:]

    def cut(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + data[at + self._dice.choice((1, 2, 8, 40)) :]

    def flip(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + bytes([self._dice.randrange(256)]) + data[at + 1 :]

    def double(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        lines.insert(self._dice.randrange(len(lines)), self._dice.choice(lines))
        return b"\n".join(lines)

    def swap(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        one, other = self._dice.randrange(len(lines)), self._dice.randrange(len(lines))
        lines[one], lines[other] = lines[other], lines[one]
        return b"\n".join(lines)

    def word(self, data: bytes) -> bytes:
        """A word in another spelling, or another's word."""
        words = list(WORD.finditer(data))
        if not words:
            return data
        found, dice = self._dice.choice(words), self._dice
        text = dice.choice(words)[0] if dice.random() < 0.3 else found[0]
        text = dice.choice((b'"%s"', b"'%s'", b"--%s", b"\\%s", b"%s", b"%s\t", b" %s", b"%s#", b"0%s")) % text
        return data[: found.start()] + text + data[found.end() :]

    def _at(self, data: bytes) -> int:
        return self._dice.randrange(len(data) + 1)


@dataclass
class Result:
    """What came of it."""

    inputs: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    raised: list[tuple[str, str, str]] = field(default_factory=list)
    """(parser, input, error)."""
    wrongly: list[tuple[str, str, str]] = field(default_factory=list)
    """(parser, input, what was found)."""
    seconds: float = 0.0


def judge_ovpn(data: bytes) -> str | None:
    """What is wrong with how it was accepted; "" nothing, None: it was refused."""
    try:
        config = openvpn_config.parse(data, "a.ovpn")
    except ConfigError as error:
        shown = all(mistake.where.startswith("a.ovpn") and str(mistake).isprintable() for mistake in error.mistakes)
        return None if error.mistakes and shown else "refused without a place"
    for endpoint in (HERE, replaced_protocol(HERE)):
        text = openvpn_config.render(config, endpoint)
        again = openvpn_config.parse(text.encode(), "b.ovpn")
        kept = tuple(each for each in config.options if each[0] != "fragment" or endpoint is HERE)
        if (again.options, again.inline) != (kept, config.inline):
            return "it reads otherwise when written anew"
        if bad := oracle.harmful(text):
            return bad
    return ""


def replaced_protocol(endpoint: Endpoint) -> Endpoint:
    return Endpoint(endpoint.address, endpoint.port, Protocol.TCP)


def judge_wireguard(data: bytes) -> str | None:
    try:
        config = wireguard_config.parse(data.decode("utf-8", "replace"), "a.conf")
    except ConfigError as error:
        return None if error.mistakes else "refused without a mistake"
    if not oracle.SETCONF.fullmatch(config.setconf(HERE, 1)):
        return "setconf holds something else"
    lines = [f"PrivateKey = {config.private_key}", f"MTU = {config.mtu}", f"Address = {', '.join(config.addresses)}"]
    lines += [f"DNS = {each}" for each in config.dns]
    lines += [f"ListenPort = {config.listen_port}"] if config.listen_port else []
    host = f"[{config.host}]" if ":" in config.host else config.host
    lines += ["[Peer]", f"PublicKey = {config.public_key}", f"Endpoint = {host}:{config.port}"]
    lines += ["AllowedIPs = 0.0.0.0/0", f"PersistentKeepalive = {config.keepalive}"]
    lines += [f"PresharedKey = {config.preshared_key}"] if config.preshared_key else []
    again = wireguard_config.parse("\n".join(["[Interface]", *lines]), "b.conf")
    return "" if again == replace(config, notes=()) else "it reads otherwise when written anew"


def judge_management(data: bytes) -> str | None:
    whole, halves = Management(), Management()
    said = whole.receive(data)
    if said != halves.receive(data[: len(data) // 2]) + halves.receive(data[len(data) // 2 :]):
        return "in two pieces it says something else"
    texts = [text for each in said for text in asdict(each).values() if isinstance(text, str)]
    if not all(text.isprintable() for text in texts):
        return "control characters"
    useful = None
    for each in said:
        if isinstance(each, PushReply | UpDown):
            found = each.pushed
            for address in (found.gateway, found.address, found.address6, *found.dns):
                ipaddress.ip_interface(address or "192.0.2.1")
            useful = ""
        elif isinstance(each, StateChange):
            useful = ""
    return useful


def judge_words(line: str) -> str | None:
    try:
        ours = openvpn_lexer.lex(line).words
    except openvpn_lexer.Unlexable:
        ours = None
    theirs = oracle.words(line)
    return f"{ours} for {theirs}" if ours != theirs else (None if ours is None else "")


JUDGES = {"openvpn": judge_ovpn, "wireguard": judge_wireguard, "management": judge_management}


def fuzz(count: int, seed: int) -> Result:
    """So many inputs, and as many lines for the lexer."""
    result, mutator, begun = Result(), Mutator(seed), time.monotonic()
    good = {
        "openvpn": (OVPN, OVPN.replace(b"proto udp\n", MORE)),
        "wireguard": (WIREGUARD, WIREGUARD),
        "management": (TALK, TALK),
    }
    names = list(good)
    for number in range(count):
        name = names[number % len(names)]
        _judge(result, name, mutator.next(good[name][number // len(names) % 2]))
        _judge(result, "words", mutator.line())
    result.seconds = time.monotonic() - begun
    return result


def _judge(result: Result, name: str, data) -> None:
    judge = JUDGES.get(name, judge_words)
    result.inputs[name] += 1
    try:
        said = judge(data)
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        result.raised.append((name, repr(data), repr(error)))
        return
    if said:
        result.wrongly.append((name, repr(data), said))
    elif said is not None:
        result.accepted[name] += 1


def main() -> int:
    """Fuzz, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    result = fuzz(options.count, options.seed)
    rows = [
        Figure("inputs", sum(result.inputs[name] for name in JUDGES), "", at_least=options.count),
        Figure("lines against another lexer", result.inputs["words"], "", at_least=options.count),
        Figure("exceptions", len(result.raised), "", at_most=0),
        Figure("accepted, and harmful or misread", len(result.wrongly), "", at_most=0),
        *(Figure(f"accepted by {name}", result.accepted[name], "", at_least=1) for name in (*JUDGES, "words")),
        Figure("real time", result.seconds, "s"),
    ]
    code = show(f"{options.count:,} configuration files and management talks, seed {options.seed}", rows)
    for found in (*result.raised[:10], *result.wrongly[:10]):
        print(*found)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
