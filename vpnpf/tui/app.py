"""The terminal app: follows one daemon, shows it, and hands on what the person wants. It only wires."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import ClassVar

from msgspec.structs import replace
from textual.command import Provider
from textual.css.query import NoMatches
from textual.screen import Screen

from vpnpf.control.dialing import NotRunning
from vpnpf.control.messages import API, Json
from vpnpf.control.seen import read
from vpnpf.errors import Unavailable, VpnpfError
from vpnpf.printable import printable
from vpnpf.tui.actions import BY_NAME, ActionCommands, bindings
from vpnpf.tui.commands import Commands
from vpnpf.tui.history import History
from vpnpf.tui.link import Link, NoLink
from vpnpf.tui.screens.dashboard import Dashboard
from vpnpf.tui.themes import following, register
from vpnpf.tui.view import Reach, View, next_forward, worth_a_picture

APART = 0.1
"""Seconds between two pictures, at least: a burst of states costs no more than ten a second."""
ALWAYS = frozenset({"leave", "help", "theme"})
"""Actions that need no daemon."""
AGAIN = (0.3, 0.5, 1.0, 2.0)
"""Seconds until a daemon that is away is looked for again; the last one from then on."""


class Face(Commands):
    """Of one profile at a time. Its result is what is to be said on the terminal afterwards."""

    TITLE = "vpnpf"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {ActionCommands}
    BINDINGS: ClassVar = [*bindings()]

    def __init__(
        self,
        link: Link | None,
        clock: Callable[[], float] = time.time,
        first: Callable[[], Screen[None]] | None = None,
    ) -> None:
        """`clock`: seconds since 1970. Without a link it begins with the screen that `first` makes, which is to attach one."""
        super().__init__()
        register(self)
        self.link: Link = link or NoLink()
        self.configs = {}
        self._first = first
        self._clock = clock
        self._history = History()
        self._following: asyncio.Task[None] | None = None
        self._due = False
        self.view = View(self.link.profile, clock())

    def get_default_screen(self) -> Screen[object]:
        """The dashboard is what everything else lies upon."""
        return Dashboard(self.view)  # type: ignore[return-value]

    def on_mount(self) -> None:
        """The first picture, and one each second for the ages."""
        self.set_interval(1.0, self._show)
        if not self.link.profile and self._first is not None:
            self.push_screen(self._first())

    def on_dashboard_filled(self) -> None:
        """Begin to follow the daemon; the first picture was not kept waiting for that."""
        if self.link.profile and self._following is None:
            self.attach(self.link)

    def on_unmount(self) -> None:
        """Let go of the daemon."""
        if self._following is not None:
            self._following.cancel()

    # -- following ------------------------------------------------------------------------------

    def attach(self, link: Link) -> None:
        """Follow this daemon from now on, in place of the one until now."""
        if self._following is not None:
            self._following.cancel()
        self.link, self._history = link, History()
        self.view = View(link.profile, self._clock())
        self._following = asyncio.create_task(self._follow(link), name=f"following {link.profile}")
        self._show()

    async def _follow(self, link: Link) -> None:
        tries = 0
        while True:
            trouble: VpnpfError | None = None
            try:
                await self._look(link)
                async for event in link.events():
                    tries = 0
                    self._take(event)
            except VpnpfError as error:
                trouble = error
            self._history.forget()
            self.view = replace(
                self.view,
                reach=Reach.AWAY if self.view.seen else Reach.LOOKING,
                trouble=printable(str(trouble)) if trouble else "vpnpf has ended",
                hint=self._hint(trouble, link.profile),
            )
            self._soon()
            await asyncio.sleep(AGAIN[min(tries, len(AGAIN) - 1)])
            tries += 1

    @staticmethod
    def _hint(trouble: VpnpfError | None, profile: str) -> str:
        """What to do, from here if it can be done from here."""
        if trouble is None or isinstance(trouble, NotRunning):
            return f"press d to start it, or: vpnpf up {profile}"
        return printable(trouble.hint)

    async def _look(self, link: Link) -> None:
        """What kind of daemon it is, before anything of it is believed. Raises Unavailable for another version."""
        about = await link.ask("GET", "/v1")
        if about.get("api") != API:
            cause = f"it speaks version {about.get('api')!r:.20} of its interface, and this is version {API}"
            raise Unavailable("asking vpnpf", cause, "use the vpnpf of the same version, or restart the one that runs")
        self.view = replace(self.view, owner=about.get("role") == "owner")

    def _take(self, event: Json) -> None:
        kind = event.get("event")
        if kind == "traffic":
            self._history.traffic(event)
        elif kind == "state":
            seen, before = read(event), self.view
            self._history.state(seen)
            self.view = replace(before, seen=seen, reach=Reach.ATTACHED, trouble="", hint="")
            if before.reach is not Reach.ATTACHED:
                self._show()
            elif worth_a_picture(before.seen, seen):
                self._soon()

    def _soon(self) -> None:
        """Show it, with what else comes in the next moment."""
        if not self._due:
            self._due = True
            self.set_timer(APART, self._show_news)

    def _show_news(self) -> None:
        self._due = False
        self._show()

    def _show(self) -> None:
        now = self._clock()
        self._history.pass_time(now)
        self.view = replace(self.view, now=now, rates=self._history.rates, inbound=self._history.inbound)
        for screen in self.screen_stack:
            show = getattr(screen, "show", None)
            if show is not None and screen.is_mounted:
                with contextlib.suppress(NoMatches):  # its parts go before itself: then there is nothing to show
                    show(self.view)

    # -- doing ----------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What only the owner may is greyed out for who only watches; its key says why (`Commands.run_action`)."""
        del parameters
        known = BY_NAME.get(action)
        if not self.link.profile and known is not None and action not in ALWAYS:
            return False
        return None if known is not None and known.changes and not self.view.owner else True

    def action_copy_port(self) -> None:
        """Copy the port."""
        port = self.view.port
        if port is None:
            self.notify("There is no port at this moment, so nothing was copied.", severity="warning")
            return
        self.copy_to_clipboard(str(port))
        self.notify(f"Copied {port}, if your terminal lets programs copy.", markup=False)

    def action_forward(self) -> None:
        """Look at the next forward."""
        self.view = replace(self.view, chosen=next_forward(self.view))
        self._show()

    def action_theme(self) -> None:
        """The next of our themes."""
        self.theme = following(self.theme)
        self.notify(f"Theme: {self.theme}", timeout=2, markup=False)

    def action_help(self) -> None:
        """All keys and signs."""
        from vpnpf.tui.sheets.help import Help  # noqa: PLC0415 - not for the first picture

        self.push_screen(Help())

    def action_leave(self) -> None:
        """Leave; the daemon goes on."""
        self.exit(self._goodbye())

    def _goodbye(self) -> str:
        view = self.view
        if view.reach is not Reach.ATTACHED:
            return ""
        what = f"keeps port {view.port}" if view.port else "goes on"
        return f"vpnpf {what} ({view.profile}). Back to it: vpnpf   Stop it: vpnpf down {view.profile}"
