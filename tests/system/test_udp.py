"""TunnelIO with real packets: nothing but the tunnel's gateway is heard, and nothing leaves by another way."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from mock_provider.capture import leak
from mock_provider.gateway import port_unreachable
from mock_provider.host import Host
from mock_provider.provider import MockProvider
from mock_provider.topology import EXIT
from mock_provider.wireguard import GATEWAY, Device
from vpnpf.errors import NoAnswer, Refused, Transient, Unsupported
from vpnpf.io.clock import BootClock
from vpnpf.io.udp import TunnelIO
from vpnpf.model import Protocol, Tunnel
from vpnpf.protocol import natpmp
from vpnpf.protocol.exchange import Exchange, Schedule
from vpnpf.protocol.natpmp_gateway import NatPmpGateway
from vpnpf.testing import FakeAccount, a_tunnel

pytestmark = pytest.mark.system

SHORT = Schedule((0.05, 0.1))
"""For exchanges that end without an answer."""
PATIENT = Schedule((0.05, 3.0))
"""For those that end with one, however busy the machine is."""
TEST_PORT = 5399
ASKING = Exchange(natpmp.address_request(), natpmp.parse_address, "asking", PATIENT)
ANSWER = bytes.fromhex("00800000 00123456 c633640b")


class HostIO(TunnelIO):
    """A TunnelIO whose sockets are of a lab's host."""

    def __init__(self, host: Host, tunnel: Tunnel) -> None:
        super().__init__(tunnel, BootClock(), FakeAccount())
        self.host = host

    def _open(self, *arguments) -> socket.socket:
        with self.host.inside():
            return super()._open(*arguments)


@pytest.fixture
async def device(provider) -> Device:
    return await provider.server.bring_up(provider.customer, provider.lab.client)


@pytest.fixture
def io(provider, device) -> HostIO:
    return HostIO(provider.lab.client, a_tunnel(GATEWAY, "10.2.0.2/32", interface=device.name))


async def ask(io: TunnelIO, address: str = GATEWAY, port: int = 5351, schedule: Schedule = PATIENT):
    return await io.exchange(replace(ASKING, schedule=schedule), address, port)


async def ask_unbound(provider: MockProvider, to: tuple[str, int] = (GATEWAY, 5351)) -> tuple[str, int]:
    """The control: a plain socket takes an answer from anywhere; returns from where."""
    loop = asyncio.get_running_loop()
    with provider.lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await loop.sock_sendto(sock, ASKING.request, to)
        async with asyncio.timeout(1):
            _, source = await loop.sock_recvfrom(sock, 100)
    return source


