"""The configuration put into its place: all of it or nothing, and nothing that is there is ever replaced.

The provider's files and the passwords come first, each under a name that nothing has; then the text is checked as `vpnpf run`
would, where it will lie; then it takes its place in one step. What fails or is broken off before that removes what was made.
An existing configuration gets a profile at its end, so there is nothing a backup would be good for.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from vpnpf import keyrings
from vpnpf.config import load, parse
from vpnpf.errors import ConfigError, Mistake, Unavailable
from vpnpf.settings import Config
from vpnpf.setup.answers import Answers
from vpnpf.setup.finding import FILE
from vpnpf.setup.found import Found
from vpnpf.setup.writing import Names, client_name, configuration, extended, tables
from vpnpf.tunnels.config_file import read_bytes

_PRIVATE, _PUBLIC = 0o600, 0o644
_MOST_NAMES = 1000
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 60
"""Characters of a file's name, without what follows the dot."""
_BY_HAND = "write it into the file by hand, in the place and form that it needs"


class Written(Struct, frozen=True):
    """What was made."""

    config: Path
    profile: str
    files: tuple[Path, ...] = ()
    """Beside it: the provider's and the passwords'."""
    keyring: tuple[str, ...] = ()
    """Names of passwords in the keyring."""
    extended: bool = False
    """Whether the profile was added to a configuration that was there."""


def preview(found: Found, answers: Answers) -> str:
    """The text that would be written, as far as the names in it are known before."""
    files = tuple(_fit(path) for path in answers.files or ())
    client = client_name(answers, found.standing)
    names = Names(files, client, f"{client}.password", f"{answers.name}.password")
    return tables(answers, names)


def write(found: Found, answers: Answers) -> Written:
    """Write it all. Raises ConfigError, Unavailable, NoKeyring, KeyringShut; then everything is as before.

    It may take seconds where a keyring asks a person.
    """
    made = _Made(found.directory)
    try:
        return _write(found, answers, made)
    except BaseException:
        made.undo()
        raise


def _write(found: Found, answers: Answers, made: _Made) -> Written:
    target = found.directory / FILE
    before = _before(found, target)
    made.make_directory()
    client = client_name(answers, found.standing)
    files = tuple(made.provider_file(path) for path in answers.files or ())
    in_keyring = answers.keep == "keyring"
    keep = made.in_keyring if in_keyring else made.secret_file
    names = Names(
        files=files,
        client=client,
        client_place=keep(client, answers.client_secret) if answers.client_secret else "",
        tunnel_place=keep(answers.name or "", answers.tunnel_secret) if answers.tunnel_secret else "",
    )
    if before is None:
        text = configuration(answers, names)
        _checked(text, target, answers, None)
        made.place(target, text)
    else:
        text = extended(before.text, answers, names)
        _checked(text, target, answers, before.config)
        made.replace(target, text, before)
    return Written(target, answers.name or "", tuple(made.files), tuple(made.secrets), before is not None)


class _Before(Struct, frozen=True):
    """A configuration as it was read."""

    text: str
    config: Config
    status: os.stat_result


def _before(found: Found, target: Path) -> _Before | None:
    """What is there. Raises ConfigError, Unavailable."""
    if found.standing is None:
        return None
    config = load(target, ended=True)
    try:
        with target.open("rb") as file:
            text, status = file.read().decode(), os.fstat(file.fileno())
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"reading {target}", str(getattr(error, "strerror", "") or error), "nothing was changed"
        ) from None
    return _Before(text, config, status)


def _checked(text: str, target: Path, answers: Answers, before: Config | None) -> None:
    """See that it means what was answered, and everything else what it did. Raises ConfigError."""
    try:
        after = parse(text, target, ended=True)
    except ConfigError as error:
        if before is None or any(str(target) not in mistake.where for mistake in error.mistakes):
            raise
        what = "another profile cannot be added at its end"
        hint = f"{_BY_HAND}; what stands in the way: {error.mistakes[0].what}"
        raise ConfigError((Mistake(str(target), what, hint),)) from error
    rest = {name: each for name, each in after.profiles.items() if name != answers.name}
    if answers.name not in after.profiles or (before is not None and rest != before.profiles):
        raise ConfigError((Mistake(str(target), "with the profile at its end it would mean something else", _BY_HAND),))


