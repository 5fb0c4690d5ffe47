r"""What torrent clients keep of their web interface in their own settings files. Pure; no password is read.

qBittorrent.conf is an INI file ("Preferences/WebUI\Port" and so on); Transmission's settings.json has "rpc-port", since 4.1
"rpc_port".
"""

from __future__ import annotations

import json

from msgspec import Struct

from vpnpf.core.services import LAST_PORT

_LONGEST = 64
"""Characters of a user name."""
_INTERFACES = {"qbittorrent": 8080, "transmission": 9091}
"""Ports that they have if nothing else is said."""


class WebSettings(Struct, frozen=True):
    """A web interface as a settings file has it."""

    port: int
    username: str = ""
    enabled: bool = True
    https: bool = False

    @property
    def url(self) -> str:
        """Its address on this machine."""
        return f"{'https' if self.https else 'http'}://127.0.0.1:{self.port}"


def usual_port(kind: str) -> int:
    """Where the web interface of such a client is if nobody changed it."""
    return _INTERFACES.get(kind, 8080)


def read(kind: str, text: str) -> WebSettings | None:
    """What the settings of a client say; None: nothing that can be read."""
    return {"qbittorrent": _qbittorrent, "transmission": _transmission}.get(kind, lambda _text: None)(text)


def _qbittorrent(text: str) -> WebSettings | None:
    values: dict[str, str] = {}
    section = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            section = line.strip("[]")
        elif section == "Preferences":
            key, _, value = line.partition("=")
            values[key.strip()] = value.strip().strip('"')
    if not values:
        return None
    port = _port(values.get("WebUI\\Port", ""), "qbittorrent")
    user = _name(values.get("WebUI\\Username", "admin"))
    # qbittorrent-nox has it on without saying so; the desktop program says "true" when it is.
    enabled = values.get("WebUI\\Enabled", "true" if "WebUI\\Port" in values else "false") == "true"
    return WebSettings(port, user, enabled, values.get("WebUI\\HTTPS\\Enabled") == "true")


def _transmission(text: str) -> WebSettings | None:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    values = {str(key).replace("_", "-"): value for key, value in said.items()}
    port = _port(str(values.get("rpc-port", "")), "transmission")
    user = values.get("rpc-username") if values.get("rpc-authentication-required") is True else ""
    return WebSettings(port, _name(user if isinstance(user, str) else ""), values.get("rpc-enabled", True) is True)


def _port(text: str, kind: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0  # noqa: PLR2004 - 65535
    return number if 0 < number <= LAST_PORT else usual_port(kind)


def _name(text: str) -> str:
    return text if text.isprintable() and len(text) <= _LONGEST else ""
