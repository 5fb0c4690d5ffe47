"""What every tunnel back end has to do, with real packets. Its system tests are a subclass:

    pytestmark = pytest.mark.system

    class TestWireGuard(TunnelSuite):
        backend = WireGuard
        patience = "vpnpf.tunnels.wireguard:PATIENCE"

        def write_config(self, provider, directory):
            return provider.client_config(directory / "proton.conf")

No packet filter of ours stands meanwhile: what is proven here is what the routes hold by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from mock_provider.capture import leak
from mock_provider.host import Host
from mock_provider.peer import Echo, Peer, Result
from mock_provider.product import traces, unique_profile
from mock_provider.provider import MockProvider
from mock_provider.topology import CLIENT, CLIENT6, EXIT, INTERNET, LAN_HOST, LAN_HOST6, ROUTER, SERVER
from tests.contract.tunnel_driver import CancelledThere, decode, encode
from vpnpf.errors import LeaseLost, NoAnswer, Transient
from vpnpf.interfaces import TunnelOptions
from vpnpf.model import Rekeyed, Stirring, Tunnel, TunnelHealth, TunnelPlan

PORT = 7000
ROOT = Path(__file__).parents[2]
DRIVER = "from tests.contract.tunnel_driver import main; main()"
SHORT = 0.25
"""Seconds to wait for an answer that must not come."""


class Remote:
    """A back end in a process in the client's namespace; its methods raise here what they raise there."""

    def __init__(
        self, host: Host, kind: type, options: TunnelOptions, settings: dict[str, object], wrap: tuple[str, ...] = ()
    ) -> None:
        self._host = host
        self._argv = (*wrap, sys.executable, "-c", DRIVER, encode((kind, options, settings)))

    async def __aenter__(self) -> Self:
        self.process = await self._host.popen(self._argv, stdin=PIPE, stdout=PIPE, stderr=None, cwd=ROOT)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def kill(self) -> None:
        """As `kill -9`; nothing happens the second time."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def _call(self, name: str, *arguments: object) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{encode((name, arguments))}\n".encode())
        line = await self.process.stdout.readline()
        assert line, "the back end's process died"
        well, answer = decode(line)
        if well:
            return answer
        raise answer

    def cancel(self) -> None:
        """Cancel the call that is under way; it raises CancelledThere."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{encode('cancel')}\n".encode())

    async def check_config(self) -> None:
        await self._call("check_config")

    async def check_machine(self) -> None:
        await self._call("check_machine")

    async def plan(self, server: int = 0) -> TunnelPlan:
        return await self._call("plan", server)

    async def up(self, plan: TunnelPlan) -> Tunnel:
        return await self._call("up", plan)

    async def come_up(self, server: int = 0) -> Tunnel:
        """Plan, and up."""
        return await self.up(await self.plan(server))

    async def check(self, tunnel: Tunnel) -> TunnelHealth:
        return await self._call("check", tunnel)

    async def rekey(self, tunnel: Tunnel) -> Rekeyed:
        return await self._call("rekey", tunnel)

    async def watch(self, tunnel: Tunnel) -> Stirring:
        return await self._call("watch", tunnel)

    async def fit_mtu(self, tunnel: Tunnel) -> int:
        return await self._call("fit_mtu", tunnel)

    async def down(self) -> None:
        await self._call("down")


# -- what is seen from outside ---------------------------------------------------------------------


async def source_seen(provider: MockProvider, *, deadline: float = 2.0) -> str | None:
    """Open a connection from the client to the internet: the address it came from, None if it did not arrive."""
    async with Echo(provider.lab.internet, INTERNET, PORT) as web:
        await Peer(provider.lab.client).connect_tcp(INTERNET, PORT, send=b"x", deadline=deadline)
        return web.seen[0].source if web.seen else None


async def listing(host: Host) -> dict[str, Any]:
    """`traces` without what counts up: number of the device, and the moments that an address is valid."""
    return _plain(await traces(host))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if key not in {"ifindex", "valid_life_time"}}
    return [_plain(item) for item in value] if isinstance(value, list) else value


