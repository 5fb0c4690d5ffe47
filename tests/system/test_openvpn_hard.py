"""OpenVPN with hostile servers, programs that die or hang, wrong logins; and what other users can see of it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from mock_provider.capture import leak
from mock_provider.openvpn import PASSWORD, USERNAME, Customer, Login
from mock_provider.openvpn_pki import pki
from mock_provider.product import traces, unique_profile
from mock_provider.provider import ENDPOINT_NAME, MockProvider
from mock_provider.topology import CLIENT, EXIT, INTERNET6, LAN_HOST, SERVER, SERVER6
from tests.contract.tunnels import source_seen, until
from tests.system.openvpn_world import Fixtures, openvpn
from vpnpf.errors import ConfigError, LeaseLost, Misconfigured, NoAnswer, Offline, Transient, Unsupported
from vpnpf.interfaces import TunnelOptions
from vpnpf.tunnels.ending import start_of
from vpnpf.tunnels.openvpn import OpenVpnTunnel
from vpnpf.tunnels.openvpn_process import Launcher

pytestmark = pytest.mark.system

READY = b"Initialization Sequence Completed"
NET_ADMIN = 1 << 12
SO_ACCEPTCON = 0x10000


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


class Plain:
    """`openvpn` as a person would start it with the provider's file: the control."""

    def __init__(self, host, config, directory):
        self._host, self._config = host, directory / "plain.ovpn"
        login = f"<auth-user-pass>\n{USERNAME}\n{PASSWORD}\n</auth-user-pass>\n"
        self._config.write_text(config.read_text().replace("auth-user-pass\n", login))

    async def __aenter__(self):
        argv = ("openvpn", "--config", "stdin", "--dev", "plain0", "--dev-type", "tun", "--disable-dco", "--verb", "3")
        with self._config.open("rb") as file:
            self.process = await self._host.popen(argv, stdin=file, stderr=asyncio.subprocess.STDOUT)
        await self.says(READY)
        return self

    async def __aexit__(self, *_):
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()

    async def says(self, text):
        async with asyncio.timeout(10):
            while line := await self.process.stdout.readline():
                if text in line:
                    return
        raise AssertionError(f"it ended without {text}")


class TestServer(Fixtures):
    """What a server pushes is the provider's word, or that of whoever sits in its place."""

    ROUTES = (
        "route 203.0.113.0 255.255.255.0 net_gateway",
        "route 192.168.77.64 255.255.255.192",
        "redirect-gateway def1 block-local",
        "route-metric 1",
        "block-ipv6",
    )

    async def test_it_sets_no_routes(self, provider, host, tunnel, config, tmp_path):
        await provider.server.push(*self.ROUTES)
        main = [("ip", "-4", "route"), ("ip", "-6", "route")]
        before = [await host.must(argv) for argv in main]
        async with provider.lab.capture(leak()) as leaked:
            up = await tunnel.come_up()
            assert [await host.must(argv) for argv in main] == before
            assert await source_seen(provider) == EXIT
            assert await leaked.count() == 0
        assert up.interface not in await host.must(("ip", "route", "get", LAN_HOST))
        await tunnel.down()
        async with provider.lab.capture(leak()) as leaked, Plain(host, config, tmp_path):
            assert await source_seen(provider) == CLIENT, "the control: past the tunnel, as the server wished"
            assert await leaked.count() > 0
            assert "plain0" in await host.must(("ip", "route", "get", LAN_HOST)), "the control: the LAN is drawn in"

    async def test_it_does_not_end_the_tunnel_at_its_own_time(self, provider, host, tunnel, config, tmp_path):
        """It pings every 5 s, so this ends whoever obeys after one."""
        await provider.server.push("ping-exit 1", "inactive 1")
        up = await tunnel.come_up()
        (pid,) = openvpn(host, up.interface)
        async with MockProvider(tunnel=self.far_side) as other:
            await other.server.push("ping-exit 1", "inactive 1")
            async with Plain(other.lab.client, config_of(other, tmp_path), tmp_path) as plain:
                async with asyncio.timeout(10):
                    await plain.process.communicate()
        assert openvpn(host, up.interface) == [pid]
        assert await source_seen(provider) == EXIT

    async def test_its_resolver_may_not_be_on_the_lan(self, provider, host, remote):
        await provider.server.push(f"dhcp-option DNS {LAN_HOST}")
        before = await traces(host)
        async with remote() as backend:
            with pytest.raises(Misconfigured, match=f"{LAN_HOST}, which belongs to the LAN") as raised:
                await backend.come_up()
            assert "lock.lan = false" in raised.value.hint
            assert await traces(host) == before
        # The control: it was the LAN that it was held against.
        async with remote(lan=False) as backend:
            assert LAN_HOST in (await backend.come_up()).plan.dns
            await backend.down()

    async def test_its_small_packets_are_taken_and_its_large_ones_are_not(self, provider, host, remote, config):
        edit(config, "tun-mtu 1500", "tun-mtu 1300")
        async with remote() as backend:
            up = await backend.come_up()
            assert up.plan.mtu == 1300
            assert " mtu 1300 " in await host.must(("ip", "link", "show", up.interface))
            with pytest.raises(Unsupported):
                await backend.fit_mtu(up)

    async def test_one_with_another_certificate_is_refused(self, provider, host, tunnel, config):
        ours, theirs = pki().ca, pki("somebody").ca
        edit(config, ours, theirs)
        before = await traces(host)
        with pytest.raises(Transient, match=r"VERIFY ERROR|certificate verify failed|handshake"):
            await tunnel.come_up()
        assert not provider.server.logins, "it was not told the password"
        assert await traces(host) == before

    async def test_a_customer_cannot_pose_as_it(self, provider, host, tunnel, config, tmp_path):
        """Also where the file forgets to say that it must be a server."""
        edit(config, "remote-cert-tls server\n", "")
        await provider.server.pose()
        before = await traces(host)
        with pytest.raises(Transient, match=r"VERIFY|certificate"):
            await tunnel.come_up()
        assert not provider.server.logins, "he was not told the password"
        assert await traces(host) == before
        async with Plain(host, config, tmp_path):
            assert provider.server.logins, "the control: as the file says it, he is"


