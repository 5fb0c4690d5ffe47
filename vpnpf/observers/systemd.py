"""What systemd is told (sd_notify(3)): that the rules stand, one line of status, and that the engine still turns.

READY=1 goes out once the profile's rule set is in force, not when a port is had: from then on nothing leaves beside the
tunnel, which is what other units wait for, and a provider that is away at boot must not make the start time out.

STOPPING=1 goes out when the process ends: a profile that is stopped by `vpnpf down --stay` waits for its next start, and is as
ready as it was.

WATCHDOG=1 goes out only if the engine has taken a step since the last one. It takes one every 15 s
(`core.schedule.LONGEST_SLEEP`), so WatchdogSec should be 45 s or more.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from typing import Self

from vpnpf.hub import Hub
from vpnpf.model import Phase, State
from vpnpf.observers.beat import beating
from vpnpf.printable import printable

BEAT = 15.0
"""Seconds between two looks at the engine without a watchdog: what systemd had no room for is said again then."""
SHARE = 4
"""Looks at the engine in the time of the watchdog."""
_LONGEST = 200


def words(state: State, *, ending: bool = False) -> dict[str, str]:
    """What is to be told of a state, as variables of sd_notify(3); `ending`: the process ends with it. Pure."""
    told = {"STATUS": status_line(state)}
    if state.firewall is not None or (state.phase is Phase.STOPPED and not ending):
        told["READY"] = "1"
    if ending and state.phase in {Phase.STOPPING, Phase.STOPPED}:
        told["STOPPING"] = "1"
    return told


def status_line(state: State) -> str:
    """The phase and each forward's port; no more, since everybody on the machine may read it."""
    ports = (
        f"{forward.spec.name} {forward.lease.external_port if forward.lease else 'without a port'}"
        for forward in state.forwards
    )
    line = f"{state.phase}: {', '.join(ports)}"
    if state.problems:
        line += "; `vpnpf status` has the problems"
    return printable(line, _LONGEST)


class Notifier:
    """Sends variables to systemd, each only when it has another value than it was told; never waits, never raises."""

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._told: dict[str, str] = {}

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self | None:
        """The one that systemd asked for by NOTIFY_SOCKET: a path, or an abstract name after "@"; else None."""
        address = environment.get("NOTIFY_SOCKET", "")
        return cls(address) if address[:1] in {"/", "@"} and len(address) > 1 else None

    def tell(self, wanted: Mapping[str, str]) -> None:
        """Say what is new; what cannot be sent now counts as not told."""
        new = {name: value for name, value in wanted.items() if self._told.get(name) != value}
        if new and self._send(new):
            self._told.update(new)

    def turned(self) -> bool:
        """Say that the engine turns; returns whether that went out."""
        return self._send({"WATCHDOG": "1"})

    def _send(self, variables: Mapping[str, str]) -> bool:
        text = "\n".join(f"{name}={value}" for name, value in variables.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(), self._address)
        except OSError:
            return False
        return True


def watchdog(environment: Mapping[str, str], pid: int) -> float | None:
    """Seconds within which systemd wants to hear of the process `pid`; None: it does not (sd_watchdog_enabled(3))."""
    with contextlib.suppress(ValueError):
        microseconds = int(environment.get("WATCHDOG_USEC", ""))
        if microseconds > 0 and int(environment.get("WATCHDOG_PID", pid)) == pid:
            return microseconds / 1e6
    return None


async def tell_systemd(
    hub: Hub, environment: Mapping[str, str] = os.environ, ending: Callable[[], bool] = lambda: False
) -> None:
    """Tell systemd until the hub closes; does nothing where it did not ask. `ending` says whether the process is to end."""
    notifier = Notifier.of(environment)
    if notifier is None:
        return
    limit = watchdog(environment, os.getpid())
    turns = hub.turns
    last: dict[str, str] = {}

    def look() -> None:
        nonlocal turns
        notifier.tell(last)
        if limit is not None and hub.turns != turns and notifier.turned():
            turns = hub.turns

    with hub.subscribe() as reader, beating(look, BEAT if limit is None else limit / SHARE):
        async for update in reader.updates():
            last = words(update.state, ending=ending())
            notifier.tell(last)
        notifier.tell({"STOPPING": "1"})
