# ruff: noqa: T201 - it talks to a person
"""What the face costs: `python -m tests.bench.face`. Processor time while a READY profile is shown, and the time to the first picture.

All in a real terminal (a pty) of 120x40. The rival for the first picture is an app of Textual's with one word on it, turn by
turn in the same run. Succeeds if all budgets are kept.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

IDLE_AT_MOST = 0.01
"""Of a core."""
PAINT_AT_MOST = 1.5
"""Times the bare app's time."""
SIZE = (120, 40)
BARE = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("first picture")
Bare().run()
"""
FACE = "from tests.bench.face import show; show({state!r})"
FIRST = {BARE: b"first picture", FACE: b"LOOKING"}


class Told:
    """A link to a daemon that says how it is each second, and its traffic each two."""

    profile = "home"

    def __init__(self, state: dict) -> None:
        self._state = state

    async def ask(self, method: str, path: str, body: object = None) -> dict:
        return {"api": 1, "role": "owner"}

    async def text(self, path: str) -> str:
        return ""

    async def events(self):
        for second in range(10**9):
            now = time.time()
            yield {**moved(self._state, now), "event": "state"}
            if second % 2:
                sizes = {"received": second * 1_000_000 + second % 7 * 90_000, "sent": second * 200_000}
                yield {"event": "traffic", "time": moment(now), **sizes}
            await asyncio.sleep(1)


def moment(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03}Z"


def moved(state: dict, now: float) -> dict:
    """The state as it is now: looked at every 15 s, renewed every 30 s."""
    renewed, looked = now - now % 30, now - now % 15
    forward = state["forwards"][0]
    proofs = {name: {**proof, "checked": moment(looked)} for name, proof in forward["proofs"].items()}
    lease = {"granted_at": moment(renewed), "renew_at": moment(renewed + 30), "expires_at": moment(renewed + 60)}
    forwards = [{**forward, **lease, "proofs": proofs, "packets": int(now / 20)}]
    return {**state, "time": moment(now), "forwards": forwards}


def show(path: str) -> None:
    """In a process of its own: the face, with nothing imported that it does not need."""
    from vpnpf.tui.app import Face  # noqa: PLC0415 - the child's part

    Face(Told(json.loads(Path(path).read_text()))).run()


@contextlib.contextmanager
def state_file() -> Iterator[str]:
    from tests.tui.situations import ready  # noqa: PLC0415 - not in the child

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "state.json"
        path.write_text(json.dumps(ready().state()))
        yield str(path)


@contextlib.contextmanager
def on_a_terminal(program: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """Run Python with this program on a pty of its own; gives the process and the terminal's other end."""
    far, near = pty.openpty()
    fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=near, stdout=near, stderr=near, env=environment, start_new_session=True
    )
    os.close(near)
    try:
        yield child, far
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        os.close(far)


def read_until(far: int, wanted: bytes, within: float = 30.0) -> bytes:
    """What is written until this is, or for so long."""
    end, found = time.monotonic() + within, b""
    while wanted not in found or not wanted:
        left = end - time.monotonic()
        if left <= 0 or not select.select([far], [], [], left)[0]:
            break
        found += os.read(far, 65536)
    return found


def first_picture(program: str, wanted: bytes) -> float:
    """Seconds from the start of the process to its first picture."""
    begun = time.perf_counter()
    with on_a_terminal(program) as (_, far):
        found = read_until(far, wanted)
        took = time.perf_counter() - begun
    assert wanted in found, found[-2000:]
    return took


def paints(rounds: int) -> tuple[float, float]:
    """Ours and the bare app's, turn by turn; the least of each: what else the machine does is no part of it."""
    with state_file() as state:
        face = FACE.format(state=state)
        pairs = [(first_picture(face, FIRST[FACE]), first_picture(BARE, FIRST[BARE])) for _ in range(rounds)]
    return min(each[0] for each in pairs), min(each[1] for each in pairs)


def idle(seconds: float) -> float:
    """The share of a core that it takes while it shows a READY profile."""
    with state_file() as state, on_a_terminal(FACE.format(state=state)) as (child, far):
        assert b"proofs" in read_until(far, b"proofs")
        read_until(far, b"", 4.0)
        before, begun = spent(child.pid), time.monotonic()
        written = len(read_until(far, b"", seconds))
        share = (spent(child.pid) - before) / (time.monotonic() - begun)
        assert child.poll() is None
        assert written, "it shows nothing new"
    return share


def spent(pid: int) -> float:
    """Seconds of processor time, with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    ours, bare = paints(asked.rounds)
    share = idle(asked.seconds)
    print(
        f"first picture    {ours * 1000:6.0f} ms, bare app {bare * 1000:.0f} ms: {ours / bare:.2f}x, {PAINT_AT_MOST}x at most"
    )
    print(f"idle, READY      {share:6.2%} of a core, {IDLE_AT_MOST:.0%} at most ({asked.seconds:.0f} s)")
    return int(ours / bare > PAINT_AT_MOST or share > IDLE_AT_MOST)


if __name__ == "__main__":
    sys.exit(main())