def config_of(provider, directory):
    return provider.client_config(directory / "other.ovpn")


class TestLogin(Fixtures):
    async def test_a_wrong_one_is_told_with_the_servers_reason(self, provider, host, tunnel):
        before = await traces(host)
        provider.server.refuse("no such plan")
        with pytest.raises(Misconfigured, match=r"refused the user name or the password: .*no such plan") as raised:
            await tunnel.come_up()
        assert raised.value.hint
        assert PASSWORD not in str(raised.value)
        assert provider.server.logins == [Login(USERNAME, welcome=False)]
        assert await traces(host) == before

    async def test_one_that_was_good_is_tried_again_later(self, provider, tunnel):
        await tunnel.come_up()
        provider.server.refuse()
        with pytest.raises(Transient) as raised:
            await tunnel.come_up()
        assert raised.value.retry_after == 60
        assert "sessions" in raised.value.hint
        provider.server.refuse(on=False)
        await tunnel.come_up()

    async def test_refused_while_it_connects_anew_it_is_lost(self, provider, host, tunnel):
        up = await tunnel.come_up()
        provider.server.refuse()
        with pytest.raises(LeaseLost, match="refused"):
            await tunnel.rekey(up)
        with pytest.raises(LeaseLost, match="refused"):
            await tunnel.check(up)
        await until(lambda: self._has_ended(host, up))

    @staticmethod
    async def _has_ended(host, up):
        return openvpn(host, up.interface) == []

    async def test_others_see_nothing_secret(self, host, tunnel, tmp_path, profile):
        up = await tunnel.come_up()
        secrets = [PASSWORD, *pki().tls_crypt.splitlines()[4:6], USERNAME]
        seen = [read(host, up, "cmdline"), read(host, up, "environ"), *contents(tmp_path / f"run-{profile}")]
        assert len(seen) >= 3
        for text in seen:
            assert text
            assert not any(secret.encode() in text for secret in secrets)

    async def test_nobody_else_can_speak_to_it(self, host, tunnel, tmp_path, profile):
        """Its management has no name, and it connects to us: there is nothing to connect to."""
        up = await tunnel.come_up()
        assert not sockets(tmp_path / f"run-{profile}")
        unix = [line.split() for line in read(host, up, "net/unix").decode().splitlines()[1:]]
        listening = {f"socket:[{fields[6]}]" for fields in unix if int(fields[3], 16) & SO_ACCEPTCON}
        assert not descriptors(host, up) & listening
        listed = await host.must(("ss", "-Hltunp"))
        assert "openvpn" not in "".join(line for line in listed.splitlines() if "LISTEN" in line)

    async def test_it_has_one_privilege(self, host, tunnel):
        status = read(host, await tunnel.come_up(), "status").decode()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        for name in ("CapPrm", "CapEff", "CapBnd"):
            assert int(fields[name], 16) == NET_ADMIN
        assert fields["NoNewPrivs"] == "1"


