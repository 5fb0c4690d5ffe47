"""WireGuard with several servers, the handshake anew, and a server that falls silent; with real packets."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import time

import pytest
from msgspec import structs

from mock_provider.capture import leak
from mock_provider.peer import Echo, Peer
from mock_provider.product import traces
from mock_provider.provider import MockProvider, endpoint_name
from mock_provider.topology import EXIT, INTERNET, SERVER
from mock_provider.wireguard import SOCKETS
from tests.contract.tunnel_rekey import RekeySuite
from tests.contract.tunnels import PORT, SHORT, source_seen, until
from tests.system.test_wireguard import Fixtures, edit, wireguard_go
from vpnpf.errors import LeaseLost, NoAnswer, Transient
from vpnpf.firewall.nft import Nft
from vpnpf.io.clock import BootClock
from vpnpf.model import FirewallPolicy, FirewallStage, PortPolicy

pytestmark = pytest.mark.system


class TestRekey(Fixtures, RekeySuite):
    rekey_patience = "vpnpf.tunnels.wireguard:REKEY_PATIENCE"

    async def test_the_peer_comes_back_as_it_was_written(self, provider, host, config, tunnel):
        preshared = (await host.must(("wg", "genpsk"))).strip()
        edit(config, "[Peer]", f"ListenPort = 51999\n[Peer]\nPresharedKey = {preshared}\nPersistentKeepalive = 7")
        peer = ("peer", provider.customer.public_key, "preshared-key", "/dev/stdin")
        await provider.server.host.must(("wg", "set", provider.server.interface, *peer), stdin=preshared)
        up = await tunnel.come_up()
        before = await host.must(("wg", "showconf", up.interface))
        config.unlink()  # the tunnel that is up is what counts
        await tunnel.rekey(up)
        assert await host.must(("wg", "showconf", up.interface)) == before

    async def test_it_goes_to_the_endpoint_of_the_plan(self, provider, host, tunnel):
        """The server moved: the packet filter is told of the new plan first, and then the tunnel."""
        up = await tunnel.come_up()
        moved = structs.replace(up.plan, endpoint=structs.replace(up.plan.endpoint, address="198.51.100.19"))
        await provider.server.host.must(("ip", "addr", "add", "198.51.100.19/24", "dev", "eth0"))
        await tunnel.rekey(structs.replace(up, plan=moved))
        assert "198.51.100.19:51820" in await host.must(("wg", "show", up.interface, "endpoints"))
        async with provider.lab.capture(leak("198.51.100.19")) as leaked:
            assert await source_seen(provider) == EXIT
            assert await leaked.count() == 0

    async def test_the_packet_filter_lets_it_through_as_it_stands(self, provider, host, tunnel):
        """The tunnel's own packets leave from another port afterwards."""
        plan = await tunnel.plan()
        nft = Nft(prefix=("ip", "netns", "exec", host.name))
        for stage in (FirewallStage.CONNECTING, FirewallStage.CONNECTED):
            assert (await nft.apply(FirewallPolicy(stage, plan, PortPolicy()), BootClock().now())).intact
            if stage is FirewallStage.CONNECTING:
                up = await tunnel.up(plan)
        await provider.server.restart()
        ports = [await host.must(("wg", "show", up.interface, "listen-port"))]
        assert await source_seen(provider, deadline=SHORT) is None
        await tunnel.rekey(up)
        ports.append(await host.must(("wg", "show", up.interface, "listen-port")))
        assert await source_seen(provider) == EXIT
        assert ports[0] != ports[1]
        assert (await nft.read()).intact
        # The control: closed, nobody answers.
        assert (await nft.apply(FirewallPolicy(FirewallStage.BLOCKED, plan, PortPolicy()), BootClock().now())).intact
        assert await source_seen(provider, deadline=SHORT) is None

    async def test_a_namesake_elsewhere_does_not_get_the_keys(self, provider, host, profile, tunnel):
        up = await tunnel.come_up()
        os.kill(*wireguard_go(host, profile), signal.SIGKILL)
        await until(lambda: self._is_gone(host, up.interface))
        (SOCKETS / f"{up.interface}.sock").unlink(missing_ok=True)
        elsewhere = provider.lab.internet
        namesake = await elsewhere.popen(("wireguard-go", "-f", up.interface), stdout=None, stderr=None)
        key = await host.must(("wg", "genkey"))
        argv = ("wg", "set", up.interface, "private-key", "/dev/stdin", "peer", provider.customer.server_key)

        async def has_its_key():
            return (await elsewhere.run(argv, stdin=key)).status == 0

        try:
            await until(has_its_key)
            with pytest.raises(LeaseLost):
                await tunnel.rekey(up)
            assert await elsewhere.must(("wg", "show", up.interface, "private-key")) == key
        finally:
            namesake.kill()
            await namesake.wait()
            (SOCKETS / f"{up.interface}.sock").unlink(missing_ok=True)


