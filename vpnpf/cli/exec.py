"""`vpnpf exec`: a program in the tunnel's own network namespace, as the user who calls.

It takes our place (execve(2)): exit status, signals, terminal and working directory are its own. Nothing of it can
get the capabilities that lead out again, not by sudo either. no_new_privs is not set: what a sandboxed browser or
fusermount needs goes on working.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import click

from vpnpf.cli.options import CONFIG
from vpnpf.config import load
from vpnpf.errors import PermissionDenied, Unavailable, UsageError, VpnpfError
from vpnpf.io import privileges
from vpnpf.io.privileges import Identity
from vpnpf.store import holder, runtime_directory
from vpnpf.tunnels.namespace import ProfileNamespace

NOT_FOUND, NOT_STARTED = 127, 126
"""As shells, env(1) and nohup(1) have them."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_OF_SUDO = ("SUDO_COMMAND", "SUDO_GID", "SUDO_HOME", "SUDO_UID", "SUDO_USER")
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_RUNNING = "running a program in the tunnel's network namespace"


class NotStarted(VpnpfError):
    """The program cannot be started."""

    def __init__(self, command: str, error: OSError) -> None:
        found = not isinstance(error, FileNotFoundError)
        hint = "may this user run it?" if found else "is it installed, and is its directory in PATH?"
        super().__init__(f"starting {command}", error.strerror or str(error), hint)
        self.exit_code = NOT_STARTED if found else NOT_FOUND


@click.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}, no_args_is_help=True
)
@CONFIG
@click.option("--user", help="Run it as this user; otherwise as the one who called sudo.")
@click.argument("profile")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(profile: str, command: tuple[str, ...], config: Path | None, user: str | None) -> None:
    """Run a program in the tunnel's own network namespace, where there is no other way out.

    For example: vpnpf exec home -- qbittorrent. The profile has `namespace = true` in its tunnel, and `vpnpf run` was started for it. Needs root: sudo vpnpf exec.
    The exit status is the program's; 126 and 127: it could not be started; 69: there is no such namespace.
    """
    if not _NAME.fullmatch(profile):
        raise UsageError(
            _RUNNING, f"{profile!r} is not the name of a profile", "vpnpf exec [OPTIONS] PROFILE -- COMMAND ..."
        )
    command = command[1:] if command[0] == "--" else command
    if not command or command[0].startswith("-"):
        raise UsageError(_RUNNING, "there is no command", "vpnpf exec [OPTIONS] PROFILE -- COMMAND ...")
    privileges.need(privileges.ADMIN, _RUNNING, "entering a network namespace needs root")
    identity = who(user, os.environ)
    namespace = namespace_of(profile)
    if namespace is None:
        raise _missing(profile, config)
    namespace.enter()
    if [name for _, name in socket.if_nameindex()] == ["lo"]:
        click.echo(f"note: the tunnel of {profile} is not up; until it is, nothing can leave", err=True)
    environment = environment_for(identity, os.environ)
    try:
        privileges.limit()
        if identity.uid != os.geteuid():
            privileges.become(identity)
    except OSError as error:
        raise PermissionDenied(_RUNNING, error.strerror or str(error), "run it as root") from error
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - what the person wrote, as that person
    except OSError as error:
        raise NotStarted(command[0], error) from error


def who(name: str | None, environment: Mapping[str, str]) -> Identity:
    """Whom the program runs as: the user named, or who called sudo, or ourselves. Raises UsageError."""
    doing = "choosing the user"
    try:
        if name is not None:
            return _identity(pwd.getpwnam(name))
        if "SUDO_UID" in environment:
            uid, gid = int(environment["SUDO_UID"]), int(environment.get("SUDO_GID", "-1"))
            with contextlib.suppress(KeyError):
                found = _identity(pwd.getpwuid(uid))
                return Identity(uid, gid if gid >= 0 else found.gid, found.name, found.home, found.shell)
            return Identity(uid, gid if gid >= 0 else uid)
        return _identity(pwd.getpwuid(os.geteuid()))
    except KeyError:
        raise UsageError(doing, f"there is no user {name or os.geteuid()}", "name another with --user") from None
    except ValueError:
        raise UsageError(doing, "SUDO_UID is not a number", "name the user with --user") from None


def environment_for(user: Identity, given: Mapping[str, str]) -> dict[str, str]:
    """The environment without what sudo added; what is root's in it becomes the user's."""
    kept = {name: value for name, value in given.items() if name not in _OF_SUDO}
    if user.uid == os.geteuid():
        return kept
    root = _identity(pwd.getpwuid(os.geteuid()))
    for key, theirs, own in (
        ("HOME", root.home, user.home),
        ("SHELL", root.shell, user.shell),
        ("USER", root.name, user.name),
        ("LOGNAME", root.name, user.name),
        ("MAIL", f"/var/mail/{root.name}", f"/var/mail/{user.name}"),
    ):
        if kept.get(key) == theirs:
            kept[key] = own
    return kept


def _identity(entry: pwd.struct_passwd) -> Identity:
    return Identity(entry.pw_uid, entry.pw_gid, entry.pw_name, entry.pw_dir, entry.pw_shell)


def namespace_of(profile: str) -> ProfileNamespace | None:
    """By its name, or by the process that runs the profile; None: there is none."""
    found = ProfileNamespace(profile)
    if not found.exists and (runner := holder(runtime_directory(), f"profile-{profile}")):
        found = ProfileNamespace(profile, runner)
    return found if found.exists else None


def _missing(profile: str, config: Path | None) -> VpnpfError:
    """Why there is no namespace. Raises ConfigError, UsageError."""
    if not load(config, ended=True).profile(profile).tunnel.namespace:
        hint = f"add to [profiles.{profile}.tunnel]: namespace = true"
        return Unavailable(_RUNNING, f"the tunnel of {profile} has no network namespace of its own", hint)
    return Unavailable(_RUNNING, f"profile {profile} is not running", f"start it with: vpnpf up {profile}")
