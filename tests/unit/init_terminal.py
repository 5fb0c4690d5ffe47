"""A person at a terminal (a pty), who reads and answers."""

from __future__ import annotations

import os
import pty
import re
import select

PATIENCE = 20.0
"""Seconds that nothing may be said."""


class Terminal:
    """The person's end; what is run gets `slave` as its standard descriptors, and then `begun` is called."""

    def __init__(self):
        self.master, self.slave = pty.openpty()
        self.said = ""
        self._seen = 0

    def begun(self):
        os.close(self.slave)

    def until(self, pattern):
        """Read until it says that, after what was waited for before; returns the match."""
        while not (found := re.compile(pattern).search(self.said, self._seen)):
            assert self._read(), f"never said {pattern!r}: {self.said}"
        self._seen = found.end()
        return found

    def answer(self, pattern, text):
        found = self.until(pattern)
        os.write(self.master, f"{text}\n".encode())
        return found

    def end(self):
        """Read until nobody can say any more."""
        while self._read():
            pass

    def close(self):
        os.close(self.master)

    def _read(self):
        ready, _, _ = select.select([self.master], [], [], PATIENCE)
        assert ready, f"it says nothing more: {self.said}"
        try:
            data = os.read(self.master, 65536)
        except OSError:  # it ended
            return False
        self.said += data.decode(errors="replace")
        return bool(data)
