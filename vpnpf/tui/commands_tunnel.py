"""Connecting, disconnecting, another server, and the end of it all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from vpnpf.control.seen import Seen, SeenServer
from vpnpf.control.told import told
from vpnpf.errors import Unavailable
from vpnpf.printable import printable
from vpnpf.tui.commands import Commands
from vpnpf.tui.sheets.confirm import Confirm
from vpnpf.tui.sheets.servers import NEXT, Servers
from vpnpf.tui.sheets.told import Told
from vpnpf.tui.sheets.working import Say
from vpnpf.tui.view import Reach

if TYPE_CHECKING:
    from textual.app import App

PAUSE = 0.1
"""Seconds between two looks at the state that the stream brings."""


def connect(face: Commands) -> None:
    """By the phase: connect what is stopped, or ask before what runs is taken down."""
    view = face.view
    if view.reach is not Reach.ATTACHED or view.seen is None:
        _start(face)
    elif view.seen.phase == "stopped":
        _connect(face, view.seen)
    elif view.seen.phase == "stopping":
        face.tell("It is being taken down just now; connect again when it has stopped.", warning=True)
    else:
        _disconnect(face)


def _start(face: Commands) -> None:
    """Offer to start what does not run; what runs and cannot be asked is told."""
    from vpnpf.tui.found import Running, running  # noqa: PLC0415 - only where it is away
    from vpnpf.tui.screens.starting import start  # noqa: PLC0415

    view, profile = face.view, face.link.profile
    said = (
        f"The profile {printable(profile)} is not running.",
        "It can be started in the background: it connects, and keeps the port when you leave this screen.",
    )

    def agreed() -> None:
        start(cast("App[object]", face), profile, face.configs.get(profile))

    def found(there: tuple[Running, ...]) -> None:
        if any(each.profile == profile for each in there):
            cause = view.trouble or "vpnpf has not answered yet"
            face.push_screen(Told(Unavailable("connecting", cause, view.hint or "wait a moment, and try again")))
        else:
            face.confirm(Confirm("start it?", said, "Start", harmless=True), agreed)

    face.look("looking whether it runs", lambda: asyncio.to_thread(running, (profile,)), found)


def _connect(face: Commands, before: Seen) -> None:
    async def doing(say: Say) -> Seen:
        say("reading the configuration")
        await face.link.ask("POST", "/v1/start")

        def stands(seen: Seen) -> bool:
            # The state from before the start may still be the newest one here.
            return seen.phase != "stopped" or seen.phase_since != before.phase_since

        seen = await _until(face, lambda seen: stands(seen) and seen.phase in {"ready", "failed", "stopped"}, say)
        if seen.phase != "ready":
            raise _in_the_way(seen, "connecting")
        return seen

    def connected(seen: Seen) -> None:
        face.tell(f"Connected: {_ports(seen)}.")

    face.work("connecting", doing, connected, "Nobody waits for it any more; it goes on connecting.")


def _disconnect(face: Commands) -> None:
    seen = face.view.seen
    assert seen is not None
    port = "no port is held" if face.view.port is None else f"port {face.view.port} is given back"
    said = (
        f"The tunnel of {printable(seen.profile)} is taken down, and {port}.",
        _network(seen),
        "vpnpf itself stays, so that you can connect again from here.",
    )

    async def doing(say: Say) -> Seen:
        await face.link.ask("POST", "/v1/stop")
        return await _until(face, lambda seen: seen.phase == "stopped", say)

    def agreed() -> None:
        left = "Nobody waits for it any more; it goes on being taken down."
        face.work("disconnecting", doing, lambda _: face.tell("Disconnected: the port was given back."), left)

    face.confirm(Confirm("disconnect?", said, "Disconnect"), agreed)


def _network(seen: Seen) -> str:
    if seen.lock == "lockdown":
        return "The lock stays (lockdown): nothing gets out to the internet until you connect again or unlock it."
    return "Your network is as it was before vpnpf: you are NOT protected then, and your own address is seen."


def servers(face: Commands) -> None:
    """Choose a server, or the next one."""

    async def asking() -> tuple[SeenServer, ...]:
        answer = await face.link.ask("GET", "/v1/servers")
        return told(answer.get("servers"), tuple[SeenServer, ...], "servers")

    def chosen(number: int | None) -> None:
        if number is not None:
            _go(face, number)

    def found(known: Sequence[SeenServer]) -> None:
        if len(known) < 2:  # noqa: PLR2004 - one is no choice
            only = f": {printable(known[0].place or known[0].endpoint or '')}" if known else ""
            face.tell(f"This profile has one server only{only}. Give it more in the configuration.")
        else:
            face.push_screen(Servers(known), chosen)

    face.look("looking for servers", asking, found)


def _go(face: Commands, number: int) -> None:
    before = face.view.seen.phase_since if face.view.seen else None

    async def doing(say: Say) -> Seen:
        await face.link.ask("POST", "/v1/server", {"number": None if number == NEXT else number})
        settled = {"ready", "failed", "stopped"}
        seen = await _until(face, lambda seen: seen.phase_since != before and seen.phase in settled, say)
        if seen.phase != "ready":
            raise _in_the_way(seen, "changing the server")
        return seen

    def there(seen: Seen) -> None:
        place = printable(seen.tunnel.place or seen.tunnel.endpoint) if seen.tunnel else "another server"
        more = "" if number in {NEXT, seen.server.number} else " The one you chose did not answer."
        face.tell(f"At {place} now: {_ports(seen)}.{more}", warning=bool(more))

    face.work(
        "changing the server", doing, there, "Nobody waits for it any more; it goes on to the server all the same."
    )


def end(face: Commands) -> None:
    """Ask, then stop it all and leave."""
    view = face.view
    port = f"Port {view.port} is given back, the" if view.port else "The"
    said = (
        f"{port} tunnel is taken down, and vpnpf ends ({printable(view.profile)}).",
        _network(view.seen) if view.seen else "The network is as it was before then.",
        "To leave only this screen and keep the port, go back and press q.",
    )
    gone = f"vpnpf has ended ({printable(view.profile)}). Start it again: vpnpf up {printable(view.profile)}"

    async def doing(say: Say) -> str:
        await face.link.ask("POST", "/v1/shutdown")
        while face.view.reach is Reach.ATTACHED:
            say(_stands(face))
            await asyncio.sleep(PAUSE)
        return gone

    def agreed() -> None:
        face.work("stopping it all", doing, face.exit, "Nobody waits for it any more; it ends all the same.")

    face.confirm(Confirm("stop it all?", said, "Stop all"), agreed)


# -- waiting ------------------------------------------------------------------------------------


async def _until(face: Commands, found: Callable[[Seen], bool], say: Say) -> Seen:
    """Wait for a state, and say how far it is. Raises Unavailable if the daemon goes away meanwhile."""
    while True:
        view = face.view
        if view.reach is Reach.AWAY:
            raise Unavailable("waiting for vpnpf", view.trouble or "it went away", view.hint)
        if view.seen is not None and found(view.seen):
            return view.seen
        say(_stands(face))
        await asyncio.sleep(PAUSE)


def _stands(face: Commands) -> str:
    seen = face.view.seen
    if seen is None:
        return "asked"
    problem = f"; {printable(seen.problems[-1].message, 120)}" if seen.problems else ""
    return f"{seen.phase.upper()}: {printable(seen.phase_text, 120) or 'at it'}{problem}"


def _in_the_way(seen: Seen, doing: str) -> Unavailable:
    problem = seen.problems[-1] if seen.problems else None
    if problem is None:
        return Unavailable(doing, seen.phase_cause or seen.phase_text or seen.phase, seen.phase_hint)
    return Unavailable(problem.doing or doing, problem.message, problem.hint or seen.phase_hint)


def _ports(seen: Seen) -> str:
    held = [each for each in seen.forwards if each.external_port]
    if not held:
        return "no port is held"
    if len(held) == 1:
        return f"the port is {held[0].external_port}"
    return "the ports are " + ", ".join(f"{each.external_port} ({printable(each.name, 40)})" for each in held)
