"""Readers of the directives of OpenVPN 2.6 that are kept, or dropped only with certain words.

A kept one is read into words of its own, so nothing of the file's text is passed on unchecked.
Readers take the words after the name and raise ValueError, whose text never holds them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from vpnpf.model import Protocol
from vpnpf.protocol import values

Reader = Callable[[tuple[str, ...]], tuple[str, ...]]
"""Gives the canonical words, name included; none: it is dropped."""

TLS_LEAST = "1.2"
"""RFC 8996: TLS 1.0 and 1.1 must not be used."""
SCRIPTS = frozenset({
    "/etc/openvpn/update-resolv-conf",
    "/etc/openvpn/update-resolv-conf.sh",
    "/etc/openvpn/update-systemd-resolved",
    "/etc/openvpn/scripts/update-systemd-resolved",
})  # fmt: skip
"""What providers' files for Linux name in `up` and `down`: it would set the resolver, which vpnpf does itself."""

_ALGORITHM = r"[A-Za-z][A-Za-z0-9-]{2,31}"
_TLS_WORD = r"(?:[!+-]?[A-Za-z0-9][A-Za-z0-9_+-]{1,63}|@STRENGTH|@SECLEVEL=[1-5])"
_NO_CIPHER = {"none", "null"}


def pattern(name: str, *expressions: str, optional: int = 0, what: str) -> Reader:
    """A reader of words by regular expressions; the last `optional` ones may be missing."""
    compiled = [re.compile(each, re.ASCII) for each in expressions]

    def read(words: tuple[str, ...]) -> tuple[str, ...]:
        fits = len(compiled) - optional <= len(words) <= len(compiled)
        if not fits or not all(each.fullmatch(word) for each, word in zip(compiled, words, strict=False)):
            raise ValueError(f"not {what}")
        return (name, *words)

    return read


def numbers(name: str, *bounds: tuple[int, int], optional: int = 0) -> Reader:
    """A reader of whole numbers within bounds."""

    def read(words: tuple[str, ...]) -> tuple[str, ...]:
        if not len(bounds) - optional <= len(words) <= len(bounds):
            raise ValueError("not as many numbers as it takes")
        return (name, *(str(values.number(*each)(word)) for each, word in zip(bounds, words, strict=False)))

    return read


def _ciphers(name: str, *, several: bool) -> Reader:
    expression = rf"\??{_ALGORITHM}(?::\??{_ALGORITHM})*" if several else _ALGORITHM
    read = pattern(name, expression, what="a list of ciphers" if several else "a cipher such as AES-256-GCM")

    def strict(words: tuple[str, ...]) -> tuple[str, ...]:
        found = read(words)
        if _NO_CIPHER & {each.removeprefix("?").lower() for each in found[1].split(":")}:
            raise ValueError("it would take the encryption away")
        return _short(found)

    return strict


def _digest(words: tuple[str, ...]) -> tuple[str, ...]:
    found = pattern("auth", _ALGORITHM, what="a digest such as SHA256")(words)
    if found[1].lower() in _NO_CIPHER:
        raise ValueError("it would take the authentication away")
    return found


def _tls_list(name: str) -> Reader:
    read = pattern(name, rf"{_TLS_WORD}(?::{_TLS_WORD})*", what="a list of TLS ciphers")

    def strict(words: tuple[str, ...]) -> tuple[str, ...]:
        found = read(words)
        wanted = [each.lower() for each in found[1].split(":") if not each.startswith(("!", "-"))]
        if any("null" in each or "anon" in each or each.startswith(("adh", "aecdh")) for each in wanted):
            raise ValueError("it would take the encryption or the server's proof away")
        return _short(found)

    return strict


def _short(words: tuple[str, ...]) -> tuple[str, ...]:
    """Room for quotes and a longer name on the line that we write."""
    if any(len(word) > 200 for word in words):  # noqa: PLR2004 - of OpenVPN's 255
        raise ValueError("longer than 200 characters")
    return words


def _least_tls(words: tuple[str, ...]) -> tuple[str, ...]:
    found = pattern("tls-version-min", r"1\.[0-3]", "or-highest", optional=1, what="a version of TLS")(words)
    return ("tls-version-min", max(found[1], TLS_LEAST))


def _server_only(name: str) -> Reader:
    def read(words: tuple[str, ...]) -> tuple[str, ...]:
        if words != ("server",):
            raise ValueError('it must say "server", or any customer could pose as one')
        return ("remote-cert-tls", "server")

    read.__name__ = name
    return read


def _x509_name(words: tuple[str, ...]) -> tuple[str, ...]:
    kind = r"name|name-prefix|subject"
    read = pattern("verify-x509-name", r"[A-Za-z0-9 _.,=/@:*+()&'-]{1,200}", kind, optional=1, what="a server's name")
    return read(words)


def _lzo(words: tuple[str, ...]) -> tuple[str, ...]:
    """Compressed packets tell what they hold by their length (VORACLE), so only the framing is kept."""
    if words not in {(), ("no",), ("yes",), ("adaptive",)}:
        raise ValueError("not yes, no or adaptive")
    return ("comp-lzo", "no")


def _compress(words: tuple[str, ...]) -> tuple[str, ...]:
    if words not in {(), ("stub",), ("stub-v2",), ("migrate",)}:
        raise ValueError("compression tells what packets hold by their length")
    return ("compress", *words)


def _restarted(words: tuple[str, ...]) -> tuple[str, ...]:
    """Drop `script-security`: alone it runs nothing, and none of what it would let run is passed on."""
    if words and words not in {("0",), ("1",), ("2",)}:
        raise ValueError("3 would pass passwords to programs")
    return ()


