"""Where `vpnpf login` puts a secret, and where it is looked for.

An account's user name and password are two lines. They are looked for among what systemd handed to the unit, then in the
state directory, then in the keyring: the first that there is counts.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path
from typing import Protocol

from vpnpf import keyrings
from vpnpf.errors import Misconfigured, PermissionDenied, Unavailable
from vpnpf.io.process import must
from vpnpf.secrets import Source, reader
from vpnpf.store import make_private, secrets_directory
from vpnpf.whole_file import replace_file

CREDSTORE = Path("/etc/credstore.encrypted")
"""Where systemd looks for encrypted credentials by name (systemd.exec(5))."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
"""Of a credential: nothing that leads out of its directory."""
_ENCRYPTING = 30.0
"""Seconds that `systemd-creds` has: a TPM is slow."""


class Place(Protocol):
    """Where one secret can be."""

    said: str
    """In words, for people."""

    async def put(self, secret: str) -> None:
        """Keep it, in place of what is there. Raises VpnpfError; then what was there may stay."""
        ...

    async def remove(self) -> bool:
        """Remove it; returns whether there was one. Raises VpnpfError."""
        ...


class KeyringPlace:
    """In the keyring of the session."""

    def __init__(self, name: str, way_out: str) -> None:
        self._name = name
        self._way_out = way_out
        """What else can be done."""
        self.said = f"the keyring ({keyrings.SERVICE}, {name})"

    async def put(self, secret: str) -> None:
        """As `Place.put`. Raises NoKeyring, KeyringShut."""
        keyrings.put(self._name, secret, "writing into the keyring", self._way_out)

    async def remove(self) -> bool:
        """As `Place.remove`."""
        return keyrings.remove(self._name, "removing from the keyring", self._way_out)


class FilePlace:
    """In a file of 0600 in a directory of 0700."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.said = str(path)

    async def put(self, secret: str) -> None:
        """As `Place.put`."""
        make_private(self._path.parent)
        try:
            replace_file(self._path, secret + "\n")
        except OSError as error:
            hint = f"is {self._path.parent} writable, and is there room?"
            raise Unavailable(f"writing {self._path}", error.strerror or str(error), hint) from None

    async def remove(self) -> bool:
        """As `Place.remove`."""
        return _unlink(self._path)


class GivenFilePlace:
    """In a file that the configuration names: replaced as a whole, 0600, and ours."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.said = str(path)

    async def put(self, secret: str) -> None:
        """As `Place.put`."""
        self.check()
        try:
            replace_file(self._path, secret + "\n")
        except OSError as error:
            raise self._not_written(error.strerror or str(error)) from None

    async def remove(self) -> bool:
        """As `Place.remove`."""
        return _unlink(self._path)

    def check(self) -> None:
        """See that it can be written, and by nobody else. Raises Unavailable, with where to write it by hand."""
        try:
            above = self._path.parent.stat()
            if self._path.is_symlink():
                raise self._not_written("it is a symbolic link")
            if self._path.exists() and not self._path.is_file():
                raise self._not_written("it is not a plain file")
        except OSError as error:
            raise self._not_written(error.strerror or str(error)) from None
        if above.st_uid not in {0, os.geteuid()} or above.st_mode & 0o022:
            raise self._not_written(f"others may write to {self._path.parent}")
        if (other := _others_can_move(self._path.parent)) is not None:
            raise self._not_written(f"others may put another directory in its place: {other} is theirs")
        if not os.access(self._path.parent, os.W_OK):
            raise self._not_written("this user may not write there")

    def _not_written(self, why: str) -> Unavailable:
        hint = f"write it there by hand: install -m 600 /dev/null {self._path}, and the secret into it"
        return Unavailable(f"writing {self._path}", why, hint)


def _others_can_move(directory: Path) -> Path | None:
    """What of a path, as it is written and as its links lead, another user could change, so that it would lead elsewhere."""
    ours = {0, os.geteuid()}
    for each in (*directory.absolute().parents, *directory.resolve().parents):
        found = each.stat()
        # In a directory as /tmp nobody can touch what is ours (inode(7): sticky).
        if found.st_uid not in ours or (found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX):
            return each
    return None


class CredentialPlace:
    """Encrypted for this machine alone, for systemd to hand to a unit (systemd-creds(1))."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.path = CREDSTORE / name
        self.said = str(self.path)

    async def put(self, secret: str) -> None:
        """As `Place.put`."""
        doing = f"encrypting a credential into {self.path}"
        if not _NAME.fullmatch(self._name):
            raise Misconfigured(doing, f'"{self._name}" is no name for a credential', "use letters, digits, . _ and -")
        if os.geteuid() != 0:
            raise PermissionDenied(doing, "only root can", "run it with sudo")
        # The name is part of what is encrypted: under another one it is of no use.
        argv = ("systemd-creds", "encrypt", f"--name={self._name}", "-", "-")
        text = await must(argv, doing=doing, stdin=secret, deadline=_ENCRYPTING)
        make_private(self.path.parent)
        try:
            replace_file(self.path, text)
        except OSError as error:
            raise Unavailable(doing, error.strerror or str(error), "is there room?") from None

    async def remove(self) -> bool:
        """As `Place.remove`."""
        return bool(_NAME.fullmatch(self._name)) and _unlink(self.path)

    @property
    def drop_in(self) -> tuple[str, ...]:
        """The lines that a unit needs to get it."""
        return ("[Service]", f"LoadCredentialEncrypted={self._name}:{self.path}")


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        hint = "run it as root, or as the user that it belongs to"
        raise Unavailable(f"removing {path}", error.strerror or str(error), hint) from None
    return True


def account_name(provider: str) -> str:
    """Of a file in the state directory, and in the keyring."""
    return f"account-{provider}"


def credential_name(provider: str) -> str:
    """Of a systemd credential."""
    return f"vpnpf-account-{provider}"


def account_file(provider: str) -> Path:
    """Where it is in the state directory."""
    return secrets_directory() / account_name(provider)


def login_command(provider: str) -> str:
    """What to run so that there is an account for a provider."""
    store = "" if keyrings.session() else " --store file"
    return f"vpnpf login {provider}{store}"


def read_account(provider: str) -> str:
    """User name and password, from the first place that has them. Raises Misconfigured, naming `vpnpf login`.

    It may take seconds where a keyring asks a person: call it in a thread.
    """
    name, file = credential_name(provider), account_file(provider)
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    if given and _there(Path(given, name)):
        return reader(Source("credential", name))()
    if _there(file):
        return reader(Source("file", str(file)))()
    doing, command = f"reading the account for {provider}", login_command(provider)
    try:
        found = keyrings.get(account_name(provider), doing, f"keep it in a file: vpnpf login {provider} --store file")
    except keyrings.NoKeyring:
        found = None
    if not found:
        raise Misconfigured(doing, f"nobody has logged in; looked in {file} and in the keyring", command)
    return found


def _there(path: Path) -> bool:
    """Whether there is something; what may not be looked at counts, so that the reason is said."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        with contextlib.suppress(PermissionError):
            path.lstat()
        return True
    return False
