"""Time for simulations: an event loop that jumps to the next timer, and the clock that goes with it."""

from __future__ import annotations

import asyncio
import heapq
import selectors

from vpnpf.testing import FakeClock

START = 1000.0


class _Deaf(selectors.SelectSelector):
    """Nothing outside of the loop ever happens, so nobody has to be asked about it."""

    def select(self, timeout=None):
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while nothing can run. Threads are not waited for: there are none."""

    def __init__(self) -> None:
        super().__init__(_Deaf())
        self._at = START

    def time(self):
        return self._at

    def run_in_executor(self, executor, func, *args):
        """Run it here and now: with a thread, time would jump before it is done."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            done.set_exception(error)
        return done

    def _run_once(self):
        """One turn, without what the original does for sockets, threads and debugging: this is run a million times."""
        ready, timers = self._ready, self._scheduled
        while timers and (timers[0]._cancelled or not ready or timers[0]._when <= self._at):
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if timer._cancelled:
                self._timer_cancelled_count -= 1
                continue
            self._at = max(self._at, timer._when)
            ready.append(timer)
        if not ready:
            raise RuntimeError("everybody waits, and nothing will ever happen")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()


class LoopClock(FakeClock):
    """CLOCK_BOOTTIME as the loop has it; nobody else may move it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(START)
        self.now = loop.time

    def wall(self) -> float:
        return self.now() + 1.7e9

    def advance(self, seconds: float) -> None:
        raise AssertionError("time belongs to the loop")


def run(main):
    """Run a coroutine in virtual time; returns what it returns."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
