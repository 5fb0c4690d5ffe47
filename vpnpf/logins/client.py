"""The Web API of a torrent client, as a login sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vpnpf import plugins
from vpnpf.errors import LoginRefused, UsageError
from vpnpf.interfaces import ClientOptions
from vpnpf.io.http import HttpClient
from vpnpf.secret_places import CredentialPlace, GivenFilePlace, KeyringPlace, Place
from vpnpf.settings import ClientSettings

_AGAIN = "it is the password of its web interface, not of your VPN, and the user name is the one in the configuration"
_NAMES = {"keyring": "the keyring", "credential": "a credential", "file": "a file"}


class ClientSubject:
    """The Web API of a torrent client."""

    kind = "client"
    asks_user = False
    notes: tuple[str, ...] = ()

    def __init__(self, settings: ClientSettings, *, writes_file: bool = False) -> None:
        """`writes_file`: whether the person's own file is to be written, too. Raises UsageError where nothing can be kept."""
        doing = f"finding where the password of {settings.name} is kept"
        self._settings = settings
        self.name = settings.name
        self.title = f"{settings.name} at {settings.url}"
        source = settings.password
        hint = f'write password = {{ keyring = "{settings.name}" }} into [clients.{settings.name}]'
        if source is None:
            raise UsageError(doing, "the configuration has none", hint)
        if source.kind not in {"keyring", "credential", *(["file"] if writes_file else [])}:
            where = f"${source.name}" if source.kind == "env" else source.name
            raise UsageError(doing, f"the configuration has it in {where}: write it there", f"or {hint}")
        self.usual, self._name = source.kind, source.name
        self.elsewhere = f"the configuration has it in {_NAMES[self.usual]}"
        self.way_out = (
            f'write password = {{ file = "…" }} into [clients.{settings.name}], and the password into that file'
        )

    async def log_in(self, secret: str) -> None:
        """As `Subject.log_in`."""
        options = ClientOptions(self._settings.url, self._settings.username, lambda: secret)
        client = plugins.client(self._settings.type)(HttpClient(), options)
        try:
            await client.probe()
            await client.get_listen()
        except LoginRefused as error:
            # It was typed just now: the hint for who keeps it in a file would send them there.
            raise LoginRefused(error.doing, error.cause, _AGAIN) from error

    async def keep(self) -> None:
        """As `Subject.keep`: a session ends by itself."""

    async def log_out(self) -> bool:
        """As `Subject.log_out`: likewise."""
        return False

    async def forget(self) -> tuple[str, ...]:
        """As `Subject.forget`."""
        return ()

    def place(self, kind: str) -> Place | None:
        """As `Subject.place`."""
        if kind != self.usual:
            return None
        if kind == "file":
            return GivenFilePlace(Path(self._name))
        return CredentialPlace(self._name) if kind == "credential" else KeyringPlace(self._name, self.way_out)

    def places(self) -> Iterator[Place]:
        """As `Subject.places`."""
        place = self.place(self.usual)
        if place is not None:
            yield place

    def shadowing(self, place: Place) -> Iterator[Place]:
        """As `Subject.shadowing`: none is."""
        del place
        yield from ()
