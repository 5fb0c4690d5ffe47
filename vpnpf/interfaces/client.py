"""What a torrent-client plug-in is, and what it is made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from msgspec import Struct

from vpnpf.interfaces.http import Http
from vpnpf.interfaces.plugin import Manifest
from vpnpf.model import ListenSettings


def _no_password() -> str:
    return ""


class ClientOptions(Struct, frozen=True):
    """How a torrent client is reached."""

    url: str
    username: str = ""
    password: Callable[[], str] = _no_password
    """Reads the secret when it is needed. Raises Misconfigured if it cannot be had."""


class TorrentClient(Protocol):
    """A torrent client's settings, read and set over its own API."""

    manifest: ClassVar[Manifest]

    def __init__(self, http: Http, options: ClientOptions) -> None: ...

    async def probe(self) -> str:
        """Name and version: "qBittorrent 4.5.2". Raises Failure of some kind."""
        ...

    async def get_listen(self) -> ListenSettings:
        """The settings in force. Raises Failure of some kind."""
        ...

    async def set_listen(self, wanted: ListenSettings) -> None:
        """Change the settings, bind anew even if they are the same, and have the trackers told. Raises Failure of some kind.

        Cut off at any moment, the next call has to set all of it.
        """
        ...


class PortTesting(TorrentClient, Protocol):
    """A client whose manifest says that it `tests_port`."""

    async def test_port(self) -> bool:
        """Have somebody on the internet knock on the port that is set; whether he got in. Raises Failure."""
        ...