async def until(condition: Any, deadline: float = 5.0) -> None:
    """Wait for a coroutine function to say something true."""
    async with asyncio.timeout(deadline):
        while not await condition():  # noqa: ASYNC110 - the kernel sets no events of ours
            await asyncio.sleep(0.005)


async def nobody(host: Host) -> bool:
    """Whether no program runs there."""
    return not host.processes


class TunnelFixtures:
    """A back end in the client's namespace, also for the tests that are a back end's own."""

    backend: ClassVar[type]
    patience: ClassVar[str]
    """"module:NAME" of the seconds that `up` waits for the far side."""
    far_side: ClassVar[str] = "wireguard"
    """What the mock provider's servers run."""
    account: ClassVar[dict[str, Any]] = {}
    """What TunnelOptions has beside the files."""
    outlives: ClassVar[bool] = True
    """Whether the tunnel goes on when the back end's process is killed; else everything is caught."""

    def leak(self):
        """What is a leak: everything but the tunnel's own packets."""
        return leak(transport=socket.IPPROTO_TCP if self.far_side.endswith("-tcp") else socket.IPPROTO_UDP)

    def write_config(self, provider, directory):
        """Write the provider's file; returns its path."""
        raise NotImplementedError

    @pytest.fixture
    def config(self, provider, tmp_path):
        return self.write_config(provider, tmp_path)

    @pytest.fixture
    def host(self, provider):
        return provider.lab.client

    @pytest.fixture
    def profile(self):
        return unique_profile()

    @pytest.fixture
    def remote(self, host, profile, config, tmp_path):
        """Makes a process with the back end: remote(lan=False, wrap=..., settings=..., more=(another file,))."""

        def make(*, lan=True, wrap=(), settings=None, profile=profile, config=config, more=()):
            files = (str(config), *map(str, more))
            options = TunnelOptions(profile, files, str(tmp_path / f"run-{profile}"), lan=lan, **self.account)
            return Remote(host, self.backend, options, settings or {}, wrap)

        return make

    @pytest.fixture
    async def tunnel(self, remote):
        async with remote() as backend:
            yield backend


