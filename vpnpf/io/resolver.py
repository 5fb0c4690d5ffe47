"""Names to addresses, and who is asked for them on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import os
import socket
import tempfile
from pathlib import Path

from vpnpf.errors import Misconfigured, Transient, Unavailable

RESOLV_CONF = Path("/etc/resolv.conf")
MARK = "# written by vpnpf; the file as it was comes back when it stops\n"
_DEADLINE = 6.0


async def resolve(host: str, port: int) -> tuple[str, ...]:
    """All addresses of a host for UDP, IPv4 first; an address is its own. Raises Transient, Misconfigured."""
    with contextlib.suppress(ValueError):
        return (str(ipaddress.ip_address(host)),)
    doing = f"looking up {host}"
    try:
        async with asyncio.timeout(_DEADLINE):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except TimeoutError:
        raise Transient(doing, f"no answer in {_DEADLINE:g} s", "is this machine online?") from None
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            raise Misconfigured(
                doing, str(error.strerror), "is the name right, and is this machine online?", 30.0
            ) from error
        raise Transient(doing, str(error.strerror), "is this machine online?") from error
    addresses = dict.fromkeys(str(ipaddress.ip_address(each[4][0])) for each in found)
    return tuple(sorted(addresses, key=lambda address: ":" in address))


class SystemResolver:
    """/etc/resolv.conf: taken over while the tunnel is up, given back afterwards, also after a kill -9."""

    def __init__(self, keep: Path, path: Path = RESOLV_CONF) -> None:
        self._keep = keep
        """Where the file as it was is kept meanwhile; in a directory that only we can write."""
        self._path = path

    def take(self, servers: tuple[str, ...]) -> None:
        """Let this machine ask these servers alone. Raises Unavailable; then nothing has changed."""
        ours = MARK + "".join(f"nameserver {server}\n" for server in servers)
        try:
            if not self._keep.exists():
                self._save()
            if self._read() != ours:
                _put(self._path, ours, 0o644)
        except OSError as error:
            hint = "remove the DNS line from the tunnel's file if this machine's resolver is to stay as it is"
            raise Unavailable(f"writing {self._path}", error.strerror or str(error), hint) from error

    def give_back(self) -> None:
        """Put the file back as it was; what somebody else wrote meanwhile stays. Raises Unavailable."""
        try:
            kept = json.loads(self._keep.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return
        try:
            if (self._read() or "").startswith(MARK):
                if kept["link"] is not None:
                    _link(self._path, kept["link"])
                elif kept["text"] is not None:
                    _put(self._path, kept["text"], kept["mode"])
                else:
                    self._path.unlink()
            self._keep.unlink()
        except OSError as error:
            hint = f"its former content is in {self._keep}"
            raise Unavailable(f"putting {self._path} back", error.strerror or str(error), hint) from error

    def _save(self) -> None:
        kept: dict[str, object] = {"link": None, "text": None, "mode": 0o644}
        if self._path.is_symlink():
            kept["link"] = str(self._path.readlink())
        elif (text := self._read()) is not None:
            if text.startswith(MARK):
                return  # ours, and what was before is lost with the directory that kept it
            kept |= {"text": text, "mode": self._path.stat().st_mode & 0o777}
        self._keep.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _put(self._keep, json.dumps(kept), 0o600)

    def _read(self) -> str | None:
        try:
            return self._path.read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            return None


def _put(path: Path, text: str, mode: int) -> None:
    """Replace a file in one step; where only the file itself may be written, as in containers, write into it."""
    data = text.encode("utf-8", errors="surrogateescape")
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        if error.errno not in _NO_NEW_FILES:
            raise
        path.write_bytes(data)
        return
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(descriptor, mode)
        try:
            Path(temporary).replace(path)
        except OSError as error:
            if error.errno not in _NO_REPLACING:
                raise
            path.write_bytes(data)
    finally:
        Path(temporary).unlink(missing_ok=True)


_NO_NEW_FILES = {errno.EACCES, errno.EPERM, errno.EROFS}
"""The directory belongs to another user, or is read-only."""
_NO_REPLACING = {errno.EBUSY, errno.EXDEV}
"""The file is a mount of its own."""


def _link(path: Path, target: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.symlink_to(target)
    temporary.replace(path)
