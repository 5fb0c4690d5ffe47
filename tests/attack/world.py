"""The two sides of every attack: a machine with vpnpf, and one with what others do.

A side is a provider, a LAN with an attacker on it, another customer of the provider, and the machine itself. It is
made anew for each attack, which takes less than half a second, so that no attack meets what another left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import TypeVar

from mock_provider.capture import Packet, Predicate, leak
from mock_provider.host import Host
from mock_provider.peer import Peer
from mock_provider.product import Product, unique_profile
from mock_provider.provider import ENDPOINT_NAME, MockProvider
from mock_provider.topology import SERVER
from mock_provider.wireguard import GATEWAY, PORT, Client, unique_name
from tests.attack.probes import Probe, Tally, probing
from vpnpf.io import process

LISTEN = 25565
"""Where the program behind the forwarded port listens."""
LAN = ("192.168.77.0/24", "fd77::/64", "fe80::/10", "172.17.0.0/16")
CONFIG = """\
[profiles.{profile}]
provider = "protonvpn"
tunnel = {{ type = "wireguard", config = "proton.conf" }}
lock = {{ mode = "{lock}" }}
forwards.game = {{ protocols = ["tcp"], internal_port = {listen} }}
"""


@dataclass
class Score:
    """How an attack went on one side."""

    sent: int
    leaked: int
    missing: tuple[str, ...] = ()
    """Kinds of probes of which none was seen: on the side that must leak they prove nothing."""
    note: str = ""


@dataclass
class Side:
    """One side. `guarded`: vpnpf runs on the machine."""

    guarded: bool
    provider: MockProvider
    directory: Path
    stack: contextlib.AsyncExitStack
    tunnel: str = ""
    """The tunnel's device on the machine."""
    endpoint: str = SERVER
    product: Product | None = None
    config: Path | None = None
    holder: asyncio.subprocess.Process | None = None
    """A process that the machine's rules live and die with."""
    container: Host | None = None
    customer: Client | None = None
    """What the machine's tunnel is; None: the provider's first."""

    @property
    def client(self) -> Host:
        """The machine under attack."""
        return self.provider.lab.client

    @property
    def attacker(self) -> Host:
        """On the machine's LAN."""
        return self.provider.lab.lan

    async def watch(self, probes: Sequence[Probe] = (), *, also: Predicate | None = None):
        """A capture on the machine's cable, entered: of the probes, and where vpnpf runs of anything else too."""
        beside = leak(self.endpoint, lan=LAN)

        def leaked(packet: Packet) -> bool:
            if not packet.outbound:
                return False
            seen = any(probe.seen_in(packet) for probe in probes) or bool(also and also(packet))
            return seen or (self.guarded and beside(packet))

        return await self.stack.enter_async_context(self.provider.lab.capture(leaked))

    async def make_container(self) -> Host:
        """A namespace behind the machine, as a container is: 172.17.0.2."""
        lab = self.provider.lab
        made = Host("container", f"{self.client.name}-k")
        lab.hosts.append(made)
        lines = f"netns add {made.name}\nlink add veth0 netns {self.client.name} type veth peer name eth0 netns {made.name}\n"
        await ip(None, lines)
        await ip(self.client, "addr add 172.17.0.1/16 dev veth0\nlink set veth0 up\n")
        await ip(
            made,
            "link set lo up\nlink set eth0 up\naddr add 172.17.0.2/16 dev eth0\nroute add default via 172.17.0.1\n",
        )
        self.client.sysctl("net.ipv4.ip_forward", 1)
        self.container = made
        return made

    async def start(self, condition: Callable[[dict], bool] = lambda state: state["phase"] == "ready") -> Product:
        """Start vpnpf (again), and wait; takes over what a dead one left."""
        assert self.config is not None
        profile = self.config.stem
        made = Product(self.client, self.directory, self.config, profile)
        self.product = await self.stack.enter_async_context(made)
        state = await made.until(condition)
        self.tunnel = (state.get("tunnel") or {}).get("interface", "") or f"vpf-{profile}"
        return made

    async def kill_tunnel(self) -> None:
        """`kill -9` of the tunnel program: its device goes with it. Where the kernel is it, the device goes."""
        pids = [pid for pid in self.client.processes if _name(pid) == "wireguard-go"]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not pids:
            await self.client.must(("ip", "link", "del", self.tunnel))
        await until(lambda: self.client.must(("ip", "-br", "link")), lambda links: self.tunnel not in links)

    async def kill_daemon(self) -> None:
        """`kill -9` of what holds the rules."""
        if self.product is not None:
            self.product.signal(signal.SIGKILL)
            await self.product.ended()
        elif self.holder is not None:
            with contextlib.suppress(ProcessLookupError):
                self.holder.kill()
            await self.holder.wait()

    async def neighbour_tunnel(self) -> Client:
        """Another customer of the provider comes up beside us, 10.2.0.3."""
        server = self.provider.server
        other = await server.add_client()
        await server.bring_up(other, self.provider.lab.neighbour)
        # The server learns where he is: it could not send him anything before.
        await Peer(self.provider.lab.neighbour).connect_tcp(GATEWAY, 9)
        return other


Weakness = Callable[[Side], Awaitable[None]]
Body = Callable[[Side], Awaitable[Score]]


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path("/proc", str(pid), "comm").read_text().strip()
    return ""


T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T]], good: Callable[[T], bool], deadline: float = 10.0) -> T:
    """Look until it is good; returns what was seen then. Raises TimeoutError."""
    async with asyncio.timeout(deadline):
        while True:
            seen = await look()
            if good(seen):
                return seen
            await asyncio.sleep(0.005)


