"""A real transmission-daemon in a namespace, with a configuration directory of its own.

    async with Transmission(lab.client, tmp_path / "transmission") as client:
        client.url, client.username, client.password    # for the program under test
        (await client.settings())["peer-port"]          # what the daemon itself says

Its RPC listens on the namespace's loopback and wants a login. DHT, local discovery, peer exchange and UPnP are
off: nothing leaves that a test did not ask for.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mock_provider.host import Host
from mock_provider.torrent_daemon import TorrentDaemon
from vpnpf.errors import VpnpfError

SESSION = "x-transmission-session-id"


class Transmission(TorrentDaemon):
    """One daemon; an async context manager."""

    program = "transmission-daemon"
    kind = "transmission"

    def __init__(
        self,
        host: Host,
        profile: Path,
        *,
        username: str = "admin",
        password: str = "correct horse",
        web_port: int = 9091,
        listen_port: int = 51413,
        settings: Mapping[str, object] | None = None,
        authority: Path | None = None,
    ) -> None:
        super().__init__(host, profile, username, password, web_port)
        if authority is not None:
            # Whose certificates its own requests trust; else the machine's.
            self.env["CURL_CA_BUNDLE"] = str(authority)
        self.listen_port = listen_port
        """The port that the first start begins with."""
        self._settings = dict(settings or {})
        """More lines for settings.json."""
        self._session = ""

    @property
    def settings_file(self) -> Path:
        """Where it keeps its settings; it writes them at the start, too."""
        return self.profile / "settings.json"

    def first_settings(self) -> str:
        """What the first start begins with; the daemon replaces the password by a hash."""
        settings = {
            "peer-port": self.listen_port,
            "peer-port-random-on-start": False,
            "port-forwarding-enabled": False,
            "dht-enabled": False,
            "lpd-enabled": False,
            "pex-enabled": False,
            "download-dir": str(self.profile / "downloads"),
            "rpc-bind-address": "127.0.0.1",
            "rpc-port": self.web_port,
            "rpc-authentication-required": True,
            "rpc-username": self.username,
            "rpc-password": self.password,
            **self._settings,
        }
        return json.dumps(settings)

    def arguments(self) -> tuple[str, ...]:
        """In the foreground."""
        return ("--foreground", "--config-dir", str(self.profile))

    async def answers(self) -> bool:
        """Whether its RPC does: without a login it says no, in one way or another."""
        status, _, _ = await self.exchange("OPTIONS", "/transmission/rpc")
        return status > 0

    async def settings(self) -> dict[str, Any]:
        """The settings in force, as its RPC has them."""
        return await self.call("session-get")

    async def set_settings(self, values: Mapping[str, object]) -> None:
        """Change settings behind the back of the program under test."""
        await self.call("session-set", values)

    async def add_torrent(self, torrent: bytes) -> None:
        """Hand it a torrent file. Raises VpnpfError."""
        await self.call("torrent-add", {"metainfo": base64.b64encode(torrent).decode()})

    async def call(self, method: str, arguments: Mapping[str, object] | None = None) -> dict[str, Any]:
        """One call of its RPC; returns its arguments. Raises VpnpfError."""
        pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        body = json.dumps({"method": method, "arguments": dict(arguments or {})}).encode()
        status, said, answer = 409, {SESSION: self._session}, b""
        for _ in range(2):
            if status == 409:
                self._session = said.get(SESSION, "")
                headers = {"Authorization": f"Basic {pair}", "X-Transmission-Session-Id": self._session}
                status, said, answer = await self.exchange("POST", "/transmission/rpc", headers, body)
        found: dict[str, Any] = json.loads(answer) if status == 200 else {"result": f"HTTP {status}"}
        if found["result"] != "success":
            raise VpnpfError(f"asking Transmission for {method}", found["result"])
        arguments_out: dict[str, Any] = found["arguments"]
        return arguments_out