class TestServers(Fixtures):
    @pytest.fixture
    async def provider(self):
        async with MockProvider(servers=2) as made:
            yield made

    @pytest.fixture
    def other(self, provider, tmp_path):
        """The second server's file."""
        return provider.servers[1].client_config(tmp_path / "other.conf")

    @pytest.fixture
    async def tunnel(self, remote, other):
        async with remote(more=(other,)) as backend:
            yield backend

    async def test_the_other_replaces_the_one_wholly(self, provider, host, tunnel):
        before = await traces(host)
        plans = [await tunnel.plan(number) for number in range(2)]
        assert [plan.server for plan in plans] == [0, 1]
        assert len({plan.identity for plan in plans}) == 2
        assert len({(plan.interface, plan.mark, plan.table) for plan in plans}) == 1
        seen = []
        for number in (0, 1, 0):
            site, plan = provider.servers[number], plans[number]
            async with provider.lab.capture(leak(site.place.address, site.place.port)) as leaked:
                up = await tunnel.up(plan)
                assert await source_seen(provider) == site.exit_address
                assert await leaked.count() == 0
            assert up.plan == plan
            assert up.gateway == site.place.gateway
            seen.append(await self._shown(host, up.interface))
            assert site.customer.server_key in seen[-1][0]
            assert (await tunnel.check(up)).rx > 0
        assert seen[0] == seen[2] != seen[1]
        await tunnel.down()
        assert await traces(host) == before

    @staticmethod
    async def _shown(host, device):
        configured = await host.must(("wg", "showconf", device))
        lines = [line for line in configured.splitlines() if not line.startswith("ListenPort")]
        addresses = await host.must(("ip", "-br", "-4", "addr", "show", device))
        return "\n".join(lines), addresses.split()[2:], host.resolver.read_text()

    async def test_a_lease_of_one_is_unknown_to_the_other(self, provider, host, tunnel):
        first, second = provider.servers
        ask = struct.pack("!BBHHHI", 0, 1, 0, 4000, 0, 60)
        up = await tunnel.come_up(0)
        assert (await Peer(host).send_udp(up.gateway, 5351, ask)).connected
        (port,) = first.gateway.external_ports
        up = await tunnel.come_up(1)
        assert not second.gateway.mappings
        assert (await Peer(host).send_udp(up.gateway, 5351, ask)).connected
        assert second.gateway.external_ports
        assert first.gateway.external_ports == {port}
        assert {rule.address for rule in await second.nat.read()} == {"10.3.0.2"}
        assert {rule.address for rule in await first.nat.read()} == {"10.2.0.2"}

    @pytest.mark.parametrize("how", ["mute", "kill"])
    async def test_one_that_is_dead_takes_nobody_with_it(self, provider, host, remote, other, how):
        before = await traces(host)
        await getattr(provider.servers[0], how)()
        async with remote(more=(other,), settings={self.patience: 0.3}) as backend:
            with pytest.raises(NoAnswer, match=f"{SERVER}:51820"):
                await backend.come_up(0)
            assert await traces(host) == before
            await backend.come_up(1)
            assert await source_seen(provider) == provider.servers[1].exit_address

    async def test_planning_another_does_not_disturb_the_one_that_is_up(self, provider, host, tunnel):
        up = await tunnel.come_up(0)
        await tunnel.plan(1)
        await tunnel.rekey(up)
        assert provider.customer.server_key in await host.must(("wg", "showconf", up.interface))
        assert await source_seen(provider) == EXIT

    async def test_a_file_that_changed_after_the_plan_is_not_used_for_it(self, provider, host, tunnel, config):
        before = await traces(host)
        old = await tunnel.plan(0)
        new = await provider.server.add_client()
        new.write(config)
        plan = await tunnel.plan(0)
        assert plan.identity != old.identity
        with pytest.raises(Transient, match="another key"):
            await tunnel.up(old)
        assert await traces(host) == before
        assert (await tunnel.up(plan)).address == new.address

    async def test_the_names_of_all_are_known_while_nobody_can_be_asked(self, provider, host, remote, config, other):
        for number, path in enumerate((config, other)):
            edit(path, f"{provider.servers[number].place.address}:", f"{endpoint_name(number)}:")
        async with remote(more=(other,)) as backend:
            found = [(await backend.plan(number)).endpoint.address for number in range(2)]
        blocked = "add table inet no_dns; add chain inet no_dns out { type filter hook output priority 0; }; "
        await host.must(("nft", f"{blocked} add rule inet no_dns out th dport 53 drop"))
        async with remote(more=(other,)) as backend:
            assert [(await backend.plan(number)).endpoint.address for number in range(2)] == found


class TestSilence(Fixtures):
    """Measured with wireguard-go and looks each second or oftener, in seconds of `silent_for` unless said otherwise.

    - server mute, datagrams going out: above 0 after 1.0 s, above 16 after 16.2 s; the handshake is too old at 180 s
    - server mute, nothing but keepalives: the try to shake hands anew is seen after 127 s, above 16 after 141 s
    - server lives, one datagram lost on the way and none after it: at most 15.1, then it shook hands anew
    - server lives, nobody behind it answers, datagrams going out: at most 9.7, then the server says that it got them
    - idle for 150 s: 0
    """

    async def test_a_server_that_is_mute_is_silent_and_one_that_lives_is_not(self, provider, host, tunnel):
        up = await tunnel.come_up()
        async with Echo(provider.lab.internet, INTERNET, PORT):
            assert (await Peer(host).send_udp(INTERNET, PORT)).connected
            assert (await tunnel.check(up)).silent_for == 0
            await provider.server.mute()
            muted = time.monotonic()
            # The control: nobody sends, so nothing is missed.
            await asyncio.sleep(0.3)
            assert (await tunnel.check(up)).silent_for == 0
            found = [await self._sent_and_looked(host, tunnel, up) for _ in range(8)]
            assert found == sorted(found)
            assert 1 < found[-1] < time.monotonic() - muted
            await provider.server.unmute()
            assert (await Peer(host).send_udp(INTERNET, PORT)).connected
            assert (await tunnel.check(up)).silent_for == 0

    @staticmethod
    async def _sent_and_looked(host, tunnel, up):
        await Peer(host).send_udp(INTERNET, PORT, deadline=SHORT)
        return (await tunnel.check(up)).silent_for
