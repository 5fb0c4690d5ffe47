"""Lines to a file descriptor that may be stuck, without ever waiting for it.

A full pipe must not stop renewals, so a thread of its own writes; when it falls behind, the oldest lines go.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque

KEPT = 4096
"""Lines kept for a reader that does not come."""


class LineWriter:
    """Writes lines in order from a thread of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._changed = threading.Condition()
        self._closed = False
        self.broken = False
        """Whether the reader went away for good."""
        self._thread = threading.Thread(target=self._write, name=f"lines-{descriptor}", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Leave a line (without its end) to be written; never waits."""
        with self._changed:
            self._lines.append(line)
            self._changed.notify()

    def close(self, patience: float = 2.0) -> None:
        """Write what is left, but wait no longer than `patience` seconds for a stuck reader."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(patience)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closed)
                if not self._lines:
                    return
                data = ("\n".join(self._lines) + "\n").encode(errors="replace")
                self._lines.clear()
            try:
                while data:
                    data = data[self._write_some(data) :]
            except OSError:
                self.broken = True
                return

    def _write_some(self, data: bytes) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            # Whoever shares the pipe or terminal with us made it non-blocking: full, not broken.
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll()
            return 0
