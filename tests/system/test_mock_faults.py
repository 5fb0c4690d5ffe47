"""The mock gateway's faults with real packets, through a real tunnel; and scenarios by the real clock."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
import sys
import time
from asyncio.subprocess import PIPE

import pytest

from mock_provider.egress import OtherEgress
from mock_provider.faults import Fate
from mock_provider.natpmp import EPOCH, Dnat
from mock_provider.peer import Echo, Peer, Result
from mock_provider.player import playing
from mock_provider.provider import MockProvider
from mock_provider.scenario_text import parse
from mock_provider.topology import EXIT, INTERNET
from mock_provider.wireguard import GATEWAY, Device
from vpnpf.model import Protocol

pytestmark = pytest.mark.system

ADDRESS = b"\0\0"
MAP_UDP = bytes.fromhex("000100000000000100 00003c")
MAP_TCP = bytes.fromhex("000200000000000100 00003c")


@pytest.fixture
async def tunnel(provider) -> Device:
    return await provider.server.bring_up(provider.customer, provider.lab.client)


@contextlib.contextmanager
def asking(provider: MockProvider):
    with provider.lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((GATEWAY, 5351))
        yield sock


async def receive(sock: socket.socket, deadline: float = 1.0) -> bytes:
    async with asyncio.timeout(deadline):
        return await asyncio.get_running_loop().sock_recv(sock, 2000)


async def ask(sock: socket.socket, data: bytes, deadline: float = 1.0) -> bytes:
    await asyncio.get_running_loop().sock_sendall(sock, data)
    return await receive(sock, deadline)


def port_in(answer: bytes) -> int:
    return struct.unpack_from("!H", answer, 10)[0]


async def test_answers_arrive_as_mangled_and_then_true_again(provider, tunnel):
    gateway = provider.gateway
    with asking(provider) as sock:
        true = await ask(sock, MAP_UDP)
        for switch, value, expected in (
            ("says_version", 2, b"\x02" + true[1:]),
            ("says_opcode", 1, true[:1] + b"\x01" + true[2:]),
            ("says_internal_port", 9, true[:8] + b"\0\x09" + true[10:]),
            ("says_external_port", 0, true[:10] + b"\0\0" + true[12:]),
            ("says_lifetime", 0, true[:12] + bytes(4)),
            ("says_lifetime", 2**32 - 1, true[:12] + b"\xff" * 4),
            ("shorten", 11, true[:11]),
            ("shorten", 0, b""),
        ):
            setattr(gateway, switch, value)
            said = await ask(sock, MAP_UDP)
            assert said[:4] + said[8:] == expected[:4] + expected[8:], switch  # the epoch goes on meanwhile
            assert [send.data for send in gateway.log[-1].sends] == [said]
            gateway.clear()
        gateway.lengthen = 1300
        assert len(await ask(sock, MAP_UDP)) == 1316
        gateway.clear()
        gateway.noise = 4
        datagrams = [await ask(sock, MAP_UDP), *[await receive(sock) for _ in range(4)]]
        assert datagrams == [send.data for send in gateway.log[-1].sends]
        gateway.clear()
        assert port_in(await ask(sock, MAP_UDP)) == port_in(true)
        assert gateway.mappings == {Dnat(Protocol.UDP, port_in(true), "10.2.0.2", port_in(true))}


async def test_a_lossy_run_can_be_repeated(provider, tunnel):
    gateway = provider.gateway
    gateway.loss, gateway.answer_loss = 0.3, 0.2

    async def run() -> list[Fate]:
        gateway.reseed(11)
        gateway.log.clear()
        with asking(provider) as sock:
            for number in range(30):
                sock.send(MAP_UDP)
                await gateway.until(lambda number=number: len(gateway.log) > number)
            sent = sum(request.fate is Fate.ANSWERED for request in gateway.log)
            for _ in range(sent):
                assert port_in(await receive(sock))
            with pytest.raises(BlockingIOError):
                sock.recv(100)
        return [request.fate for request in gateway.log]

    first = await run()
    assert set(first) == {Fate.ANSWERED, Fate.SILENT, Fate.ANSWER_LOST}
    assert await run() == first


async def test_answers_overtake_each_other(provider, tunnel):
    provider.gateway.reorder = 2
    with asking(provider) as sock:
        sock.send(MAP_UDP)
        assert [(await ask(sock, MAP_TCP))[1], (await receive(sock))[1]] == [130, 129]
        provider.gateway.clear()
        provider.gateway.delay = (0.05, 0.1)
        began = time.monotonic()
        await ask(sock, ADDRESS)
        assert time.monotonic() - began >= 0.05


async def test_gone_is_the_kernels_own_refusal_and_back_with_the_mappings(provider, tunnel):
    gateway = provider.gateway
    with asking(provider) as sock:
        port = port_in(await ask(sock, MAP_UDP))
        await gateway.vanish()
        with pytest.raises(ConnectionRefusedError):
            await ask(sock, MAP_UDP)
        assert len(gateway.log) == 1, "nobody was there to see it"
        assert {rule.external_port for rule in await provider.nat.read()} == {port}
        await gateway.come_back()
        assert port_in(await ask(sock, MAP_UDP)) == port
        gateway.gone = True
        with pytest.raises(ConnectionRefusedError):
            await ask(sock, MAP_UDP)
        gateway.clear()
        assert port_in(await ask(sock, MAP_UDP)) == port


async def test_gone_and_back_without_the_mappings(provider, tunnel):
    gateway = provider.gateway
    with asking(provider) as sock:
        port = port_in(await ask(sock, MAP_UDP))
        await gateway.vanish(forget=True)
        assert await provider.nat.read() == gateway.mappings == frozenset()
        assert (await provider.peer.connect_tcp(EXIT, port)).result is Result.UNREACHABLE
        await gateway.come_back()
        assert int.from_bytes((await ask(sock, ADDRESS))[4:8]) < 60
        await ask(sock, MAP_UDP)
        await gateway.forget()
        assert await provider.nat.read() == frozenset()
        assert int.from_bytes((await ask(sock, ADDRESS))[4:8]) < 60, "the epoch goes on"


async def test_a_mapping_ends_while_the_gateway_is_gone(provider, tunnel):
    provider.gateway.longest_grant = 1
    with asking(provider) as sock:
        assert (await ask(sock, MAP_UDP))[12:] == b"\0\0\0\1"
    await provider.gateway.vanish()
    await provider.gateway.until(lambda: not provider.gateway.mappings)
    assert await provider.nat.read() == frozenset()


async def test_peers_see_another_address_than_the_one_whose_port_is_open(provider, tunnel):
    with asking(provider) as sock:
        port = port_in(await ask(sock, MAP_UDP))
        await ask(sock, MAP_TCP)
        assert socket.inet_ntoa((await ask(sock, ADDRESS))[8:12]) == EXIT
    from_client = Peer(provider.lab.client)
    async with Echo(provider.lab.internet, INTERNET, 7000) as web, Echo(provider.lab.client, "10.2.0.2", port):
        async with OtherEgress(provider.lab.server) as egress:
            assert (await from_client.connect_tcp(INTERNET, 7000, send=b"x")).connected
            assert (await from_client.send_udp(INTERNET, 7000)).connected
            assert [seen.source for seen in web.seen] == [egress.address] * 2
            assert (await provider.peer.connect_tcp(egress.address, port)).result is Result.UNREACHABLE
            assert (await provider.peer.connect_tcp(EXIT, port, send=b"x")).connected
        assert (await from_client.send_udp(INTERNET, 7000)).connected
        assert web.seen[-1].source == EXIT


# -- scenarios ------------------------------------------------------------------------------------


async def test_a_scenario_plays_and_leaves_nothing_behind(provider, tunnel):
    gateway, seen = provider.gateway, []
    gateway.loss = 0.0
    text = "at 0 refuse 1\nfrom 0 to 1h says-lifetime 7s\nat 50ms reset-epoch\nfrom 60ms gone\nseed 5"
    with asking(provider) as sock:
        await ask(sock, MAP_UDP)
        async with playing(parse(text), gateway, on_change=seen.append) as task:
            await gateway.until(lambda: len(seen) == 2)
            with pytest.raises(ConnectionRefusedError):
                await ask(sock, MAP_UDP)
            await gateway.until(lambda: len(seen) == 4)
            with pytest.raises(ConnectionRefusedError):
                await ask(sock, MAP_UDP)
            assert await provider.nat.read() == frozenset()
            assert not task.done(), "an hour is not over"
        assert [change.text for change in seen] == [
            "at 0 refuse 1",
            "from 0 to 1h says-lifetime 7s",
            "at 50ms reset-epoch",
            "from 60ms gone",
        ]
        answer = await ask(sock, MAP_UDP)
        assert answer[12:] == b"\0\0\0\x3c"
        assert int.from_bytes(answer[4:8]) < EPOCH


async def test_a_scenario_that_is_over_is_done(provider):
    async with playing(parse("at 10ms gone 10ms"), provider.gateway) as task:
        async with asyncio.timeout(2):
            await task
        assert not provider.gateway.gone


async def test_a_scenario_that_breaks_says_so(provider, monkeypatch):
    def broken(*_arguments, **_options):
        raise OSError("no")

    monkeypatch.setattr(provider.gateway.behaviour, "forget", broken)
    with pytest.raises(OSError, match="no"):
        async with playing(parse("at 0 silent\nat 0 forget"), provider.gateway) as task:
            await asyncio.wait({task}, timeout=2)
    assert not provider.gateway.silent


async def test_serve_plays_what_it_is_told(tmp_path):
    file = tmp_path / "calm.txt"
    file.write_text("at 0 rotate\n")
    argv = [sys.executable, "-m", "mock_provider", "serve", "--scenario", str(file), "--fault", "at 10ms refuse 2"]
    served = await asyncio.create_subprocess_exec(*argv, stdout=PIPE, stderr=PIPE)
    assert served.stdout is not None
    said = ""
    async with asyncio.timeout(10):
        while "refuse 2" not in said:
            line = await served.stdout.readline()
            assert line, (await served.stderr.read()).decode()
            said += line.decode()
        served.send_signal(signal.SIGTERM)
        out, err = await served.communicate()
    assert served.returncode == 0, err.decode()
    assert "scenario, 0 s: at 0 rotate\n" in said
    assert "scenario, 0.01 s: at 10ms refuse 2\n" in said
    assert b"taking it away" in out
