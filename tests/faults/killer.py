"""Runs vpnpf in this process and kills it at the K-th step that touches the world.

    python killer.py LOG AT WHEN HOW ... vpnpf run PROFILE --config FILE

A step is what Python's audit events (sys.addaudithook) say just before it is done: a file opened for writing, renamed
or removed, a directory made, a lock taken, a program started, a socket bound, connected or sent from. Each becomes a
line of LOG. AT is the number of the step, 0: only count. WHEN is "start", or "signal": count from SIGUSR1 on. HOW is
"before", or "during": at a program that is started, kill it together with this process some moments later.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

from vpnpf.__main__ import main as vpnpf

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
FILES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.truncate", "os.chmod", "os.chown"}
SOCKETS = {"socket.bind", "socket.connect", "socket.sendto", "socket.sendmsg"}
LONGEST = 0.004
"""Seconds that a program has at most before it is killed "during"."""


class Killer:
    """Counts steps, and kills at one of them."""

    def __init__(self, log: int, at: int, *, armed: bool, during: bool) -> None:
        self._log = log
        self._at = at
        self._armed = armed
        self._during = during
        self._count = 0

    def arm(self, *_: object) -> None:
        """Count from now on."""
        self._armed = True

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        """The audit hook."""
        if not self._armed or (step := described(event, args)) is None:
            return
        self._count += 1
        os.write(self._log, f"{step}\n".encode())
        if self._count == self._at:
            self._armed = False
            if self._during and event == "subprocess.Popen":
                threading.Thread(target=self._kill_both, daemon=True).start()
            else:
                os.kill(os.getpid(), signal.SIGKILL)

    def _kill_both(self) -> None:
        time.sleep(LONGEST * (self._at % 8) / 8)
        for child in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
            for pid in child.read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def described(event: str, args: tuple[object, ...]) -> str | None:
    """A step in a line: its class, and what it is; None: it changes nothing."""
    match event:
        case "open" if isinstance(args[2], int) and args[2] & WRITING and args[0] != os.devnull:
            return f"file open {args[0]!r}"
        case "fcntl.flock":
            return "file lock"
        case "subprocess.Popen":
            words = args[1] if isinstance(args[1], (list, tuple)) else [args[1]]
            return "process " + " ".join(Path(str(word)).name for word in words)
        case _ if event in FILES:
            return f"file {event} {args[0]!r}"
        case _ if event in SOCKETS:
            return f"socket {event} {args[1]!r}"
    return None


def main(log: str, at: str, when: str, how: str, *rest: str) -> None:
    """Run what follows."""
    killer = Killer(
        os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        int(at),
        armed=when == "start",
        during=how == "during",
    )
    sys.dont_write_bytecode = True  # what Python keeps for itself is no step of the product
    signal.signal(signal.SIGUSR1, killer.arm)
    sys.addaudithook(killer)
    sys.argv = ["vpnpf", *rest[rest.index("vpnpf") + 1 :]]
    vpnpf()


if __name__ == "__main__":
    main(*sys.argv[1:])
