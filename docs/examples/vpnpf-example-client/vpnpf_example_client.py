"""Gust, a torrent client that does not exist, by its JSON API.

    GET /api/version     200 {"name": "Gust", "version": "2.1"}
    GET /api/settings    200 {"port": 6881, "device": "wg0", "random": false, "upnp": false}
    PUT /api/settings    the same; it binds anew, also if nothing changed

Each with `Authorization: Bearer PASSWORD`; without the right one the answer is 401.

Source: none. In a driver of yours, say here which versions you looked at, and where in their source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import ClassVar

from vpnpf.api import ClientOptions, Http, ListenSettings, Manifest, Misconfigured, Transient, Unsupported

OK, UNAUTHORIZED = 200, 401
_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}")
_HINT = "is this the address of the API of Gust 2 or later?"


class Gust:
    """`type = "gust"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="gust",
        name="Gust",
        summary="by its JSON API, 2.0 or later",
        verified="mock",
        help="Switch the API on in Gust's settings, and write its address and password in [clients.NAME].",
    )

    def __init__(self, http: Http, options: ClientOptions) -> None:
        self._http = http
        self._options = options
        self._refused: str | None = None
        """The password that was refused last: it is not tried again, since daemons ban who guesses."""

    async def probe(self) -> str:
        """Name and version. Raises Failure."""
        doing = f"asking {self._options.url} for its version"
        said = await self._call("GET", "version", doing)
        version = said.get("version")
        if said.get("name") != "Gust" or not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise Unsupported(doing, "it answers, but not as Gust does", _HINT)
        return f"Gust {version}"

    async def get_listen(self) -> ListenSettings:
        """The settings in force. Raises Failure."""
        doing = "reading Gust's settings"
        match await self._call("GET", "settings", doing):
            case {"port": int(port), "device": str(device), "random": bool(random), "upnp": bool(upnp)}:
                return ListenSettings(int(port), _printable(device), random_port=random, port_mapping=upnp)
            case _:
                raise Unsupported(doing, "the answer holds no settings", _HINT)

    async def set_listen(self, wanted: ListenSettings) -> None:
        """Change the settings, all in one request. Raises Failure."""
        values = {
            "port": wanted.port,
            "device": wanted.interface,
            "random": wanted.random_port,
            "upnp": wanted.port_mapping,
        }
        await self._call("PUT", "settings", "setting Gust's listen port", json.dumps(values).encode())

    async def _call(self, method: str, path: str, doing: str, content: bytes | None = None) -> Mapping[str, object]:
        password = self._options.password()
        if password == self._refused:
            raise self._wrong_password(doing)
        url, headers = f"{self._options.url}/api/{path}", {"Authorization": f"Bearer {password}"}
        answer = await self._http.request(method, url, content=content, headers=headers)
        if answer.status == UNAUTHORIZED:
            self._refused = password
            raise self._wrong_password(doing)
        if answer.status != OK:
            raise Transient(doing, f"HTTP {answer.status}")
        try:
            said = json.loads(answer.body)
        except (ValueError, RecursionError):
            raise Unsupported(doing, "the answer is not JSON", _HINT) from None
        return said if isinstance(said, dict) else {}

    def _wrong_password(self, doing: str) -> Misconfigured:
        hint = "mend the password that [clients.NAME] points to; if you mended it in Gust, start vpnpf anew"
        return Misconfigured(doing, "wrong password", hint)


def _printable(text: str) -> str:
    """What somebody else said, made safe to show."""
    return "".join(character if character.isprintable() else "?" for character in text)[:200]
