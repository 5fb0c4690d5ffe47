"""The newest state of a profile as a file, for `vpnpf status` and `vpnpf report`.

`status-PROFILE.json` in the runtime directory: the state as `--events` says it, with "time" (of writing), "pid"
and "version". It goes on while the profile is stopped and the process waits. A clean end of that removes it; one that is left
over tells what was last known.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

from vpnpf import __version__
from vpnpf.core.serialise import Json, state_json, time_of
from vpnpf.errors import Unavailable
from vpnpf.hub import Hub
from vpnpf.interfaces import Clock
from vpnpf.model import Phase, State
from vpnpf.observers.beat import beating
from vpnpf.store import STATUS, FileStore

Put = Callable[[str], None]

APART = 1.0
"""Seconds between two writes, at least."""
BEAT = 20.0
"""Seconds after which an unchanged state is written again, so that its time shows that we live."""
PATIENCE = 2.0
"""Seconds that the last write may take at the end."""


def document(state: State, now: float, offset: float) -> Json:
    """What the file says at `now` (CLOCK_BOOTTIME); `offset` is wall-clock time minus that."""
    head = {"time": time_of(now, offset), "pid": os.getpid(), "version": __version__}
    return {**head, **state_json(state, offset, now)}


class StatusWriter:
    """Writes the newest of what it is given, from a thread of its own: a stuck disk holds up nobody.

    A failure is said once by `say`, which must bear another thread, and tried again.
    """

    def __init__(self, directory: Path, say: Put, apart: float = APART) -> None:
        self._store = FileStore(directory)
        self._say = say
        self._apart = apart
        self._changed = threading.Condition()
        self._next: tuple[State, float, float] | None = None
        self._name = ""
        self._closed = False
        self._remove = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="status-file", daemon=True)
        self._thread.start()

    def put(self, state: State, now: float, offset: float) -> None:
        """Leave a state to be written; never waits."""
        with self._changed:
            self._name = STATUS + state.profile
            self._next = (state, now, offset)
            self._changed.notify()

    def close(self, *, remove: bool) -> None:
        """Let the thread write what is left, or remove the file, and end."""
        with self._changed:
            self._closed, self._remove = True, remove
            self._changed.notify()

    def join(self, patience: float = PATIENCE) -> None:
        """Wait for the thread's end, at most `patience` seconds."""
        self._thread.join(patience)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None or self._closed)
                given, self._next = self._next, None
                if given is None or self._remove:
                    break
            if not self._save(*given):
                with self._changed:
                    self._next = self._next or given
                    if self._closed:
                        break
            with self._changed:
                self._changed.wait_for(lambda: self._closed, self._apart)
        if self._remove and self._name:
            self._store.forget(self._name)

    def _save(self, state: State, now: float, offset: float) -> bool:
        try:
            self._store.save(self._name, document(state, now, offset))
        except (Unavailable, OSError, ValueError) as error:
            if not self._failing:
                self._say(f"problem: {error}; `vpnpf status` knows nothing new until that works")
            self._failing = True
            return False
        self._failing = False
        return True


async def keep_status(hub: Hub, clock: Clock, directory: Path, say: Put, beat: float = BEAT) -> None:
    """Keep the file until the hub closes. It is removed if the last word is that all was put back."""
    last: State | None = None
    writer = StatusWriter(directory, say)

    def write() -> None:
        if last is not None:
            writer.put(last, clock.now(), clock.wall() - clock.now())

    try:
        with hub.subscribe() as reader, beating(write, beat):
            async for update in reader.updates():
                last = update.state
                write()
    finally:
        clean = last is not None and last.phase is Phase.STOPPED and not last.problems
        writer.close(remove=clean)
    await asyncio.to_thread(writer.join)
