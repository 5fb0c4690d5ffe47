"""A real qbittorrent-nox in a namespace, with a profile directory of its own.

    async with QBittorrent(lab.client, tmp_path / "qbt") as client:
        client.url, client.username, client.password    # for the program under test
        (await client.preferences())["listen_port"]     # what the daemon itself says

The Web API listens on the namespace's loopback and wants a login. DHT, local discovery, peer exchange and
UPnP are off: nothing leaves that a test did not ask for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import socket
import time
import urllib.parse
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mock_provider.host import Host, end_processes
from vpnpf.errors import VpnpfError
from vpnpf.io import process

ROUNDS = 100_000
"""Of PBKDF2-HMAC-SHA512; what qBittorrent uses."""


class QBittorrent:
    """One daemon; an async context manager."""

    def __init__(
        self,
        host: Host,
        profile: Path,
        *,
        username: str = "admin",
        password: str = "correct horse",
        web_port: int = 8080,
        listen_port: int = 6881,
        interface: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.host = host
        self.profile = profile
        self.username = username
        self.password = password
        self.web_port = web_port
        self.url = f"http://127.0.0.1:{web_port}"
        self.listen_port = listen_port
        """The listen port that the first start begins with."""
        self._interface = interface
        self._settings = dict(settings or {})
        """More lines for the settings file: "BitTorrent/Session\\\\Preallocation" -> "true"."""
        self._process: Process | None = None
        self._cookie = ""

    @property
    def pid(self) -> int | None:
        """The daemon's process, or None."""
        return self._process.pid if self._process else None

    async def __aenter__(self) -> Self:
        path = self.profile / "qBittorrent" / "config" / "qBittorrent.conf"
        if not path.exists():
            path.parent.mkdir(parents=True)
            path.write_text(self._configuration())
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, deadline: float = 15.0) -> None:
        """Start it with the settings that its profile holds, and wait until the Web API answers."""
        process.find("qbittorrent-nox")
        self._cookie = ""
        with (self.profile / "output.log").open("ab") as output:
            self._process = await self.host.popen(
                ("qbittorrent-nox", f"--profile={self.profile}", f"--webui-port={self.web_port}"),
                stdout=output,
                stderr=output,
                env={"HOME": str(self.profile), "LC_ALL": "C.UTF-8"},
            )
        until = time.monotonic() + deadline
        while not await self._answers():
            if self._process.returncode is not None or time.monotonic() > until:
                await self.stop()
                said = (self.profile / "output.log").read_text(errors="replace")[-400:]
                raise VpnpfError("starting qbittorrent-nox", f"its Web API does not answer; it said: {said}")
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End it as a person would: SIGTERM, so that it saves its settings; SIGKILL after a while."""
        if self._process is not None:
            if self._process.returncode is None:
                await asyncio.to_thread(end_processes, (self._process.pid,), 5.0)
            await self._process.wait()
            self._process = None

    async def kill(self) -> None:
        """End it as a crash would: it saves nothing."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def preferences(self) -> dict[str, Any]:
        """The settings in force, as the Web API has them."""
        status, body = await self._call("GET", "/api/v2/app/preferences")
        if status != 200:
            raise VpnpfError("reading qBittorrent's preferences", f"HTTP {status}: {body[:200]}")
        preferences: dict[str, Any] = json.loads(body)
        return preferences

    async def set_preferences(self, values: Mapping[str, object]) -> None:
        """Change settings behind the back of the program under test."""
        form = {"json": json.dumps(dict(values))}
        status, body = await self._call("POST", "/api/v2/app/setPreferences", form)
        if status != 200:
            raise VpnpfError("setting qBittorrent's preferences", f"HTTP {status}: {body[:200]}")

    def _configuration(self) -> str:
        salt = os.urandom(16)
        key = hashlib.pbkdf2_hmac("sha512", self.password.encode(), salt, ROUNDS)
        secret = f"{base64.b64encode(salt).decode()}:{base64.b64encode(key).decode()}"
        settings = {
            "LegalNotice/Accepted": "true",
            "BitTorrent/Session\\Port": str(self.listen_port),
            "BitTorrent/Session\\Interface": self._interface,
            "BitTorrent/Session\\InterfaceName": self._interface,
            "BitTorrent/Session\\DHTEnabled": "false",
            "BitTorrent/Session\\LSDEnabled": "false",
            "BitTorrent/Session\\PeXEnabled": "false",
            "BitTorrent/Session\\DefaultSavePath": str(self.profile / "downloads"),
            "Network/PortForwardingEnabled": "false",
            "Preferences/WebUI\\Enabled": "true",
            "Preferences/WebUI\\Address": "127.0.0.1",
            "Preferences/WebUI\\Port": str(self.web_port),
            "Preferences/WebUI\\Username": self.username,
            "Preferences/WebUI\\Password_PBKDF2": f'"@ByteArray({secret})"',
            "Preferences/WebUI\\LocalHostAuth": "true",
            "Preferences/WebUI\\UseUPnP": "false",
            **self._settings,
        }
        sections: dict[str, list[str]] = {}
        for name, value in settings.items():
            section, _, key_name = name.partition("/")
            sections.setdefault(section, []).append(f"{key_name}={value}")
        return "\n".join(f"[{section}]\n" + "\n".join(lines) + "\n" for section, lines in sections.items())

    async def _answers(self) -> bool:
        try:
            status, _ = await self._exchange("GET", "/api/v2/app/version")
        except (OSError, EOFError):
            return False
        return status in (200, 403)  # 403: alive, and wants a login

    async def _call(self, method: str, path: str, form: Mapping[str, str] | None = None) -> tuple[int, str]:
        status, body = await self._exchange(method, path, form)
        if status == 403:
            await self._exchange("POST", "/api/v2/auth/login", {"username": self.username, "password": self.password})
            status, body = await self._exchange(method, path, form)
        return status, body

    async def _exchange(self, method: str, path: str, form: Mapping[str, str] | None = None) -> tuple[int, str]:
        """One request over a connection of its own, apart from the HTTP code under test."""
        body = urllib.parse.urlencode(form or {}).encode()
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.web_port}",
            f"Referer: {self.url}",
            "Connection: close",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(body)}",
        ]
        if self._cookie:
            lines.append(f"Cookie: {self._cookie}")
        sock = self.host.socket(socket.AF_INET, socket.SOCK_STREAM)
        async with asyncio.timeout(5):
            try:
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.web_port))
            except BaseException:
                sock.close()
                raise
            reader, writer = await asyncio.open_connection(sock=sock)
            try:
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    (int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0
                )
                answer = await reader.readexactly(length)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        for line in head.split("\r\n"):
            if line.lower().startswith("set-cookie:"):
                self._cookie = line[11:].strip().partition(";")[0]
        return int(head.split(" ", 2)[1]), answer.decode(errors="replace")
