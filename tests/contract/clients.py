"""What every torrent-client driver has to do: against the real daemon, and against servers that are not it.

A driver's tests are a subclass of each suite, which says how its daemon is started and what it says of itself:

    @pytest.mark.system
    class TestQBittorrent(ClientSuite):
        driver = QBittorrent
        version = r"qBittorrent 4\\.\\d+.*"
        failures_to_ban = 5

        @pytest.fixture
        async def daemon(self, host, tmp_path):
            async with Daemon(host, tmp_path / "daemon") as daemon:
                yield daemon

        async def said(self, daemon):
            ...  # ListenSettings, by other code than the driver's

        ...  # and what else raises NotImplementedError below

    class TestStranger(StrangerSuite):  # of strangers.py
        driver = QBittorrent

The daemon is a `mock_provider.torrent_daemon.TorrentDaemon`. It lives in a network namespace of its own, with a loopback and
a device `vpn0` that leads nowhere, and the test's thread is in there too.
"""

import asyncio
import contextlib
import itertools
import os
import re
import socket
import time
from typing import Any, ClassVar

import pytest

from mock_provider.host import Host
from tests.contract.client_world import (
    ADDRESS,
    ANY,
    DEVICE,
    OTHER_PORT,
    PORT,
    SECRET,
    Cut,
    Recorder,
    add_device,
    inodes,
    ip,
    listening,
    nothing_on,
    text_of,
    true,
    until,
)
from tests.contract.tracker import Tracker, torrent
from vpnpf.api import ClientOptions, ListenSettings, Misconfigured, Protocol, TorrentClient, Transient
from vpnpf.io.http import HttpClient
from vpnpf.io.sockets import KernelSockets

ANNOUNCED = 5.0
"""Seconds within which the trackers are told of another port."""

_count = itertools.count(1)


