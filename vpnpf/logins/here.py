"""Logins of a profile while it runs: whom one can log in to, and trying it once.

What is typed is in a call's own variables and nowhere else: in no error, no `repr`, no event.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from vpnpf import keyrings, plugins
from vpnpf.errors import Failure, Misconfigured, Transient, Unavailable, UsageError, VpnpfError
from vpnpf.io.apart import apart
from vpnpf.logins.client import ClientSubject
from vpnpf.logins.provider import ProviderSubject, Way
from vpnpf.logins.subjects import Subject
from vpnpf.logins.typed import check_typed
from vpnpf.plugins import Group
from vpnpf.printable import printable
from vpnpf.secret_places import (
    FilePlace,
    GivenFilePlace,
    KeyringPlace,
    Place,
    account_file,
    account_name,
    credential_name,
)
from vpnpf.secrets import Source, reader
from vpnpf.settings import ClientSettings, ProfileSettings

T = TypeVar("T")

TRYING = 24.0
"""Seconds that a login may take as a whole."""
KEEPING = 3.0
"""Seconds that a disk, or a keyring, is waited for."""
UNTRIED = "try again later, or keep it untried"
_HIDDEN = 4
"""Characters from which on a secret is looked for in what others say."""


class _Typed(Struct, frozen=True):
    """What came; what else came is passed over, and never named: it may be a password in the wrong place."""

    name: str
    password: str
    username: str | None = None
    untried: bool = False

    def __repr__(self) -> str:
        return "_Typed(...)"


class LoginsHere:
    """Those of one profile, from inside of its process. `way` leads to the provider; `again` has the engine try at once."""

    def __init__(self, settings: Callable[[], ProfileSettings], way: Way, again: Callable[[], None]) -> None:
        self._settings = settings
        self._way = way
        self._again = again
        self._turn = asyncio.Lock()

    async def known(self) -> list[Mapping[str, object]]:
        """Whom one can log in to, and where that is kept; None: there is none, or it cannot be read."""
        return await _apart(lambda: list(self._known()), KEEPING + keyrings.PATIENCE, "looking for logins")

    async def log_in(self, body: Mapping[str, object]) -> Mapping[str, object]:
        """Try it once, and keep it where the profile looks for it.

        Raises UsageError for what is no login, Misconfigured for a refusal, Transient if nobody could be asked: nothing is
        kept then, unless the last was to be kept "untried"; Unavailable where it cannot be kept.
        """
        typed = _typed(body)
        if self._turn.locked():
            raise Transient("logging in", "another login is being tried", "wait for it, and ask again")
        async with self._turn:
            subject, place = await _apart(lambda: self._subject(typed.name), KEEPING, "logging in")
            secret = _secret(subject, typed)
            notes = list(subject.notes)
            tried = True
            try:
                await _tried(subject, secret)
            except Transient as failure:
                if not typed.untried:
                    said = _without(failure, secret)
                    raise Transient(said.doing, said.cause, said.hint or UNTRIED) from None
                tried = False
                notes.append(printable(str(_without(failure, secret))))
            await _kept_by(
                lambda: place.put(secret), KEEPING + keyrings.PATIENCE, f"keeping it in {place.said}", secret
            )
            if tried:
                await _kept_by(subject.keep, KEEPING, "keeping what the login gave", secret)
        self._again()
        return {
            "title": subject.title,
            "tried": tried,
            "kept": place.said,
            "notes": [printable(each) for each in notes],
        }

    def _known(self) -> Iterator[Mapping[str, object]]:
        settings = self._settings()
        manifest = plugins.manifest(Group.PROVIDERS, settings.spec.provider)
        if manifest.account and not manifest.ended:
            kept = _kept(settings.account) if settings.account else _kept_account(manifest.id)
            yield {"name": manifest.id, "kind": "provider", "title": manifest.name, "asks_user": True, "kept": kept}
        for client in _clients(settings).values():
            kept = _kept(client.password) if client.password else None
            title = f"{client.name} at {client.url}"
            yield {"name": client.name, "kind": "client", "title": title, "asks_user": False, "kept": kept}

    def _subject(self, name: str) -> tuple[Subject, Place]:
        """Whom a name means, and where that is to be kept. Raises UsageError, Unavailable, Misconfigured."""
        settings = self._settings()
        manifest, clients = plugins.manifest(Group.PROVIDERS, settings.spec.provider), _clients(settings)
        account = manifest.account and not manifest.ended
        subject: Subject
        if account and name == manifest.id and name not in clients:
            subject = ProviderSubject(manifest, (settings,), way=self._way)
            return subject, _account_place(settings, subject.way_out)
        if name in clients and not (account and name == manifest.id):
            subject = ClientSubject(clients[name], writes_file=True)
            kind = subject.usual
            if kind == "credential":
                raise UsageError("logging in", subject.elsewhere, f"as root: vpnpf login {name} --store credential")
            place = subject.place(kind)
            assert place is not None
            return subject, _ready(place, subject.way_out)
        if name in clients:
            raise UsageError(
                "logging in", "a provider and a client have that name", f"rename the table [clients.{name}]"
            )
        known = ", ".join([*([manifest.id] if account else []), *clients]) or "none"
        cause = f"the profile {settings.spec.name} has no such provider or client"
        raise UsageError("logging in", cause, f"known: {known}")


def _clients(settings: ProfileSettings) -> dict[str, ClientSettings]:
    return {each.name: each for each in settings.clients.values()}


def _typed(body: Mapping[str, object]) -> _Typed:
    try:
        return msgspec.convert(body, _Typed)
    except msgspec.ValidationError as error:  # it names the field, and never what is in it
        raise UsageError(
            "reading the login", str(error), "name, password, and a user name where one is asked for"
        ) from None


def _secret(subject: Subject, typed: _Typed) -> str:
    """As it is kept. Raises UsageError."""
    lines = {"user name": typed.username or "", "password": typed.password}
    if not subject.asks_user:
        lines.pop("user name")
    check_typed(f"reading the {' and '.join(lines)}", lines)
    return "\n".join(lines.values())


async def _tried(subject: Subject, secret: str) -> None:
    """Log in. Raises VpnpfError, without the secret in it."""
    doing = f"logging in to {subject.title}"
    try:
        async with asyncio.timeout(TRYING):
            await subject.log_in(secret)
    except TimeoutError:
        raise Transient(doing, f"not done after {TRYING:g} s") from None
    except Transient:
        raise
    except VpnpfError as error:
        raise _without(error, secret) from None
    except Exception as error:  # noqa: BLE001 - a plug-in's own, whose text may have what it was given
        raise Unavailable(doing, f"it failed ({type(error).__name__})", "please report it") from None


async def _kept_by(keep: Callable[[], Awaitable[None]], seconds: float, doing: str, secret: str) -> None:
    """Have it kept. Raises VpnpfError, without the secret in it: not even of a mistake, which else is told as it is."""

    async def keeping() -> None:
        await keep()

    try:
        await _apart(lambda: asyncio.run(keeping()), seconds, doing)
    except VpnpfError as error:
        raise _without(error, secret) from None
    except Exception as error:  # noqa: BLE001 - its text may have what it was given
        raise Unavailable(doing, f"it failed ({type(error).__name__})", "please report it") from None


def _without(error: VpnpfError, secret: str) -> VpnpfError:
    """The error, with no secret in what a plug-in said."""

    def clean(text: str) -> str:
        for each in secret.split("\n"):
            text = text.replace(each, "…") if len(each) >= _HIDDEN else text
        return text

    texts = clean(error.doing), clean(error.cause), clean(error.hint)
    if isinstance(error, Failure):
        return type(error)(*texts) if texts != (error.doing, error.cause, error.hint) else error
    return VpnpfError(*texts)


def _account_place(settings: ProfileSettings, way_out: str) -> Place:
    """Where the profile looks for its account. Raises UsageError, Unavailable, Misconfigured."""
    source, provider = settings.account, settings.spec.provider
    if source is None:
        if (given := _given(credential_name(provider))) is not None:
            cause = f"systemd hands the account to this unit ({given.name}), and that comes first"
            raise UsageError(
                "logging in", cause, f"as root: vpnpf login {provider} --store credential; then restart it"
            )
        return FilePlace(account_file(provider))
    if source.kind == "file":
        return _ready(GivenFilePlace(Path(source.name)), way_out)
    if source.kind == "keyring":
        return _ready(KeyringPlace(source.name, way_out), way_out)
    where = f"${source.name}" if source.kind == "env" else f"the credential {source.name}"
    raise UsageError("logging in", f"the configuration has the account in {where}", "write it there, and restart vpnpf")


def _ready(place: Place, way_out: str) -> Place:
    """The place, if something can be kept there. Raises Unavailable."""
    if isinstance(place, GivenFilePlace):
        place.check()
    if isinstance(place, KeyringPlace) and not keyrings.session():
        raise Unavailable("logging in", "there is no D-Bus session, and so no keyring", way_out)
    return place


def _kept(source: Source) -> str | None:
    """Where a secret is, if it is there and can be read."""
    with contextlib.suppress(Misconfigured):
        reader(source)()
        if source.kind == "keyring":
            return f"the keyring ({keyrings.SERVICE}, {source.name})"
        return {"env": f"${source.name}", "credential": f"the credential {source.name}"}.get(source.kind, source.name)
    return None


def _kept_account(provider: str) -> str | None:
    """Where `read_account` finds it."""
    if (given := _given(credential_name(provider))) is not None:
        return f"the credential {given.name}"
    if account_file(provider).exists():
        return _kept(Source("file", str(account_file(provider))))
    return _kept(Source("keyring", account_name(provider))) if keyrings.session() else None


def _given(name: str) -> Path | None:
    """What systemd handed to this unit, if it did."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory, name) if directory else None
    return path if path is not None and path.exists() else None


async def _apart(call: Callable[[], T], seconds: float, doing: str) -> T:
    """In a thread: the engine's loop waits for nothing. Raises Transient if it takes too long, and what `call` raises."""
    try:
        async with asyncio.timeout(seconds):
            return await apart(call, _stay, "vpnpf login")
    except TimeoutError:
        raise Transient(doing, f"not done within {seconds:g} s", "ask again") from None


def _stay() -> None:
    """Where the caller is."""
