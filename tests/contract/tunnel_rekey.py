"""What a tunnel back end has to do that can shake hands anew in place. Its system tests are a subclass, as of TunnelSuite."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import ClassVar

import pytest

from mock_provider.natpmp import Dnat
from mock_provider.peer import Echo
from mock_provider.product import traces
from mock_provider.topology import EXIT, INTERNET, SERVER
from tests.contract.tunnel_driver import CancelledThere
from tests.contract.tunnels import PORT, SHORT, TunnelFixtures, source_seen, until
from vpnpf.errors import LeaseLost, NoAnswer
from vpnpf.model import Protocol

LISTEN = 40000


def bound(host, kind, device, address=("0.0.0.0", 0)):
    """A socket as a torrent client has it: bound to the device."""
    made = host.socket(socket.AF_INET, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    made.bind(address)
    return made


async def said_back(connection, data, deadline=3.0):
    """Whether an Echo at the far end of a connection that stands sends this back."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(deadline):
            await loop.sock_sendall(connection, data)
            heard = b""
            while len(heard) < len(data):
                heard += await loop.sock_recv(connection, 65536)
            return heard == data
    return False


class RekeySuite(TunnelFixtures):
    """See above."""

    rekey_patience: ClassVar[str]
    """"module:NAME" of the seconds that `rekey` waits for the far side."""
    brief: ClassVar[float] = 0.3
    """Seconds of that where no answer is to come; enough for an answer that does."""
    counts_tries: ClassVar[bool] = True
    """Whether bytes go out to a server that is silent."""

    @pytest.fixture
    async def connection(self, provider, host, tunnel):
        """A connection from the client's device to the internet: made when it is called."""
        async with contextlib.AsyncExitStack() as stack:

            async def make(up):
                await stack.enter_async_context(Echo(provider.lab.internet, INTERNET, PORT))
                made = stack.enter_context(bound(host, socket.SOCK_STREAM, up.interface))
                await asyncio.get_running_loop().sock_connect(made, (INTERNET, PORT))
                assert await said_back(made, b"before")
                return made

            yield make

    async def test_a_server_that_forgot_the_session_is_back_at_once(self, provider, tunnel):
        up = await tunnel.come_up()
        await provider.server.restart()
        assert await source_seen(provider, deadline=SHORT) is None, (
            "the control: it does not come back by itself so soon"
        )
        async with asyncio.timeout(2):
            health = (await tunnel.rekey(up)).health
        assert 0 <= health.handshake_age < 2
        assert await source_seen(provider) == EXIT

    async def test_nothing_else_changes_and_nothing_leaves_beside_it(self, provider, host, tunnel, connection):
        up = await tunnel.come_up()
        stands = await connection(up)
        before, processes, looked = await traces(host), host.processes, await tunnel.check(up)
        async with provider.lab.capture(self.leak()) as leaked:
            for number in range(3):
                # Two in a row fall into one second, which is all that the device's clock shows.
                anew, whole = await asyncio.gather(tunnel.rekey(up), said_back(stands, bytes([number]) * 20_000))
                health = anew.health
                assert anew.tunnel is None
                assert whole, "what was on its way arrives"
                assert 0 <= health.handshake_age < 2
                assert health.rx > looked.rx
                assert health.tx > looked.tx
                looked = health
                await asyncio.sleep(0.05)  # servers drop handshakes of one peer that come within 20 ms
            assert await leaked.count() == 0
        assert await traces(host) == before
        assert host.processes == processes

    async def test_sockets_on_the_device_stay_reachable(self, provider, host, tunnel):
        up = await tunnel.come_up()
        await provider.nat.apply((), [Dnat(each, LISTEN, up.address, LISTEN) for each in Protocol])
        with (
            bound(host, socket.SOCK_STREAM, up.interface, (up.address, LISTEN)) as tcp,
            bound(host, socket.SOCK_DGRAM, up.interface, (up.address, LISTEN)) as udp,
        ):
            tcp.listen()
            for _ in range(2):
                assert (await provider.peer.connect_tcp(EXIT, LISTEN)).connected
                await provider.peer.send_udp(EXIT, LISTEN, b"knock", deadline=SHORT)
                assert udp.recv(99) == b"knock"
                await tunnel.rekey(up)

    async def test_without_an_answer_it_stays_and_comes_back_by_itself(self, provider, host, remote, connection):
        async with remote(settings={self.rekey_patience: self.brief}) as backend:
            up = await backend.come_up()
            stands, before = await connection(up), await traces(host)
            await provider.server.mute()
            looked = await backend.check(up)  # until here it may have said something by itself
            async with provider.lab.capture(self.leak()) as leaked:
                with pytest.raises(NoAnswer, match=f"{SERVER}:51820") as raised:
                    await backend.rekey(up)
                assert raised.value.hint
                assert await traces(host) == before
                health = await backend.check(up)
                assert health.handshake_age is None
                assert health.rx == looked.rx
                assert (health.tx > looked.tx) is self.counts_tries
                await provider.server.unmute()
                assert await said_back(stands, b"after", deadline=12), "the connection goes on"
                assert (await backend.check(up)).handshake_age is not None
                assert await leaked.count() == 0

    async def test_after_that_it_can_be_asked_again(self, provider, remote):
        async with remote(settings={self.rekey_patience: self.brief}) as backend:
            up = await backend.come_up()
            await provider.server.mute()
            with pytest.raises(NoAnswer):
                await backend.rekey(up)
            await provider.server.unmute()
            await backend.rekey(up)
            assert await source_seen(provider) == EXIT
            await backend.down()

    async def test_a_device_that_is_gone_is_told(self, provider, host, tunnel):
        up = await tunnel.come_up()
        async with provider.lab.capture(self.leak()) as leaked:
            await host.must(("ip", "link", "del", up.interface))
            await until(lambda: self._is_gone(host, up.interface))
            with pytest.raises(LeaseLost):
                await tunnel.rekey(up)
            assert await leaked.count() == 0

    async def test_a_tunnel_that_is_down_is_told(self, host, tunnel):
        before = await traces(host)
        up = await tunnel.come_up()
        await tunnel.down()
        with pytest.raises(LeaseLost):
            await tunnel.rekey(up)
        assert await traces(host) == before

    async def test_cancelled_at_any_moment_the_tunnel_goes_on(self, provider, host, tunnel):
        up = await tunnel.come_up()
        before = await traces(host)
        for number in range(8):
            anew = asyncio.create_task(tunnel.rekey(up))
            await asyncio.wait([anew], timeout=0.002 * number)
            tunnel.cancel()
            with contextlib.suppress(CancelledThere):
                await anew
            await tunnel.check(up)
        assert await traces(host) == before
        await until(lambda: self._goes_through(provider), deadline=12)
        await tunnel.down()

    @staticmethod
    async def _goes_through(provider):
        return await source_seen(provider, deadline=SHORT) == EXIT

    @staticmethod
    async def _is_gone(host, device):
        return (await host.run(("ip", "link", "show", device))).status != 0

    async def test_while_it_waits_it_can_be_taken_down(self, provider, host, tunnel):
        before = await traces(host)
        up = await tunnel.come_up()
        await provider.server.mute()
        anew = asyncio.create_task(tunnel.rekey(up))
        await asyncio.wait([anew], timeout=0.2)
        tunnel.cancel()
        with pytest.raises(CancelledThere):
            await anew
        await tunnel.down()
        assert await traces(host) == before

    async def test_names_are_still_asked_of_the_provider(self, provider, host, tunnel):
        up = await tunnel.come_up()
        await asyncio.sleep(0.05)  # as above
        await tunnel.rekey(up)
        script = "import socket; print(socket.gethostbyname('tracker.test'))"
        assert await host.must(("python3", "-c", script)) == f"{INTERNET}\n"
        assert not provider.isp_dns.log
