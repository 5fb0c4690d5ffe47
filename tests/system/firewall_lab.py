"""Three network namespaces for firewall tests: a client, the router of its LAN, and the far end of a tunnel.

The tunnel is a veth pair without neighbour discovery, so it carries bare IP as a real one does. All
sockets live in the test's own process; each is made while the thread is inside a namespace. Neighbours
are set, so that no packet waits for an answer and comes out after one that was sent later.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec.structs import replace

from vpnpf.firewall.ruleset import Chain, Rule, Ruleset, script
from vpnpf.model import (
    BOTH,
    Endpoint,
    FirewallPolicy,
    FirewallStage,
    ForwardRule,
    LanPrefix,
    PolicyMode,
    PortPolicy,
    TunnelPlan,
)

CLONE_NEWNET = 0x40000000
SO_MARK = 36
PACKET_OUTGOING = 4
ETH_P_ALL = 3
IP_TYPES = (0x0800, 0x86DD)
LIBC = ctypes.CDLL(None, use_errno=True)
COUNT = itertools.count()

MARK = 0xCA6C
ENDPOINT = "198.51.100.10"
WEB, WEB6 = "203.0.113.80", "2001:db8:80::80"
CLIENT_LAN, ROUTER_LAN = "192.168.77.2", "192.168.77.1"
CLIENT_LAN6, ROUTER_LAN6 = "fd77::2", "fd77::1"
TUNNEL, GATEWAY = "10.2.0.2", "10.2.0.1"
TUNNEL6, GATEWAY6 = "fd00:2::2", "fd00:2::1"
PLAN = TunnelPlan(
    interface="tun0",
    endpoint=Endpoint(ENDPOINT, 51820),
    addresses=(f"{TUNNEL}/32", f"{TUNNEL6}/128"),
    dns=(GATEWAY, GATEWAY6),
    mark=MARK,
    table=51820,
    lan=(LanPrefix("eth0", "192.168.77.0/24"), LanPrefix("eth0", "fd77::/64")),
)

TOPOLOGY = """
link add eth0 netns {client} address 02:00:00:00:00:02 type veth peer name lan0 address 02:00:00:00:00:01 netns {router}
link add tun0 netns {client} address 02:00:00:00:00:07 type veth peer name tun0 address 02:00:00:00:00:07 netns {server}
"""
CLIENT = f"""
link set lo up
link set eth0 up
link set tun0 arp off
link set tun0 up
addr add {CLIENT_LAN}/24 dev eth0
addr add {CLIENT_LAN6}/64 dev eth0 nodad
addr add {TUNNEL}/32 dev tun0
addr add {TUNNEL6}/128 dev tun0 nodad
neigh add {ROUTER_LAN} lladdr 02:00:00:00:00:01 dev eth0
neigh add {ROUTER_LAN6} lladdr 02:00:00:00:00:01 dev eth0
route add default via {ROUTER_LAN} dev eth0
-6 route add default via {ROUTER_LAN6} dev eth0
route add default dev tun0 src {TUNNEL} table 51820
-6 route add default dev tun0 src {TUNNEL6} table 51820
rule add to 192.168.77.0/24 table main priority 90
-6 rule add to fd77::/64 table main priority 90
rule add not fwmark {MARK:#x} table 51820 priority 100
-6 rule add not fwmark {MARK:#x} table 51820 priority 100
"""
ROUTER = f"""
link set lo up
link set lan0 up
addr add {ROUTER_LAN}/24 dev lan0
addr add {ROUTER_LAN6}/64 dev lan0 nodad
addr add {ENDPOINT}/32 dev lo
addr add {WEB}/32 dev lo
addr add {WEB6}/128 dev lo nodad
neigh add {CLIENT_LAN} lladdr 02:00:00:00:00:02 dev lan0
neigh add {CLIENT_LAN6} lladdr 02:00:00:00:00:02 dev lan0
route add {TUNNEL}/32 via {CLIENT_LAN} dev lan0
-6 route add {TUNNEL6}/128 via {CLIENT_LAN6} dev lan0
"""
SERVER = f"""
link set lo up
link set tun0 arp off
link set tun0 up
addr add {GATEWAY}/32 dev tun0
addr add {GATEWAY6}/128 dev tun0 nodad
addr add {WEB}/32 dev lo
addr add {WEB6}/128 dev lo nodad
route add default dev tun0
-6 route add default dev tun0
"""


def policy(stage: FirewallStage, *forwards: ForwardRule, inbound: PortPolicy | None = None, **plan) -> FirewallPolicy:
    return FirewallPolicy(stage, replace(PLAN, **plan), inbound or PortPolicy(PolicyMode.ALLOW_LIST), forwards)


def forward(arrives: int, listen: int | None = None, until: float | None = None, name: str = "torrent") -> ForwardRule:
    return ForwardRule(name, BOTH, arrives, listen or arrives, until)


def without(ruleset: Ruleset, label: str) -> Ruleset:
    """The control of a test: the same rules but for those with this label."""
    assert any(rule.label == label for chain in ruleset.chains for rule in chain.rules), label
    chains = tuple(
        replace(chain, rules=tuple(rule for rule in chain.rules if rule.label != label)) for chain in ruleset.chains
    )
    return replace(ruleset, chains=chains)


def with_first(ruleset: Ruleset, name: str, rule: Rule) -> Ruleset:
    """The control of a test: the same rules with one more at the top of a chain."""

    def changed(chain: Chain) -> Chain:
        return replace(chain, rules=(rule, *chain.rules)) if chain.name == name else chain

    return replace(ruleset, chains=tuple(map(changed, ruleset.chains)))


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Put this thread into a network namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        _enter(there)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(there)
        os.close(home)


def _enter(descriptor: int) -> None:
    if LIBC.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Lab:
    """The namespaces; take them away with `close`."""

    def __init__(self) -> None:
        stem = f"fw{os.getpid()}x{next(COUNT)}"
        self.client, self.router, self.server = (f"{stem}{letter}" for letter in "crs")
        self.namespaces = [self.client, self.router, self.server]
        self._sockets: list[socket.socket] = []
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        for namespace in self.namespaces:
            self.ip("netns", "add", namespace)
        names = {"client": self.client, "router": self.router, "server": self.server}
        self.ip("-batch", "-", text=TOPOLOGY.format(**names))
        for namespace, text in zip(self.namespaces, (CLIENT, ROUTER, SERVER), strict=True):
            lines = text.strip().splitlines()
            six = [line.removeprefix("-6 ") for line in lines if line.startswith("-6 ")]
            self.ip("-n", namespace, "-batch", "-", text="\n".join(each for each in lines if each[0] != "-"))
            if six:
                self.ip("-6", "-n", namespace, "-batch", "-", text="\n".join(six))

    def close(self) -> None:
        for each in self._sockets:
            each.close()
        for namespace in self.namespaces:
            subprocess.run(("ip", "netns", "del", namespace), check=False)

    @property
    def prefix(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.client)

    def ip(self, *arguments: str, text: str = "") -> None:
        subprocess.run(("ip", *arguments), input=text, text=True, check=True)

    def nft(self, *arguments: str, text: str = "", namespace: str = "") -> str:
        with inside(namespace or self.client):
            done = subprocess.run(("nft", *arguments), input=text, text=True, check=True, stdout=subprocess.PIPE)
        return done.stdout

    def load(self, ruleset: Ruleset) -> None:
        """Load rules that `Nft` would not: those of a control."""
        self.nft("-f", "-", text=script(ruleset, boottime()))

    def sysctl(self, namespace: str, key: str, value: int) -> None:
        with inside(namespace):
            # /proc/sys/net follows the thread's namespace, whatever mount of /proc it is.
            Path("/proc/sys/net", key).write_text(f"{value}\n")

    def socket(
        self, namespace: str, kind: str, address: str = "", port: int = 0, *, device: str = "", mark: int = 0
    ) -> socket.socket:
        """A socket of kind "tcp" or "udp", bound to `address` (family by its look) and perhaps a device and mark."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with inside(namespace):
            made = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        self._sockets.append(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if device:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if mark:
            made.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        made.setblocking(False)
        made.bind((address, port))
        return made

    def listen(self, namespace: str, kind: str, port: int, address: str = "0.0.0.0") -> socket.socket:
        made = self.socket(namespace, kind, address, port)
        if kind == "tcp":
            made.listen()
        return made

    def watch(self, namespace: str, device: str) -> Watch:
        with inside(namespace):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self._sockets.append(made)
        made.bind((device, ETH_P_ALL))
        made.setblocking(False)
        return Watch(self, made, through_tunnel=device == "tun0")


class Watch:
    """All packets that come out of a cable."""

    def __init__(self, lab: Lab, capture: socket.socket, *, through_tunnel: bool) -> None:
        self._lab = lab
        self._capture = capture
        self._fence, self._fence_to = lab.socket(lab.client, "udp", "0.0.0.0", mark=MARK), (ENDPOINT, 51820)
        if through_tunnel:
            self._fence, self._fence_to = lab.socket(lab.client, "udp", TUNNEL), (GATEWAY, 4)

    def seen(self) -> list[tuple[str, str, int]]:
        """(protocol, destination, port) of all TCP and UDP packets, once a packet that may pass has come after them."""
        token = os.urandom(16)
        self._fence.sendto(token, self._fence_to)
        found: list[tuple[str, str, int]] = []
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            select.select([self._capture], [], [], 0.2)
            with suppress(BlockingIOError):
                while True:
                    packet, origin = self._capture.recvfrom(65535)
                    if token in packet:
                        return found
                    if origin[1] in IP_TYPES and origin[2] != PACKET_OUTGOING and (parsed := _parse(packet)):
                        found.append(parsed)
        raise AssertionError("the packet that may pass did not pass: this watch would see no leak either")


def _parse(packet: bytes) -> tuple[str, str, int] | None:
    if packet[0] >> 4 == 4:
        number, header, target = packet[9], (packet[0] & 15) * 4, socket.inet_ntop(socket.AF_INET, packet[16:20])
    else:
        number, header, target = packet[6], 40, socket.inet_ntop(socket.AF_INET6, packet[24:40])
    name = {6: "tcp", 17: "udp"}.get(number)
    if name is None or packet[0] >> 4 not in {4, 6}:
        return None
    return name, target, struct.unpack("!H", packet[header + 2 : header + 4])[0]


def send(sender: socket.socket, address: str, port: int, payload: bytes = b"probe") -> bool:
    """Send a datagram; False: the kernel said no at once."""
    try:
        sender.sendto(payload, (address, port))
    except OSError:
        return False
    return True


def connect(sender: socket.socket, address: str, port: int) -> None:
    """Begin a connection."""
    with suppress(BlockingIOError):
        sender.connect((address, port))


def connected(sockets: Iterable[socket.socket], patience: float = 3.0) -> list[socket.socket]:
    """Those that got their connection."""
    return _ready((), list(sockets), patience)


def received(sockets: Iterable[socket.socket], patience: float = 3.0) -> list[socket.socket]:
    """Those that have something to read or accept."""
    return _ready(list(sockets), (), patience)


def _ready(readers: Iterable[socket.socket], writers: Iterable[socket.socket], patience: float) -> list[socket.socket]:
    """Sockets that become ready; `patience` is how long to wait for the last."""
    waiting, good = {*readers, *writers}, []
    read_side = set(readers)
    deadline = time.monotonic() + patience
    while waiting and time.monotonic() < deadline:
        left = max(0.0, deadline - time.monotonic())
        some, others, _ = select.select(
            [each for each in waiting if each in read_side],
            [each for each in waiting if each not in read_side],
            [],
            left,
        )
        for each in (*some, *others):
            waiting.discard(each)
            if each in read_side or each.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                good.append(each)
    return good
