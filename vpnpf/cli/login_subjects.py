"""Whom one can log in to: a provider with an account, or a torrent client of the configuration."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, cast

from vpnpf import plugins
from vpnpf.accounts import PrefixedStore, StoredAccount, parse
from vpnpf.cli import status_reading
from vpnpf.cli.status_words import clean
from vpnpf.config import load, places
from vpnpf.config_checker import missing
from vpnpf.errors import ConfigError, Misconfigured, Unavailable, UsageError, VpnpfError
from vpnpf.interfaces import ClientOptions, Credentials, LoggingIn, Manifest, Store
from vpnpf.io.clock import BootClock
from vpnpf.io.http import HttpClient
from vpnpf.io.outside import BesideTunnel
from vpnpf.plugins import Group
from vpnpf.secret_places import (
    CredentialPlace,
    FilePlace,
    KeyringPlace,
    Place,
    account_file,
    account_name,
    credential_name,
)
from vpnpf.settings import ClientSettings, Config
from vpnpf.store import FileStore, secrets_directory


class Subject(Protocol):
    """Whom to log in to."""

    title: str
    """As people know it."""
    asks_user: bool
    """Whether a user name is asked for, too."""
    usual: str
    """Where it is kept if nothing else was said: "keyring", "file" or "credential"."""
    elsewhere: str
    """Why it can be in no other place."""
    way_out: str
    """What to do where there is no keyring."""
    notes: tuple[str, ...]
    """What the person should know."""

    async def log_in(self, secret: str) -> None:
        """Try it. Raises Misconfigured for a refusal, Transient if nobody could be asked, other Failures."""
        ...

    async def keep(self) -> None:
        """Keep what the login gave."""
        ...

    async def log_out(self) -> bool:
        """End the login at the far side; returns whether there was anything to end. Raises Failure."""
        ...

    async def forget(self) -> tuple[str, ...]:
        """Remove what logins gave; says what."""
        ...

    def place(self, kind: str) -> Place | None:
        """Where to keep it, or None: not there."""
        ...

    def places(self) -> Iterator[Place]:
        """Everywhere it could be."""
        ...

    def shadowing(self, place: Place) -> Iterator[Place]:
        """Other places that are looked at before or in place of this one."""
        ...

    def users(self) -> Iterator[str]:
        """What runs with it now, a sentence each."""
        ...


def find(name: str, config: Path | None) -> Subject:
    """Whom a name means. Raises UsageError, ConfigError, Unavailable."""
    doing = "logging in or out"
    loaded, wrong = _config(config)
    clients = _clients(loaded)
    if name in plugins.names(Group.PROVIDERS):
        manifest = plugins.manifest(Group.PROVIDERS, name)
        if name in clients and manifest.account:
            raise UsageError(doing, f'"{name}" is a provider and a client', f"rename the table [clients.{name}]")
        if manifest.account and not manifest.ended:
            return ProviderSubject(manifest, loaded, note=wrong)
        if name not in clients:
            raise UsageError(doing, f"{manifest.name} has no account to log in to", _known(loaded))
    if name in clients:
        return ClientSubject(clients[name])
    if loaded is None:
        # It may be a client of the configuration, which has to be there and to be right.
        load(config)
    raise UsageError(doing, f'there is no provider or client "{clean(name)}"', _known(loaded))


def _config(path: Path | None) -> tuple[Config | None, str]:
    """The configuration, if it can be read; a provider can be logged in to without one."""
    if path is None and all(map(missing, places())):
        return None, ""
    try:
        return load(path, ended=True), ""
    except ConfigError as error:
        if path is not None:
            raise
        return None, f"the configuration cannot be read, so options of providers are not used: {error.mistakes[0]}"


def _clients(config: Config | None) -> Mapping[str, ClientSettings]:
    return config.clients if config else {}


def _known(config: Config | None) -> str:
    known: list[str] = []
    for name in plugins.names(Group.PROVIDERS):
        with contextlib.suppress(Unavailable):
            manifest = plugins.manifest(Group.PROVIDERS, name)
            known += [name] if manifest.account and not manifest.ended else []
    return f"known: {', '.join((*known, *sorted(_clients(config)))) or 'none'}"


class _Buffered:
    """Values that are only written when a login was good (`interfaces.Store`)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fresh: dict[str, Mapping[str, object] | None] = {}

    def load(self, name: str) -> dict[str, object] | None:
        """As `Store.load`."""
        if name in self._fresh:
            value = self._fresh[name]
            return None if value is None else dict(value)
        return self._store.load(name)

    def save(self, name: str, value: Mapping[str, object]) -> None:
        """As `Store.save`, later."""
        self._fresh[name] = dict(value)

    def forget(self, name: str) -> None:
        """As `Store.forget`, later."""
        self._fresh[name] = None

    def write(self) -> None:
        """Write what was saved. Raises Unavailable."""
        for name, value in self._fresh.items():
            if value is None:
                self._store.forget(name)
            else:
                self._store.save(name, value)


