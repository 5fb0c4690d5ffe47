"""Our NAT-PMP against a gateway that others wrote: a real miniupnpd, on the router of the lab.

The client's cable stands in for the tunnel, the router's address on it for the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from msgspec.structs import replace

from mock_provider.peer import Echo, Peer
from mock_provider.topology import CLIENT, INTERNET, LAN_HOST, ROUTER, Lab
from tests.system.test_udp import HostIO
from vpnpf.errors import Misconfigured, Transient
from vpnpf.leases import from_store, merged
from vpnpf.model import BOTH, ForwardSpec, Lease, MappingRequest, Protocol
from vpnpf.protocol.exchange import Exchange
from vpnpf.protocol.natpmp import ErrorAnswer, parse_mapping
from vpnpf.protocol.natpmp_gateway import NatPmpGateway
from vpnpf.testing import a_tunnel
from vpnpf_providers.natpmp import NatPmp
from vpnpf_providers.protonvpn import ProtonVpn

pytestmark = pytest.mark.system

OUTSIDE = "203.0.113.1"
"""The router's address on the internet's side."""
SAYS = "45.45.45.45"
"""What it says its address is: all of the lab's are reserved ones, with which it would not work."""
WISH = 40000

CONFIG = """\
ext_ifname=wan-internet
listening_ip=br0
port=0
enable_natpmp=yes
enable_upnp=no
secure_mode=yes
upnp_table_name=mini
upnp_nat_table_name=mini
upnp_forward_chain=mini_forward
upnp_nat_chain=mini_pre
upnp_nat_postrouting_chain=mini_post
allow 100-65535 192.168.77.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""
CHAINS = """
table inet mini {
  chain mini_forward {
  }
  chain mini_pre {
  }
  chain mini_post {
  }
  chain forward {
    type filter hook forward priority 0; policy drop
    ct state established,related accept
    jump mini_forward
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept
    jump mini_pre
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept
    jump mini_post
  }
}
"""


class Miniupnpd:
    """The daemon in the router's namespace; an async context manager that waits until it listens."""

    def __init__(self, lab: Lab, directory: Path, external: str | None = SAYS) -> None:
        self.lab = lab
        self.said: list[str] = []
        self._config = directory / "miniupnpd.conf"
        self._config.write_text(CONFIG + (f"ext_ip={external}\n" if external else ""))
        self._pid = directory / "miniupnpd.pid"
        self._listens = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.lab.router.must(("nft", "-f", "-"), stdin=CHAINS)
        argv = ("miniupnpd", "-d", "-f", str(self._config), "-P", str(self._pid))
        self._process = await self.lab.router.popen(argv, stdout=asyncio.subprocess.DEVNULL)
        self._reader = asyncio.create_task(self._read())
        ready = asyncio.create_task(self._listens.wait())
        async with asyncio.timeout(10):
            await asyncio.wait({ready, self._reader}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        assert self._listens.is_set(), self.said
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()  # it minds SIGTERM only when something else wakes it up
        await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        while line := await self._process.stderr.readline():
            self.said.append(line.decode().strip())
            if "Listening for NAT-PMP" in self.said[-1]:
                self._listens.set()

    async def rules(self) -> str:
        """What it has told the kernel."""
        return await self.lab.router.must(("nft", "list", "chain", "inet", "mini", "mini_pre"))


@pytest.fixture
async def lab():
    async with Lab(lan_host=True) as made:
        yield made


@pytest.fixture
async def daemon(lab, tmp_path):
    async with Miniupnpd(lab, tmp_path) as running:
        yield running


class Ours:
    """One of our providers on a host of the LAN."""

    def __init__(self, lab, provider=None, *, host=None, address=CLIENT) -> None:
        self.tunnel = a_tunnel(ROUTER, f"{address}/24", interface="eth0")
        self.io = HostIO(host or lab.client, self.tunnel)
        self.provider = provider or NatPmp({})

    async def acquire(self, previous: Lease | None = None, **spec) -> Lease:
        request = MappingRequest(ForwardSpec("torrent", **spec), previous)
        return await self.provider.acquire(self.io, self.tunnel, request)

    async def renew(self, held: Lease) -> Lease:
        request = MappingRequest(ForwardSpec("torrent"), held, renewal=True)
        return await self.provider.acquire(self.io, self.tunnel, request)

    async def release(self, lease: Lease) -> None:
        await self.provider.release(self.io, self.tunnel, lease)


@pytest.fixture
def ours(lab, daemon):
    return Ours(lab)


async def test_a_lease_from_end_to_end(lab, daemon, ours):
    peer = Peer(lab.internet)
    lease = await ours.acquire()
    assert lease.exit_address == SAYS
    assert lease.protocols == BOTH
    assert lease.external_port == lease.internal_port
    assert lease.lifetime == 7200
    async with Echo(lab.client, CLIENT, lease.internal_port) as listener:
        assert (await peer.connect_tcp(OUTSIDE, lease.external_port, send=b"hello")).data == b"hello"
        assert (await peer.send_udp(OUTSIDE, lease.external_port, b"datagram")).data == b"datagram"
        assert [seen.source for seen in listener.seen] == [INTERNET, INTERNET]

        renewed = await ours.renew(lease)
        assert renewed.granted_at > lease.granted_at
        same = {"granted_at": 0, "epoch": 0, "epoch_at": 0}
        assert replace(renewed, **same) == replace(lease, **same)
        assert renewed.epoch - lease.epoch in {0, 1}

        await ours.release(renewed)
        assert "dnat" not in await daemon.rules()
        assert not (await peer.connect_tcp(OUTSIDE, lease.external_port)).connected
    await ours.release(renewed)


@pytest.mark.parametrize("protocols", [(Protocol.TCP,), (Protocol.UDP,)], ids="+".join)
async def test_one_protocol_alone(daemon, ours, protocols):
    lease = await ours.acquire(protocols=protocols)
    rules = await daemon.rules()
    assert rules.count("dnat") == 1
    number = {Protocol.TCP: "0x6", Protocol.UDP: "0x11"}[protocols[0]]
    assert f"{number} th dport {lease.external_port} " in rules
    await ours.release(lease)
    assert "dnat" not in await daemon.rules()


async def test_a_wish_is_granted(daemon, ours):
    lease = await ours.acquire(external_port=WISH)
    assert (lease.external_port, lease.internal_port) == (WISH, WISH)


async def test_a_wish_with_another_port_inside_is_granted(lab, daemon, ours):
    lease = await ours.acquire(external_port=WISH, internal_port=6881)
    assert (lease.external_port, lease.internal_port) == (WISH, 6881)
    async with Echo(lab.client, CLIENT, 6881):
        assert (await Peer(lab.internet).connect_tcp(OUTSIDE, WISH)).connected
    await ours.release(await ours.renew(lease))
    assert "dnat" not in await daemon.rules()


async def test_a_wish_that_another_has_brings_another_port_that_is_the_same_inside(lab, daemon, ours):
    theirs = await Ours(lab, host=lab.lan, address=LAN_HOST).acquire(external_port=WISH)
    assert theirs.external_port == WISH
    lease = await ours.acquire(external_port=WISH)
    assert lease.external_port == lease.internal_port == WISH + 1
    rules = await daemon.rules()
    assert rules.count(f"dnat ip to {CLIENT}:{WISH + 1}") == len(BOTH)
    assert rules.count("dnat") == 2 * len(BOTH), "nothing else was left on the way there"


@pytest.mark.parametrize("theirs", ["tcp", "udp"])
async def test_a_wish_that_another_has_in_one_protocol_brings_another_port_in_both(lab, daemon, ours, theirs):
    """Mapped by the reference client. The daemon does not keep the number free in the other protocol."""
    done = await lab.lan.run(("natpmpc", "-a", str(WISH), "6881", theirs, "7200", "-g", ROUTER))
    assert f"Mapped public port {WISH} protocol {theirs.upper()}" in done.stdout
    lease = await ours.acquire(external_port=WISH)
    assert lease.external_port == lease.internal_port == WISH + 1
    rules = await daemon.rules()
    assert rules.count(f"dnat ip to {CLIENT}:{WISH + 1}") == len(BOTH)
    assert rules.count("dnat") == 1 + len(BOTH), "nothing else was left on the way there"


async def test_after_a_restart_the_port_is_taken_over(daemon, lab, ours):
    lease = await ours.acquire()
    before = await daemon.rules()
    kept = from_store(merged(None, "here", (("torrent", lease),)))["here"]["torrent"]
    again = await Ours(lab).acquire(kept)
    assert again.external_port == lease.external_port
    assert await daemon.rules() == before


async def test_a_port_that_the_daemon_may_not_give_brings_the_next_that_it_may(daemon, ours):
    lease = await ours.acquire(external_port=80, internal_port=8080)
    assert lease.external_port == 100


async def test_internal_port_0_is_refused_with_a_result(lab, daemon, ours):
    """So ProtonVPN's way of asking is no use here, and says so."""
    with pytest.raises(Misconfigured, match=r"not authorized \(result 2\)"):
        await NatPmpGateway(ours.io, ROUTER).map(Protocol.TCP, 0, 1, 60)
    with pytest.raises(Misconfigured, match=r"not authorized \(result 2\)") as told:
        await Ours(lab, ProtonVpn({})).acquire()
    assert told.value.hint
    assert "dnat" not in await daemon.rules()


async def test_an_opcode_that_it_does_not_know_is_answered_with_an_error_that_we_read(ours):
    asking = Exchange(b"\0\3" + bytes(10), lambda data: data, "asking")
    answer = await ours.io.exchange(asking, ROUTER, 5351)
    assert answer[:4] == b"\0\x83\0\5"
    as_if_for_tcp = b"\0\x82" + answer[2:]
    assert parse_mapping(as_if_for_tcp, Protocol.TCP, 6881) == ErrorAnswer(5)


async def test_a_gateway_without_an_address_on_the_internet_says_so(lab, tmp_path):
    async with Miniupnpd(lab, tmp_path, external=None):
        with pytest.raises(Transient, match=r"network failure \(result 3\)") as told:
            await Ours(lab).acquire()
        assert type(told.value) is Transient
