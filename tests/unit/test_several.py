"""`vpnpf run A B`: a process for each, real ones, that do as little as can be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import pytest

from vpnpf.cli.several import Several, run_several
from vpnpf.errors import ConfigError, UsageError

WAIT = """
import signal, sys
signals = []
def told(number, frame):
    signals.append(number)
    print("told", len(signals), file=sys.stderr, flush=True)
    if len(signals) == int(sys.argv[2]):
        sys.exit(int(sys.argv[1]))
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, told)
print('{"event": "up"}', flush=True)
print("up", file=sys.stderr, flush=True)
while True:
    signal.pause()
"""
END = "import sys; print('error: no such thing', file=sys.stderr); sys.exit(int(sys.argv[1]))"
KILLED = "import os; os.kill(os.getpid(), 9)"


def command(text, *arguments):
    return (sys.executable, "-c", text, *map(str, arguments))


class Heard:
    """What was said, and a way to wait for more."""

    def __init__(self):
        self.said, self.events = [], []
        self.news = asyncio.Event()

    def say(self, line):
        self.said.append(line)
        self.news.set()

    async def until(self, *lines):
        async with asyncio.timeout(10):
            while not set(lines) <= set(self.said):
                self.news.clear()
                await self.news.wait()


async def begun(**commands):
    heard = Heard()
    several = Several(commands, heard.say, heard.events.append)
    return heard, several, asyncio.create_task(several.run())


async def test_they_end_together_and_each_line_says_whose_it_is():
    heard, several, running = await begun(home=command(WAIT, 0, 1), away=command(WAIT, 0, 1))
    await heard.until("home: up", "away: up")
    os.kill(os.getpid(), signal.SIGINT)
    assert await running == 0
    assert sorted(heard.said) == ["away: told 1", "away: up", "home: told 1", "home: up"]
    assert heard.events == ['{"event": "up"}'] * 2
    assert all(process.returncode == 0 for process in several._processes.values())


async def test_the_second_signal_reaches_them_too_and_the_worst_status_is_the_whole_one():
    heard, several, running = await begun(home=command(WAIT, 0, 2), away=command(WAIT, 70, 2))
    await heard.until("home: up", "away: up")
    several.end()
    await heard.until("home: told 1", "away: told 1")
    assert not running.done()
    several.end()
    assert await running == 70
    assert "away: it ended with status 70" in heard.said


@pytest.mark.parametrize(
    ("ends", "how", "whole"),
    [
        (command(END, 78), "it ended with status 78; home goes on; mend what it says above, then start it", 78),
        (command(END, 69), "it ended with status 69; home goes on; start it", 69),
        (command(END, 0), "it has ended; home goes on; start it", 0),
        (command(KILLED), "it was ended by signal 9; home goes on; start it", 137),
    ],
)
async def test_one_that_ends_is_said_and_the_others_go_on(ends, how, whole):
    heard, several, running = await begun(home=command(WAIT, 0, 1), away=ends)
    await heard.until("home: up", f"away: {how}: vpnpf run away")
    assert not running.done()
    assert several._processes["home"].returncode is None
    several.end()
    assert await running == whole


async def test_when_all_have_ended_it_ends():
    heard, _, running = await begun(home=command(END, 78), away=command(END, 77))
    assert await running == 78
    assert {"home: error: no such thing", "away: error: no such thing"} <= set(heard.said)


async def test_the_signals_of_a_terminal_come_to_each_once():
    """They are not in our group, to which a terminal sends."""
    heard, several, running = await begun(home=command(WAIT, 0, 1))
    await heard.until("home: up")
    assert os.getpgid(several._processes["home"].pid) != os.getpgid(0)
    several.end()
    await running


@pytest.mark.parametrize(
    ("names", "said"), [(("home", "home"), "named twice"), (("home", "gone"), 'no profile "gone"')]
)
async def test_a_wrong_name_is_said_before_any_is_started(tmp_path, names, said):
    (tmp_path / "wg.conf").write_text("[Interface]\n")
    config = tmp_path / "config.toml"
    config.write_text(
        "".join(
            f'[profiles.{name}]\nprovider = "natpmp"\ntunnel = {{ type = "wireguard", config = "wg.conf" }}\n'
            'forwards.game = { protocols = ["tcp"], internal_port = 25565 }\n'
            for name in ("home", "away")
        )
    )
    with pytest.raises(UsageError, match=said):
        await run_several(names, config, events=False, verbose=False)


async def test_a_broken_configuration_is_said_once(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("profiles = 1\n")
    with pytest.raises(ConfigError):
        await run_several(("home", "away"), config, events=False, verbose=False)


PARENT = """
import os, signal, subprocess, sys
child = subprocess.Popen((sys.executable, "-c", sys.argv[1], str(os.getpid())), stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
CHILD = """
import signal, sys, threading
from vpnpf.io.privileges import end_with
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
end_with(int(sys.argv[1]))
print("up", flush=True)
threading.Event().wait(60)
"""


async def test_a_parent_that_is_killed_takes_them_along():
    pipe = asyncio.subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(*command(PARENT, CHILD), stdout=pipe)
    pid = int(await parent.stdout.readline())
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        descriptor = os.pidfd_open(pid)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            async with asyncio.timeout(10):
                await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
    assert await parent.wait() == -signal.SIGKILL
