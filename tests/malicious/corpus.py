"""Configuration files that attack whoever reads them: each is a good file with one bad thing in it.

MARK stands for a path. Who lets the bad thing through makes that file, or runs MARK.sh, which makes it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

FAKE = base64.b64encode(b"\x30" + bytes(range(40))).decode()


def pem(label, body=FAKE):
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"


OVPN = """\
# a good file
tls-client
dev tun
nobind
proto udp
remote 127.0.0.1 9
remote-cert-tls server
<ca>
{ca}</ca>
<cert>
{cert}</cert>
<key>
{key}</key>
"""
WIREGUARD = f"""\
[Interface]
PrivateKey = {base64.b64encode(bytes(range(32))).decode()}
Address = 10.2.0.2/32
[Peer]
PublicKey = {base64.b64encode(bytes(range(100, 132))).decode()}
AllowedIPs = 0.0.0.0/0
Endpoint = 198.51.100.10:51820
"""


def ovpn(certificate=None, key=None):
    """The good OpenVPN file."""
    certificate, key = certificate or pem("CERTIFICATE"), key or pem("PRIVATE KEY")
    return OVPN.format(ca=certificate, cert=certificate, key=key).encode()


@dataclass
class Case:
    """What is put behind a good file (or before it), and where the first mistake is then."""

    bad: bytes
    line: int = 1
    """Of the bad part, from 1."""
    first: bool = False
    """Whether it comes before the good file."""
    whole: bool = False
    """Whether there is no good file."""

    def data(self, good, mark, plugin="plugin.so"):
        bad = self.bad.replace(b"MARK", str(mark).encode()).replace(b"PLUGIN", str(plugin).encode())
        if self.whole:
            return bad
        return bad + good if self.first else good + bad

    def number(self, good):
        return self.line if self.first or self.whole else good.count(b"\n") + self.line


TWO = b"script-security 2\n"
LONG = b"A" * 250

RUNS = {
    "up": Case(TWO + b"up MARK.sh\n", 2),
    "up in double quotes": Case(TWO + b'"up" MARK.sh\n', 2),
    "up in single quotes": Case(TWO + b"'up' MARK.sh\n", 2),
    "up behind dashes": Case(TWO + b"--up MARK.sh\n", 2),
    "up behind dashes in quotes": Case(TWO + b'"--up" MARK.sh\n', 2),
    "up and a tab": Case(TWO + b"\tup\tMARK.sh\n", 2),
    "up, CR LF": Case(TWO + b"up MARK.sh\r\n", 2),
    "up at the end, without a line's end": Case(TWO + b"up MARK.sh", 2),
    "up without a space behind its quotes": Case(TWO + b'"up"MARK.sh\n', 2),
    "up with a command line": Case(TWO + b"up \"/bin/sh -c 'exec /bin/sh MARK.sh'\"\n", 2),
    "up with an escaped space": Case(TWO + b"up /bin/sh\\ MARK.sh\n", 2),
    "up with a backslash before it": Case(TWO + b"\\ up MARK.sh\n", 2),
    "up with a comment behind": Case(TWO + b"up MARK.sh # the resolver\n", 2),
    "setenv opt up": Case(TWO + b"setenv opt up MARK.sh\n", 2),
    "up behind ignore-unknown-option": Case(b"ignore-unknown-option up\n" + TWO + b"up MARK.sh\n", 3),
    "up behind a block that is none": Case(TWO + b"# <ca>\nup MARK.sh\n", 3),
    "up behind a block with a comment": Case(b"<dh> # x\nx\n</dh>\n" + TWO + b"up MARK.sh\n", 1),
    "up behind an end with leading blanks": Case(b"<dh>\n  </dh>\n" + TWO + b"up MARK.sh\n", 1),
    "up with sixteen words and more": Case(b"echo" + b" 1" * 20 + b"\n" + TWO + b"up MARK.sh\n"),
    "down": Case(TWO + b"down MARK.sh\n", 2),
    "route-up": Case(TWO + b"route-up MARK.sh\n", 2),
    "route-pre-down": Case(TWO + b"route-pre-down MARK.sh\n", 2),
    "plugin": Case(b'plugin PLUGIN "/bin/sh MARK.sh"\n'),
    "plugin, no script allowed": Case(b'script-security 0\nplugin PLUGIN "/bin/sh MARK.sh"\n', 2),
    "a byte order mark before up": Case(b"\xef\xbb\xbfup MARK.sh\n" + TWO, first=True),
    "config of another file": Case(b"config MARK.ovpn\n"),
}
"""What OpenVPN itself was seen to run (test_controls.py)."""
WRITES = {
    "writepid": Case(b"writepid MARK\n"),
    "status": Case(b"status MARK\n"),
    "log": Case(b"log MARK\n"),
    "log-append": Case(b"log-append MARK\n"),
    "replay-persist": Case(b"replay-persist MARK\n"),
    "management as a socket": Case(b"management MARK unix\n"),
    "log in quotes behind dashes": Case(b"--log 'MARK'\n"),
}
"""What OpenVPN itself was seen to write (test_controls.py)."""
_LATER = """\
tls-verify auth-user-pass-verify client-connect client-disconnect learn-address ipchange iproute askpass engine providers
pkcs11-providers chroot cd daemon syslog ifconfig-pool-persist tmp-dir client-config-dir dev-node tls-export-cert
tls-crypt-v2-verify auth-gen-token-secret capath crl-verify pkcs12 dh secret user group setcon
management-client management-hold management-query-passwords mark bind-dev local lladdr route route-ipv6 ifconfig
ifconfig-ipv6 route-gateway remap-usr1 nice http-proxy socks-proxy static-challenge http-proxy-user-pass
server mode tls-server push management-up-down dns-updown ca cert key tls-auth tls-crypt tls-crypt-v2 extra-certs
auth-user-pass client-crresponse port-share x509-username-field cryptoapicert keying-material-exporter mktun genkey
"""
ELSEWHERE = {
    **{f"{name} FILE": Case(f"{name} MARK.sh\n".encode()) for name in _LATER.split()},
    # The environment of what is run.
    "setenv PATH": Case(b"setenv PATH /MARK\n"),
    "setenv LD_PRELOAD": Case(b"setenv LD_PRELOAD MARK.so\n"),
    "setenv-safe": Case(b"setenv-safe X MARK\n"),
    "setenv opt twice": Case(b"setenv opt setenv opt up MARK.sh\n"),
    "setenv opt and nothing": Case(b"setenv opt\n"),
    "setenv opt in quotes": Case(b'"setenv" "opt" "plugin" MARK.so\n'),
    "script-security 3": Case(b"script-security 3\n"),
    "script-security of another kind": Case(b"script-security 2 system\n"),
    "the known script with words": Case(b'up "/etc/openvpn/update-resolv-conf; MARK.sh"\n'),
    "the known script with more words": Case(b"up /etc/openvpn/update-resolv-conf MARK\n"),
    "a path to elsewhere through the known script": Case(b"up /etc/openvpn/../../MARK.sh\n"),
    # Lexing.
    "four dashes": Case(b"----up MARK.sh\n"),
    "an empty word": Case(b'"" up MARK.sh\n'),
    "no closing quote": Case(b'up "MARK.sh\n'),
    "no closing single quote": Case(b"verb '3\n"),
    "a backslash that escapes nothing": Case(b"verb \\3\n"),
    "a backslash at the end": Case(b"verb 3\\\nup MARK.sh\n"),
    "seventeen words": Case(b"verb" + b" 1" * 16 + b"\n"),
    "a line of 300 bytes": Case(b"#" + b"A" * 300 + b"\n"),
    "up at byte 256 of a comment": Case(b"#" + b"A" * 255 + b"up MARK.sh\n"),
    "a long line with tabs": Case(b"verb 3" + b"\t" * 249 + b"up MARK.sh\n"),
    "an end at byte 255 of a block's line": Case(b"<crl-verify>\n" + LONG + b"xxxxx</crl-verify>\n</crl-verify>\n", 2),
    "a newline in a name": Case(b'verify-x509-name "a\nup MARK.sh\n" name\n'),
    "an escaped newline in a name": Case(b'verify-x509-name "a\\n" name\n'),
    "quotes in a name": Case(b'verify-x509-name "a\\" b" name\n'),
    "a space in a cipher": Case(b'cipher "AES-256-GCM up"\n'),
    "a newline for a space": Case(b"cipher AES-256-GCM\\\nup MARK.sh\n"),
    "a list for a cipher": Case(b"cipher AES-256-GCM:AES-128-GCM\n"),
    "cipher none": Case(b"cipher none\n"),
    "data-ciphers with none": Case(b"data-ciphers AES-256-GCM:none\n"),
    "auth none": Case(b"auth none\n"),
    "TLS without encryption": Case(b"tls-cipher eNULL\n"),
    "TLS without a server's proof": Case(b"tls-cipher TLS-DH-anon-WITH-AES-256-GCM-SHA384\n"),
    "TLS with the lowest security level": Case(b"tls-cipher DEFAULT:@SECLEVEL=0\n"),
    "TLS at most 1.0": Case(b"tls-version-max 1.0\n"),
    "other customers for servers": Case(b"remote-cert-tls client\n"),
    "compression": Case(b"compress lz4-v2\n"),
    "tap": Case(b"dev tap0\n"),
    "dev of another kind": Case(b"dev-type tap\n"),
    "dev null": Case(b"dev null\n"),
    "a path for a device": Case(b"dev ../../MARK\n"),
    # Characters.
    "NUL": Case(b"verb 3\0\nup MARK.sh\n"),
    "NUL behind a comment": Case(b"# x\0up MARK.sh\n"),
    "NUL in a block": Case(b"<crl-verify>\n\0\n</crl-verify>\nup MARK.sh\n", 2),
    "a vertical tab for a space": Case(b"verb\x0b3\n"),
    "a form feed": Case(b"up\x0cMARK.sh\n"),
    "a lone CR": Case(b"verb 3\rup MARK.sh\n"),
    "a comment that ends at a CR": Case(b"# x\rup MARK.sh\n"),
    "ESC": Case(b"# \x1b]0;x\x07\n"),
    "a space that does not break": Case("verb\u00a03\n".encode()),
    "a line separator": Case("# x\u2028up MARK.sh\n".encode()),
    "right to left": Case("# \u202eup\n".encode()),
    "a byte order mark inside": Case(b"\xef\xbb\xbfup MARK.sh\n"),
    "two byte order marks": Case(b"\xef\xbb\xbf\xef\xbb\xbfverb 3\n", first=True),
    "Latin-1": Case(b"# \xe9t\xe9\n"),
    "UTF-7": Case(b"+AHUAcA MARK.sh\n"),
    "an overlong letter": Case(b"\xc1\xb5p MARK.sh\n"),
    "a surrogate": Case(b"# \xed\xa0\x80\n"),
    "UTF-16, little end first": Case("\ufeffup MARK.sh\n".encode("utf-16-le"), whole=True),
    "UTF-16, big end first": Case("\ufeffup MARK.sh\n".encode("utf-16-be"), whole=True),
    "UTF-16 without a mark": Case("up MARK.sh\n".encode("utf-16-le"), whole=True),
    "Cyrillic letters": Case("u\u0440 MARK.sh\n".encode()),
    "letters of full width": Case("\uff55\uff50 MARK.sh\n".encode()),
    "capital letters": Case(b"UP MARK.sh\n"),
    # Blocks.
    "a block that does not end": Case(b"<crl-verify>\nx\nup MARK.sh\n"),
    "a block that ends with another": Case(b"<crl-verify>\n</ca>\nup MARK.sh\n"),
    "words behind a block's end": Case(b"<crl-verify>\nx\n</crl-verify> up MARK.sh\n", 3),
    "a block in capital letters": Case(b"<CRL-VERIFY>\nx\n</CRL-VERIFY>\n"),
    "a block without a name": Case(b"<>\nx\n</>\n"),
    "a block named like a directive": Case(b"<up>\nMARK.sh\n</up>\n"),
    "a block of another kind": Case(b"<secret>\nx\n</secret>\n"),
    "a block behind dashes": Case(b"--<plugin>\nMARK.so\n</plugin>\n"),
    "a block in quotes": Case(b'"<up>"\nMARK.sh\n</up>\n'),
    "a password inline": Case(b"<auth-user-pass>\nme\nMARK\n</auth-user-pass>\n"),
    "a second <ca>": Case(b"<ca>\n" + pem("CERTIFICATE").encode() + b"</ca>\n"),
    "no certificate in a block": Case(b"<crl-verify>\nup MARK.sh\n</crl-verify>\n"),
    "directives in a block": Case(b"<tls-crypt>\nup MARK.sh\n</tls-crypt>\n"),
    "a private key among certificates": Case(b"<extra-certs>\n" + pem("PRIVATE KEY").encode() + b"</extra-certs>\n"),
    "a certificate that is no base64": Case(
        b"<extra-certs>\n" + pem("CERTIFICATE", "</ca>").encode() + b"</extra-certs>\n"
    ),
    "a static key too short": Case(
        b"<tls-auth>\n" + pem("OpenVPN Static key V1", "ab" * 8).encode() + b"</tls-auth>\n"
    ),
    "up in <connection>": Case(b"<connection>\nremote 192.0.2.1 9\nup MARK.sh\n</connection>\n", 3),
    "a block in <connection>": Case(b"<connection>\n<ca>\nx\n</ca>\n</connection>\n", 2),
    "<connection> in itself": Case(b"<connection>\n<connection>\nup MARK.sh\n</connection>\n</connection>\n", 2),
    "a proxy in <connection>": Case(b"<connection>\nremote 192.0.2.1 9\nhttp-proxy MARK 9\n</connection>\n", 3),
    # Values.
    "a host with a command": Case(b"remote $(MARK.sh) 9\n"),
    "a host with a space": Case(b'remote "192.0.2.1 9" 9\n'),
    "a host like an option": Case(b"remote --up 9\n"),
    "a host with a zone": Case(b"remote fe80::1%MARK 9\n"),
    "an old spelling of an address": Case(b"remote 0x7f.1 9\n"),
    "a port by name": Case(b"remote 192.0.2.1 ssh\n"),
    "port 0": Case(b"remote 192.0.2.1 0\n"),
    "port 65536": Case(b"remote 192.0.2.1 65536\n"),
    "a server's protocol": Case(b"remote 192.0.2.1 9 tcp-server\n"),
    "a fourth word for remote": Case(b"remote 192.0.2.1 9 udp up\n"),
    "another protocol": Case(b"proto tcp-server\n"),
    "another value": Case(b"proto tcp\n"),
    "an MTU too small": Case(b"tun-mtu 68\n"),
    "an MTU with words": Case(b"tun-mtu 1500 up\n"),
    "a ping for ever": Case(b"ping 99999999999\n"),
    "an unknown directive": Case(b"frobnicate MARK\n"),
    "a secret alone": Case(b"hunter2 MARK\n"),
}
OVPN_CASES = {**RUNS, **WRITES, **ELSEWHERE}

WIREGUARD_RUNS = {
    "PostUp": Case(b"[Interface]\nPostUp = MARK.sh\n", first=True, line=2),
    "PreUp": Case(b"[Interface]\nPreUp = MARK.sh\n", first=True, line=2),
    "postup": Case(b"[Interface]\n\tpostup=MARK.sh\n", first=True, line=2),
    "PostUp with %i": Case(b"[interface]\nPostUp = MARK.sh %i; true\n", first=True, line=2),
}
"""What wg-quick was seen to run (test_controls.py)."""
WIREGUARD_CASES = {
    **WIREGUARD_RUNS,
    "PreDown": Case(b"PreDown = MARK.sh\n"),
    "PostDown": Case(b"PostDown = MARK.sh\n"),
    "PostUp in [Peer]": Case(b"PostUp = MARK.sh\n"),
    "PostUp behind a lone CR": Case(b"PersistentKeepalive = 25\rPostUp = MARK.sh\n", 2),
    "PostUp behind a comment's CR": Case(b"# x\rPostUp = MARK.sh\n", 2),
    "PostUp behind a NUL": Case(b"# x\0\nPostUp = MARK.sh\n"),
    "PostUp in Cyrillic letters": Case("\u0420ostUp = MARK.sh\n".encode()),
    "PostUp behind a byte order mark": Case(b"\xef\xbb\xbfPostUp = MARK.sh\n"),
    "SaveConfig": Case(b"SaveConfig = true\n"),
    "Table": Case(b"Table = off\n"),
    "FwMark": Case(b"FwMark = 0\n"),
    "a second [Interface]": Case(b"[Interface]\nMTU = 1420\n"),
    "a second [Peer]": Case(b"[Peer]\n"),
    "a zone with words": Case(b"Endpoint = [fe80::1%x dev lo]:1\n"),
    "an unknown section": Case(b"[Hooks]\nPostUp = MARK.sh\n"),
    "a continued line": Case(b"PersistentKeepalive = 25 \\\nPostUp = MARK.sh\n"),
    "a resolver with options": Case(b"DNS = 10.2.0.1 -x MARK\n"),
    "a vertical tab": Case(b"PersistentKeepalive = 25\x0bPostUp = MARK.sh\n"),
    "NEL": Case("PersistentKeepalive = 25\u0085PostUp = MARK.sh\n".encode()),
}
