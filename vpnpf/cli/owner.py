"""Where the units of deploy/systemd are installed, our directories are their user's: what root does there is done as him."""

from __future__ import annotations

import contextlib
import os
import sys

from vpnpf.io.process import find
from vpnpf.store import runtime_directory, state_directory


def as_the_owner() -> None:
    """As root, go on as the user that our directories belong to, with CAP_NET_ADMIN alone; does not return then.

    Else root would leave files that the service cannot open. Returns where they are root's, or named by the
    environment. Raises Unavailable without setpriv.
    """
    names = ("STATE_DIRECTORY", "RUNTIME_DIRECTORY")
    if os.geteuid() != 0 or any(name in os.environ for name in names):
        return
    directories = (state_directory(), runtime_directory())
    for directory in directories:
        with contextlib.suppress(OSError):
            found = directory.lstat()
            if found.st_uid != 0:
                env = {
                    **os.environ,
                    **dict(zip(names, map(str, directories), strict=True)),
                    "HOME": str(directories[0]),
                }
                argv = _argv(found.st_uid, found.st_gid)
                os.execve(argv[0], argv, env)  # noqa: S606 - by absolute path, without a shell


def _argv(user: int, group: int) -> tuple[str, ...]:
    return (
        find("setpriv"),
        f"--reuid={user}",
        f"--regid={group}",
        "--clear-groups",
        "--inh-caps=-all,+net_admin",
        "--ambient-caps=-all,+net_admin",
        "--bounding-set=-all,+net_admin",
        "--no-new-privs",
        sys.executable,
        # Else a package of our name in the working directory would be run.
        "-P",
        "-m",
        "vpnpf",
        *sys.argv[1:],
    )
