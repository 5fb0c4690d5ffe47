"""Waiting until a profile that runs has come so far, with what happens meanwhile."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from vpnpf.control.client import Connection
from vpnpf.control.following import Following
from vpnpf.control.seen import Seen
from vpnpf.errors import Unavailable

Say = Callable[[str], None]

_STEP = 0.1
"""Seconds between two looks whether it is enough."""


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
    connection, following = Connection(profile), Following()
    with _interrupting(connection, limit, cancelled or threading.Event()) as over:
        try:
            for event in connection.events():
                for line in following.lines(event):
                    say(line)
                reached = event.get("event") == "state" and following.seen is not None and wanted(following.seen)
                if reached or over.is_set():
                    return following.seen, reached
        except Unavailable:
            if not over.is_set():
                raise
        if not over.is_set():
            raise Unavailable("waiting for vpnpf", "it ended meanwhile", f"see `vpnpf status {profile}`")
    return following.seen, False


@contextlib.contextmanager
def _interrupting(connection: Connection, limit: float, enough: threading.Event) -> Iterator[threading.Event]:
    """Have a connection's request ended after `limit` seconds, or once it is `enough`: then the event given is set."""
    done, over = threading.Event(), threading.Event()

    def watch() -> None:
        # One thread can wait for one of the two.
        left = limit
        while left > 0 and not done.is_set() and not enough.wait(min(left, _STEP)):
            left -= _STEP
        over.set()
        while not done.wait(_STEP):  # again, as it may just be connecting
            connection.interrupt()

    thread = threading.Thread(target=watch, name="time for waiting", daemon=True)
    thread.start()
    try:
        yield over
    finally:
        done.set()
        thread.join()