class ClientSuite:
    """Against the real daemon."""

    driver: ClassVar[type[TorrentClient]]
    version: ClassVar[str]
    """What `probe` says, as a regular expression."""
    failures_to_ban: ClassVar[int]
    """How many wrong passwords it takes until the daemon lets nobody in."""

    async def said(self, daemon: Any) -> ListenSettings:
        """What the daemon says, by other code than the driver's."""
        raise NotImplementedError

    async def disturb(self, daemon: Any) -> None:
        """Set it wrong in every way behind the driver's back: another port, any device, random port, UPnP."""
        raise NotImplementedError

    async def set_port(self, daemon: Any, port: int) -> None:
        """Set the port, and that alone, behind the driver's back."""
        raise NotImplementedError

    async def others(self, daemon: Any) -> object:
        """The settings that are none of the driver's business."""
        raise NotImplementedError

    def edit(self, daemon: Any, port: int) -> None:
        """Write another port into the settings file of a daemon that is down."""
        raise NotImplementedError

    def logins(self, http: Recorder) -> int:
        """How often the driver had to ask to be let in."""
        raise NotImplementedError

    @property
    def device(self) -> str:
        """What the client is told to listen on."""
        return DEVICE if self.driver.manifest.sets_device else ""

    @property
    def wanted(self) -> ListenSettings:
        return ListenSettings(PORT, self.device)

    @pytest.fixture
    def host(self):
        made = Host("client", f"vpnpf-{os.getpid()}c{next(_count)}")
        ip(f"netns add {made.name}")
        try:
            with made.inside():
                ip("link set lo up")
                add_device()
                yield made
        finally:
            ip(f"netns del {made.name}")

    def make(self, daemon: Any, password: str | None = None) -> tuple[TorrentClient, Recorder]:
        http = Recorder()
        secret = daemon.password if password is None else password
        return self.driver(http, ClientOptions(daemon.url, daemon.username, lambda: secret)), http

    async def test_probe_names_the_version(self, daemon):
        client, _ = self.make(daemon)
        assert re.fullmatch(self.version, await client.probe())

    # -- settings and sockets -------------------------------------------------------------------

    async def test_it_reads_what_the_daemon_says(self, daemon):
        client, _ = self.make(daemon)
        before = await client.get_listen()
        assert before == await self.said(daemon)
        await self.disturb(daemon)
        after = await client.get_listen()
        assert after == await self.said(daemon)
        assert after != before

    async def test_what_is_set_reads_back_and_really_listens(self, daemon):
        await self.disturb(daemon)
        client, _ = self.make(daemon)
        others = await self.others(daemon)
        for port in (PORT, OTHER_PORT):
            wanted = ListenSettings(port, self.device)
            await client.set_listen(wanted)
            assert await client.get_listen() == wanted == await self.said(daemon)
            for each in await until(listening(port, Protocol.TCP, Protocol.UDP)):
                assert each.address in ({ADDRESS} if self.device else ANY)
                assert each.device in {"", self.device}
        await until(nothing_on(PORT))
        assert await self.others(daemon) == others

    async def test_the_same_settings_make_it_bind_anew(self, daemon):
        client, _ = self.make(daemon)
        await client.set_listen(self.wanted)
        await until(listening(PORT, Protocol.TCP, Protocol.UDP))
        before = inodes(PORT)
        await client.set_listen(self.wanted)
        await until(lambda: true(len(inodes(PORT)) == len(before) and inodes(PORT).isdisjoint(before)))
        assert await self.said(daemon) == self.wanted

    async def test_it_listens_again_on_a_device_that_was_made_anew(self, daemon):
        client, _ = self.make(daemon)
        await client.set_listen(self.wanted)
        await until(listening(PORT, Protocol.TCP, Protocol.UDP))
        ip(f"link del {DEVICE}")
        add_device()
        await client.set_listen(self.wanted)

        async def alive():  # the dead ones are told with a device that has no name any more
            found = await KernelSockets().listening(PORT)
            return {s.protocol for s in found if s.device in {"", DEVICE}} == set(Protocol)

        await until(alive)

    async def test_what_is_set_survives_a_restart(self, daemon):
        client, _ = self.make(daemon)
        await client.set_listen(self.wanted)
        await daemon.stop()
        await until(nothing_on(PORT))
        await daemon.start()
        assert await self.said(daemon) == self.wanted == await client.get_listen()
        await until(listening(PORT, Protocol.TCP, Protocol.UDP))

    async def test_a_port_that_somebody_set_is_read_and_put_right(self, daemon):
        client, _ = self.make(daemon)
        await client.set_listen(self.wanted)
        await self.set_port(daemon, OTHER_PORT)
        assert (await client.get_listen()).port == OTHER_PORT
        await client.set_listen(self.wanted)
        assert await self.said(daemon) == self.wanted
        await until(listening(PORT, Protocol.TCP, Protocol.UDP))

    async def test_a_settings_file_that_was_edited_meanwhile_is_read_and_put_right(self, daemon):
        client, _ = self.make(daemon)
        await client.set_listen(self.wanted)
        await daemon.stop()
        self.edit(daemon, OTHER_PORT)
        await daemon.start()
        assert (await client.get_listen()).port == OTHER_PORT
        await client.set_listen(self.wanted)
        assert await self.said(daemon) == self.wanted
        await until(listening(PORT, Protocol.TCP, Protocol.UDP))

    async def test_a_port_that_another_program_has_is_not_listened_on_and_taken_once_it_is_free(self, daemon):
        client, _ = self.make(daemon)
        with contextlib.ExitStack() as stack:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                other = stack.enter_context(socket.socket(socket.AF_INET, kind))
                other.bind(("127.0.0.1", PORT) if self.device == "" else (ADDRESS, PORT))
                if kind is socket.SOCK_STREAM:
                    other.listen()
            await client.set_listen(self.wanted)
            # The daemon says that all is well; the kernel knows of nobody there but the other program, for IPv4.
            assert await self.said(daemon) == self.wanted
            found = await KernelSockets().listening(PORT)
            assert {each.address for each in found} <= {"127.0.0.1", ADDRESS, "::"}
            assert not {each.address for each in found if each.protocol is Protocol.UDP} & set(ANY)
        await client.set_listen(self.wanted)
        await until(listening(PORT, Protocol.TCP, Protocol.UDP))

    async def test_a_changed_port_is_announced_to_the_trackers(self, daemon, host):
        client, _ = self.make(daemon)
        async with Tracker(host) as tracker:
            await client.set_listen(self.wanted)
            await until(listening(PORT, Protocol.TCP, Protocol.UDP))
            await daemon.add_torrent(torrent())
            await tracker.heard(PORT, 10.0)
            began = time.monotonic()
            await client.set_listen(ListenSettings(OTHER_PORT, self.device))
            told = await tracker.heard(OTHER_PORT, 10.0)
            assert told.at - began < ANNOUNCED

    async def test_cut_off_at_any_moment_the_next_try_sets_all_of_it(self, daemon):
        others = await self.others(daemon)
        for number, after in ((step // 2 + 1, step % 2 == 1) for step in itertools.count()):
            await self.set_port(daemon, OTHER_PORT)
            http = Cut(number, after=after)
            client = self.driver(http, ClientOptions(daemon.url, daemon.username, lambda: daemon.password))
            work = asyncio.create_task(client.set_listen(self.wanted))
            cut = asyncio.create_task(http.reached.wait())
            await asyncio.wait([work, cut], return_when=asyncio.FIRST_COMPLETED)
            cut.cancel()
            if work.done():
                await work
                break
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            await client.set_listen(self.wanted)
            assert await self.said(daemon) == self.wanted
            assert await self.others(daemon) == others
        assert number > 1

    # -- who may ------------------------------------------------------------------------------------

    async def test_a_wrong_password_is_said_and_not_repeated(self, daemon):
        client, http = self.make(daemon, SECRET)
        texts = set()
        for _ in range(self.failures_to_ban + 2):
            with pytest.raises(Misconfigured) as caught:
                await client.get_listen()
            texts.add(text_of(caught.value))
        assert len(texts) == 1
        assert SECRET not in texts.pop()
        assert caught.value.hint
        assert self.logins(http) <= 1
        right, _ = self.make(daemon)
        assert await right.get_listen() == await self.said(daemon)

    async def test_a_password_that_was_mended_is_tried(self, daemon):
        secrets = [SECRET]
        client = self.driver(HttpClient(), ClientOptions(daemon.url, daemon.username, lambda: secrets[-1]))
        with pytest.raises(Misconfigured):
            await client.get_listen()
        secrets.append(daemon.password)
        assert await client.get_listen() == await self.said(daemon)

    async def test_a_password_that_was_refused_is_tried_again_after_a_restart(self, daemon):
        client, http = self.make(daemon, SECRET)
        with pytest.raises(Misconfigured):
            await client.get_listen()
        await daemon.stop()
        with pytest.raises(Transient):
            await client.get_listen()
        await daemon.start()
        before = self.logins(http)
        with pytest.raises(Misconfigured):
            await client.get_listen()
        assert self.logins(http) == before + 1

    async def test_no_password_is_said_without_a_try(self, daemon):
        client, http = self.make(daemon, "")
        for _ in range(3):
            with pytest.raises(Misconfigured, match="no password") as caught:
                await client.get_listen()
        assert caught.value.hint
        assert self.logins(http) <= 1
        assert not any(call.password for call in http.calls)

    async def test_a_ban_is_said_with_the_time_to_wait(self, daemon):
        for number in range(self.failures_to_ban):
            client, _ = self.make(daemon, f"{SECRET}{number}")
            with pytest.raises(Misconfigured):
                await client.get_listen()
        client, _ = self.make(daemon)
        with pytest.raises(Misconfigured, match="too many fail") as caught:
            await client.get_listen()
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= 60
        assert caught.value.hint

    async def test_a_session_that_ended_costs_one_login(self, daemon):
        client, http = self.make(daemon)
        await client.get_listen()
        assert self.logins(http) <= 1
        await client.get_listen()
        logins = self.logins(http)
        await daemon.stop()
        await daemon.start()
        assert await client.get_listen() == await self.said(daemon)
        assert self.logins(http) - logins <= 1
        calls = len(http.calls)
        await client.get_listen()
        assert len(http.calls) == calls + 1

    # -- a daemon that is not there ---------------------------------------------------------------------

    async def test_a_daemon_that_is_down_and_back(self, daemon):
        client, _ = self.make(daemon)
        await client.get_listen()
        await daemon.kill()
        for call in (client.probe, client.get_listen, lambda: client.set_listen(self.wanted)):
            with pytest.raises(Transient) as caught:
                await call()
            assert "refused" in text_of(caught.value)
            assert caught.value.hint
        await daemon.start()
        assert await client.get_listen() == await self.said(daemon)

    async def test_a_daemon_that_comes_late(self, daemon):
        await daemon.stop()
        client, _ = self.make(daemon)
        with pytest.raises(Transient):
            await client.set_listen(self.wanted)
        await daemon.start()
        await client.set_listen(self.wanted)
        assert await client.get_listen() == self.wanted == await self.said(daemon)
        await until(listening(PORT, Protocol.TCP, Protocol.UDP))