def read(host, up, name):
    """A file of /proc about the openvpn of a tunnel."""
    (pid,) = openvpn(host, up.interface)
    return Path("/proc", str(pid), name).read_bytes()


def descriptors(host, up):
    (pid,) = openvpn(host, up.interface)
    return {str(each.readlink()) for each in Path("/proc", str(pid), "fd").iterdir() if each.is_symlink()}


def contents(directory):
    return [path.read_bytes() for path in directory.iterdir()]


def sockets(directory):
    return [path for path in directory.iterdir() if path.is_socket()]


class TestProgram(Fixtures):
    async def test_its_death_is_told_at_once_and_leaks_nothing(self, provider, host, tunnel):
        before = await traces(host)
        up = await tunnel.come_up()
        async with provider.lab.capture(leak()) as leaked:
            watched = asyncio.create_task(tunnel.watch(up))
            await asyncio.wait([watched], timeout=0.1)
            os.kill(*openvpn(host, up.interface), signal.SIGKILL)
            async with asyncio.timeout(1):
                assert "ended" in (await watched).cause
            with pytest.raises(LeaseLost, match="ended"):
                await tunnel.check(up)
            assert await source_seen(provider, deadline=0.3) is None
            assert await leaked.count() == 0
        await tunnel.come_up()
        assert await source_seen(provider) == EXIT
        await tunnel.down()
        assert await traces(host) == before

    @pytest.mark.parametrize("killed", [False, True])
    async def test_one_that_hangs_is_ended(self, host, remote, killed):
        before = await traces(host)
        settings = {"vpnpf.tunnels.openvpn_process:_END": 0.3}
        async with remote(settings=settings) as first, remote(settings=settings) as second:
            up = await first.come_up()
            os.kill(*openvpn(host, up.interface), signal.SIGSTOP)
            if killed:
                await first.kill()
                assert openvpn(host, up.interface), "the control: by itself it stays"
            await (second if killed else first).down()
            assert await traces(host) == before
            assert openvpn(host, up.interface) == []

    async def test_another_process_that_got_its_number_is_left_alone(self, tmp_path):
        """What is kept of a process is its number and the moment when it began."""
        started = start_of(os.getpid())
        (tmp_path / "openvpn.pid").write_text(f"{os.getpid()} {started - 1}\n")
        await Launcher(tmp_path).end_leftover()
        assert start_of(os.getpid()) == started
        assert not (tmp_path / "openvpn.pid").exists()

    async def test_told_to_read_its_file_anew_it_does_not_go_on_without_encryption(
        self, provider, host, tunnel, config, tmp_path
    ):
        """A signal does it, and so does openvpn to itself when it is told to reconnect while it connects by TCP."""
        up = await tunnel.come_up()
        logins = len(provider.server.logins)
        os.kill(*openvpn(host, up.interface), signal.SIGHUP)
        await until(lambda: self._came_again(provider, logins))
        await tunnel.rekey(up)
        assert await source_seen(provider) == EXIT
        await tunnel.down()
        async with Plain(host, config, tmp_path) as plain:
            plain.process.send_signal(signal.SIGHUP)
            await plain.says(b"clear text")

    @staticmethod
    async def _came_again(provider, logins):
        return len(provider.server.logins) > logins

    async def test_one_that_cannot_start_says_why(self, host, remote, tmp_path):
        before = await traces(host)
        fake = tmp_path / "openvpn"
        fake.write_text("#!/bin/sh\necho Options error: Unrecognized option >&2\nexit 1\n")
        fake.chmod(0o755)
        wrap = ("unshare", "--mount", "sh", "-c", f'mount --bind {fake} /usr/sbin/openvpn && exec "$@"', "sh")
        async with remote(wrap=wrap) as backend:
            with pytest.raises(Transient, match="Options error: Unrecognized option"):
                await backend.come_up()
        assert await traces(host) == before


class TestTcp(Fixtures):
    far_side = "openvpn-tcp"

    async def test_a_server_that_dies_is_told_at_once(self, provider, tunnel):
        up = await tunnel.come_up()
        watched = asyncio.create_task(tunnel.watch(up))
        await asyncio.wait([watched], timeout=0.1)
        await provider.server.kill()
        async with asyncio.timeout(3):
            stirring = await watched
        assert "closed" in stirring.cause
        assert stirring.silent_for > 0
        assert (await tunnel.check(up)).handshake_age is None
        await provider.server.restart()
        await tunnel.rekey(up)
        assert await source_seen(provider) == EXIT

    async def test_one_that_is_not_there_is_told_before_patience_ends(self, provider, host, tunnel):
        before = await traces(host)
        await provider.server.kill()
        async with asyncio.timeout(5):
            with pytest.raises(Transient, match="refused"):
                await tunnel.come_up()
        assert await traces(host) == before


