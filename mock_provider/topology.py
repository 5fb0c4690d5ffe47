"""A small internet of network namespaces, joined by virtual cables; gone again when the body ends.

                     LAN 192.168.77.0/24, fd77::/64              198.51.100.0/24
    client .2 ---- [p-client br0 .1 router/ISP wan-server] ---- server .10 (VPN), exit .11
    lan    .66 --- [p-lan                   wan-internet] ---- internet 203.0.113.80, 2001:db8:80::80
    (optional)                             wan-neighbour] ---- neighbour 192.0.2.66 (optional)

Usage, as root (or as root of a user namespace that has a /run of its own):

    async with Lab() as lab:
        done = await lab.client.run(["ping", "-c1", INTERNET])         # a program, to its end
        child = await lab.client.popen(["wireguard-go", "-f", "wg7"])  # asyncio's Process; `.pid` is the program
        listener = lab.internet.socket(socket.AF_INET, socket.SOCK_STREAM)  # lives in the namespace, used from here
        listener.bind((INTERNET, 80))                                  # close it yourself
        async with lab.capture(leak()) as leaked:                      # packets on the client's cable
            ...
            assert await leaked.count() == 0                           # raises if it could not have seen them

Nothing touches the machine's own network: only namespaces, their links, and /etc/netns/NAME.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mock_provider.capture import Capture, Predicate
from mock_provider.host import Host, end_processes, processes_in
from vpnpf.errors import PermissionDenied, Unavailable, VpnpfError
from vpnpf.io import process

__all__ = [
    "CLIENT",
    "CLIENT6",
    "EXIT",
    "INTERNET",
    "INTERNET6",
    "LAN_HOST",
    "LAN_HOST6",
    "NEIGHBOUR",
    "ROUTER",
    "ROUTER6",
    "SERVER",
    "SERVER6",
    "Host",
    "Lab",
    "processes_in",
]

CLIENT, CLIENT6 = "192.168.77.2", "fd77::2"
ROUTER, ROUTER6 = "192.168.77.1", "fd77::1"
LAN_HOST, LAN_HOST6 = "192.168.77.66", "fd77::66"
SERVER, EXIT, SERVER6 = "198.51.100.10", "198.51.100.11", "2001:db8:10::10"
INTERNET, INTERNET6 = "203.0.113.80", "2001:db8:80::80"
NEIGHBOUR = "192.0.2.66"

GROUP = 77
"""Group of all devices in the router's namespace, so that they go away in one step."""

ETC_ELSEWHERE = Path("/run/netns-etc")

_count = itertools.count(1)

LAN_SIDE = """
link set lo up
link set eth0 up
addr add {v4}/24 dev eth0
addr add {v6}/64 dev eth0 nodad
route add default via {ROUTER} dev eth0
route add default via {ROUTER6} dev eth0
"""
WAN_SIDE = """
link set lo up
link set eth0 up
addr add {v4}/24 dev eth0
route add default via {gateway} dev eth0
"""
WAN_SIDE6 = """
addr add {v6}/64 dev eth0 nodad
route add default via {gateway6} dev eth0
"""


