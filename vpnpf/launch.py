"""Starting a profile in the background, and waiting until it is READY. All of it blocks: in a loop, call it in a thread.

Where systemd runs and has our unit, that starts it; elsewhere it is a process of its own that outlives us.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from vpnpf.config import load, places
from vpnpf.config_forwards import NAME, NO_NAME
from vpnpf.control import dialing
from vpnpf.control.client import Connection, NotRunning
from vpnpf.control.messages import NotNow
from vpnpf.control.seen import Seen
from vpnpf.control.waiting import until
from vpnpf.errors import PermissionDenied, Transient, Unavailable, UsageError, VpnpfError
from vpnpf.io import privileges
from vpnpf.io.process import find
from vpnpf.printable import printable
from vpnpf.store import holder, make_private, runtime_directory, state_directory

Say = Callable[[str], None]

SYSTEMD = Path("/run/systemd/system")
"""There where systemd is the machine's first process (sd_booted(3))."""
OF_THE_UNIT = Path("/etc/vpnpf/config.toml")
"""The configuration that our unit reads."""
UNTIL_READY = 90.0
"""Seconds until READY is not waited for any longer."""
_ANSWERS = 60.0
"""Seconds until it answers: before, it reads the configuration and looks the server's name up."""
_LARGEST = 1024 * 1024
"""Bytes of a log that is gone on with."""
_LAST_WORDS = 8
"""Lines of a log that are shown."""
_STEP = 0.05
_STARTING = "starting vpnpf"
_OF_SYSTEMD = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "INVOCATION_ID", "JOURNAL_STREAM")
"""What is not meant for the process that we start."""


class Way(StrEnum):
    """How a profile is started."""

    UNIT = "unit"
    DETACHED = "detached"


class Launch(Struct, frozen=True):
    """How a profile will be started."""

    profile: str
    way: Way
    command: tuple[str, ...]
    log: Path | None = None
    """Where it writes what it says; None: systemd's journal."""

    @property
    def said(self) -> str:
        """Where what it says can be read, for a person."""
        return str(self.log) if self.log else f"journalctl -u vpnpf@{self.profile}"


def plan_launch(profile: str, config: Path | None = None) -> Launch:
    """How a profile is to be started here. Touches nothing.

    Raises PermissionDenied for a user who may not make a tunnel, with the line that does it, and UsageError for what cannot be
    the name of a profile: it becomes part of the name of a unit and of a file.
    """
    _named(profile)
    wanted = config.absolute() if config is not None else None
    found = wanted or next((place for place in places() if place.exists()), None)
    of_the_unit = found == OF_THE_UNIT and SYSTEMD.is_dir() and _has_unit(profile)
    may = os.geteuid() == 0 or (not of_the_unit and privileges.has(privileges.NET_ADMIN))
    if not may:
        again = ("sudo", "vpnpf", "up", profile, *(("--config", str(wanted)) if wanted else ()))
        raise PermissionDenied(_STARTING, "it takes root to make a tunnel", f"do it with: {shlex.join(again)}")
    if of_the_unit:
        return Launch(profile, Way.UNIT, (find("systemctl"), "start", "--no-block", _unit(profile)))
    # -P: else a package of our name in the working directory would be run.
    command = (sys.executable, "-P", "-m", "vpnpf", "run", profile, *(("--config", str(found)) if found else ()))
    return Launch(profile, Way.DETACHED, command, state_directory() / f"run-{profile}.log")


class Launched:
    """What was started, until it answers."""

    def __init__(self, plan: Launch, process: subprocess.Popen[bytes] | None, began_at: int) -> None:
        self.plan = plan
        self._process = process
        self._began_at = began_at
        # What systemd says of the unit until it has begun is about the last time.
        self._looked = time.monotonic()

    def ended(self) -> str:
        """How it ended: "with status 78"; empty while it lives."""
        if self._process is not None:
            status = self._process.poll()
            return "" if status is None else f"with status {status}" if status >= 0 else f"by signal {-status}"
        now = time.monotonic()
        if now - self._looked < 1:
            return ""
        self._looked = now
        told = _output(("systemctl", "show", "-P", "ActiveState", _unit(self.plan.profile)))
        return "as systemd says: it failed" if told == ["failed"] else ""

    def last_words(self) -> list[str]:
        """The last lines that it wrote since it was started."""
        if self.plan.log is None:
            unit = _unit(self.plan.profile)
            return _output(("journalctl", "-u", unit, "-n", str(_LAST_WORDS), "-o", "cat", "--no-pager"))
        with contextlib.suppress(OSError), self.plan.log.open("rb") as log:
            log.seek(self._began_at)
            return log.read(_LARGEST).decode("utf-8", "replace").splitlines()[-_LAST_WORDS:]
        return []