class TunnelSuite(TunnelFixtures):
    """See above."""

    # -- up ------------------------------------------------------------------------------------------

    async def test_all_traffic_goes_through_it(self, provider, host, tunnel):
        async with provider.lab.capture(self.leak()) as leaked, Echo(provider.lab.internet, INTERNET, PORT) as web:
            up = await tunnel.come_up()
            assert (await Peer(host).connect_tcp(INTERNET, PORT, send=b"x")).connected
            assert (await Peer(host).send_udp(INTERNET, PORT)).connected
            assert [seen.source for seen in web.seen] == [EXIT, EXIT]
            health = await tunnel.check(up)
            assert await leaked.count() == 0
        assert health.handshake_age is not None
        assert 0 <= health.handshake_age < 10
        assert health.rx > 0
        assert health.tx > 0
        assert up.gateway == "10.2.0.1"
        assert up.address == "10.2.0.2"
        assert up.backend

    async def test_the_plan_is_enough_for_the_firewall_to_go_first(self, host, tunnel):
        before = await traces(host)
        await tunnel.check_config()
        await tunnel.check_machine()
        plan = await tunnel.plan()
        assert await traces(host) == before
        assert (plan.endpoint.address, plan.endpoint.port) == (SERVER, 51820)
        assert plan.addresses[0] == "10.2.0.2/32"
        assert plan.dns == ("10.2.0.1",)
        assert plan.gateway == "10.2.0.1"
        assert 0 < len(plan.interface) <= 15
        assert plan.mark
        assert plan.table
        up = await tunnel.up(plan)
        assert up.plan == plan

    async def test_the_device_has_the_mtu_of_the_plan(self, host, tunnel):
        plan = (await tunnel.come_up()).plan
        assert f" mtu {plan.mtu} " in await host.must(("ip", "link", "show", plan.interface))

    async def test_the_main_table_stays_as_it_is(self, host, tunnel):
        shown = [("ip", "-4", "route"), ("ip", "-6", "route")]
        before = [await host.must(argv) for argv in shown]
        await tunnel.come_up()
        assert [await host.must(argv) for argv in shown] == before

    async def test_a_more_specific_route_does_not_win(self, provider, host, tunnel):
        """TunnelVision: whoever gives out addresses on the LAN pushes a route, here to one site."""
        plan = (await tunnel.come_up()).plan
        await host.must(("ip", "route", "add", f"{INTERNET}/32", "via", ROUTER, "dev", "eth0"))
        async with provider.lab.capture(self.leak()) as leaked:
            assert await source_seen(provider) == EXIT
            assert await leaked.count() == 0
            # The control: the same rule after the main table, as others have it.
            shown = await host.must(("ip", "rule"))
            (priority,) = re.findall(rf"(\d+):\s+not from all fwmark 0x[0-9a-f]+ lookup {plan.table}\b", shown)
            await host.must(("ip", "rule", "del", "priority", priority))
            mark = ("not", "fwmark", hex(plan.mark))
            await host.must(("ip", "rule", "add", *mark, "lookup", str(plan.table), "priority", "32767"))
            assert await source_seen(provider) == CLIENT
            assert await leaked.count() > 0

    # -- the LAN, and DNS ----------------------------------------------------------------------------

    async def test_the_lan_stays_reachable_only_if_wanted(self, tmp_path, profile):
        async with MockProvider(lan_host=True, tunnel=self.far_side) as provider:
            host = provider.lab.client
            config = self.write_config(provider, tmp_path)
            for lan in (True, False):
                options = TunnelOptions(profile, (str(config),), str(tmp_path / "run"), lan=lan, **self.account)
                async with (
                    Remote(host, self.backend, options, {}) as backend,
                    Echo(provider.lab.lan, LAN_HOST, PORT) as lan4,
                    Echo(provider.lab.lan, LAN_HOST6, PORT) as lan6,
                ):
                    await backend.come_up()
                    for own, address, neighbour in ((CLIENT, LAN_HOST, lan4), (CLIENT6, LAN_HOST6, lan6)):
                        async with provider.lab.capture(self.leak()) as beside:
                            await Peer(host).send_udp(address, PORT, deadline=2 if lan else SHORT)
                            # If not by the cable, it may arrive by the tunnel and the router, from the exit.
                            assert (own in {seen.source for seen in neighbour.seen}) is lan
                            assert bool(await beside.count()) is lan
                    assert await source_seen(provider) == EXIT
                    await backend.down()

    async def test_names_are_asked_of_the_provider_and_nobody_else(self, provider, host, tunnel):
        before = host.resolver.read_bytes()
        await tunnel.come_up()
        script = "import socket; print(socket.gethostbyname('tracker.test'))"
        async with provider.lab.capture(self.leak()) as leaked:
            assert await host.must(("python3", "-c", script)) == f"{INTERNET}\n"
            assert await leaked.count() == 0
        assert {query.client for query in provider.dns.log} == {"10.2.0.2"}
        assert not provider.isp_dns.log
        await tunnel.down()
        assert host.resolver.read_bytes() == before

    # -- down ----------------------------------------------------------------------------------------

    async def test_down_leaves_the_machine_as_it_was_and_twice_is_fine(self, provider, host, tunnel):
        before = await traces(host)
        await tunnel.down()
        assert await traces(host) == before
        await tunnel.come_up()
        assert await traces(host) != before
        await tunnel.down()
        assert await traces(host) == before
        assert host.processes == (tunnel.process.pid,)
        await tunnel.down()
        assert await traces(host) == before
        assert await source_seen(provider) == CLIENT

    async def test_two_ups_in_a_row_leave_one_of_everything(self, provider, host, tunnel):
        before = await traces(host)
        await tunnel.come_up()
        once, processes = await listing(host), len(host.processes)
        await tunnel.come_up()
        assert await listing(host) == once
        assert len(host.processes) == processes
        assert await source_seen(provider) == EXIT
        await tunnel.down()
        assert await traces(host) == before

    async def test_after_kill_9_nothing_leaks_and_the_next_process_undoes_it(self, provider, host, remote):
        before = await traces(host)
        async with remote() as killed:
            await killed.come_up()
            await killed.kill()
        async with provider.lab.capture(self.leak()) as leaked:
            if not self.outlives:
                await until(lambda: nobody(host))
            seen = await source_seen(provider, deadline=2.0 if self.outlives else SHORT)
            assert seen == (EXIT if self.outlives else None)
            assert await leaked.count() == 0
        async with remote() as backend:
            await backend.down()
            assert await traces(host) == before
            assert host.processes == (backend.process.pid,)

    async def test_after_kill_9_the_next_process_comes_up(self, provider, host, remote):
        before = await traces(host)
        async with remote() as killed:
            await killed.come_up()
            once = await listing(host)
            await killed.kill()
        async with remote() as backend:
            await backend.come_up()
            assert await listing(host) == once
            assert await source_seen(provider) == EXIT
            await backend.down()
        assert await traces(host) == before

    async def test_what_a_killed_run_of_another_profile_left_is_not_in_the_way(self, provider, host, remote):
        async with remote(profile=unique_profile()) as killed:
            await killed.come_up()
            await killed.kill()
        async with remote() as backend:
            up = await backend.come_up()
            assert await source_seen(provider) == EXIT
            assert (await backend.check(up)).rx > 0
            await backend.down()
        assert await source_seen(provider) == CLIENT

    # -- what goes wrong -----------------------------------------------------------------------------

    async def test_without_an_answer_nothing_is_left(self, provider, host, remote):
        before = await traces(host)
        await provider.server.mute()
        async with remote(settings={self.patience: 0.5}) as backend:
            with pytest.raises(NoAnswer) as raised:
                await backend.come_up()
            assert f"{SERVER}:51820" in str(raised.value)
            assert raised.value.hint
            assert await traces(host) == before
            assert host.processes == (backend.process.pid,)
            await provider.server.unmute()
            await backend.come_up()
            assert await source_seen(provider) == EXIT

    async def test_cancelled_on_its_way_up_nothing_is_left(self, provider, host, tunnel):
        before = await traces(host)
        plan = await tunnel.plan()
        await provider.server.mute()
        going_up = asyncio.create_task(tunnel.up(plan))
        await until(lambda: self._is_ruled(host, plan))
        tunnel.cancel()
        tunnel.cancel()
        with pytest.raises(CancelledThere):
            await going_up
        assert await traces(host) == before
        assert host.processes == (tunnel.process.pid,)

    async def test_cancelled_on_its_way_down_everything_is_undone(self, host, tunnel):
        before = await traces(host)
        plan = (await tunnel.come_up()).plan
        going_down = asyncio.create_task(tunnel.down())
        await until(lambda: self._is_not_ruled(host, plan))
        tunnel.cancel()
        with contextlib.suppress(CancelledThere):
            await going_down
        assert await traces(host) == before

    @staticmethod
    async def _is_ruled(host, plan):
        return f"lookup {plan.table}" in await host.must(("ip", "rule"))

    @staticmethod
    async def _is_not_ruled(host, plan):
        return f"lookup {plan.table}" not in await host.must(("ip", "rule"))

    async def test_a_device_that_dies_leaks_nothing_and_is_told(self, provider, host, tunnel):
        before = await traces(host)
        up = await tunnel.come_up()
        async with provider.lab.capture(self.leak()) as leaked:
            await host.must(("ip", "link", "del", up.interface))
            outcome = await Peer(host).send_udp(INTERNET, PORT, deadline=SHORT)
            assert outcome.result is Result.UNREACHABLE
            assert await leaked.count() == 0
            await until(lambda: self._is_lost(tunnel, up))
            # The control: without what catches it, it takes the uplink.
            await host.must(("ip", "route", "flush", "table", str(up.plan.table)))
            await Peer(host).send_udp(INTERNET, PORT, deadline=SHORT)
            assert await leaked.count() == 1
        await tunnel.down()
        assert await traces(host) == before

    @staticmethod
    async def _is_lost(tunnel, up):
        """A look says so; its process may take a moment to see it, and what cannot be looked at is Transient."""
        try:
            await tunnel.check(up)
        except LeaseLost as lost:
            return up.interface in str(lost)
        except Transient:
            pass
        return False

    DAMAGE: ClassVar[dict[str, str]] = {
        "every rule": "ip -4 rule flush protocol 118; ip -6 rule flush protocol 118",
        "the rule for IPv6": "ip -6 rule del lookup TABLE",
        "the rules for the LAN": "ip rule del to 192.168.77.0/24",
        "the table": "ip route flush table TABLE; ip -6 route flush table TABLE",
        "the route through the tunnel": "ip route del default dev DEVICE table TABLE",
        "the route that catches": "ip route del unreachable default table TABLE",
        "the addresses": "ip addr flush dev DEVICE",
        "the device's state": "ip link set DEVICE down",
        "the resolver": "echo nameserver 192.0.2.53 > /etc/resolv.conf",
    }

    @pytest.mark.parametrize("what", DAMAGE)
    async def test_a_look_puts_back_what_somebody_took(self, provider, host, tunnel, what):
        before = await traces(host)
        up = await tunnel.come_up()
        whole = await listing(host)
        command = self.DAMAGE[what].replace("TABLE", str(up.plan.table)).replace("DEVICE", up.interface)
        await host.must(("sh", "-ec", command))
        assert await listing(host) != whole, "the damage is seen"
        await tunnel.check(up)
        if what == "the resolver":  # somebody else's file is what comes back now
            assert "nameserver 10.2.0.1\n" in host.resolver.read_text()
            whole["resolver"] = host.resolver.read_text()
            before["resolver"] = "nameserver 192.0.2.53\n"
        assert _sorted(await listing(host)) == _sorted(whole)
        assert await source_seen(provider) == EXIT
        await tunnel.down()
        assert await traces(host) == before

    async def test_a_strict_reverse_path_filter_is_loosened_and_put_back(self, provider, host, tunnel):
        for name, value in (("all", 0), ("default", 1), ("eth0", 1)):
            host.sysctl(f"net.ipv4.conf.{name}.rp_filter", value)
        before = await traces(host)
        up = await tunnel.come_up()
        assert await source_seen(provider) == EXIT
        # The control: strict again, nothing comes in; a look puts it right.
        host.sysctl("net.ipv4.conf.all.rp_filter", 1)
        assert await source_seen(provider, deadline=SHORT) is None
        await tunnel.check(up)
        assert await source_seen(provider) == EXIT
        await tunnel.down()
        assert await traces(host) == {**before, "all/rp_filter": "1\n"}

    async def test_the_lan_is_answered_for_its_own_addresses_alone(self, host, tunnel):
        """ARP for the tunnel's address; what the LAN hears then is in the attack matrix, T7b."""
        before = await traces(host)
        assert before["all/arp_ignore"] == "0\n"
        up = await tunnel.come_up()
        assert (await traces(host))["all/arp_ignore"] == "1\n"
        host.sysctl("net.ipv4.conf.all.arp_ignore", 0)
        await tunnel.check(up)
        assert (await traces(host))["all/arp_ignore"] == "1\n"
        await tunnel.down()
        assert await traces(host) == before

    async def test_what_belongs_to_others_stays(self, provider, host, tunnel):
        plan = await tunnel.plan()
        foreign = f"""
            ip rule add from 10.99.0.0/16 lookup 4242 priority 7100
            ip rule add priority 7100 lookup main suppress_prefixlength 0 to 10.97.0.0/16
            ip rule add priority 7110 lookup main to 10.96.0.0/16
            ip -6 rule add from fd99::/64 lookup 4242 priority 7110
            ip route add 10.98.0.0/16 via {ROUTER} table 4242
            ip route add 10.98.0.0/16 via {ROUTER} table {plan.table}
            ip -6 route add fd98::/64 dev eth0 table {plan.table}
            ip route add unreachable 10.95.0.0/16
            nft add table inet somebody
        """
        await host.must(("sh", "-ec", foreign))
        before = await traces(host)
        await tunnel.up(plan)
        during = await traces(host)
        for kind in ("rules", "rules6", "routes", "routes6", "links"):
            assert [each for each in before[kind] if each not in during[kind]] == []
        assert during["filter"] == before["filter"]
        assert await source_seen(provider) == EXIT
        await tunnel.down()
        assert await traces(host) == before


def _sorted(value: dict[str, Any]) -> dict[str, Any]:
    """Lists of things that have no order."""
    return {key: sorted(map(str, item)) if isinstance(item, list) else item for key, item in value.items()}