class _Candidate:
    """An account whose credentials are being tried (`interfaces.Account`)."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.tried: Credentials | None = None

    async def credentials(self) -> Credentials:
        """Those that are tried. Raises Misconfigured where there are none."""
        if self.tried is None:
            raise Misconfigured("logging out", "no user name and password are needed for it")
        return self.tried

    async def refused(self, credentials: Credentials, cause: str, until: float | None = None) -> None:
        """Nothing: what was refused here is not kept, and a person typed it."""


class ProviderSubject:
    """The account at a provider."""

    asks_user = True
    usual = "keyring"
    elsewhere = ""

    def __init__(self, manifest: Manifest, config: Config | None, *, note: str = "") -> None:
        self._id = manifest.id
        self.title = manifest.name
        self.way_out = f"keep it in a file that only vpnpf's user can read: vpnpf login {manifest.id} --store file"
        mine = [each for each in config.profiles.values() if each.spec.provider == manifest.id] if config else []
        self._provider = cast("LoggingIn", plugins.provider(manifest.id)(mine[0].options if mine else {}))
        others = [each for each in mine if each.account]
        self.notes = (
            *([note] if note else []),
            *(f"the profile {each.spec.name} reads its account from elsewhere (key account)" for each in others),
        )
        self._secrets = FileStore(secrets_directory())
        self._buffer = _Buffered(PrefixedStore(self._secrets, f"{manifest.id}-"))
        self._account = _Candidate(self._buffer)
        self._io = BesideTunnel(self._account, BootClock(), 0)

    async def log_in(self, secret: str) -> None:
        """As `Subject.log_in`."""
        self._account.tried = parse(secret, self._id)
        await self._provider.log_in(self._io, self._account.tried)

    async def keep(self) -> None:
        """As `Subject.keep`; what was refused before may be tried again."""
        StoredAccount(self._id, self._secrets, str).accept()
        self._buffer.write()

    async def log_out(self) -> bool:
        """As `Subject.log_out`."""
        if not any(self._kept()):
            return False
        await self._provider.log_out(self._io)
        return True

    async def forget(self) -> tuple[str, ...]:
        """As `Subject.forget`."""
        removed = []
        StoredAccount(self._id, self._secrets, str).accept()
        for path in self._kept():
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                removed.append(str(path))
        return tuple(removed)

    def place(self, kind: str) -> Place:
        """As `Subject.place`."""
        if kind == "file":
            return FilePlace(account_file(self._id))
        if kind == "credential":
            return CredentialPlace(credential_name(self._id))
        return KeyringPlace(account_name(self._id), self.way_out)

    def places(self) -> Iterator[Place]:
        """As `Subject.places`."""
        yield from map(self.place, ("credential", "file", "keyring"))

    def shadowing(self, place: Place) -> Iterator[Place]:
        """As `Subject.shadowing`: the keyring is looked at last."""
        for other in map(self.place, ("credential", "file")):
            if other.said != place.said:
                yield other

    def users(self) -> Iterator[str]:
        """As `Subject.users`."""
        yield from _running(lambda seen: seen.provider == self._id)

    def _kept(self) -> list[Path]:
        """The provider's own values; those of another provider whose name goes on after ours are not."""
        others = [f"{name}-" for name in plugins.names(Group.PROVIDERS) if name.startswith(f"{self._id}-")]
        try:
            found = sorted(secrets_directory().iterdir())
        except OSError:
            return []
        names = [(path, path.name.removeprefix(".")) for path in found]
        return [path for path, name in names if name.startswith(f"{self._id}-") and not name.startswith(tuple(others))]


class ClientSubject:
    """The Web API of a torrent client."""

    asks_user = False
    notes: tuple[str, ...] = ()

    def __init__(self, settings: ClientSettings) -> None:
        doing = f"finding where the password of {settings.name} is kept"
        self._settings = settings
        self.title = f"{settings.name} at {settings.url}"
        source = settings.password
        hint = f'write password = {{ keyring = "{settings.name}" }} into [clients.{settings.name}]'
        if source is None:
            raise UsageError(doing, "the configuration has none", hint)
        if source.kind not in {"keyring", "credential"}:
            where = f"${source.name}" if source.kind == "env" else source.name
            raise UsageError(doing, f"the configuration has it in {where}: write it there", f"or {hint}")
        self.usual, self._name = source.kind, source.name
        self.elsewhere = f"the configuration has it in {'the keyring' if self.usual == 'keyring' else 'a credential'}"
        self.way_out = (
            f'write password = {{ file = "…" }} into [clients.{settings.name}], and the password into that file'
        )

    async def log_in(self, secret: str) -> None:
        """As `Subject.log_in`."""
        options = ClientOptions(self._settings.url, self._settings.username, lambda: secret)
        client = plugins.client(self._settings.type)(HttpClient(), options)
        await client.probe()
        await client.get_listen()

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

    def users(self) -> Iterator[str]:
        """As `Subject.users`."""
        name = self._settings.name
        yield from _running(lambda seen: any(forward.client == name for forward in seen.forwards))


def _running(uses: Callable[[status_reading.Seen], bool]) -> Iterator[str]:
    """The profiles that run with it, as far as they can be seen."""
    try:
        found = status_reading.find(None, time.time())
    except VpnpfError:
        return
    for each in found:
        if each.alive and uses(each.seen):
            yield f"the profile {clean(each.seen.profile)} runs and goes on with the login that it has until it is stopped"
