"""Secrets, read when they are needed and never kept: from a keyring, a file, the environment or systemd.

Errors name the place and never the value.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from msgspec import Struct

from vpnpf.errors import Misconfigured

SERVICE = "vpnpf"
"""Under which service the keyring keeps our secrets."""
_LARGEST = 4096
_REFUSED = ("keyring.backends.null", "keyring.backends.fail", "keyrings.alt")
"""Back ends that keep nothing, or keep it in plain text."""
PATIENCE = 10.0
"""Seconds that a keyring has for its answer."""
_ASKING = "keyring"
_HINT_KEYRING = 'unlock the keyring, or use password = { file = "…" } with mode 0600'


class Source(Struct, frozen=True):
    """Where a secret is."""

    kind: str
    """"keyring", "file", "env" or "credential"."""
    name: str
    """Name in the keyring, absolute path, variable, or name of the credential."""


def reader(source: Source | None) -> Callable[[], str]:
    """A function that reads the secret; it raises Misconfigured if it cannot be had. No source: empty.

    It may take seconds where a keyring asks a person: call it in a thread.
    """
    if source is None:
        return str
    doing, read = {
        "keyring": (f'reading the secret "{source.name}" from the keyring', _keyring),
        "file": (f"reading the secret in {source.name}", _file),
        "env": (f"reading the secret in ${source.name}", _env),
        "credential": (f"reading the systemd credential {source.name}", _credential),
    }[source.kind]

    def ask() -> str:
        secret = read(doing, source.name)
        if not secret:
            raise Misconfigured(doing, "it is empty", "write the password into it")
        return secret

    return ask


def _file(doing: str, name: str) -> str:
    try:
        # Not to wait for the other end, should it be a pipe.
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        hint = f"make it with: install -m 600 /dev/null {name}, and write the password into it"
        raise Misconfigured(doing, "there is no such file", hint) from None
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        if number == errno.ELOOP:
            raise Misconfigured(doing, "it is a symbolic link", "name the file that it leads to") from None
        hint = "run vpnpf as root, or as its owner" if number == errno.EACCES else "name a plain file"
        raise Misconfigured(doing, _why(error), hint) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Misconfigured(doing, "it is not a plain file", "name a plain file")
        if found.st_uid not in {0, os.geteuid()}:
            hint = f"let it belong to who runs vpnpf: chown root {name}"
            raise Misconfigured(doing, "it belongs to another user", hint)
        if found.st_mode & 0o077:
            raise Misconfigured(doing, f"others may read it (mode {found.st_mode & 0o777:04o})", f"chmod 600 {name}")
        return _text(doing, os.read(descriptor, _LARGEST + 1))
    finally:
        os.close(descriptor)


def _env(doing: str, name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise Misconfigured(doing, "it is not set", f"export {name}; sudo hands it on with --preserve-env={name}")
    return value


def _credential(doing: str, name: str) -> str:
    hint = f"add LoadCredential={name}:PATH to the unit"
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory or "/" in name:
        raise Misconfigured(doing, "systemd gave us none", hint)
    try:
        with Path(directory, name).open("rb") as file:
            return _text(doing, file.read(_LARGEST + 1))
    except (OSError, ValueError) as error:
        raise Misconfigured(doing, _why(error), hint) from None


def _keyring(doing: str, name: str) -> str:
    """Ask in a thread that nobody has to wait for: a keyring that is locked asks a person, and may wait for ever."""
    found: Future[str] = Future()

    def ask() -> None:
        try:
            found.set_result(_from_keyring(doing, name))
        except BaseException as error:  # noqa: BLE001 - whatever it is, who waits gets it
            found.set_exception(error)

    if any(thread.name == _ASKING for thread in threading.enumerate()):
        raise Misconfigured(doing, "it still waits for somebody to unlock it", _HINT_KEYRING)
    threading.Thread(target=ask, name=_ASKING, daemon=True).start()
    try:
        return found.result(PATIENCE)
    except TimeoutError:
        raise Misconfigured(doing, f"no answer in {PATIENCE:g} s", _HINT_KEYRING) from None


def _from_keyring(doing: str, name: str) -> str:
    try:
        # Not at the top: it loads D-Bus and more, and most machines that run this headless have no keyring.
        import keyring  # noqa: PLC0415

        backend = keyring.get_keyring()
        for each in (backend, *getattr(backend, "backends", ())):
            kind = type(each).__module__
            if kind.startswith(_REFUSED) or each.priority < 1:
                hint = 'use password = { file = "…" } with mode 0600, or a systemd credential'
                raise Misconfigured(doing, f"this machine has no safe keyring ({kind})", hint)
        value = keyring.get_password(SERVICE, name)
    except Misconfigured:
        raise
    except Exception as error:  # noqa: BLE001 - back ends raise what they like, and their texts are not ours to show
        raise Misconfigured(doing, f"it failed ({type(error).__name__})", _HINT_KEYRING) from None
    if value is None:
        raise Misconfigured(doing, "there is none of this name", f"keyring set {SERVICE} {name}")
    return value


def _text(doing: str, data: bytes) -> str:
    if len(data) > _LARGEST:
        raise Misconfigured(doing, f"it is longer than {_LARGEST} bytes", "put only the password into it")
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise Misconfigured(doing, "it is not UTF-8 text", "write it anew") from None


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or "that is no name for a file"