class _Made:
    """What was made so far, to be taken back."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._directories: list[Path] = []
        self.files: list[Path] = []
        self.secrets: list[str] = []

    def make_directory(self) -> None:
        """The directory, with what is above it. Raises Unavailable."""
        missing = [self._directory, *self._directory.parents]
        for path in reversed([each for each in missing if not each.exists()]):
            with self._said(path):
                path.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700)
                self._directories.append(path)

    def provider_file(self, source: Path) -> str:
        """A copy of a file beside the configuration, under a name that nothing has; one that is there already is used."""
        if source.parent == self._directory:
            return source.name
        data = read_bytes(str(source))
        stem, suffix = os.path.splitext(_fit(source))  # noqa: PTH122 - a name, no path
        return self._fresh(stem, suffix, data, same=True)

    def secret_file(self, stem: str, secret: str) -> str:
        """A file with a password; its name fits the rules of the service's files (deploy/systemd/tmpfiles.conf)."""
        return self._fresh(stem, ".password", f"{secret}\n".encode(), same=False)

    def in_keyring(self, stem: str, secret: str) -> str:
        """An entry of the keyring under a name that nothing has. Raises NoKeyring, KeyringShut."""
        doing, way_out = "writing into the keyring", "keep it in a file"
        for name in _numbered(stem, ""):
            if keyrings.get(name, doing, way_out) is None:
                self.secrets.append(name)
                keyrings.put(name, secret, doing, way_out)
                return name
        raise Unavailable(doing, f"every name like {stem} is taken", way_out)

    def place(self, target: Path, text: str) -> None:
        """A first configuration. Raises Unavailable if there is one meanwhile."""
        with self._said(target):
            self._create(target, text.encode(), _mode_of_config())
            self.files.remove(target)
            self._directories.clear()

    def replace(self, target: Path, text: str, before: _Before) -> None:
        """The longer text in place of the one that was read, with its mode and owner. Raises Unavailable if that changed."""
        real = Path(os.path.realpath(target))
        beside = real.with_name(f".{real.name}.init")
        with self._said(target):
            beside.unlink(missing_ok=True)  # of a run that was killed
            self._create(beside, text.encode(), stat.S_IMODE(before.status.st_mode), before.status)
            now = real.stat()
            if (now.st_ino, now.st_mtime_ns) != (before.status.st_ino, before.status.st_mtime_ns):
                raise Unavailable(f"writing {target}", "somebody changed it meanwhile", "run vpnpf init again")
            beside.replace(real)
            self.files.remove(beside)
            self._directories.clear()

    def undo(self) -> None:
        """Remove all of it."""
        for path in (*reversed(self.files), *map(_part, self.files)):
            with contextlib.suppress(OSError):
                path.unlink()
        for name in self.secrets:
            with contextlib.suppress(Exception):
                keyrings.remove(name, "removing from the keyring", "")
        for path in reversed(self._directories):
            with contextlib.suppress(OSError):
                path.rmdir()

    def _fresh(self, stem: str, suffix: str, data: bytes, *, same: bool) -> str:
        """Write a file under the first name that is free, or that has the `same` text already."""
        for name in _numbered(stem, suffix):
            path = self._directory / name
            if same and _has(path, data):
                with contextlib.suppress(OSError):
                    _part(path).unlink(missing_ok=True)
                return name
            with self._said(path), contextlib.suppress(FileExistsError):
                self._create(path, data, _PRIVATE)
                return name
        raise Unavailable(
            f"writing {self._directory / (stem + suffix)}", "every name like this is taken", "remove some"
        )

    def _create(self, path: Path, data: bytes, mode: int, owner: os.stat_result | None = None) -> None:
        """A whole file or none, to the disk. Raises FileExistsError if the name is taken, OSError."""
        part = _part(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(FileNotFoundError):
            part.unlink()  # of a run that was killed
        try:
            descriptor = os.open(part, flags, _PRIVATE)
            with os.fdopen(descriptor, "wb") as file:
                if owner is not None and owner.st_uid != os.geteuid():
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
                os.fchmod(descriptor, mode)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            # A link, not a rename: that would replace.
            os.link(part, path)
            self.files.append(path)
        finally:
            part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _said(self, path: Path) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            if path.name != FILE:
                raise
            raise Unavailable(f"writing {path}", "there is one by now", "run vpnpf init again: it adds to it") from None
        except OSError as error:
            hint = "run it with sudo, or name another place with --directory"
            raise Unavailable(f"writing {path}", error.strerror or str(error), hint) from None


def _part(path: Path) -> Path:
    """Where a file is while it is being written."""
    return path.with_name(f".{path.name}.part")


def _mode_of_config() -> int:
    """It holds no secret. In /etc everybody's `vpnpf check-config` may read it."""
    return _PUBLIC if os.geteuid() == 0 else _PRIVATE


def _has(path: Path, data: bytes) -> bool:
    """Whether there is a file of ours with this very text, that nobody else can read."""
    try:
        status = path.lstat()
        private = stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077 and status.st_uid == os.geteuid()
        return private and read_bytes(str(path)) == data
    except (OSError, ConfigError):
        return False


def _fit(path: Path) -> str:
    """The name of a file as it can be written anywhere: letters, digits and a few marks."""
    stem = _UNFIT.sub("_", path.stem).strip("._-")[:_LONGEST] or "tunnel"
    return stem + (_UNFIT.sub("_", path.suffix.lower())[:_LONGEST])


def _numbered(stem: str, suffix: str) -> Iterator[str]:
    yield f"{stem}{suffix}"
    yield from (f"{stem}-{number}{suffix}" for number in range(2, _MOST_NAMES))
