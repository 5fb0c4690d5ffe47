"""WireGuard with real packets: the suite of all back ends, and what is its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest
from msgspec import structs

from mock_provider.capture import leak
from mock_provider.peer import Echo, Peer, Result
from mock_provider.product import traces, unique_profile
from mock_provider.provider import ENDPOINT_NAME, MockProvider
from mock_provider.topology import CLIENT, EXIT, INTERNET, INTERNET6, ROUTER6, SERVER, SERVER6
from tests.contract.tunnels import PORT, SHORT, TunnelFixtures, TunnelSuite, source_seen, until
from vpnpf.errors import LeaseLost, NoAnswer, Offline, Transient, Unavailable, Unsupported
from vpnpf.io.process import find
from vpnpf.tunnels.wireguard import WireGuard
from vpnpf.tunnels.wireguard_device import SOCKETS

pytestmark = pytest.mark.system


class Fixtures(TunnelFixtures):
    backend = WireGuard
    patience = "vpnpf.tunnels.wireguard:PATIENCE"

    def write_config(self, provider, directory):
        return provider.client_config(directory / "proton.conf")


class TestWireGuard(Fixtures, TunnelSuite):
    pass


def wireguard_go(host, profile):
    """The process ids of this profile's wireguard-go."""
    found = []
    for pid in host.processes:
        argv = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
        if argv[0].endswith(b"/wireguard-go") and argv[1].decode() == f"vpf-{profile}":
            found.append(pid)
    return found


def shown_by(pid):
    """What other users may see of a process, and its own user."""
    return [Path("/proc", str(pid), name).read_bytes() for name in ("cmdline", "environ")]


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


async def reaches(host, address, *, deadline=2.0):
    return (await Peer(host).send_udp(address, PORT, deadline=deadline)).result


class TestKeys(Fixtures):
    async def test_wg_takes_what_was_written_for_it(self, host, tunnel, config, provider):
        private = await host.must(("wg", "genkey"))
        edit(config, "[Peer]", f"ListenPort = 51999\n[Peer]\nPresharedKey = {private}PersistentKeepalive = 7")
        preshared = private.strip()
        key = provider.customer.public_key
        await provider.server.host.must(
            ("wg", "set", provider.server.interface, "peer", key, "preshared-key", "/dev/stdin"), stdin=preshared
        )
        up = await tunnel.come_up()
        shown = await host.must(("wg", "showconf", up.interface))
        assert set(filter(None, shown.splitlines())) == {
            "[Interface]",
            "ListenPort = 51999",
            f"FwMark = {up.plan.mark:#x}",
            f"PrivateKey = {provider.customer.private_key}",
            "[Peer]",
            f"PublicKey = {provider.customer.server_key}",
            f"PresharedKey = {preshared}",
            "AllowedIPs = 0.0.0.0/0, ::/0",
            f"Endpoint = {SERVER}:51820",
            "PersistentKeepalive = 7",
        }

    async def test_no_process_shows_the_key(self, host, profile, tunnel, provider):
        await tunnel.come_up()
        for shown in shown_by(*wireguard_go(host, profile)):
            assert shown
            assert provider.customer.private_key.encode() not in shown


class TestEndpoint(Fixtures):
    async def test_a_name_is_looked_up_and_known_while_nobody_can_be_asked(self, provider, host, config, remote):
        edit(config, f"{SERVER}:", f"{ENDPOINT_NAME}:")
        async with remote() as backend:
            up = await backend.come_up()
            assert up.plan.endpoint.address == SERVER
            assert {query.name for query in provider.isp_dns.log} == {ENDPOINT_NAME}
            await backend.down()
        blocked = "add table inet no_dns; add chain inet no_dns out { type filter hook output priority 0; }; "
        await host.must(("nft", f"{blocked} add rule inet no_dns out th dport 53 drop"))
        async with remote() as backend:
            assert (await backend.plan()).endpoint.address == SERVER
        # The control: a profile that was never up does not know it.
        async with remote(profile=unique_profile()) as backend:
            with pytest.raises(Transient, match="looking up"):
                await backend.plan()

    async def test_an_endpoint_by_ipv6(self, provider, host, config, tunnel):
        edit(config, f"{SERVER}:", f"[{SERVER6}]:")
        before = await traces(host)
        async with provider.lab.capture(leak(SERVER6)) as leaked:
            up = await tunnel.come_up()
            assert up.plan.endpoint.address == SERVER6
            assert await source_seen(provider) == EXIT
            assert await leaked.count() == 0
        await tunnel.down()
        assert await traces(host) == before