def _known_script(words: tuple[str, ...]) -> tuple[str, ...]:
    if len(words) != 1 or words[0] not in SCRIPTS:
        raise ValueError("it would run a command as root")
    return ()


def _environment(words: tuple[str, ...]) -> tuple[str, ...]:
    """Drop what is told to the server about us, and what only other programs look at."""
    known = {"FORWARD_COMPATIBLE", "CLIENT_CERT", "PUSH_PEER_INFO", "SERVER_POLL_TIMEOUT"}
    if not words or not (words[0] in known or re.fullmatch(r"UV_[A-Z0-9_]{1,60}", words[0], re.ASCII)):
        raise ValueError("it would set a variable for programs that OpenVPN runs")
    return ()


def _tunnel(words: tuple[str, ...]) -> tuple[str, ...]:
    if len(words) != 1 or not re.fullmatch(r"tun[0-9]{0,4}", words[0], re.ASCII):
        raise ValueError("not tun: vpnpf carries IP packets, no Ethernet")
    return ()


def _no_gateway(words: tuple[str, ...]) -> tuple[str, ...]:
    if words != ("dhcp",):
        raise ValueError("the server says where its gateway is")
    return ()


def _nobody(words: tuple[str, ...]) -> tuple[str, ...]:
    if words != ("0",):
        raise ValueError("vpnpf lets the kernel choose the local port")
    return ()


_KEPT: dict[str, Reader] = {
    "data-ciphers": _ciphers("data-ciphers", several=True),
    "ncp-ciphers": _ciphers("data-ciphers", several=True),
    "data-ciphers-fallback": _ciphers("data-ciphers-fallback", several=False),
    "cipher": _ciphers("cipher", several=False),
    "auth": _digest,
    "compat-mode": pattern("compat-mode", r"2\.[0-9]\.[0-9]{1,2}", what="a version such as 2.4.0"),
    "tls-version-min": _least_tls,
    "tls-version-max": pattern("tls-version-max", r"1\.[23]", what="1.2 or 1.3"),
    "tls-cipher": _tls_list("tls-cipher"),
    "tls-ciphersuites": _tls_list("tls-ciphersuites"),
    "tls-groups": _tls_list("tls-groups"),
    "tls-cert-profile": pattern("tls-cert-profile", r"legacy|preferred|suiteb", what="legacy, preferred or suiteb"),
    "remote-cert-tls": _server_only("remote-cert-tls"),
    "ns-cert-type": _server_only("ns-cert-type"),
    "remote-cert-ku": pattern("remote-cert-ku", *[r"[0-9a-fA-F]{1,4}"] * 15, optional=15, what="usages in hexadecimal"),
    "remote-cert-eku": pattern("remote-cert-eku", r"[A-Za-z0-9. ]{1,64}", what="an extended key usage"),
    "verify-x509-name": _x509_name,
    "peer-fingerprint": pattern("peer-fingerprint", r"(?:[0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}", what="a fingerprint"),
    "key-direction": pattern("key-direction", r"[01]", what="0 or 1"),
    "reneg-sec": numbers("reneg-sec", (0, 604_800), (0, 604_800), optional=1),
    "hand-window": numbers("hand-window", (1, 3600)),
    "tran-window": numbers("tran-window", (1, 604_800)),
    "tls-timeout": numbers("tls-timeout", (1, 600)),
    "replay-window": numbers("replay-window", (1, 65_536), (0, 600), optional=1),
    "topology": pattern("topology", r"subnet|net30|p2p", what="subnet, net30 or p2p"),
    "tun-mtu": numbers("tun-mtu", (576, 9000)),
    "mssfix": pattern("mssfix", r"0|[1-9][0-9]{2,3}", r"mtu|fixed", optional=2, what="0 or 100 to 9999"),
    "fragment": pattern("fragment", r"[1-9][0-9]{2,3}", r"mtu", optional=1, what="a number from 100 to 9999"),
    "ping": numbers("ping", (0, 600)),
    "ping-restart": numbers("ping-restart", (0, 3600)),
    "comp-lzo": _lzo,
    "compress": _compress,
}
ORDER = {name: place for place, name in enumerate(_KEPT)}
"""By which kept options are written."""

_CHECKED: dict[str, Reader] = {
    "script-security": _restarted,
    "up": _known_script,
    "down": _known_script,
    "setenv": _environment,
    "dev": _tunnel,
    "dev-type": _tunnel,
    "route-gateway": _no_gateway,
    "lport": _nobody,
}
READERS: dict[str, Reader] = {**_KEPT, **_CHECKED}

_PROTOCOLS = {
    **dict.fromkeys(("udp", "udp4", "udp6"), Protocol.UDP),
    **dict.fromkeys(("tcp", "tcp4", "tcp6", "tcp-client", "tcp4-client", "tcp6-client"), Protocol.TCP),
}


def protocol(word: str) -> Protocol:
    """Read the word after `proto`."""
    if word not in _PROTOCOLS:
        raise ValueError("not udp or tcp")
    return _PROTOCOLS[word]


def port(word: str) -> int:
    """Read a port in digits; names of services are not looked up."""
    return values.number(1, values.LAST_PORT)(word)


def host(word: str) -> str:
    """Read a name or address of a server."""
    try:
        return values.place(f"[{word}]:1" if ":" in word else f"{word}:1")[0]
    except ValueError:
        raise ValueError("not a name or an address") from None
