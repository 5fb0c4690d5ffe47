"""A real qbittorrent-nox in a namespace, with a profile directory of its own.

    async with QBittorrent(lab.client, tmp_path / "qbt") as client:
        client.url, client.username, client.password    # for the program under test
        (await client.preferences())["listen_port"]     # what the daemon itself says

The Web API listens on the namespace's loopback and wants a login. DHT, local discovery, peer exchange and
UPnP are off: nothing leaves that a test did not ask for.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mock_provider.host import Host
from mock_provider.torrent_daemon import TorrentDaemon
from vpnpf.errors import VpnpfError

ROUNDS = 100_000
"""Of PBKDF2-HMAC-SHA512; what qBittorrent uses."""


class QBittorrent(TorrentDaemon):
    """One daemon; an async context manager."""

    program = "qbittorrent-nox"
    kind = "qbittorrent"

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
        super().__init__(host, profile, username, password, web_port)
        self.listen_port = listen_port
        """The listen port that the first start begins with."""
        self._interface = interface
        self._settings = dict(settings or {})
        """More lines for the settings file: "BitTorrent/Session\\\\Preallocation" -> "true"."""
        self._cookie = ""

    @property
    def settings_file(self) -> Path:
        """Where it keeps its settings."""
        return self.profile / "qBittorrent" / "config" / "qBittorrent.conf"

    def arguments(self) -> tuple[str, ...]:
        """With a profile of its own."""
        return (f"--profile={self.profile}", f"--webui-port={self.web_port}")

    async def answers(self) -> bool:
        """Whether its Web API does; 403 asks for a login."""
        status, _ = await self._exchange("GET", "/api/v2/app/version")
        return status in {200, 403}

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

    def first_settings(self) -> str:
        """What the first start begins with."""
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

    async def add_torrent(self, torrent: bytes) -> None:
        """Hand it a torrent file. Raises VpnpfError."""
        edge = "a-torrent-file"
        head = f'--{edge}\r\nContent-Disposition: form-data; name="torrents"; filename="test.torrent"\r\n\r\n'
        form = (f"multipart/form-data; boundary={edge}", head.encode() + torrent + f"\r\n--{edge}--\r\n".encode())
        status, body = await self._call("POST", "/api/v2/torrents/add", form)
        if (status, body) != (200, "Ok."):
            raise VpnpfError("adding a torrent to qBittorrent", f"HTTP {status}: {body[:200]}")

    async def _call(
        self, method: str, path: str, form: Mapping[str, str] | tuple[str, bytes] | None = None
    ) -> tuple[int, str]:
        status, body = await self._exchange(method, path, form)
        if status == 403:
            await self._exchange("POST", "/api/v2/auth/login", {"username": self.username, "password": self.password})
            status, body = await self._exchange(method, path, form)
        return status, body

    async def _exchange(
        self, method: str, path: str, form: Mapping[str, str] | tuple[str, bytes] | None = None
    ) -> tuple[int, str]:
        """One request with the session that there is; a form, or a body with its type."""
        kind, body = "application/x-www-form-urlencoded", b""
        if isinstance(form, tuple):
            kind, body = form
        elif form:
            body = urllib.parse.urlencode(form).encode()
        headers = {"Referer": self.url, "Content-Type": kind}
        if self._cookie:
            headers["Cookie"] = self._cookie
        status, said, answer = await self.exchange(method, path, headers, body)
        if "set-cookie" in said:
            self._cookie = said["set-cookie"].partition(";")[0]
        return status, answer.decode(errors="replace")
