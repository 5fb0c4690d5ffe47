"""`vpnpf run A B`: a process for each profile, so that none has to do with the others, and one end for all.

What each says has its profile's name in front. One that ends before the others is said, with what to do; they go on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vpnpf.config import load
from vpnpf.errors import EX_CONFIG, EX_NOPERM, EX_OK, EX_USAGE, UsageError
from vpnpf.io.lines import LineWriter

Put = Callable[[str], None]

STDOUT, STDERR = 1, 2
LONGEST = 1 << 20
"""Bytes of a line that a profile says; a state with a long allow-list is one line."""
_ONLY_A_PERSON = {EX_USAGE, EX_NOPERM, EX_CONFIG}
_BY_SIGNAL = 128


async def run_several(profiles: Sequence[str], config: Path | None, *, events: bool, verbose: bool) -> int:
    """Run them all until each has ended; returns the worst exit status.

    Raises ConfigError, or UsageError for a profile that there is not, before any is started.
    """
    twice = [name for name, times in Counter(profiles).items() if times > 1]
    if twice:
        raise UsageError("choosing profiles", f"{twice[0]} is named twice", "name each once")
    found = load(config, ended=True)
    for name in profiles:
        found.profile(name)
    options = [*(["--config", str(config)] if config else []), *(["--events"] if events else [])]
    options += ["--verbose"] if verbose else []
    talk, data = LineWriter(STDERR), LineWriter(STDOUT)
    try:
        commands = {
            name: (sys.executable, "-m", "vpnpf", "run", name, *options, "--parent", str(os.getpid()))
            for name in profiles
        }
        return await Several(commands, talk.put, data.put).run()
    finally:
        data.close()
        talk.close()


class Several:
    """Processes by the names of their profiles."""

    def __init__(self, commands: Mapping[str, Sequence[str]], say: Put, put: Put) -> None:
        """`say` takes what they say, `put` their events."""
        self._commands = commands
        self._say = say
        self._put = put
        self._processes: dict[str, Process] = {}
        self._ending = False

    async def run(self) -> int:
        """Start them, and wait for all of them; returns the worst exit status."""
        loop, told = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in told:
            loop.add_signal_handler(number, self.end)
        try:
            return max(await asyncio.gather(*(self._one(name) for name in self._commands)))
        finally:
            for number in told:
                loop.remove_signal_handler(number)

    def end(self) -> None:
        """Tell all of them to end, each time: the second one makes them hurry."""
        self._ending = True
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)

    async def _one(self, name: str) -> int:
        # In a group of its own: what the terminal sends to ours comes to us, and once from us to each.
        process = await asyncio.create_subprocess_exec(
            *self._commands[name], stdin=DEVNULL, stdout=PIPE, stderr=PIPE, process_group=0, limit=LONGEST
        )
        self._processes[name] = process
        if self._ending:
            process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stderr is not None
        await asyncio.gather(
            _lines(process.stdout, self._put), _lines(process.stderr, lambda line: self._say(f"{name}: {line}"))
        )
        returned = await process.wait()
        status = returned if returned >= 0 else _BY_SIGNAL - returned
        if not self._ending or status != EX_OK:
            self._say(f"{name}: {self._words(name, returned)}")
        return status

    def _words(self, name: str, returned: int) -> str:
        others = [each for each, process in self._processes.items() if process.returncode is None and each != name]
        how = f"it was ended by signal {-returned}" if returned < 0 else f"it ended with status {returned}"
        if returned == EX_OK:
            how = "it has ended"
        go_on = (
            f"; {', '.join(others)} {'goes' if len(others) == 1 else 'go'} on" if others and not self._ending else ""
        )
        if self._ending:
            return how
        mended = "mend what it says above, then start it" if returned in _ONLY_A_PERSON else "start it"
        return f"{how}{go_on}; {mended}: vpnpf run {name}"


async def _lines(reader: asyncio.StreamReader, put: Put) -> None:
    while True:
        try:
            line = await reader.readline()
        except ValueError:  # longer than is kept: it is lost, and the next ones are not
            continue
        if not line:
            return
        put(line.decode(errors="replace").rstrip("\n"))
