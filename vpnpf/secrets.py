"""Secrets, read when they are needed and never kept: from a keyring, a file, the environment or systemd.

Errors name the place and never the value.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from vpnpf import keyrings
from vpnpf.errors import Misconfigured

LARGEST = 4096
"""Bytes of a secret."""


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
            raise Misconfigured(doing, "it is empty", "write the secret into it")
        return secret

    return ask


def _file(doing: str, name: str) -> str:
    try:
        # Not to wait for the other end, should it be a pipe.
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        hint = f"make it with: install -m 600 /dev/null {name}, and write the secret into it"
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
        return _text(doing, os.read(descriptor, LARGEST + 1))
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
            return _text(doing, file.read(LARGEST + 1))
    except (OSError, ValueError) as error:
        raise Misconfigured(doing, _why(error), hint) from None


def _keyring(doing: str, name: str) -> str:
    value = keyrings.get(name, doing, 'use password = { file = "…" } with mode 0600, or a systemd credential')
    if value is None:
        raise Misconfigured(doing, "there is none of this name", f"keyring set {keyrings.SERVICE} {name}")
    return value


def _text(doing: str, data: bytes) -> str:
    if len(data) > LARGEST:
        raise Misconfigured(doing, f"it is longer than {LARGEST} bytes", "put only the password into it")
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise Misconfigured(doing, "it is not UTF-8 text", "write it anew") from None


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or "that is no name for a file"
