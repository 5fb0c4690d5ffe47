"""A real systemd that has our units and nothing else, as process 1 of a PID namespace, on the lab's client.

    async with Systemd(lab.client) as systemd:
        systemd.put("/etc/vpnpf/config.toml", text)
        await systemd.ctl("start", "vpnpf@home")

It sees the machine's files with its own /etc, /run, /opt, /usr/local, /var/lib, /tmp and /var/tmp, laid out as
docs/systemd.md says; the program is this checkout's. What it changes there is gone with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from inspect import isawaitable
from pathlib import Path

from vpnpf.errors import VpnpfError
from vpnpf.io.process import ENVIRONMENT

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy/systemd"
TARGETS = ("default", "sysinit", "basic", "multi-user", "shutdown", "network-pre", "network", "nss-lookup", "local-fs")
PROGRAM = """\
#!/bin/sh
export PYTHONPATH=/opt/source:/opt/source/providers:/opt/packages PYTHONDONTWRITEBYTECODE=1 LD_LIBRARY_PATH=/opt/python/lib
exec /opt/python/bin/python3 -m vpnpf "$@"
"""
LOG = "/run/vpnpf.log"
TO_THE_LOG = f"[Service]\nStandardOutput=append:{LOG}\nStandardError=append:{LOG}\n"
"""Where there is no journal."""
BOOT = """\
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=0755 tmpfs /mnt
mkdir /mnt/etc /mnt/local
cp -a /etc/. /mnt/etc 2>/dev/null || : # what goes away meanwhile is another lab's
rm -f /mnt/etc/resolv.conf
echo "nameserver 192.168.77.1" >/mnt/etc/resolv.conf
mount --bind /usr/local /mnt/local
for each in /run /opt /var/lib /usr/local; do mount -t tmpfs -o mode=0755 tmpfs $each; done
for each in /mnt/local/*; do ln -s "$each" /usr/local; done
rm -f /usr/local/bin /usr/local/lib
mkdir -p /usr/local/bin /usr/local/lib/vpnpf /opt/source /opt/python /opt/packages /run/units
for each in /mnt/local/bin/* /mnt/local/lib/*; do [ ! -e "$each" ] || ln -s "$each" "/usr/local/${each#/mnt/local/}"; done
mount --bind "$SOURCE" /opt/source
mount --bind "$PYTHON" /opt/python
mount --bind "$PACKAGES" /opt/packages
mount --bind /mnt/etc /etc
cp "$SOURCE"/deploy/systemd/*.service /run/units
cp "$SOURCE"/deploy/systemd/resolver /usr/local/lib/vpnpf/resolver
printf %s "$PROGRAM" >/usr/local/bin/vpnpf
chmod 755 /usr/local/bin/vpnpf
for each in $TARGETS; do echo '[Unit]' >"/run/units/$each.target"; done
systemd-sysusers "$SOURCE"/deploy/systemd/sysusers.conf
systemd-tmpfiles --create "$SOURCE"/deploy/systemd/tmpfiles.conf
for each in /tmp /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs $each; done
mknod -m 0666 /mnt/tun c 10 200
mount --bind /mnt/tun /dev/net/tun
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --make-rshared /
export container=other SYSTEMD_UNIT_PATH=/run/units
exec /lib/systemd/systemd --system --unit=default.target --log-target=console --show-status=no
"""
_count = itertools.count(1)


class Systemd:
    """One systemd; an async context manager. Raises VpnpfError with what it said if it does not come up."""

    def __init__(self, host) -> None:
        self.host = host
        self._group = _cgroup2() / f"vpnpf-{os.getpid()}-{next(_count)}"
        self._process = None
        self._reader = None
        self.said = ""
        self.pid = 0
        """Of process 1, as everybody else sees it."""

    async def __aenter__(self):
        self._group.mkdir()
        # Not `ip netns exec`, whose view of /sys has no cgroups.
        enter = f'echo 0 >{self._group}/cgroup.procs && exec nsenter --net={self.host.path} unshare "$@"'
        argv = ("sh", "-c", enter, "sh", "--pid", "--fork", "--kill-child", "--mount", "--ipc", "--uts", "--cgroup")
        env = {
            "SOURCE": str(ROOT),
            "PYTHON": sys.base_prefix,
            "PACKAGES": sysconfig.get_path("purelib"),
            "PROGRAM": PROGRAM,
            "TARGETS": " ".join(TARGETS),
        }
        self._process = await asyncio.create_subprocess_exec(
            *argv,
            *("sh", "-c", BOOT),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT | env,
        )
        self._reader = asyncio.create_task(self._read())
        try:
            await self.until(self._is_up)
            for unit in ("vpnpf@.service", "vpnpf-lockdown.service"):
                self.drop_in(unit, "log", TO_THE_LOG)
            await self.ctl("daemon-reload")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_error) -> None:
        with contextlib.suppress(ProcessLookupError):
            # With process 1 all others end, and `unshare` when they have.
            os.kill(self.pid or self._process.pid, signal.SIGKILL)
        await self._process.wait()
        await self._reader
        self._group_away()

    async def _read(self):
        while data := await self._process.stdout.read(65536):
            self.said += data.decode(errors="replace")

    def _is_up(self):
        if self._process.returncode is not None:
            raise VpnpfError("starting systemd", f"it ended: {self.said}")
        here = str(self._process.pid)
        with contextlib.suppress(OSError):  # it ended just now
            children = Path("/proc", here, "task", here, "children").read_text().split()
            self.pid = int(children[0]) if children else 0
        return self.pid and self.path("/run/systemd/private").exists()

    def _group_away(self):
        for path in sorted(self._group.rglob("*/"), reverse=True):
            path.rmdir()
        self._group.rmdir()

    async def until(self, condition, deadline=20.0):
        """Wait until something is the case; raises VpnpfError with all that was said if it is not in time."""
        end = time.monotonic() + deadline
        while not (answer := await answer if isawaitable(answer := condition()) else answer):
            if time.monotonic() > end:
                log = self.read(LOG) if self.path(LOG).exists() else ""
                raise VpnpfError("waiting for systemd", f"not in {deadline:g} s; {self.said}\n{log}")
            await asyncio.sleep(0.02)
        return answer

    def path(self, name):
        """A file as process 1 sees it."""
        return Path("/proc", str(self.pid), "root", name.lstrip("/"))

    def read(self, name):
        return self.path(name).read_text()

    def put(self, name, text, mode=0o644):
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode)
        path.chmod(mode)
        path.write_text(text)

    def drop_in(self, unit, name, text):
        """Add a drop-in; `daemon-reload` is the caller's."""
        self.put(f"/run/units/{unit}.d/{name}.conf", text)

    async def run(self, *argv):
        """A program in there, outside of every unit; returns (status, what it said)."""
        enter = ("nsenter", "--target", str(self.pid), "--mount", "--pid", "--net", "--cgroup")
        child = await asyncio.create_subprocess_exec(
            *enter, *argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        async with asyncio.timeout(60):
            said, _ = await child.communicate()
        return child.returncode, said.decode()

    async def ctl(self, *arguments):
        """`systemctl`; it must succeed. Returns what it said."""
        status, said = await self.run("systemctl", *arguments)
        if status != 0:
            log = self.read(LOG) if self.path(LOG).exists() else ""
            raise VpnpfError(f"systemctl {' '.join(arguments)}", f"status {status}: {said}\n{self.said}\n{log}")
        return said.strip()

    async def show(self, unit, name):
        return await self.ctl("show", "--value", "-p", name, unit)

    async def main_pid(self, unit):
        """The unit's main process, as we see it."""
        inside = int(await self.show(unit, "MainPID"))
        return next(pid for pid in self._processes() if _inner(pid) == inside)

    def _processes(self):
        """All processes of this systemd, as we see them."""
        ours = Path("/proc", str(self.pid), "ns/pid").readlink()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # it ended just now
                if entry.name.isdigit() and (entry / "ns/pid").readlink() == ours:
                    yield int(entry.name)

    def status(self, profile):
        """The profile's status file, or {}."""
        with contextlib.suppress(FileNotFoundError):
            return json.loads(self.read(f"/run/vpnpf/status-{profile}.json"))
        return {}


def _inner(pid):
    """A process's number in its own namespace."""
    status = Path("/proc", str(pid), "status").read_text()
    return int(status.partition("NSpid:")[2].partition("\n")[0].split()[-1])


def _cgroup2():
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise VpnpfError("looking for cgroups", "there is no cgroup2 file system")
