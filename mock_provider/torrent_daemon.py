"""A real torrent client's daemon in a namespace: its process, and HTTP to it apart from the code under test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from abc import ABC, abstractmethod
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from mock_provider.host import Host, end_processes
from vpnpf.errors import VpnpfError
from vpnpf.io import process


class TorrentDaemon(ABC):
    """One daemon; an async context manager."""

    program: ClassVar[str]
    kind: ClassVar[str]
    """Its `type` in vpnpf's configuration."""

    def __init__(self, host: Host, profile: Path, username: str, password: str, web_port: int) -> None:
        self.host = host
        self.profile = profile
        self.username = username
        self.password = password
        self.web_port = web_port
        self.url = f"http://127.0.0.1:{web_port}"
        self.env: dict[str, str] = {}
        """What it finds in its environment beside HOME and LC_ALL."""
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """The daemon's process, or None."""
        return self._process.pid if self._process else None

    @property
    def output(self) -> str:
        """What it has said so far."""
        return (self.profile / "output.log").read_text(errors="replace")

    @property
    @abstractmethod
    def settings_file(self) -> Path:
        """Where it keeps its settings: read at the start, written at the end."""

    @abstractmethod
    def first_settings(self) -> str:
        """What the first start begins with."""

    @abstractmethod
    def arguments(self) -> tuple[str, ...]:
        """What the program is started with."""

    @abstractmethod
    async def answers(self) -> bool:
        """Whether its API does. Raises OSError or EOFError: not yet."""

    @abstractmethod
    async def add_torrent(self, torrent: bytes) -> None:
        """Hand it a torrent file. Raises VpnpfError."""

    async def __aenter__(self) -> Self:
        if not self.settings_file.exists():
            self.settings_file.parent.mkdir(parents=True, exist_ok=True)
            self.settings_file.write_text(self.first_settings())
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, deadline: float = 15.0) -> None:
        """Start it with the settings that its profile holds, and wait until its API answers."""
        process.find(self.program)
        with (self.profile / "output.log").open("ab") as output:
            self._process = await self.host.popen(
                (self.program, *self.arguments()),
                stdout=output,
                stderr=output,
                env={"HOME": str(self.profile), "LC_ALL": "C.UTF-8", **self.env},
            )
        until = time.monotonic() + deadline
        while not await self._answers():
            if self._process.returncode is not None or time.monotonic() > until:
                await self.stop()
                raise VpnpfError(f"starting {self.program}", f"its API does not answer; it said: {self.output[-400:]}")
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

    async def _answers(self) -> bool:
        try:
            return await self.answers()
        except (OSError, EOFError):
            return False

    async def exchange(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """One request over a connection of its own: status, headers by names in lower case, body."""
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.web_port}",
            "Connection: close",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
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
                first, *said = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
                found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in said)}
                answer = await reader.readexactly(int(found.get("content-length", 0)))
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        return int(first.split(" ", 2)[1]), found, answer