def launch(plan: Launch) -> Launched:
    """Start it; it outlives us. Raises Unavailable."""
    if plan.log is None:
        try:
            subprocess.run(plan.command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            why = (getattr(error, "stderr", "") or str(error)).strip()
            raise Unavailable(
                _STARTING, f"systemctl says: {why}", f"look at: systemctl status vpnpf@{plan.profile}"
            ) from error
        return Launched(plan, None, 0)
    descriptor = _log(plan.log)
    try:
        began_at = os.fstat(descriptor).st_size
        environment = {name: value for name, value in os.environ.items() if name not in _OF_SYSTEMD}
        process = subprocess.Popen(
            plan.command,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd="/",
            env=environment,
            umask=0o077,
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(_STARTING, error.strerror or str(error), "is Python still installed?") from error
    finally:
        os.close(descriptor)
    return Launched(plan, process, began_at)


def wait_for_answer(launched: Launched, say: Say, cancelled: threading.Event | None = None) -> None:
    """Wait until it answers on its control socket.

    Raises Unavailable if it ended, after its last lines were said, and Transient if it takes too long or is not waited for.
    """
    plan, ends = launched.plan, time.monotonic() + _ANSWERS
    while not _answers(plan.profile):
        # Somebody else may have started it at the same moment, and then ours could not.
        if (how := launched.ended()) and holder(runtime_directory(), f"profile-{plan.profile}") is None:
            for line in launched.last_words():
                say(line)
            raise Unavailable(_STARTING, f"it ended at once, {how}", f"all that it said: {plan.said}")
        late = time.monotonic() > ends
        if late:  # it may have said why
            for line in launched.last_words():
                say(line)
        if late or (cancelled or _NEVER).wait(_STEP):
            raise Transient(_STARTING, "it does not answer yet", f"what it says: {plan.said}")


def settled(seen: Seen) -> bool:
    """Whether it is READY, or FAILED."""
    return seen.phase in {"ready", "failed"}


def bring_up(
    profile: str,
    config: Path | None,
    say: Say,
    *,
    limit: float = UNTIL_READY,
    cancelled: threading.Event | None = None,
    wanted: Callable[[Seen], bool] = settled,
) -> tuple[Seen | None, bool]:
    """Have a profile run, whether it does or not, and wait until it is as `wanted`: its newest state, and whether it is so.

    Raises UsageError for what is no name or is not configured, PermissionDenied, ConfigError, Unavailable if it ends, and
    Transient if it never answers.
    """
    _named(profile)
    try:
        _begin_again(profile, say, limit, cancelled)
    except NotRunning:
        _start(profile, config, say, cancelled)
    except PermissionDenied:
        plan_launch(profile, config)  # it names the line that does it, which helps more
        raise
    return until(profile, wanted, limit, say=say, cancelled=cancelled)


def _named(profile: str) -> None:
    if not NAME.fullmatch(profile):
        raise UsageError(_STARTING, f'"{printable(profile, 64)}" is {NO_NAME}', "see `vpnpf check-config`")


def _begin_again(profile: str, say: Say, limit: float, cancelled: threading.Event | None) -> None:
    """Have one that runs, but is stopped or stops, begin again. Raises NotRunning, also if it ends instead."""

    def leave(phase: str) -> str:
        try:
            # Not until it is stopped: one that is restarted is that too shortly to be seen.
            seen, _ = until(profile, lambda seen: seen.phase != phase, limit, say=say, cancelled=cancelled)
        except Unavailable as error:
            raise NotRunning(error.doing, error.cause, error.hint) from error
        return seen.phase if seen is not None else phase

    connection = Connection(profile)
    phase = connection.get("/v1").get("phase")
    if phase == "stopping":
        phase = leave(phase)
    if phase != "stopped":
        return
    try:
        connection.post("/v1/start")
        say(f"{profile} runs and was stopped: it begins again")
    except NotNow:  # it begins by itself, or it is about to end
        leave("stopped")


def _start(profile: str, config: Path | None, say: Say, cancelled: threading.Event | None) -> None:
    if (pid := holder(runtime_directory(), f"profile-{profile}")) is not None:
        say(f"process {pid} has {profile} already, and does not answer yet")
        ends = time.monotonic() + _ANSWERS
        while not _answers(profile):
            if holder(runtime_directory(), f"profile-{profile}") is None:
                break
            if time.monotonic() > ends or (cancelled or _NEVER).wait(_STEP):
                raise Transient(_STARTING, f"process {pid} has the profile and does not answer", f"end it: kill {pid}")
        else:
            return
    plan = plan_launch(profile, config)
    # What it would only say in its log is said here, before anything is started.
    load(config, ended=True).profile(profile)
    launched = launch(plan)
    say(f"{profile} starts in the background; what it says: {plan.said}")
    wait_for_answer(launched, say, cancelled)


_NEVER = threading.Event()


def _answers(profile: str) -> bool:
    try:
        dialing.dial(profile, dialing.directories(), 2.0).close()
    except NotRunning:
        return False
    except VpnpfError:
        return True
    return True


def _log(path: Path) -> int:
    """The log to go on with, for us alone. Raises Unavailable."""
    make_private(path.parent)
    try:
        with contextlib.suppress(FileNotFoundError):
            if path.lstat().st_size > _LARGEST:
                path.replace(path.with_suffix(".log.old"))
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(_STARTING, f"{path}: {error.strerror or error}", "remove it") from error


def _has_unit(profile: str) -> bool:
    """Whether systemd finds our unit, wherever it is installed."""
    return bool(_output(("systemctl", "cat", _unit(profile))))


def _unit(profile: str) -> str:
    return f"vpnpf@{profile}.service"


def _output(command: tuple[str, ...]) -> list[str]:
    """What a program says, by line; nothing if it cannot."""
    try:
        return subprocess.run(
            (find(command[0]), *command[1:]), check=False, capture_output=True, text=True, timeout=5
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError, VpnpfError):
        return []
