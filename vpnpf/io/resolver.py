"""Names to addresses, and who is asked for them on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2s
from pathlib import Path
from typing import Self

from vpnpf.errors import Misconfigured, Transient, Unavailable
from vpnpf.io.apart import apart

RESOLV_CONF = Path("/etc/resolv.conf")
MARK = "# written by vpnpf; the file as it was, kept in the next line, comes back when it stops\n"
_BEFORE = "# before: "
_NOTHING_MORE = b"\n# vpnpf: nothing more "
"""With a digest of the text, follows one that is shorter than the one before, until the file is cut there."""
_DEADLINE = 6.0
_PERMISSIONS = 0o777
_NO_NEW_FILES = {errno.EACCES, errno.EPERM, errno.EROFS}
"""The directory belongs to another user, or is read-only."""
_NO_REPLACING = {errno.EBUSY, errno.EXDEV}
"""The file is a mount of its own."""


async def resolve(host: str, port: int, enter: Callable[[], None] = lambda: None) -> tuple[str, ...]:
    """All addresses of a host for UDP, IPv4 first; an address is its own. Raises Transient, Misconfigured.

    `enter` puts the thread that asks into the network namespace to ask from.
    """
    with contextlib.suppress(ValueError):
        return (str(ipaddress.ip_address(host)),)
    doing = f"looking up {host}"
    try:
        async with asyncio.timeout(_DEADLINE):
            found = await _ask(host, port, enter)
    except TimeoutError:
        raise Transient(doing, f"no answer in {_DEADLINE:g} s", "is this machine online?") from None
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            raise Misconfigured(
                doing, str(error.strerror), "is the name right, and is this machine online?", 30.0
            ) from error
        raise Transient(doing, str(error.strerror), "is this machine online?") from error
    except (OSError, UnicodeError) as error:
        raise Transient(doing, str(error)) from error
    addresses = tuple(address for address in dict.fromkeys(found) if _of_one_host(address))
    if not addresses:
        raise Misconfigured(doing, "it has no address that a server can have", "is the name right?", 30.0)
    return tuple(sorted(addresses, key=lambda address: ":" in address))


async def _ask(host: str, port: int, enter: Callable[[], None]) -> list[str]:
    asked = partial(socket.getaddrinfo, host, port, type=socket.SOCK_DGRAM)
    return [str(each[4][0]) for each in await apart(asked, enter, f"looking up {host}")]


def _of_one_host(address: str) -> bool:
    if "%" in address:  # a zone means something on one of our links only
        return False
    found = ipaddress.ip_address(address)
    return not (found.is_unspecified or found.is_multicast)


@dataclass(frozen=True, slots=True)
class _Before:
    """The file as it was; neither link nor text: there was none."""

    link: str | None = None
    text: str | None = None
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)

    @classmethod
    def look(cls, path: Path) -> Self:
        """Raises OSError."""
        if path.is_symlink():
            return cls(link=str(path.readlink()))
        try:
            found = path.stat()
            text = path.read_bytes().decode("utf-8", errors="surrogateescape")
        except FileNotFoundError:
            return cls()
        return cls(text=text, mode=found.st_mode & _PERMISSIONS, owner=(found.st_uid, found.st_gid))

    @classmethod
    def kept_in(cls, text: str) -> Self | None:
        """What a text of ours keeps; None: the text is not, or not any more, ours."""
        if not text.startswith(MARK + _BEFORE):
            return None
        try:
            kept = json.loads(text[len(MARK + _BEFORE) :].partition("\n")[0])
            link, before, mode, owner = (kept[name] for name in ("link", "text", "mode", "owner"))
            return cls(
                link and str(link), before and str(before), int(mode) & _PERMISSIONS, (int(owner[0]), int(owner[1]))
            )
        except (ValueError, TypeError, LookupError, RecursionError):
            return None

    def line(self) -> str:
        """All of it in a line that resolvers take for a comment."""
        return f"{_BEFORE}{json.dumps(asdict(self))}\n"


class SystemResolver:
    """/etc/resolv.conf: taken over while the tunnel is up, given back afterwards, also after a kill -9 or a reboot.

    The file as it was is kept in a comment of ours. So what somebody else writes meanwhile, a DHCP client or a person,
    is what counts from then on: the next `take` keeps that instead, and `give_back` leaves it alone.
    """

    def __init__(self, path: Path = RESOLV_CONF) -> None:
        self._path = path

    def take(self, servers: tuple[str, ...]) -> None:
        """Let this machine ask these servers alone. Raises Unavailable; then nothing has changed."""
        try:
            _cut(self._path)
            now = _Before.look(self._path)
            before = _Before.kept_in(now.text or "") or now
            ours = MARK + before.line() + "".join(f"nameserver {server}\n" for server in servers)
            if now.text != ours:
                _put(self._path, ours, 0o644, (0, 0))
        except OSError as error:
            hint = "remove the DNS line from the tunnel's file if this machine's resolver is to stay as it is"
            if error.errno in _NO_NEW_FILES:
                hint = f"let this user write to it (deploy/systemd/resolver lends it to a service), or {hint}"
            raise Unavailable(f"writing {self._path}", error.strerror or str(error), hint) from error

    def give_back(self) -> None:
        """Put the file back as it was; what somebody else wrote meanwhile stays. Raises Unavailable."""
        try:
            _cut(self._path)
            with contextlib.suppress(OSError):  # what a killed run left
                _beside(self._path).unlink()
            if self._path.is_symlink() or not self._path.is_file():
                return
            before = _Before.kept_in(_Before.look(self._path).text or "")
            if before is None:
                return
            if before.link is not None:
                _link(self._path, before.link)
            elif before.text is not None:
                _put(self._path, before.text, before.mode, before.owner)
            else:
                self._path.unlink()
        except OSError as error:
            hint = f"its former content is in its second line: {self._path}"
            raise Unavailable(f"putting {self._path} back", error.strerror or str(error), hint) from error


def _beside(path: Path) -> Path:
    """Where the new file is made: always the same place, so that one that a killed run left is found and goes.

    One for each network namespace: they may share the directory though each has a file of its own mounted over.
    """
    return path.with_name(f".{path.name}.vpnpf-{Path('/proc/self/ns/net').stat().st_ino}")


def _make(path: Path) -> int:
    """A new file that only we can read, open for writing; what was there is gone."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _put(path: Path, text: str, mode: int, owner: tuple[int, int]) -> None:
    """Replace a file in one step; where only the file itself may be written, as in containers, write into it."""
    data = text.encode("utf-8", errors="surrogateescape")
    temporary = _beside(path)
    try:
        descriptor = _make(temporary)
    except OSError as error:
        if error.errno not in _NO_NEW_FILES:
            raise
        _write_into(path, data)
        return
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(descriptor, mode)
            with contextlib.suppress(PermissionError):  # it is ours then, and as readable as it was
                os.fchown(descriptor, *owner)
        try:
            temporary.replace(path)
        except OSError as error:
            if error.errno not in _NO_REPLACING:
                raise
            _write_into(path, data)
    finally:
        temporary.unlink(missing_ok=True)


def _write_into(path: Path, data: bytes) -> None:
    """Overwrite, then cut what is too long: whenever it stops, a whole file is there. Never through a link."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        room = os.fstat(descriptor).st_size - len(data)
        rest = _end_of(data) if room >= len(_end_of(data)) else b""
        os.write(descriptor, (data + rest).ljust(len(data) + max(0, room), b"\n"))
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)


def _cut(path: Path) -> None:
    """Finish what a killed run was about to do: cut off what it had overwritten with nothing."""
    if path.is_symlink() or not path.is_file():
        return
    data = path.read_bytes()
    text, found, _ = data.rpartition(_NOTHING_MORE)
    if found and data[len(text) :].startswith(_end_of(text)):
        os.truncate(path, len(text))


def _end_of(text: bytes) -> bytes:
    return _NOTHING_MORE + blake2s(text, digest_size=6).hexdigest().encode() + b"\n"


def _link(path: Path, target: str) -> None:
    temporary = _beside(path)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)