class Far:
    """A server of ours at the tunnel's end that does what a test wants with each datagram."""

    def __init__(self, host: Host, obey: Callable[[Far, int, tuple[str, int]], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.socket = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((GATEWAY, TEST_PORT))
        self.icmp = host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.icmp.bind((GATEWAY, 0))
        self.seen = 0
        self._obey = obey

    def __enter__(self):
        self.loop.add_reader(self.socket, self._read)
        return self

    def __exit__(self, *_exception):
        self.loop.remove_reader(self.socket)
        self.socket.close()
        self.icmp.close()

    def _read(self) -> None:
        data, client = self.socket.recvfrom(100)
        assert data == ASKING.request
        self.seen += 1
        self._obey(self, self.seen, client)

    def answer(self, client: tuple[str, int], data: bytes = ANSWER) -> None:
        self.socket.sendto(data, client)

    def refuse(self, client: tuple[str, int]) -> None:
        self.icmp.sendto(port_unreachable(client, (GATEWAY, TEST_PORT), len(ASKING.request)), (client[0], 0))


def descriptors() -> set[str]:
    return {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.exists() and path.is_symlink()}


# -- the way through ------------------------------------------------------------------------------


async def test_a_whole_lease_goes_through_the_tunnel_alone(provider, io):
    async with provider.lab.capture(leak()) as leaked:
        gateway = NatPmpGateway(io, GATEWAY)
        assert (await gateway.external_address()).address == EXIT
        mapping = await gateway.map_all((Protocol.TCP, Protocol.UDP), 0, 1, 60)
        assert provider.gateway.external_ports == {mapping.external_port}
        await gateway.unmap_all((Protocol.TCP, Protocol.UDP), mapping.external_port)
        assert not provider.gateway.mappings
        assert await leaked.count() == 0


@pytest.mark.parametrize(("wrong", "source"), [("port", (GATEWAY, 6667)), ("address", (EXIT, 5351))])
async def test_answers_from_a_wrong_source_are_not_heard(provider, io, wrong, source):
    provider.gateway.wrong_source = wrong
    assert await ask_unbound(provider) == source, "the control: they do arrive at this host"
    with pytest.raises(NoAnswer, match=r"no answer in 0\.15 s"):
        await ask(io, schedule=SHORT)
    assert [str(request.fate) for request in provider.gateway.log] == ["answered"] * 3
    provider.gateway.wrong_source = False
    assert (await ask(io)).address == EXIT


async def test_the_lan_may_have_the_gateways_address_and_answer(provider, io):
    """A home router at 10.2.0.1, or somebody who plays it, with a route that is more specific than the tunnel's."""
    host, router = provider.lab.client, provider.lab.router
    await router.must(("ip", "addr", "add", f"{GATEWAY}/24", "dev", "br0"))
    await host.must(("ip", "addr", "add", "10.2.0.77/24", "dev", "eth0"))
    with router.socket(socket.AF_INET, socket.SOCK_DGRAM) as rogue:
        rogue.bind((GATEWAY, 5351))
        asyncio.get_running_loop().add_reader(
            rogue, lambda: rogue.sendto(bytes.fromhex("00800000 00000001 01020304"), rogue.recvfrom(100)[1])
        )
        try:
            assert await ask_unbound(provider) == (GATEWAY, 5351)
            assert not provider.gateway.log, "the control: it was the rogue"
            async with provider.lab.capture(leak()) as leaked:
                assert (await ask(io)).address == EXIT
                assert await leaked.count() == 0
            assert len(provider.gateway.log) == 1
        finally:
            asyncio.get_running_loop().remove_reader(rogue)


# -- refusals -------------------------------------------------------------------------------------


async def test_icmp_port_unreachable_at_every_try_is_refused(provider, io):
    provider.gateway.refuse = True
    with pytest.raises(Refused):
        await ask(io, schedule=SHORT)
    assert len(provider.gateway.log) == 2, "a refusal is often over at the next try"


async def test_a_kernel_without_a_listener_refuses_too(io):
    with pytest.raises(Refused):
        await ask(io, port=TEST_PORT, schedule=SHORT)


async def test_refused_once_and_then_answered_is_answered(provider, io):
    provider.gateway.refuse_next()
    assert (await ask(io)).address == EXIT
    assert [str(request.fate) for request in provider.gateway.log] == ["refused", "answered"]


async def test_an_answer_after_the_refusal_of_the_last_try_is_heard(provider, io):
    def late(far, number, client):
        if number == 2:
            far.refuse(client)
            far.loop.call_later(0.03, far.answer, client)

    with Far(provider.lab.server, late):
        assert (await ask(io, port=TEST_PORT)).address == EXIT


async def test_refusals_that_come_after_the_next_try_count_and_keep_no_try_from_being_sent(provider, io):
    """A round trip longer than the wait: the kernel tells of an earlier refusal when the next datagram is sent."""

    def late(far, number, client):
        far.loop.call_later(0.06, far.refuse, client)

    with Far(provider.lab.server, late) as far:
        with pytest.raises(Refused):
            await ask(io, port=TEST_PORT, schedule=Schedule((0.05, 0.05, 0.15)))
        assert far.seen == 3


async def test_a_refusal_that_waits_in_the_socket_does_not_eat_the_next_try(provider, io, monkeypatch):
    """It arrives in the moment between the end of one wait and the next datagram."""
    loop = asyncio.get_running_loop()
    sending, sent = loop.sock_sendall, []

    def obey(far, number, client):
        if number == 2:
            far.answer(client)
        else:
            far.loop.call_later(0.02, far.refuse, client)

    async def deaf(sock, _size):
        await asyncio.sleep(10)

    async def send(sock, data):
        sent.append(data)
        if len(sent) == 2:
            monkeypatch.setattr(loop, "sock_recv", hearing)
        await sending(sock, data)

    hearing = loop.sock_recv
    monkeypatch.setattr(loop, "sock_recv", deaf)
    monkeypatch.setattr(loop, "sock_sendall", send)
    with Far(provider.lab.server, obey) as far:
        assert (await ask(io, port=TEST_PORT, schedule=Schedule((0.1, 3.0)))).address == EXIT
        assert far.seen == 2
    assert len(sent) == 3, "the second was told of the refusal instead of being sent"


async def test_one_refusal_among_silent_tries_is_a_refusal(provider, io):
    provider.gateway.silent = True
    provider.gateway.refuse_next()
    with pytest.raises(Refused):
        await ask(io, schedule=SHORT)


# -- a tunnel that is not there -------------------------------------------------------------------


async def down(device: Device) -> None:
    await device.host.must(("ip", "link", "set", device.name, "down"))


async def bare(device: Device) -> None:
    await device.host.must(("ip", "addr", "flush", "dev", device.name))


async def gone(device: Device) -> None:
    await device.remove()


@pytest.mark.parametrize("end", [gone, down, bare])
async def test_through_a_dead_tunnel_nothing_is_sent_anywhere(provider, device, io, end):
    assert (await ask(io)).address == EXIT
    await end(device)
    async with provider.lab.capture(leak()) as leaked:
        with pytest.raises(Transient, match="asking: ") as told:
            await ask(io)
        assert type(told.value) is Transient
        assert device.name in told.value.hint
        assert await leaked.count() == 0
        with provider.lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(ASKING.request, (GATEWAY, 5351))
        assert await leaked.count() == 1, "the control: a socket that is not bound leaks"


@pytest.mark.parametrize("end", [gone, down])
async def test_a_tunnel_that_dies_under_an_exchange_ends_it(provider, device, io, end):
    provider.gateway.silent = True
    async with provider.lab.capture(leak()) as leaked:
        asking = asyncio.create_task(ask(io, schedule=Schedule((0.3, 5.0))))
        await provider.gateway.until(lambda: provider.gateway.log)
        await end(device)
        async with asyncio.timeout(2):
            with pytest.raises(Transient, match="asking: "):
                await asking
        assert await leaked.count() == 0


async def test_a_silent_tunnel_is_no_answer_in_the_time_that_was_given(provider, io):
    await provider.server.mute()
    clock = BootClock()
    began = clock.now()
    with pytest.raises(NoAnswer):
        await ask(io, schedule=SHORT)
    assert 0.15 <= clock.now() - began < 3


async def test_a_packet_filter_that_drops_it_is_named(provider, io):
    rules = "table ip t { chain o { type filter hook output priority 0; udp dport 5351 drop\n }\n }\n"
    await provider.lab.client.must(("nft", "-f", "-"), stdin=rules)
    with pytest.raises(Transient, match="Operation not permitted") as told:
        await ask(io)
    assert "packet filter" in told.value.hint


# -- what must not happen -------------------------------------------------------------------------


async def test_given_up_it_leaves_no_socket_and_no_reader(provider, io):
    provider.gateway.silent = True
    before = descriptors()
    asking = asyncio.create_task(ask(io, schedule=Schedule((60.0,))))
    await provider.gateway.until(lambda: provider.gateway.log)
    assert len(descriptors()) == len(before) + 1
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert descriptors() == before
    provider.gateway.silent = False
    assert (await ask(io)).address == EXIT


@pytest.mark.parametrize("rubbish", [b"\xff" * 1101, ConnectionRefusedError()], ids=["datagrams", "refusals"])
async def test_rubbish_without_end_does_not_keep_others_from_running(io, monkeypatch, rubbish):
    async def receive(_sock, _size):
        if isinstance(rubbish, Exception):
            raise rubbish
        return rubbish

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_recv", receive)
    ran = 0

    async def other():
        nonlocal ran
        while True:
            ran += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    with pytest.raises((NoAnswer, Refused)):
        await ask(io, schedule=SHORT)
    task.cancel()
    assert ran > 20


async def test_rubbish_before_the_answer_is_passed_over(provider, io):
    def obey(far, _number, client):
        for data in (
            b"",
            b"\0",
            b"\0\x80",
            ANSWER + b"\0",
            b"\xff" * 1400,
            struct.pack("!BBHI", 0, 129, 0, 1),
            ANSWER,
        ):
            far.answer(client, data)

    with Far(provider.lab.server, obey):
        assert (await ask(io, port=TEST_PORT)).address == EXIT


@pytest.mark.parametrize("address", ["", "gateway.test", "10.2.0", "0x0a020001", "10.2.0.1:5351"])
async def test_no_name_is_looked_up(provider, io, address):
    async with provider.lab.capture(leak()) as asked:
        with pytest.raises(Unsupported, match="is not an IP address"):
            await ask(io, address)
        assert await asked.count() == 0
    assert not provider.isp_dns.log


async def test_the_own_address_is_of_the_gateways_family(provider, device):
    plan = a_tunnel(interface=device.name).plan
    both = replace(plan, addresses=("2a07:b944::2:2/128", "10.2.0.2/32"))
    io = HostIO(provider.lab.client, Tunnel(both, "test", GATEWAY))
    assert (await ask(io)).address == EXIT
    io = HostIO(provider.lab.client, Tunnel(replace(plan, addresses=("2a07:b944::2:2/128",)), "test", GATEWAY))
    with pytest.raises(Unsupported, match="no IPv4 address"):
        await ask(io)


async def test_over_ipv6_too(tmp_path):
    async with MockProvider(ipv6=True) as provider:
        device = await provider.server.bring_up(provider.customer, provider.lab.client)
        own, far = provider.customer.address6, "2a07:b944::2:1"
        lines = f"addr add {own}/128 dev {device.name} nodad\nroute add {far} dev {device.name}\n"
        await provider.lab.client.must(("ip", "-batch", "-"), stdin=lines)
        loop = asyncio.get_running_loop()
        with provider.lab.server.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind((far, TEST_PORT))
            loop.add_reader(sock, lambda: sock.sendto(ANSWER, sock.recvfrom(100)[1]))
            try:
                io = HostIO(provider.lab.client, a_tunnel(far, f"{own}/128", interface=device.name))
                assert (await ask(io, far, TEST_PORT)).address == EXIT
            finally:
                loop.remove_reader(sock)


def test_random_ports_are_dynamic_ones():
    io = TunnelIO(a_tunnel(), BootClock(), FakeAccount())
    ports = {io.random_port() for _ in range(200)}
    assert len(ports) > 150
    assert all(49152 <= port <= 65535 for port in ports)