class Lab:
    """The namespaces as an async context manager. Raises PermissionDenied or Unavailable on entry."""

    def __init__(self, *, neighbour: bool = False, lan_host: bool = False, resolver: str = ROUTER) -> None:
        self.id = f"{os.getpid()}n{next(_count)}"
        """Unique among all labs of the machine; short enough to be part of an interface's name."""
        self.client = self._host("client")
        self.router = self._host("router")
        self.server = self._host("server")
        self.internet = self._host("internet")
        self.hosts = [self.client, self.router, self.server, self.internet]
        self._neighbour = self._host("neighbour") if neighbour else None
        self._lan = self._host("lan") if lan_host else None
        self.hosts += [host for host in (self._neighbour, self._lan) if host]
        self._resolver = resolver

    def _host(self, role: str) -> Host:
        return Host(role, f"vpnpf-{self.id}-{role}")

    @property
    def neighbour(self) -> Host:
        """Another customer of the VPN, 192.0.2.66; only with Lab(neighbour=True)."""
        assert self._neighbour, "the lab was made without neighbour=True"
        return self._neighbour

    @property
    def lan(self) -> Host:
        """Another host on the client's LAN, 192.168.77.66; only with Lab(lan_host=True)."""
        assert self._lan, "the lab was made without lan_host=True"
        return self._lan

    def capture(self, predicate: Predicate | None = None) -> Capture:
        """Counts packets on the ISP's end of the client's cable, from the moment its context is entered."""
        return Capture(self.router.socket, "p-client", self.client.socket, "eth0", predicate)

    async def __aenter__(self) -> Self:
        if os.geteuid() != 0:
            raise PermissionDenied("making network namespaces", "not root", "run it as root, or under unshare -Urmn")
        atexit.register(self.remove)
        try:
            for host in self.hosts:
                _write_resolver(host, f"nameserver {self._resolver}\n")
            await _batch(None, [f"netns add {host.name}" for host in self.hosts])
            await asyncio.to_thread(self._kernel_settings)
            await _batch(None, self._cables())
            await asyncio.gather(*(_batch(host, lines) for host, lines in self._addresses()))
            await self._carriers()
        except BaseException:
            self.remove()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
        for host in self.hosts:
            await host.let_go()

    def _kernel_settings(self) -> None:
        for host in self.hosts:
            with host.inside():
                # Addresses are usable at once: nobody else is here to collide with.
                _sysctl("net.ipv6.conf.all.accept_dad", 0)
                _sysctl("net.ipv6.conf.default.accept_dad", 0)
                if host in (self.router, self.server):
                    _sysctl("net.ipv4.ip_forward", 1)
                    _sysctl("net.ipv6.conf.all.forwarding", 1)

    def _cables(self) -> list[str]:
        def cable(host: Host, far: str) -> str:
            # An index that the far end does not have: else the kernel takes the two for one device that has no
            # hurry, and may start its queue only a second later (linkwatch).
            return f"link add eth0 index 101 netns {host.name} type veth peer name {far} group {GROUP} netns {self.router.name}"

        lines = [
            cable(self.client, "p-client"),
            cable(self.server, "wan-server"),
            cable(self.internet, "wan-internet"),
        ]
        if self._neighbour:
            lines.append(cable(self._neighbour, "wan-neighbour"))
        if self._lan:
            lines.append(cable(self._lan, "p-lan"))
        return lines

    def _addresses(self) -> list[tuple[Host, list[str]]]:
        def wan(host: Host, v4: str, v6: str = "") -> tuple[Host, list[str]]:
            text = WAN_SIDE.format(v4=v4, gateway=_first(v4, "."))
            if v6:
                text += WAN_SIDE6.format(v6=v6, gateway6=_first(v6, ":"))
            return host, text.strip().splitlines()

        def lan(host: Host, v4: str, v6: str) -> tuple[Host, list[str]]:
            text = LAN_SIDE.format(v4=v4, v6=v6, ROUTER=ROUTER, ROUTER6=ROUTER6)
            return host, text.strip().splitlines()

        router = ["link set lo up", f"link add br0 group {GROUP} type bridge mcast_snooping 0", "link set br0 up"]
        for port in ["p-client", *(["p-lan"] if self._lan else [])]:
            router += [f"link set {port} master br0", f"link set {port} up"]
        router += [f"addr add {ROUTER}/24 dev br0", f"addr add {ROUTER6}/64 dev br0 nodad"]
        far = [("wan-server", SERVER, SERVER6), ("wan-internet", INTERNET, INTERNET6)]
        if self._neighbour:
            far.append(("wan-neighbour", NEIGHBOUR, ""))
        for port, v4, v6 in far:
            router += [f"link set {port} up", f"addr add {_first(v4, '.')}/24 dev {port}"]
            if v6:
                router.append(f"addr add {_first(v6, ':')}/64 dev {port} nodad")

        server, lines = wan(self.server, SERVER, SERVER6)
        plan = [
            (self.router, router),
            lan(self.client, CLIENT, CLIENT6),
            (server, [*lines, f"addr add {EXIT}/24 dev eth0"]),
            wan(self.internet, INTERNET, INTERNET6),
        ]
        if self._neighbour:
            plan.append(wan(self._neighbour, NEIGHBOUR))
        if self._lan:
            plan.append(lan(self._lan, LAN_HOST, LAN_HOST6))
        return plan

    async def _carriers(self) -> None:
        """Wait until every end of every cable sends; a first packet lost to a sleeping queue costs ARP a second."""
        waiting = [(host, "eth0") for host in self.hosts if host is not self.router]
        waiting += [(self.router, name) for name in self._ports()]
        until = time.monotonic() + 5
        while waiting:
            waiting = [(host, name) for host, name in waiting if not host.running(name)]
            if not waiting:
                break
            if time.monotonic() > until:
                raise VpnpfError(
                    "waiting for the cables", "no carrier: " + " ".join(f"{h.name} {n}" for h, n in waiting)
                )
            await asyncio.sleep(0.001)

    def _ports(self) -> list[str]:
        ports = ["br0", "p-client", "wan-server", "wan-internet"]
        return ports + ["wan-neighbour"] * bool(self._neighbour) + ["p-lan"] * bool(self._lan)

    def remove(self) -> None:
        """End what still runs in the namespaces and take everything away; nothing happens the second time.

        Blocks, so that neither a cancelled task nor a closed loop can leave something behind.
        """
        atexit.unregister(self.remove)
        there = [host for host in self.hosts if host.path.exists()]
        end_processes(processes_in(there))
        # Deleting the cables first: a namespace lives on while one of its sockets is open in some process.
        steps = [
            (["-n", self.router.name, "-batch", "-"], [f"link del group {GROUP}"]),
            (["-force", "-batch", "-"], [f"netns del {host.name}" for host in there]),
        ]
        for argv, lines in steps if there else []:
            subprocess.run(
                [process.find("ip"), *argv],
                input="\n".join(lines) + "\n",
                text=True,
                env=process.ENVIRONMENT,
                capture_output=True,
                check=False,
            )
        for host in self.hosts:
            shutil.rmtree(host.etc, ignore_errors=True)
            with contextlib.suppress(OSError):
                host.etc.parent.rmdir()


def _sysctl(name: str, value: int) -> None:
    Path("/proc/sys", *name.split(".")).write_text(str(value))


def _first(address: str, separator: str) -> str:
    """The router's address on the link of `address`."""
    return address.rpartition(separator)[0] + separator + "1"


def _write_resolver(host: Host, text: str) -> None:
    """Raises Unavailable. Where /etc is not ours to write, the file goes to /run."""
    problem: OSError | None = None
    for _ in range(20):  # another lab may take the empty directory away between our two steps
        try:
            host.etc.mkdir(parents=True, exist_ok=True)
            host.resolver.write_text(text)
        except OSError as error:
            problem = error
            if not isinstance(error, FileNotFoundError):
                host.etc = ETC_ELSEWHERE / host.name
        else:
            return
    raise Unavailable(f"writing {host.resolver}", str(problem), "give this user namespace a /run of its own")


async def _batch(host: Host | None, lines: Sequence[str]) -> None:
    where = ("-n", host.name) if host else ()
    doing = f"setting up {host.name if host else 'the network namespaces'}"
    await process.must(("ip", *where, "-batch", "-"), doing=doing, stdin="\n".join(lines) + "\n")