async def ip(host: Host | None, lines: str, *family: str) -> None:
    """Run lines of `ip -batch` in a namespace, or outside all."""
    where = ("-n", host.name) if host else ()
    await process.must(("ip", *where, *family, "-batch", "-"), doing="setting up an attack", stdin=lines)


@contextlib.asynccontextmanager
async def side(*, guarded: bool, tunnel: str = "wireguard"):
    """A side without a tunnel yet; gone at the end."""
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vpnpf-attack-")))
        provider = await stack.enter_async_context(MockProvider(lan_host=True, neighbour=True, tunnel=tunnel))
        yield Side(guarded, provider, directory, stack)


# -- what others do --------------------------------------------------------------------------------


async def product(
    made: Side, *, named: bool = False, lock: str = "on", wait: Callable[[dict], bool] | None = None
) -> None:
    """vpnpf itself. `named`: its server is told by name."""
    profile = unique_profile()
    customer = made.provider.customer
    if named:
        customer = changed(customer, endpoint=f"{ENDPOINT_NAME}:{PORT}")
    customer.write(made.directory / "proton.conf")
    made.config = made.directory / f"{profile}.toml"
    made.config.write_text(CONFIG.format(profile=profile, listen=LISTEN, lock=lock))
    await (made.start(wait) if wait else made.start())


async def wg_quick(made: Side) -> None:
    """The provider's file as it is, by wg-quick: routes by mark, no kill switch."""
    made.tunnel = unique_name(made.provider.lab)
    path = made.directory / f"{made.tunnel}.conf"
    path.touch(mode=0o600)
    text = made.provider.customer.config
    path.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("DNS")))
    await made.client.must(("env", "WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go", "wg-quick", "up", str(path)))


async def half_routes(made: Side) -> None:
    """0.0.0.0/1, 128.0.0.0/1 and a host route to the server, as OpenVPN and many clients do; no kill switch."""
    device = await made.provider.server.bring_up(made.customer or made.provider.customer, made.client)
    made.tunnel = device.name


def by_address(made: Side) -> str:
    """A kill switch that lets everything out to the server's address."""
    return f"""
    table inet killswitch {{
      chain out {{
        type filter hook output priority 0; policy drop
        oifname "lo" accept
        oifname "{made.tunnel}" accept
        ip daddr {made.endpoint} accept
        udp dport 67 accept
        icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} accept
      }}
    }}
    """


def ipv4_only(made: Side) -> str:
    """The classic mistake: a kill switch in a table of family ip."""
    return f"""
    table ip killswitch {{
      chain out {{
        type filter hook output priority 0; policy drop
        oifname "lo" accept
        oifname "{made.tunnel}" accept
        ip daddr {made.endpoint} udp dport {PORT} accept
      }}
    }}
    """


def switched(routes: Weakness, rules: Callable[[Side], str]) -> Weakness:
    """A tunnel and then a kill switch."""

    async def weak(made: Side) -> None:
        await routes(made)
        await made.client.must(("nft", "-f", "-"), stdin=rules(made))

    return weak


async def owned_rules(made: Side) -> None:
    """A kill switch whose table belongs to a process (`flags owner`) and goes with it."""
    await half_routes(made)
    made.holder = await made.client.popen(("nft", "-i"), stdin=asyncio.subprocess.PIPE, stdout=None, stderr=None)
    assert made.holder.stdin is not None
    rules = ";".join(line for line in by_address(made).splitlines() if line.strip())
    # On one line, since the program reads a line as a whole transaction.
    rules = rules.replace("killswitch {;", "killswitch { flags owner;").replace("{;", "{")
    made.holder.stdin.write(f"add {rules.strip()}\n".encode())
    await made.holder.stdin.drain()
    await until(lambda: tables(made.client), lambda names: "killswitch" in names)


# -- what many attacks have in common --------------------------------------------------------------


def named(counts: Sequence[Packet], probes: Sequence[Probe]) -> tuple[str, ...]:
    """The probes of which no packet was seen."""
    return tuple(probe.name for probe in probes if not any(probe.seen_in(packet) for packet in counts))


async def under_probes(
    made: Side,
    probes: Sequence[Probe],
    act: Callable[[Tally], Awaitable[str | None]] | None = None,
    *,
    rounds: int = 300,
    wrap: Sequence[str] = (),
    inner: Sequence[Probe] = (),
    capture=None,
) -> Score:
    """Do something under a stream of probes, send on a while, and count what was seen on the cable.

    `inner` are sent from the container. `act` may return a note.
    """
    capture = capture or await made.watch([*probes, *inner])
    note = ""
    async with contextlib.AsyncExitStack() as stack:
        tally = await stack.enter_async_context(probing(made.client, probes, wrap=wrap))
        tallies = [tally]
        if inner:
            assert made.container is not None
            tallies.append(await stack.enter_async_context(probing(made.container, inner)))
        if act:
            note = await act(tally) or ""
        for each in tallies:
            await each.more(rounds)
    leaked = await capture.count()
    return Score(sum(each.sent for each in tallies), leaked, named(capture.packets, [*probes, *inner]), note)


async def tables(host: Host) -> str:
    """The packet filter's tables."""
    return await host.must(("nft", "list", "tables"))


def rule_mark(listing: str) -> int:
    """The mark of vpnpf's rule in what `ip -j rule` prints."""
    return next(int(rule["fwmark"], 16) for rule in json.loads(listing) if rule.get("fwmark"))