class TestUplink(Fixtures):
    async def test_a_machine_without_a_way_out_blames_no_server(self, host, remote):
        async with remote(settings={self.patience: 0.3, "vpnpf.tunnels.openvpn:REKEY_PATIENCE": 0.3}) as backend:
            up = await backend.come_up()
            await host.must(("ip", "link", "set", "eth0", "down"))
            with pytest.raises(Offline, match="no route"):
                await backend.rekey(up)
            with pytest.raises(Offline, match="no route"):
                await backend.up(up.plan)


class TestRemotes(Fixtures):
    async def test_after_a_failure_the_next_one_has_its_turn(self, provider, config, remote):
        edit(config, f"remote {SERVER} 51820\nremote-random\n", f"remote 198.51.100.99 4000\nremote {SERVER} 51820\n")
        async with remote(settings={self.patience: 0.5}) as backend:
            first = await backend.plan()
            assert str(first.endpoint) == "198.51.100.99:4000"
            with pytest.raises(NoAnswer):
                await backend.up(first)
            second = await backend.plan()
            assert str(second.endpoint) == f"{SERVER}:51820"
            assert second.identity != first.identity
            await backend.up(second)
            assert (await backend.plan()).endpoint == second.endpoint, "the one that works stays"
            await backend.down()

    async def test_a_name_is_looked_up_and_known_while_nobody_can_be_asked(self, provider, host, config, remote):
        edit(config, f"remote {SERVER} ", f"remote {ENDPOINT_NAME} ")
        async with remote() as backend:
            up = await backend.come_up()
            assert up.plan.endpoint.address == SERVER
            assert {query.name for query in provider.isp_dns.log} == {ENDPOINT_NAME}
            await backend.down()
        blocked = "add table inet no_dns; add chain inet no_dns out { type filter hook output priority 0; }; "
        await host.must(("nft", f"{blocked} add rule inet no_dns out th dport 53 drop"))
        async with remote() as backend:
            assert (await backend.plan()).endpoint.address == SERVER
        async with remote(profile=unique_profile()) as backend:
            with pytest.raises(Transient, match="looking up"):
                await backend.plan()


class TestIpv6(Fixtures):
    @pytest.fixture
    async def provider(self):
        async with MockProvider(tunnel=self.far_side, ipv6=True) as made:
            yield made

    async def test_it_goes_through_the_tunnel_too(self, provider, host, tunnel):
        before = await traces(host)
        async with provider.lab.capture(leak()) as leaked:
            up = await tunnel.come_up()
            assert up.plan.addresses == ("10.2.0.2/32", "2a07:b944::2:2/128")
            assert up.plan.dns == ("10.2.0.1", "2a07:b944::2:1")
            route = await host.must(("ip", "-6", "route", "get", INTERNET6))
            assert f"dev {up.interface}" in route
            assert await leaked.count() == 0
        await tunnel.down()
        assert await traces(host) == before

    async def test_a_server_reached_by_ipv6(self, provider, host, config, tunnel):
        """The daemon of the mock listens on IPv4 alone: what matters is that its packets are let out by their mark."""
        edit(config, f"remote {SERVER} ", f"remote {SERVER6} ")
        plan = await tunnel.plan()
        assert plan.endpoint.address == SERVER6
        async with provider.lab.capture(lambda packet: packet.destination == SERVER6) as seen:
            going_up = asyncio.create_task(tunnel.up(plan))
            await until(lambda: some(seen))
            tunnel.cancel()
            await asyncio.gather(going_up, return_exceptions=True)


async def some(capture):
    return bool(capture.packets)


def test_a_file_that_asks_for_a_password_needs_a_user_name(tmp_path):
    customer = Customer("", "", "", "10.2.0.2")
    path = customer.write(tmp_path / "a.ovpn")
    with pytest.raises(ConfigError, match="asks for a user name") as raised:
        OpenVpnTunnel(TunnelOptions("home", (str(path),), str(tmp_path))).check_config()
    assert "username" in raised.value.mistakes[0].hint
    OpenVpnTunnel(TunnelOptions("home", (str(path),), str(tmp_path), username="me")).check_config()
