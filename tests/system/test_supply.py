"""Tunnels whose configuration the provider makes: real servers, and an API that is reached beside the tunnel."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from mock_provider.capture import leak
from mock_provider.peer import Echo, Peer
from mock_provider.product import traces
from mock_provider.provider import MockProvider
from mock_provider.topology import CLIENT, EXIT, INTERNET, SERVER
from tests.contract.tunnel_driver import CancelledThere
from tests.contract.tunnel_rekey import bound
from tests.contract.tunnels import PORT, SHORT, Remote, TunnelFixtures, source_seen
from tests.system.supplied_world import API, IDENTITY, Counter, Registrar, past_both, service, supply
from vpnpf.core import routes
from vpnpf.errors import LeaseLost, NoAnswer, Transient
from vpnpf.firewall.nft import Nft
from vpnpf.interfaces import TunnelOptions
from vpnpf.io.clock import BootClock
from vpnpf.model import FirewallPolicy, FirewallStage, PortPolicy, Protocol
from vpnpf.tunnels.openvpn import OpenVpnTunnel
from vpnpf.tunnels.wireguard import WireGuard

pytestmark = pytest.mark.system


class TwoServers(Counter):
    servers = (("198.51.100.10", 51820), ("198.51.100.20", 51821))


class OverTcp(Counter):
    transport = Protocol.TCP


class Fixtures(TunnelFixtures):
    backend = WireGuard
    kind = "wireguard"
    provider_class: type[Counter] = Counter
    number = 1

    @pytest.fixture
    async def provider(self):
        async with MockProvider(servers=self.number, tunnel=self.kind) as made:
            yield made

    @pytest.fixture
    async def api(self, provider):
        async with Registrar(provider.servers[0]) as made:
            yield made

    @pytest.fixture
    def remote(self, host, profile, tmp_path):
        """Makes a process with the back end."""

        def make(settings=None, **more):
            made = supply(profile, self.provider_class({}), tunnel_type=self.kind.removesuffix("-tcp"))
            options = TunnelOptions(profile, (), str(tmp_path / "run"), supply=made, **more)
            return Remote(host, self.backend, options, settings or {})

        return make


async def stand(host, stage, plan):
    """Put up the packet filter of a stage."""
    nft = Nft(prefix=("ip", "netns", "exec", host.name))
    assert (await nft.apply(FirewallPolicy(stage, plan, PortPolicy()), BootClock().now())).intact


async def index(host, device):
    return (await host.must(("cat", f"/sys/class/net/{device}/ifindex"))).strip()


async def addresses(host, device):
    shown = await host.must(("ip", "-br", "-4", "addr", "show", device))
    return shown.split()[2:]


class TestWireGuard(Fixtures):
    async def test_it_is_asked_for_beside_the_tunnel_and_comes_up(self, provider, api, host, tunnel):
        before = await traces(host)
        await tunnel.check_config()
        await tunnel.check_machine()
        plan = await tunnel.plan()
        assert (plan.addresses, plan.gateway, plan.dns, plan.identity) == ((), None, (), IDENTITY)
        assert (plan.server_name, plan.place, plan.services) == ("lab1", "Lab 1", (service(SERVER),))
        assert (plan.endpoint.address, plan.endpoint.port) == (SERVER, 51820)
        assert await traces(host) == before
        assert not api.asked, "nobody logs in for a plan"
        await stand(host, FirewallStage.CONNECTING, plan)
        async with provider.lab.capture(past_both) as leaked:
            up = await tunnel.up(plan)
            assert await leaked.count() == 0
        assert [each["again"] for each in api.asked] == ["False"]
        assert (up.plan.addresses, up.plan.dns) == (("10.2.0.50/32",), ("10.2.0.1",))
        assert (up.gateway, up.plan.gateway) == ("10.2.0.1", "10.2.0.1")
        await stand(host, FirewallStage.CONNECTED, up.plan)
        async with provider.lab.capture(leak()) as leaked:
            assert await source_seen(provider) == EXIT
            assert (await tunnel.check(up)).rx > 0
            assert await leaked.count() == 0

    async def test_the_service_is_reached_by_the_mark_while_all_is_blocked(self, provider, host, tunnel, api):
        """And nothing else is: by the same socket, without the mark, or to another port."""
        up = await tunnel.come_up()
        await stand(host, FirewallStage.BLOCKED, up.plan)
        async with Echo(provider.lab.internet, INTERNET, API), Echo(provider.server.host, SERVER, API + 1):
            assert await self._reached(host, SERVER, API, mark=up.plan.mark)
            assert not await self._reached(host, SERVER, API, device="eth0")
            assert not await self._reached(host, SERVER, API + 1, mark=up.plan.mark)
            assert not await self._reached(host, INTERNET, API, mark=up.plan.mark)
            await host.must(("nft", "flush", "ruleset"))
            assert await self._reached(host, INTERNET, API, mark=up.plan.mark), "the control"
            assert await self._reached(host, SERVER, API + 1, mark=up.plan.mark)

    @staticmethod
    async def _reached(host, address, port, *, mark=0, device=""):
        with host.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            if mark:
                sock.setsockopt(socket.SOL_SOCKET, 36, mark)
            if device:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            try:
                async with asyncio.timeout(SHORT):
                    await asyncio.get_running_loop().sock_connect(sock, (address, port))
            except (OSError, TimeoutError):
                return False
            return True

    @pytest.mark.parametrize("strict", [1, 2])
    async def test_a_reverse_path_filter_does_not_keep_the_answers_away(self, provider, api, host, remote, strict):
        """The routes of a lock that holds already lead the way back into nothing: also a loose filter drops what comes then."""
        for name, value in (("all", 0), ("default", strict), ("eth0", strict)):
            host.sysctl(f"net.ipv4.conf.{name}.rp_filter", value)
        async with remote(held=True) as tunnel:
            plan = await tunnel.plan()
            for family in routes.FAMILIES:
                await host.must(("ip", family, "-batch", "-"), stdin="\n".join(routes.hold(plan, family)) + "\n")
            assert not await self._reached(host, SERVER, API, mark=plan.mark), "the control: until there is a device"
            up = await tunnel.up(plan)
            assert await addresses(host, up.interface) == ["10.2.0.50/32"]
            assert await source_seen(provider) == EXIT
            await tunnel.down()

    async def test_a_second_start_asks_nobody(self, provider, api, tunnel):
        await tunnel.come_up()
        await tunnel.down()
        await tunnel.come_up()
        assert len(api.asked) == 1
        assert await source_seen(provider) == EXIT

    async def test_a_key_that_was_forgotten_before_the_start_is_told_again(self, provider, api, remote, host):
        async with remote({"vpnpf.tunnels.wireguard:REKEY_PATIENCE": 0.5}) as tunnel:
            await tunnel.come_up()
            await tunnel.down()
            await api.forget()
            api.renumber = True
            up = await tunnel.come_up()
            assert [each["again"] for each in api.asked] == ["False", "True"]
            assert up.address == "10.2.0.51"
            assert await addresses(host, up.interface) == ["10.2.0.51/32"]
            assert await source_seen(provider) == EXIT
            await tunnel.down()

    @pytest.mark.parametrize("renumber", [False, True])
    async def test_a_key_that_was_forgotten_is_told_anew_in_place(self, provider, api, host, tunnel, renumber):
        up = await tunnel.come_up()
        await stand(host, FirewallStage.CONNECTED, up.plan)
        with bound(host, socket.SOCK_STREAM, up.interface, ("0.0.0.0", PORT)) as listening:
            listening.listen()
            before, device, processes = await traces(host), await index(host, up.interface), host.processes
            await api.forget()
            # The server drops the session with the key: from now on nothing comes back.
            assert await source_seen(provider, deadline=SHORT) is None
            api.renumber = renumber
            begun = time.monotonic()
            async with provider.lab.capture(past_both) as leaked:
                anew = await tunnel.rekey(up)
                assert await leaked.count() == 0
            took = time.monotonic() - begun
            assert took < 4
            assert [each["again"] for each in api.asked] == ["False", "True"]
            assert await index(host, up.interface) == device
            assert host.processes == processes
            own = "10.2.0.51" if renumber else "10.2.0.50"
            assert anew.tunnel.plan.addresses == (f"{own}/32",)
            assert await addresses(host, up.interface) == [f"{own}/32"]
            if renumber:
                # The old rules fail closed meanwhile.
                assert await source_seen(provider, deadline=SHORT) is None
                await stand(host, FirewallStage.CONNECTED, anew.tunnel.plan)
            else:
                assert anew.tunnel == up
                assert await traces(host) == before
            assert await source_seen(provider) == EXIT
            assert 0 <= anew.health.handshake_age < 2
            # Whoever listened on the device goes on.
            caller = Peer(provider.server.host)
            assert (await caller.connect_tcp(own, PORT, send=b"x", deadline=SHORT)).connected is False, "it is shut"
            await host.must(("nft", "flush", "ruleset"))
            assert (await caller.connect_tcp(own, PORT)).connected
        # And the next time all is as it should be.
        assert (await tunnel.rekey(anew.tunnel)).tunnel is None

    async def test_it_is_the_old_tunnel_until_it_was_told(self, provider, api, host, tunnel):
        """Cut off after the server was told: the next handshake in place says so."""
        up = await tunnel.come_up()
        await api.forget()
        api.renumber = True
        cut_off = asyncio.create_task(tunnel.rekey(up))
        await api.until(lambda: len(api.asked) == 2)
        tunnel.cancel()
        with pytest.raises(CancelledThere):
            await cut_off
        anew = await tunnel.rekey(up)
        assert anew.tunnel.address in {"10.2.0.51", "10.2.0.52"}
        assert await addresses(host, up.interface) == [f"{anew.tunnel.address}/32"]
        assert await source_seen(provider) == EXIT

    async def test_a_server_that_is_silent_altogether_is_not_told_again_and_again(self, provider, api, host, remote):
        async with remote({"vpnpf.tunnels.wireguard:REKEY_PATIENCE": 1.7}) as tunnel:
            up = await tunnel.come_up()
            await provider.server.mute()
            for _ in range(3):
                with pytest.raises(NoAnswer, match=f"{SERVER}:51820"):
                    await tunnel.rekey(up)
            assert len(api.asked) <= 2
            await provider.server.unmute()
            await tunnel.rekey(up)
            assert await source_seen(provider) == EXIT
            await tunnel.down()

    async def test_an_account_that_is_closed_ends_the_tunnel_that_gets_no_answer(self, provider, api, tunnel):
        up = await tunnel.come_up()
        await api.forget()
        api.status = 403
        with pytest.raises(LeaseLost, match="the account is closed"):
            await tunnel.rekey(up)

    async def test_a_text_that_leads_elsewhere_is_refused(self, api, host, tunnel):
        before = await traces(host)
        api.endpoint = f"{INTERNET}:51820"
        with pytest.raises(Transient, match=f"does not lead to {SERVER}:51820"):
            await tunnel.come_up()
        assert await traces(host) == before

    async def test_without_an_api_nothing_is_left(self, host, tunnel):
        before = await traces(host)
        with pytest.raises(Transient, match="connection refused"):
            await tunnel.come_up()
        assert await traces(host) == before
        assert await self._reached(host, CLIENT, 1) is False


class TestServers(Fixtures):
    provider_class = TwoServers
    number = 2

    async def test_the_other_replaces_the_one(self, provider, host, api, tunnel):
        async with Registrar(provider.servers[1]):
            plans = [await tunnel.plan(number) for number in range(3)]
            assert [plan.place for plan in plans] == ["Lab 1", "Lab 2", "Lab 1"]
            assert {plan.identity for plan in plans} == {IDENTITY}
            for number in (0, 1):
                up = await tunnel.up(plans[number])
                site = provider.servers[number]
                assert await source_seen(provider) == site.exit_address
                assert up.gateway == site.place.gateway


class TestOpenVpn(Fixtures):
    backend = OpenVpnTunnel
    kind = "openvpn"
    outlives = False

    async def test_it_comes_up_with_the_login_that_came_with_it(self, provider, api, host, tunnel):
        plan = await tunnel.plan()
        assert (plan.addresses, plan.services, plan.place) == ((), (service(SERVER),), "Lab 1")
        up = await tunnel.up(plan)
        assert (up.address, up.gateway) == ("10.2.0.2", "10.2.0.1")
        assert await source_seen(provider) == EXIT
        assert [each.welcome for each in provider.server.logins] == [True]
        assert (await tunnel.rekey(up)).tunnel is None

    async def test_under_a_lock_that_holds_it_is_asked_for_too(self, provider, api, host, remote):
        host.sysctl("net.ipv4.conf.eth0.rp_filter", 2)
        async with remote(held=True) as tunnel:
            plan = await tunnel.plan()
            for family in routes.FAMILIES:
                await host.must(("ip", family, "-batch", "-"), stdin="\n".join(routes.hold(plan, family)) + "\n")
            await stand(host, FirewallStage.CONNECTING, plan)
            up = await tunnel.up(plan)
            await stand(host, FirewallStage.CONNECTED, up.plan)
            assert await source_seen(provider) == EXIT
            await tunnel.down()

    async def test_a_login_that_ended_is_asked_for_once_more(self, provider, api, host, tunnel):
        api.password = "of yesterday"
        with pytest.raises(Exception, match="refused the user name or the password") as raised:
            await tunnel.come_up()
        assert raised.value.anywhere
        assert [each["again"] for each in api.asked] == ["False", "True"], "no more than that"
        api.asked.clear()
        # It is kept, and refused: so it is asked for anew, and now that is good.
        api.password = type(api)(provider.servers[0]).password
        await tunnel.come_up()
        assert [each["again"] for each in api.asked] == ["True"]
        assert await source_seen(provider) == EXIT


class TestOpenVpnTcp(TestOpenVpn):
    kind = "openvpn-tcp"
    provider_class = OverTcp
