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

    class TestQBittorrentStranger(StrangerSuite):
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
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from msgspec import Struct

from mock_provider.host import Host
from tests.contract.tracker import Tracker, torrent
from vpnpf.api import ClientOptions, Failure, ListenSettings, Misconfigured, TorrentClient, Transient
from vpnpf.io.http import HttpClient
from vpnpf.io.sockets import KernelSockets
from vpnpf.model import Protocol

DEVICE, ADDRESS = "vpn0", "10.2.0.2"
PORT, OTHER_PORT = 41001, 41005
ANY = ("0.0.0.0", "::")
ANNOUNCED = 5.0
"""Seconds within which the trackers are told of another port."""
SECRET = "s3cret-that-nobody-sees"

_count = itertools.count(1)


class Call(Struct, frozen=True):
    """A request that was made."""

    path: str
    status: int
    password: bool
    """Whether it carried one."""


class Recorder:
    """The real HTTP, and what was asked."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._http = HttpClient()

    async def request(self, method, url, **more):
        answer = await self._http.request(method, url, **more)
        secret = "password" in (more.get("form") or {}) or "authorization" in (more.get("headers") or {})
        self.calls.append(Call(urlsplit(url).path, answer.status, secret))
        return answer

    def count(self, part: str) -> int:
        return sum(part in call.path for call in self.calls)


class Cut:
    """The real HTTP, that stops for ever before or after the n-th request."""

    def __init__(self, number: int, *, after: bool) -> None:
        self.reached = asyncio.Event()
        self._left = number
        self._after = after
        self._http = HttpClient()

    async def request(self, method, url, **more):
        self._left -= 1
        if self._left == 0 and not self._after:
            await self._stop()
        answer = await self._http.request(method, url, **more)
        if self._left == 0 and self._after:
            await self._stop()
        return answer

    async def _stop(self):
        self.reached.set()
        await asyncio.Event().wait()


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
        _ip(f"netns add {made.name}")
        try:
            with made.inside():
                _ip("link set lo up")
                add_device()
                yield made
        finally:
            _ip(f"netns del {made.name}")

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
        await until(lambda: _true(len(inodes(PORT)) == len(before) and inodes(PORT).isdisjoint(before)))
        assert await self.said(daemon) == self.wanted

    async def test_it_listens_again_on_a_device_that_was_made_anew(self, daemon):
        client, _ = self.make(daemon)
        await client.set_listen(self.wanted)
        await until(listening(PORT, Protocol.TCP, Protocol.UDP))
        _ip(f"link del {DEVICE}")
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


ANSWERS = {
    "nothing there": (404, "text/plain", b"Not Found"),
    "a web page": (200, "text/html", b"<!doctype html><title>\x1b[2JRouter</title>"),
    "an empty answer": (200, "text/plain", b""),
    "a list": (200, "application/json", b"[]"),
    "null": (200, "application/json", b"null"),
    "an empty object": (200, "application/json", b"{}"),
    "bytes": (200, "application/octet-stream", bytes(range(256))),
    "nested lists": (200, "application/json", b"[" * 60000),
    "a huge number": (200, "application/json", b"9" * 60000),
    "a huge body": (200, "text/plain", b"x" * 1_000_000),
    "a redirect": (302, "text/plain", b""),
    "an error": (500, "text/plain", b"oops"),
    "another login": (401, "text/plain", b""),
    "forbidden": (403, "text/plain", b""),
}


class StrangerSuite:
    """Against servers that are something else."""

    driver: ClassVar[type[TorrentClient]]

    @pytest.mark.parametrize("kind", ANSWERS)
    async def test_what_is_not_the_api_is_said(self, kind):
        status, content, body = ANSWERS[kind]

        async def answer(method, path, headers, sent):
            return status, {"content-type": content, "location": "file:///etc/passwd"}, body

        async with fake(answer) as url:
            client = self.driver(HttpClient(), ClientOptions(url, "admin", lambda: SECRET))
            device = DEVICE if self.driver.manifest.sets_device else ""
            for call in (client.probe, client.get_listen, lambda: client.set_listen(ListenSettings(PORT, device))):
                with pytest.raises(Failure) as caught:
                    await call()
                assert text_of(caught.value).isprintable()
                assert SECRET not in text_of(caught.value)
                assert caught.value.hint or isinstance(caught.value, Transient)


Answer = tuple[int, dict[str, str], bytes]


@contextlib.asynccontextmanager
async def fake(answer: Callable[[str, str, dict[str, str], bytes], Awaitable[Answer]]):
    """An HTTP server on loopback that answers by a function of (method, path, headers, body); yields its URL."""

    async def serve(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, path, _ = first.split(" ")
            status, said, content = await answer(method, path, headers, body)
            head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
            length = "" if status == 204 else f"content-length: {len(content)}\r\n"
            writer.write(f"HTTP/1.1 {status} said\r\n{length}{head}\r\n".encode() + content)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def add_device() -> None:
    """The stand-in for the tunnel's device, in the namespace of the calling thread."""
    _ip(f"tuntap add dev {DEVICE} mode tun")
    _ip(f"addr add {ADDRESS}/32 dev {DEVICE}")
    _ip(f"link set {DEVICE} up")


async def until(condition: Callable[[], Awaitable[Any]], deadline: float = 10.0) -> Any:
    """Look until it is true; returns what it says."""
    end = time.monotonic() + deadline
    while not (seen := await condition()):
        assert time.monotonic() < end, "it did not come about in time"
        await asyncio.sleep(0.01)
    return seen


def listening(port: int, *protocols: Protocol) -> Callable[[], Awaitable[Any]]:
    async def look():
        found = await KernelSockets().listening(port)
        return found if {socket.protocol for socket in found} == set(protocols) else ()

    return look


def nothing_on(port: int) -> Callable[[], Awaitable[Any]]:
    async def look():
        return not await KernelSockets().listening(port)

    return look


def inodes(port: int) -> set[str]:
    """The sockets on a port by their inodes, as /proc/net has them: sockets bound anew are others."""
    found = set()
    for table, waiting in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path("/proc/thread-self/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == waiting:
                found.add(fields[9])
    return found


def text_of(error: Failure) -> str:
    return f"{error} {error.hint}"


async def _true(value: Any) -> Any:
    return value


def _ip(arguments: str) -> None:
    subprocess.run(["/usr/sbin/ip", *arguments.split()], check=True, capture_output=True)
