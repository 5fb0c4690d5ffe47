"""What OpenVPN reads in a line, and what must never be in a file for it; written apart from our parsers."""

from __future__ import annotations

import re

_BLANK = r"[ \t\n\v\f\r]"
_ESCAPED = rf'\\(?:[\\"]|{_BLANK})'
_SKIPPED = re.compile(rf"(?:\\?{_BLANK})*")
_TOKEN = re.compile(
    rf"\"(?P<double>(?:[^\"\\]|{_ESCAPED})*)\""
    r"|'(?P<single>[^']*)'"
    rf"|(?P<bare>(?:[^ \t\n\v\f\r\\#;\"']|\\[\\\"])(?:[^ \t\n\v\f\r\\]|{_ESCAPED})*)(?={_BLANK}|\Z)"
)


def words(line):
    """The words of a line as OpenVPN has them, or None if it refuses it (or we do, by the seventeenth word)."""
    found = []
    at = _SKIPPED.match(line).end()
    while line[at:] not in {"", "\\"} and not re.match(r"\\?[#;]", line[at:]):
        token = _TOKEN.match(line, at)
        if token is None or len(found) == 16:
            return None
        raw = token["single"]
        if raw is None:
            raw = re.sub(
                r"\\(.)", r"\1", token["double"] if token["double"] is not None else token["bare"], flags=re.DOTALL
            )
        if len(raw.encode()) > 256:
            return None
        found.append(raw)
        at = token.end()
        if len(found) == 16 and line[at:].strip(" \t\n\v\f\r"):
            return None
        at = _SKIPPED.match(line, at).end()
    return tuple(found)


HARMLESS = {
    "client": r"",
    "nobind": r"",
    "auth-user-pass": r"",
    "dev": r"tun",
    "remote": r"192\.0\.2\.1 1194 (udp|tcp-client)",
    "cipher": r"(?!none)[A-Za-z0-9-]+",
    "auth": r"(?!none)[A-Za-z0-9-]+",
    "data-ciphers": r"[A-Za-z0-9?:-]+",
    "data-ciphers-fallback": r"[A-Za-z0-9-]+",
    "tls-version-min": r"1\.[23]",
    "tls-version-max": r"1\.[23]",
    "tls-cipher": r"[A-Za-z0-9:!@=_+-]+",
    "tls-ciphersuites": r"[A-Za-z0-9:!@=_+-]+",
    "tls-groups": r"[A-Za-z0-9:!@=_+-]+",
    "tls-cert-profile": r"[a-z]+",
    "remote-cert-tls": r"server",
    "remote-cert-ku": r"[0-9a-fA-F ]*",
    "remote-cert-eku": r"[A-Za-z0-9. ]+",
    "verify-x509-name": r"[A-Za-z0-9 _.,=/@:*+()&'-]+",
    "peer-fingerprint": r"[0-9a-fA-F:]+",
    "key-direction": r"[01]",
    "topology": r"subnet|net30|p2p",
    "compat-mode": r"2\.[0-9.]+",
    "mssfix": r"([0-9]+( mtu| fixed)*)?",
    "fragment": r"[0-9]+( mtu)?",
    "comp-lzo": r"no",
    "compress": r"(stub|stub-v2|migrate)?",
    **dict.fromkeys(("reneg-sec", "hand-window", "tran-window", "tls-timeout", "replay-window"), r"[0-9]+( [0-9]+)?"),
    **dict.fromkeys(("tun-mtu", "ping", "ping-restart"), r"[0-9]+"),
}
"""By directive: its other words, joined."""
_BLOCK = re.compile(
    r"^<(ca|extra-certs|cert|key|crl-verify|tls-auth|tls-crypt|tls-crypt-v2)>\n"
    r"(?:-----BEGIN ([A-Za-z0-9 -]+)-----\n(?:[A-Za-z0-9+/=]{1,64}\n)+-----END \2-----\n)+</\1>\n",
    re.MULTILINE,
)
_KEY = r"[A-Za-z0-9+/]{43}="
SETCONF = re.compile(
    rf"\[Interface\]\nPrivateKey = {_KEY}\nFwMark = 0x1\n(ListenPort = [0-9]+\n)?\[Peer\]\nPublicKey = {_KEY}\n"
    rf"(PresharedKey = {_KEY}\n)?Endpoint = 192\.0\.2\.1:1194\nAllowedIPs = 0\.0\.0\.0/0, ::/0\nPersistentKeepalive = [0-9]+\n"
)


def harmful(text):
    """What a file that goes to OpenVPN should not hold, or nothing."""
    for line in _BLOCK.sub("", text).splitlines(keepends=True):
        found = words(line)
        if not found or len(line.encode()) > 255:
            return "a line that OpenVPN refuses"
        if found[0] not in HARMLESS or not re.fullmatch(HARMLESS[found[0]], " ".join(found[1:])):
            return f"{found[0]} with these words"
    return ""
