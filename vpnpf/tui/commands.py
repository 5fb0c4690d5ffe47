"""What a person can have done, by key, palette or mouse: each action finds its sheet, and the sheets ask the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from textual.app import App
from textual.dom import DOMNode

from vpnpf.errors import VpnpfError
from vpnpf.tui.actions import BY_NAME
from vpnpf.tui.link import Link
from vpnpf.tui.view import View

if TYPE_CHECKING:
    from vpnpf.tui.sheets.confirm import Confirm
    from vpnpf.tui.sheets.working import Done, Say

Value = TypeVar("Value")

SOON = 0.25
"""Seconds in which an answer comes without a word about the wait."""


class Commands(App[str]):
    """The half of the face that does things. What opens is loaded when it is asked for: the first picture needs none of it."""

    link: Link
    view: View
    configs: dict[str, Path | None]
    """By which configuration a profile was started here; None: that of the usual places."""

    async def run_action(
        self,
        action: str | tuple[str, str, tuple[object, ...]],
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """As Textual's; who may only watch is told so, where the key would do nothing."""
        name = action if isinstance(action, str) else action[1]
        known = BY_NAME.get(name) if default_namespace in (None, self) else None
        if known is not None and known.changes and not self.view.owner:
            who = "only root and the user that runs vpnpf may do that"
            self.tell(f"{known.label}: {who}; you may look on.", warning=True)
            return True
        return await super().run_action(action, default_namespace, namespaces)

    def attach(self, link: Link) -> None:
        """Follow this daemon from now on, in place of the one until now."""
        raise NotImplementedError

    def tell(self, said: str, *, warning: bool = False) -> None:
        """Say something in passing. It may be foreign: it is never markup."""
        self.notify(said, severity="warning" if warning else "information", markup=False)

    def work(
        self, title: str, doing: Callable[[Say], Awaitable[Value]], then: Callable[[Value], object], left: str = ""
    ) -> None:
        """Do something that takes a while, with its progress on a sheet; what went wrong is told."""
        from vpnpf.tui.sheets.working import Working  # noqa: PLC0415 - see above

        def over(done: Done[Value] | None) -> None:
            if done is not None and not done.cancelled:
                self._over(done.error, done.value, then)

        self.push_screen(Working(title, doing, left), over)

    def confirm(self, question: Confirm, then: Callable[[], object]) -> None:
        """Ask before something is done."""

        def answered(yes: bool | None) -> None:
            if yes:
                then()

        self.push_screen(question, answered)

    def look(self, title: str, asking: Callable[[], Awaitable[Value]], then: Callable[[Value], object]) -> None:
        """Ask for something that mostly comes at once; only if it does not, the wait is shown."""

        async def ask() -> None:
            task = asyncio.ensure_future(asking())
            try:
                await asyncio.wait([task], timeout=SOON)
            except asyncio.CancelledError:
                task.cancel()
                raise
            if not task.done():
                self.work(title, lambda _: task, then)
                return
            error = task.exception()
            failed = error if isinstance(error, VpnpfError) else None
            self._over(failed, None if failed else task.result(), then)

        self.run_worker(ask(), group="look", exclusive=True)

    def _over(self, error: VpnpfError | None, value: Value | None, then: Callable[[Value], object]) -> None:
        if error is None and value is not None:
            try:
                then(value)
            except VpnpfError as unreadable:
                error = unreadable
        if error is not None:
            from vpnpf.tui.sheets.told import Told  # noqa: PLC0415 - see above

            self.push_screen(Told(error))

    def _fatal_error(self) -> None:
        """As Textual's, without the values of variables: one of them may be a password that was just typed."""
        from rich.segment import Segments  # noqa: PLC0415 - it is the end, and seldom
        from rich.traceback import Traceback  # noqa: PLC0415

        trace = Traceback(show_locals=False, width=None)
        self._exit_renderables.append(Segments(self.console.render(trace, self.console.options)))
        self._close_messages_no_wait()

    # -- the actions ----------------------------------------------------------------------------

    def action_connect(self) -> None:
        """Connect, or disconnect."""
        from vpnpf.tui import commands_tunnel  # noqa: PLC0415 - as all of these: see above

        commands_tunnel.connect(self)

    def action_servers(self) -> None:
        """Choose another server."""
        from vpnpf.tui import commands_tunnel  # noqa: PLC0415

        commands_tunnel.servers(self)

    def action_end(self) -> None:
        """Stop it all."""
        from vpnpf.tui import commands_tunnel  # noqa: PLC0415

        commands_tunnel.end(self)

    def action_new_port(self) -> None:
        """Ask for another port."""
        from vpnpf.tui import commands_ports  # noqa: PLC0415

        commands_ports.new_port(self)

    def action_renew(self) -> None:
        """Ask for the same port again."""
        from vpnpf.tui import commands_ports  # noqa: PLC0415

        commands_ports.renew(self)

    def action_policy(self) -> None:
        """Choose what the internet may reach."""
        from vpnpf.tui import commands_policy  # noqa: PLC0415

        commands_policy.policy(self)

    def action_entries(self) -> None:
        """Edit the allow-list."""
        from vpnpf.tui import commands_policy  # noqa: PLC0415

        commands_policy.entries(self)

    def action_exposure(self) -> None:
        """See what is open."""
        from vpnpf.tui import commands_policy  # noqa: PLC0415

        commands_policy.exposure(self)

    def action_client(self) -> None:
        """See the torrent client's settings."""
        from vpnpf.tui import commands_more  # noqa: PLC0415

        commands_more.client(self)

    def action_login(self) -> None:
        """Log in."""
        from vpnpf.tui import commands_more  # noqa: PLC0415

        commands_more.login(self)

    def action_report(self) -> None:
        """See and save the report."""
        from vpnpf.tui import commands_more  # noqa: PLC0415

        commands_more.report(self)

    def action_profiles(self) -> None:
        """Look at another profile."""
        from vpnpf.tui import commands_more  # noqa: PLC0415

        commands_more.profiles(self)
