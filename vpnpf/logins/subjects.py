"""Whom one can log in to: a provider with an account, or a torrent client of the configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from vpnpf import plugins
from vpnpf.config import load, places
from vpnpf.config_checker import missing
from vpnpf.errors import ConfigError, Unavailable, UsageError
from vpnpf.logins.client import ClientSubject
from vpnpf.logins.provider import ProviderSubject
from vpnpf.plugins import Group
from vpnpf.printable import printable
from vpnpf.secret_places import Place
from vpnpf.settings import ClientSettings, Config


class Subject(Protocol):
    """Whom to log in to."""

    kind: str
    """"provider" or "client"."""
    name: str
    """The provider's id, or the client's name in the configuration."""
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


def find(name: str, config: Path | None, doing: str) -> Subject:
    """Whom a name means; `doing` is for the error. Raises UsageError, ConfigError, Unavailable."""
    loaded, wrong = _config(config)
    clients = _clients(loaded)
    if name in plugins.names(Group.PROVIDERS):
        manifest = plugins.manifest(Group.PROVIDERS, name)
        if name in clients and manifest.account:
            raise UsageError(doing, f'"{name}" is a provider and a client', f"rename the table [clients.{name}]")
        if manifest.account and not manifest.ended:
            return ProviderSubject(manifest, tuple(loaded.profiles.values()) if loaded else (), note=wrong)
        if name not in clients:
            cause = manifest.ended.rstrip(".") or f"{manifest.name} has no account to log in to"
            raise UsageError(doing, cause, _known(loaded))
    if name in clients:
        return ClientSubject(clients[name])
    if loaded is None and wrong:
        load(config)  # it may be a client of the configuration, which has to be right for that
    where = "" if loaded else ", and no configuration that could name a client"
    raise UsageError(doing, f'there is no provider or client "{printable(name)}"{where}', _known(loaded))


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
