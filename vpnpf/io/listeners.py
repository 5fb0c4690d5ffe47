"""All sockets of this network namespace that take packets from anybody, and whose they are.

The kernel lists the sockets, with user and inode, to everybody (NETLINK_SOCK_DIAG). The process is found by the name of
its descriptors in /proc, "socket:[inode]" (proc_pid_fd(5)), which takes the same user or CAP_SYS_PTRACE: without
that the socket is listed all the same, as one of an unseen program.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from vpnpf.core.reach import Listener, Owner
from vpnpf.io import process
from vpnpf.io.sockets import Diagnosed, device_name, diagnosed
from vpnpf.printable import printable

PROC = Path("/proc")
_INIT = 1
_LONGEST = 40
"""Characters of a name that somebody else chose."""
_STARTED = 19
"""Place of the start time behind the name in /proc/PID/stat (proc_pid_stat(5): the 22nd field)."""
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_INTERPRETER = re.compile(r"(python|perl|ruby|node|nodejs|java|php|lua|mono|bash|dash|sh|tclsh|guile)[\d.]*")
_NO_SCRIPT = {"-c", "-e", "--eval", "-"}
_BEFORE_NAME = {"-m", "-jar"}


class Listening(Struct, frozen=True):
    """What was found."""

    listeners: tuple[Listener, ...]
    """In the order of ports."""
    unseen: int
    """Processes that could not be looked into."""


async def listening() -> Listening:
    """List them. Raises Unavailable if the kernel cannot say, Transient if its list kept changing."""
    found = await diagnosed("looking for sockets that wait")
    owners, barred = await asyncio.to_thread(_owners, frozenset(each.inode for each in found))
    unseen = barred > 0 or os.geteuid() != 0  # of processes that /proc hides (hidepid) no count is known
    users = {number: _user(number) for number in {each.user for each in found}}
    listeners = {_listener(each, users[each.user], owners.get(each.inode), unseen=unseen) for each in found}
    return Listening(tuple(sorted(listeners, key=_order)), barred)


async def addresses() -> dict[str, tuple[str, ...]]:
    """This machine's addresses by device, without those of loopback and link-local ones. Raises Unavailable, Transient."""
    said = await process.must(("ip", "-j", "address", "show"), doing="listing this machine's addresses")
    return {
        link["ifname"]: tuple(each["local"] for each in link["addr_info"] if each["scope"] not in {"host", "link"})
        for link in json.loads(said or "[]")
        if "ifname" in link
    }


def _listener(one: Diagnosed, user: str, owner: Owner | None, *, unseen: bool) -> Listener:
    hidden = owner is None and unseen
    device = device_name(one.device)
    # The kernel says it of every socket that has one IPv6 address, where it means nothing.
    only = one.v6_only and one.address == "::"
    return Listener(one.protocol, one.address, one.port, device, only, user, owner, hidden)


def _order(one: Listener) -> tuple[int, str, bool, str, str, int]:
    pid = one.owner.pid if one.owner else 0
    return one.port, one.protocol, ":" in one.address, one.address, one.device, pid


def _owners(inodes: frozenset[int]) -> tuple[dict[int, Owner], int]:
    """Whose the sockets are, and how many processes could not be looked into.

    Of several that share one it is the oldest, but not PID 1: that holds sockets for services of others.
    """
    holders: dict[int, list[int]] = {}
    barred = 0
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            with os.scandir(entry / "fd") as descriptors:
                for descriptor in descriptors:
                    with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                        named = _SOCKET.fullmatch(os.readlink(descriptor.path))  # noqa: PTH115 - a thousand of them
                        if named and int(named[1]) in inodes:
                            holders.setdefault(int(named[1]), []).append(int(entry.name))
        except PermissionError:
            barred += 1
        except OSError:  # it ended meanwhile
            continue
    found: dict[int, Owner] = {}
    seen = {pid: _owner(pid) for pids in holders.values() for pid in pids}
    for inode, pids in holders.items():
        living = [owner for pid in pids if (owner := seen[pid]) is not None]
        if living:
            found[inode] = min(living, key=lambda owner: (owner.pid == _INIT, owner.since, owner.pid))
    return found, barred


def _owner(pid: int) -> Owner | None:
    home = PROC / str(pid)
    try:
        stat = (home / "stat").read_text(errors="replace")
        name, _, rest = stat.partition("(")[2].rpartition(")")
        since = int(rest.split()[_STARTED]) / os.sysconf("SC_CLK_TCK")
        argv = (home / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except (OSError, ValueError, IndexError):  # it ended meanwhile
        return None
    with contextlib.suppress(OSError):  # else the name that it gave itself
        name = os.readlink(home / "exe").removesuffix(" (deleted)")  # noqa: PTH115 - as above
    program, interpreter = program_of(name, argv[1:])
    return Owner(pid, program, since, interpreter)


def program_of(executable: str, arguments: Sequence[str]) -> tuple[str, str]:
    """What a process is called, and the interpreter, if it is a script of one. Pure.

    Of the arguments only a script's file name is told: others may hold secrets.
    """
    program = printable(executable.rpartition("/")[2], _LONGEST)
    if not _INTERPRETER.fullmatch(program):
        return program, ""
    following = iter(arguments)
    for argument in following:
        script = next(following, "") if argument in _BEFORE_NAME else argument
        if argument in _NO_SCRIPT:
            break
        if script and not script.startswith("-"):
            return printable(script.rpartition("/")[2], _LONGEST) or program, program
    return program, ""


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
