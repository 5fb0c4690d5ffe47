"""Waiting until a profile that runs has come so far, with what happens meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vpnpf.control.client import Connection
from vpnpf.control.following import Following
from vpnpf.control.seen import Seen
from vpnpf.errors import Unavailable

Say = Callable[[str], None]


def until(
    profile: str,
    wanted: Callable[[Seen], bool],
    limit: float,
    *,
    say: Say = lambda _line: None,
    cancelled: threading.Event | None = None,
) -> tuple[Seen | None, bool]:
    """The newest state, and whether it is as wanted; not so after `limit` seconds, or once `cancelled` is set.

    Blocks; `say` gets a line for whatever happens. Raises NotRunning, and Unavailable when vpnpf ends meanwhile.
    """
    connection = Connection(profile)
    enough = cancelled or threading.Event()
    done, over = threading.Event(), threading.Event()

    def watch() -> None:
        # `enough` may be set by others at any time, and `done` by us: one thread can wait for one of them.
        left = limit
        while left > 0 and not done.is_set() and not enough.wait(min(left, _STEP)):
            left -= _STEP
        over.set()
        while not done.wait(_STEP):  # again, as it may just be connecting
            connection.interrupt()

    threading.Thread(target=watch, name="time for waiting", daemon=True).start()
    following = Following()
    try:
        for event in connection.events():
            for line in following.lines(event):
                say(line)
            if event.get("event") == "state" and following.seen is not None and wanted(following.seen):
                return following.seen, True
            if over.is_set():
                return following.seen, False
    except Unavailable:
        if not over.is_set():
            raise
    finally:
        done.set()
    if not over.is_set():
        raise Unavailable("waiting for vpnpf", "it ended meanwhile", f"see `vpnpf status {profile}`")
    return following.seen, False


_STEP = 0.1
"""Seconds between two looks whether it is enough."""
