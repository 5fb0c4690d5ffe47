"""A real terminal for a program, in a namespace or not: tmux draws what it says, and types what a person would."""

from __future__ import annotations

import asyncio
import itertools
import os
import shlex

from vpnpf.io import process

_count = itertools.count(1)


class Screen:
    """An async context manager: the program's terminal, until it is left."""

    def __init__(self, host, argv, env, size=(120, 40)):
        """`host`: in whose namespace; None: in ours."""
        self._host = host
        self.name = f"vpnpf-test-{os.getpid()}-{next(_count)}"
        self._command = f"{shlex.join(argv)}; echo ended=$?; exec cat"
        self._env = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **env}
        self._size = size

    async def __aenter__(self):
        width, height = map(str, self._size)
        given = [word for name, value in self._env.items() for word in ("-e", f"{name}={value}")]
        await self._tmux("new-session", "-d", "-x", width, "-y", height, *given, self._command)
        return self

    async def __aexit__(self, *_error):
        await self._tmux("kill-server")

    async def text(self):
        """What is on it now."""
        return await self._tmux("capture-pane", "-p")

    async def until(self, *words, deadline=30.0):
        """Wait until all of these words are on it; returns what is."""
        seen = ""
        try:
            async with asyncio.timeout(deadline):
                while not all(word in seen for word in words):
                    await asyncio.sleep(0.05)
                    seen = await self.text()
        except TimeoutError:
            raise AssertionError(f"no {words} on:\n{seen}") from None
        return seen

    async def type(self, text):
        """Type this, letter by letter."""
        await self._tmux("send-keys", "-l", text)

    async def press(self, *keys):
        """Press keys, as tmux calls them."""
        await self._tmux("send-keys", *keys)

    async def _tmux(self, *words):
        argv = ("tmux", "-L", self.name, "-f", "/dev/null", *words)
        if self._host is not None:
            return await self._host.must(argv)
        return await process.must(argv, doing="asking tmux", deadline=10.0)