class TestWireGuardGo(Fixtures):
    async def test_its_death_is_told_and_leaks_nothing(self, provider, host, profile, tunnel):
        before = await traces(host)
        up = await tunnel.come_up()
        async with provider.lab.capture(leak()) as leaked:
            os.kill(*wireguard_go(host, profile), signal.SIGKILL)
            with pytest.raises(LeaseLost):
                await tunnel.check(up)
            await until(lambda: self._is_gone(host, up.interface))
            assert await reaches(host, INTERNET) is Result.UNREACHABLE
            assert await leaked.count() == 0
        await tunnel.down()
        assert await traces(host) == before
        assert not (SOCKETS / f"{up.interface}.sock").exists()

    @staticmethod
    async def _is_gone(host, device):
        return (await host.run(("ip", "link", "show", device))).status != 0

    @pytest.mark.parametrize("killed", [False, True])
    async def test_one_that_hangs_is_ended(self, host, profile, remote, killed):
        before = await traces(host)
        settings = {"vpnpf.tunnels.wireguard_device:_END": 0.3}
        async with remote(settings=settings) as first, remote(settings=settings) as second:
            up = await first.come_up()
            os.kill(*wireguard_go(host, profile), signal.SIGSTOP)
            if killed:
                await first.kill()
            await (second if killed else first).down()
            assert await traces(host) == before
            assert wireguard_go(host, profile) == []
            assert not (SOCKETS / f"{up.interface}.sock").exists()

    async def test_a_namesake_in_another_namespace_is_left_alone(self, provider, host, profile, tunnel):
        before = await traces(host)
        device, elsewhere = f"vpf-{profile}", provider.lab.internet
        namesake = await elsewhere.popen(("wireguard-go", "-f", device), stdout=None, stderr=None)
        key = await host.must(("wg", "genkey"))
        try:
            await until(lambda: self._give_key(elsewhere, device, key))
            with pytest.raises(Transient, match=f"process {namesake.pid} has the socket") as raised:
                await tunnel.come_up()
            assert "another container or network namespace" in raised.value.hint
            await tunnel.down()
            assert await traces(host) == before
            assert await elsewhere.must(("wg", "show", device, "private-key")) == key
        finally:
            namesake.kill()
            await namesake.wait()
            (SOCKETS / f"{device}.sock").unlink(missing_ok=True)

    @staticmethod
    async def _give_key(host, device, key):
        return (await host.run(("wg", "set", device, "private-key", "/dev/stdin"), stdin=key)).status == 0

    async def test_a_peer_that_somebody_took_is_told(self, provider, host, tunnel):
        up = await tunnel.come_up()
        await host.must(("wg", "set", up.interface, "peer", provider.customer.server_key, "remove"))
        with pytest.raises(LeaseLost, match="peer"):
            await tunnel.check(up)

    async def test_without_tun_it_says_what_is_missing(self, provider, host, remote):
        before = await traces(host)
        # check_machine is passed by: the device went away after it.
        wrap = ("unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/net/tun && exec "$@"', "sh")
        async with remote(wrap=wrap) as backend:
            with pytest.raises(Transient, match="does not come up") as raised:
                await backend.come_up()
            assert "/dev/net/tun" in raised.value.hint
        assert await traces(host) == before

    async def test_killed_at_any_moment_of_its_way_up_the_next_process_cleans_up(self, host, remote):
        before = await traces(host)
        async with contextlib.AsyncExitStack() as stack:
            started = [await stack.enter_async_context(remote()) for _ in range(7)]
            plan = await started[0].plan()
            for number, backend in enumerate(started[:-1]):
                going_up = asyncio.create_task(backend.up(plan))
                await asyncio.wait([going_up], timeout=0.01 + 0.025 * number)
                await backend.kill()
                await asyncio.gather(going_up, return_exceptions=True)
                # A program that it had started is done before anybody can start the next one; here that one runs already.
                alive = {each.process.pid for each in started}
                await until(lambda alive=alive: only(host, alive))
                await started[-1].down()
                assert await traces(host) == before
            assert host.processes == (started[-1].process.pid,)


async def only(host, pids):
    """Whether nothing runs there but these and wireguard-go."""
    others = [Path("/proc", str(pid), "comm") for pid in set(host.processes) - pids]
    return all(path.read_text() == "wireguard-go\n" for path in others if path.exists())


class TestIpv6(Fixtures):
    @pytest.fixture
    async def provider(self):
        async with MockProvider(ipv6=True) as made:
            yield made

    async def test_it_goes_through_the_tunnel_too(self, provider, host, tunnel):
        before = await traces(host)
        async with provider.lab.capture(leak()) as leaked, Echo(provider.lab.internet, INTERNET6, PORT) as web:
            up = await tunnel.come_up()
            assert up.plan.dns == ("10.2.0.1", "2a07:b944::2:1")
            assert await reaches(host, INTERNET6) is Result.CONNECTED
            assert [seen.source for seen in web.seen] == [SERVER6]
            assert await leaked.count() == 0
            await host.must(("ip", "link", "del", up.interface))
            assert await reaches(host, INTERNET6) is Result.UNREACHABLE
            assert await leaked.count() == 0
            await tunnel.down()
            assert await reaches(host, INTERNET6) is Result.CONNECTED, (
                "the control: without the rules it takes the uplink"
            )
            assert await leaked.count() > 0
        assert await traces(host) == before

    async def test_a_more_specific_route_does_not_win(self, provider, host, tunnel):
        await tunnel.come_up()
        await host.must(("ip", "-6", "route", "add", f"{INTERNET6}/128", "via", ROUTER6, "dev", "eth0"))
        async with provider.lab.capture(leak()) as leaked, Echo(provider.lab.internet, INTERNET6, PORT):
            assert await reaches(host, INTERNET6) is Result.CONNECTED
            assert await leaked.count() == 0

    async def test_a_look_puts_its_address_back(self, provider, host, tunnel):
        up = await tunnel.come_up()
        await host.must(("ip", "-6", "addr", "flush", "dev", up.interface))
        await tunnel.check(up)
        async with Echo(provider.lab.internet, INTERNET6, PORT):
            assert await reaches(host, INTERNET6) is Result.CONNECTED

    async def test_where_it_is_switched_off_the_tunnel_carries_ipv4_and_nothing_leaks(self, provider, host, tunnel):
        host.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
        before = await traces(host)
        up = await tunnel.come_up()
        assert await source_seen(provider) == EXIT
        await tunnel.check(up)
        # Somebody switches it on again for the uplink alone.
        host.sysctl("net.ipv6.conf.eth0.disable_ipv6", 0)
        await host.must(("ip", "-6", "addr", "add", "fd77::2/64", "dev", "eth0", "nodad"))
        await host.must(("ip", "-6", "route", "add", "default", "via", ROUTER6, "dev", "eth0"))
        async with provider.lab.capture(leak()) as leaked, Echo(provider.lab.internet, INTERNET6, PORT):
            assert await reaches(host, INTERNET6, deadline=SHORT) is Result.UNREACHABLE
            assert await leaked.count() == 0
            # And then for the tunnel: a look gives it its address.
            host.sysctl(f"net.ipv6.conf.{up.interface}.disable_ipv6", 0)
            await tunnel.check(up)
            assert await reaches(host, INTERNET6) is Result.CONNECTED
            assert await leaked.count() == 0
        await tunnel.down()
        host.sysctl("net.ipv6.conf.eth0.disable_ipv6", 1)
        assert await traces(host) == before

    async def test_a_kernel_without_it_is_not_asked_for_it(self, provider, host, remote, tmp_path):
        broken = self._ip_without_ipv6(tmp_path)
        (tmp_path / "proc").mkdir()
        before = await traces(host)
        async with remote(wrap=broken, settings={"vpnpf.io.ip:PROC": tmp_path / "proc"}) as backend:
            up = await backend.come_up()
            assert await source_seen(provider) == EXIT
            await backend.check(up)
            await backend.down()
        assert await traces(host) == before

    async def test_where_it_cannot_be_caught_the_tunnel_does_not_come_up(self, host, remote, tmp_path):
        before = await traces(host)
        async with remote(wrap=self._ip_without_ipv6(tmp_path)) as backend:
            with pytest.raises(Transient, match=r"setting addresses and routes: .*not supported"):
                await backend.come_up()
        assert await traces(host) == before

    @staticmethod
    def _ip_without_ipv6(directory):
        """A wrapper for which every `ip -6` fails, as on such a kernel."""
        real, script = directory / "real-ip", directory / "ip"
        shutil.copy(find("ip"), real)
        refusal = "echo RTNETLINK answers: Address family not supported by protocol >&2; exit 2"
        script.write_text(f'#!/bin/sh\ncase " $* " in *" -6 "*) {refusal};; esac\nexec {real} "$@"\n')
        script.chmod(0o755)
        mount = f'mount --bind {script} {Path(find("ip")).resolve()} && exec "$@"'
        return ("unshare", "--mount", "sh", "-c", mount, "sh")


class TestNoIpv6(Fixtures):
    async def test_a_tunnel_without_it_carries_none_and_none_leaves(self, provider, host, tunnel):
        async with provider.lab.capture(leak()) as leaked, Echo(provider.lab.internet, INTERNET6, PORT):
            assert await reaches(host, INTERNET6) is Result.CONNECTED, "the control"
            assert await leaked.count() > 0
        await tunnel.come_up()
        async with provider.lab.capture(leak()) as leaked, Echo(provider.lab.internet, INTERNET6, PORT):
            assert await reaches(host, INTERNET6) is Result.UNREACHABLE
            assert await leaked.count() == 0


class TestResolver(Fixtures):
    """With an /etc of its own; elsewhere resolv.conf is a mount of its own, as in containers."""

    @pytest.fixture
    def etc(self, tmp_path):
        made, run = tmp_path / "etc", tmp_path / "run"
        made.mkdir()
        run.mkdir()
        (made / "nsswitch.conf").write_text("hosts: files dns\n")
        (run / "stub-resolv.conf").write_text("nameserver 127.0.0.53\noptions edns0 trust-ad\n")
        (made / "resolv.conf").symlink_to(run / "stub-resolv.conf")
        return made

    def in_etc(self, etc):
        return ("unshare", "--mount", "sh", "-c", f'mount --bind {etc} /etc && exec "$@"', "sh")

    async def test_the_link_of_systemd_resolved_is_replaced_and_put_back(self, etc, host, remote):
        path, stub = etc / "resolv.conf", etc.parent / "run/stub-resolv.conf"
        before, text = path.readlink(), stub.read_text()
        async with remote(wrap=self.in_etc(etc)) as backend:
            await backend.come_up()
            assert not path.is_symlink()
            assert "nameserver 10.2.0.1\n" in path.read_text()
            await backend.down()
        assert path.readlink() == before
        assert stub.read_text() == text

    async def test_after_kill_9_the_next_process_puts_it_back_though_the_runtime_directory_is_gone(
        self, etc, remote, profile, tmp_path
    ):
        path = etc / "resolv.conf"
        before = path.readlink()
        async with remote(wrap=self.in_etc(etc)) as killed:
            await killed.come_up()
            await killed.kill()
        shutil.rmtree(tmp_path / f"run-{profile}", ignore_errors=True)
        async with remote(wrap=self.in_etc(etc)) as backend:
            await backend.down()
        assert path.readlink() == before

    async def test_a_file_without_resolvers_leaves_it_as_it_is(self, etc, remote, config):
        edit(config, "DNS = 10.2.0.1\n", "")
        path = etc / "resolv.conf"
        before = path.readlink()
        async with remote(wrap=self.in_etc(etc)) as backend:
            up = await backend.come_up()
            assert up.plan.dns == ()
            await backend.check(up)
            assert path.readlink() == before
            await backend.down()
        assert path.readlink() == before

    async def test_one_that_cannot_be_written_is_told_and_nothing_is_left(self, host, etc, remote):
        before = await traces(host)
        path = etc / "resolv.conf"
        path.unlink()
        path.mkdir()
        async with remote(wrap=self.in_etc(etc)) as backend:
            plan = await backend.plan()
            with pytest.raises(Unavailable, match=r"writing /etc/resolv\.conf") as raised:
                await backend.up(plan)
            assert "DNS line" in raised.value.hint
            assert await traces(host) == before
            up = await backend.up(structs.replace(plan, dns=()))
            assert up.plan.dns == ()
            await backend.down()
        assert await traces(host) == before


class TestFile(Fixtures):
    async def test_an_address_with_a_wide_prefix_takes_nothing_out_of_the_main_table(
        self, provider, host, config, tunnel
    ):
        edit(config, "10.2.0.2/32", "10.2.0.2/8")
        before = await host.must(("ip", "-4", "route"))
        await tunnel.come_up()
        assert await host.must(("ip", "-4", "route")) == before
        assert await source_seen(provider) == EXIT

    async def test_its_mtu_counts(self, provider, host, config, tunnel):
        edit(config, "[Peer]", "MTU = 1337\n[Peer]")
        up = await tunnel.come_up()
        assert " mtu 1337 " in await host.must(("ip", "link", "show", up.interface))
        async with Echo(provider.lab.internet, INTERNET, PORT) as web:
            big = b"x" * 4000
            assert (await Peer(host).send_udp(INTERNET, PORT, big)).data == big
            assert [seen.source for seen in web.seen] == [EXIT]
            await tunnel.down()
            await Peer(host).send_udp(INTERNET, PORT)
            assert web.seen[-1].source == CLIENT

    async def test_a_look_keeps_the_mtu_that_was_found_to_fit(self, provider, host, tunnel):
        up = await tunnel.come_up()
        table = "add table inet small; add chain inet small f { type filter hook forward priority 0; }"
        await provider.lab.router.must(("nft", f"{table}; add rule inet small f meta length > 1400 drop"))
        assert await tunnel.fit_mtu(up) == 1320
        await host.must(("ip", "addr", "flush", "dev", up.interface))
        await tunnel.check(up)
        shown = await host.must(("ip", "addr", "show", up.interface))
        assert " mtu 1320 " in shown
        assert "10.2.0.2" in shown
        await provider.lab.router.must(("nft", "add rule inet small f meta length > 100 drop"))
        with pytest.raises(NoAnswer):
            await tunnel.fit_mtu(up)

    async def test_an_mtu_of_the_file_is_not_changed(self, config, tunnel):
        edit(config, "[Peer]", "MTU = 1300\n[Peer]")
        with pytest.raises(Unsupported, match="1300"):
            await tunnel.fit_mtu(await tunnel.come_up())


class TestWatch(Fixtures):
    async def test_a_device_that_goes_is_told_at_once(self, host, tunnel):
        up = await tunnel.come_up()
        watching = asyncio.create_task(tunnel.watch(up))
        await asyncio.sleep(0.2)
        assert not watching.done()
        await host.must(("ip", "link", "set", up.interface, "down"))
        assert "device" in (await asyncio.wait_for(watching, 0.5)).cause
        await host.must(("ip", "link", "del", up.interface))
        assert "device" in (await asyncio.wait_for(tunnel.watch(up), 0.5)).cause

    async def test_a_server_without_answers_is_told_in_seconds_and_one_that_is_only_idle_is_not(
        self, provider, host, tunnel
    ):
        up = await tunnel.come_up()
        watching = asyncio.create_task(tunnel.watch(up))
        # Packets to somebody who does not answer: the server is asked, and does.
        for _ in range(8):
            await Peer(host).send_udp(INTERNET, PORT, deadline=SHORT)
        await asyncio.sleep(1)
        assert not watching.done()
        await provider.server.mute()
        await Peer(host).send_udp(INTERNET, PORT, deadline=SHORT)
        stirring = await asyncio.wait_for(watching, 8)
        assert 2 <= stirring.silent_for < 8
        assert "answered" in stirring.cause

    async def test_a_cable_that_is_out_is_not_the_servers_fault(self, provider, host, remote):
        async with remote(settings={"vpnpf.tunnels.wireguard:REKEY_PATIENCE": 0.5, self.patience: 0.5}) as backend:
            up = await backend.come_up()
            await provider.lab.router.must(("ip", "link", "set", "p-client", "down"))
            with pytest.raises(Offline, match="the link eth0 is down"):
                await backend.rekey(up)
            await host.must(("ip", "link", "set", "eth0", "down"))
            with pytest.raises(Offline, match="no route"):
                await backend.rekey(up)
            with pytest.raises(Offline):
                await backend.up(up.plan)
