"""The account at a provider, as a login sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from vpnpf import plugins
from vpnpf.accounts import PrefixedStore, StoredAccount, parse
from vpnpf.errors import Misconfigured
from vpnpf.interfaces import Account, Credentials, LoggingIn, Manifest, OutsideIO, Store
from vpnpf.io.clock import BootClock
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
from vpnpf.settings import ProfileSettings
from vpnpf.store import FileStore, secrets_directory

Way = Callable[[Account], OutsideIO]
"""What asks the provider, by the way that leads there now."""


def plain_way(account: Account) -> OutsideIO:
    """The machine's own, without a mark: through a tunnel, where one is up."""
    return BesideTunnel(account, BootClock(), 0)


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

    kind = "provider"
    asks_user = True
    usual = "keyring"
    elsewhere = ""

    def __init__(
        self, manifest: Manifest, profiles: Sequence[ProfileSettings], *, note: str = "", way: Way = plain_way
    ) -> None:
        """`profiles`: of the configuration, also those of other providers."""
        self.name = self._id = manifest.id
        self.title = manifest.name
        self.way_out = f"keep it in a file that only vpnpf's user can read: vpnpf login {manifest.id} --store file"
        mine = [each for each in profiles if each.spec.provider == manifest.id]
        self._provider = cast("LoggingIn", plugins.provider(manifest.id)(mine[0].options if mine else {}))
        others = [each for each in mine if each.account]
        self.notes = (
            *([note] if note else []),
            *(f"the profile {each.spec.name} reads its account from elsewhere (key account)" for each in others),
        )
        self._secrets = FileStore(secrets_directory())
        self._buffer = _Buffered(PrefixedStore(self._secrets, f"{manifest.id}-"))
        self._account = _Candidate(self._buffer)
        self._io = way(self._account)

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

    def _kept(self) -> list[Path]:
        """The provider's own values; those of another provider whose name goes on after ours are not."""
        others = [f"{name}-" for name in plugins.names(Group.PROVIDERS) if name.startswith(f"{self._id}-")]
        try:
            found = sorted(secrets_directory().iterdir())
        except OSError:
            return []
        names = [(path, path.name.removeprefix(".")) for path in found]
        return [path for path, name in names if name.startswith(f"{self._id}-") and not name.startswith(tuple(others))]
