"""What `openvpn` (2.5 or newer) is told on its command line, after the file that was made for it. Pure.

Whatever stands later wins over what stands before, so the file can undo none of this, and `script-security 0` is last.
Nothing of the file and nothing secret is among it: other users see a command line.
"""

from __future__ import annotations

from vpnpf.model import Protocol, TunnelPlan

PING = 5
"""Seconds between our pings, so that the server knows that we live and a router on the way remembers us."""
PING_RESTART = 120
"""Seconds of silence after which OpenVPN connects anew by itself: its own default. We look closer (openvpn_session.py)."""
CONNECT_TIMEOUT = 30
"""Seconds for a TCP connection, and for the first answer of a server; the first time we have less patience ourselves."""
_KEPT = "-all,+net_admin"
"""What it needs for the mark and the device."""
CLEARANCE = ("setpriv", "--pdeathsig", "TERM", "--no-new-privs", f"--inh-caps={_KEPT}", f"--ambient-caps={_KEPT}")
"""What runs before it: it ends with us, and has that one privilege whether we are root or not."""
BOUNDED = f"--bounding-set={_KEPT}"
"""And nothing else, although it is root."""
_ACCEPTED = (
    "ifconfig ",
    "ifconfig-ipv6 ",
    "route-gateway ",
    "topology ",
    "tun-mtu ",
    # How packets are made: without these the two ends would not understand each other.
    "peer-id ",
    "cipher ",
    "protocol-flags ",
    "key-derivation ",
    "comp-lzo no",
    "compress stub",
)
"""What a server may push, as beginnings of options; the rest is ignored: routes, resolvers, timers, exits, tokens."""
_PROVE_THE_SERVER = frozenset({"remote-cert-tls", "remote-cert-eku", "verify-x509-name", "peer-fingerprint"})
"""Options by which a file tells the server from others with a certificate of the same authority."""


def arguments(
    program: str, plan: TunnelPlan, management: str, *, bounded: bool, told: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """All of a command; `program` is openvpn's absolute path, `management` the socket that it shall connect to.

    `bounded` if we may take privileges away (CAP_SETPCAP); `told` are the names of options in the file.
    """
    prefix = (*CLEARANCE, BOUNDED) if bounded else CLEARANCE
    options = [
        # By a path that can be opened again: a signal while it connects can make it read all anew, and from a standard
        # input that is at its end it would read nothing and go on without encryption.
        ("config", "/proc/self/fd/0"),
        ("client",),
        # Unknown to 2.5.
        ("ignore-unknown-option", "disable-dco", "allow-compression"),
        ("dev", plan.interface),
        ("dev-type", "tun"),
        ("disable-dco",),
        ("allow-compression", "no"),
        ("management", management, "unix"),
        ("management-client",),
        ("management-hold",),
        ("management-query-passwords",),
        ("auth-nocache",),
        ("auth-retry", "none"),
        ("mark", str(plan.mark)),
        ("route-noexec",),
        ("ifconfig-noexec",),
        ("persist-tun",),
        ("persist-key",),
        ("connect-timeout", str(CONNECT_TIMEOUT)),
        ("ping", str(PING)),
        ("ping-restart", str(PING_RESTART)),
        # What the server pushes is told at this level.
        ("verb", "3"),
        # Whoever sends rubbish shall not fill our time with complaints about it.
        ("mute", "20"),
        ("suppress-timestamps",),
        *(("pull-filter", "accept", start) for start in _ACCEPTED),
        ("pull-filter", "ignore", ""),
    ]
    if not told & _PROVE_THE_SERVER:
        # Else any customer with a certificate of the same authority could pose as it.
        options.append(("remote-cert-tls", "server"))
    if plan.endpoint.protocol is Protocol.UDP:
        # So that the server forgets us at once: providers count sessions.
        options.append(("explicit-exit-notify", "1"))
    options.append(("script-security", "0"))
    words = [word for name, *values in options for word in (f"--{name}", *values)]
    return (*prefix, "--", program, *words)
