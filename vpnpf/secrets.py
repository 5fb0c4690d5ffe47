"""Secrets, read when they are needed and never kept: from a keyring, a file, the environment or systemd.

Errors name the place and never the value.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vpnpf.errors import Misconfigured

SERVICE = "vpnpf"
"""Under which service the keyring keeps our secrets."""
_LARGEST = 4096
_REFUSED = ("keyring.backends.null", "keyring.backends.fail", "keyrings.alt")
"""Back ends that keep nothing, or keep it in plain text."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a secret is."""

    kind: str
    """"keyring", "file", "env" or "credential"."""
    name: str
    """Name in the keyring, absolute path, variable, or name of the credential."""


def reader(source: Source | None) -> Callable[[], str]:
    """A function that reads the secret; it raises Misconfigured if it cannot be had. No source: empty."""
    if source is None:
        return str
    read = {"keyring": _keyring, "file": _file, "env": _env, "credential": _credential}[source.kind]
    return lambda: read(source.name)


def _file(name: str) -> str:
    doing = f"reading the secret in {name}"
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        hint = "make it with: install -m 600 /dev/null FILE, and write the password into it"
        raise Misconfigured(doing, error.strerror or str(error), hint) from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in {0, os.geteuid()}:
            raise Misconfigured(doing, "it is not a plain file of ours", "let it belong to who runs vpnpf")
        if found.st_mode & 0o077:
            raise Misconfigured(doing, f"others may read it (mode {found.st_mode & 0o777:04o})", f"chmod 600 {name}")
        return _text(doing, file.read(_LARGEST + 1))


def _env(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise Misconfigured(f"reading the secret in ${name}", "it is not set", f"export {name}")
    return value


def _credential(name: str) -> str:
    doing = f"reading the systemd credential {name}"
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory or "/" in name:
        raise Misconfigured(doing, "systemd gave us none", f"add LoadCredential={name}:PATH to the unit")
    try:
        return _text(doing, Path(directory, name).read_bytes())
    except OSError as error:
        hint = f"add LoadCredential={name}:PATH to the unit"
        raise Misconfigured(doing, error.strerror or str(error), hint) from error


def _keyring(name: str) -> str:
    # Not at the top: it loads D-Bus and more, and most machines that run this headless have no keyring.
    import keyring  # noqa: PLC0415
    from keyring.errors import KeyringError  # noqa: PLC0415

    doing = f'reading the secret "{name}" from the keyring'
    backend = keyring.get_keyring()
    backends = [backend, *getattr(backend, "backends", ())]
    kind = next((type(each).__module__ for each in backends if type(each).__module__.startswith(_REFUSED)), "")
    if kind:
        hint = 'use password = { file = "…" } with mode 0600, or a systemd credential'
        raise Misconfigured(doing, f"this machine has no safe keyring ({kind})", hint)
    try:
        value = keyring.get_password(SERVICE, name)
    except KeyringError as error:
        raise Misconfigured(doing, f"{type(error).__name__}", "unlock the keyring") from error
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
