"""Where it begins when there is not exactly one daemon to look at: what runs, what can be started, what can be set up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, OptionList
from textual.widgets.option_list import Option

from vpnpf.errors import ConfigError, Mistake, PermissionDenied
from vpnpf.printable import printable
from vpnpf.tui.found import Begin, begin
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.screens.offers import Deed, Offer, elsewhere, heading, offers
from vpnpf.tui.screens.starting import look_at, start
from vpnpf.tui.sheets.told import Told

if TYPE_CHECKING:
    from vpnpf.tui.entry import Root
    from vpnpf.tui.screens.wizard_course import Course

_APART = 3.0
"""Seconds between two looks at what runs."""
_NAME = 24
"""Columns of a profile's name, at most."""


class Start(Screen[None]):
    """The list, and a sentence about what is chosen."""

    DEFAULT_CSS = """
    Start { align: center middle; }
    Start > #start {
        width: 90%; max-width: 84; height: auto; max-height: 90%;
        border: round $accent; border-title-color: $text; border-title-style: bold; padding: 1 2;
    }
    Start #heading { text-style: bold; margin-bottom: 1; }
    Start #mistakes { height: auto; max-height: 12; margin-bottom: 1; display: none; }
    Start #mistakes Line { margin-bottom: 1; }
    Start OptionList, Start OptionList:focus {
        height: auto; max-height: 12; border: none; background: transparent; padding: 0;
    }
    Start #then { color: $text-muted; margin-top: 1; min-height: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        # Not escape: who presses it once too often to leave the questions would be on the terminal.
        Binding("ctrl+c", "app.leave", "Leave", show=False),
        Binding("r", "again", "Look again"),
    ]

    def __init__(self, there: Begin, root: Root, profile: str = "", config: Path | None = None) -> None:
        """`profile`: the one that was named, to be offered first; `config`: the configuration that was named."""
        super().__init__()
        self._there = there
        self._root = root
        self._wanted = profile
        self._config = config
        self._offers: dict[str, Offer] = {}
        self._course: Course | None = None
        """Where the questions were left."""

    def compose(self) -> ComposeResult:
        """The list in the middle, and the keys below."""
        with Vertical(id="start") as box:
            box.border_title = "vpnpf"
            yield Line(id="heading")
            yield VerticalScroll(id="mistakes")
            yield OptionList(id="offers")
            yield Line(id="then")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Show what there is."""
        self._fill()
        self.set_interval(_APART, self._look)
        if self._there.nothing and self._there.root:
            self._set_up()

    # -- showing --------------------------------------------------------------------------------

    def _fill(self) -> None:
        there = self._there
        said = elsewhere(there, str(self._config or "")) or heading(there)
        if self._wanted and self._wanted not in {each.profile for each in offers(there)}:
            said = f'There is no profile "{printable(self._wanted, _NAME)}". {said}'
        self.query_one("#heading", Line).say(said)
        mistakes = self.query_one("#mistakes", VerticalScroll)
        mistakes.remove_children()
        mistakes.mount_all(Line(_mistake(each)) for each in there.mistakes)
        mistakes.display = bool(there.mistakes)
        self._list()

    def _list(self) -> None:
        """The offers anew, with the same one chosen as before."""
        options = self.query_one(OptionList)
        chosen = options.highlighted_option.id if options.highlighted_option else None
        self._offers = {each.key: each for each in offers(self._there)}
        options.clear_options()
        options.add_options(Option(_line(each), id=each.key) for each in self._offers.values())
        keys = list(self._offers)
        named = [key for key, each in self._offers.items() if self._wanted and each.profile == self._wanted]
        # Who names a configuration wants one of it, not what runs already.
        asked = [key for key, each in self._offers.items() if self._config is not None and each.deed is Deed.START]
        first = chosen if chosen in self._offers else (named or asked or keys)[0]
        options.highlighted = keys.index(first)
        options.focus()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Say what it does."""
        offer = self._offers.get(event.option_id or "")
        self.query_one("#then", Line).say(offer.then if offer else "")

    # -- looking again --------------------------------------------------------------------------

    def action_again(self) -> None:
        """Look again, also at the configuration."""
        self._look()

    def _look(self) -> None:
        if self.is_current:
            self.run_worker(self._look_again(), exclusive=True, group="look")

    async def _look_again(self) -> None:
        there = await asyncio.to_thread(begin, self._config)
        if there != self._there:
            self._there = there
            self._fill()

    # -- doing ----------------------------------------------------------------------------------

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Do what was chosen."""
        offer = self._offers.get(event.option_id or "")
        if offer is None:
            return
        match offer.deed:
            case Deed.LOOK:
                look_at(self.app, offer.profile)
            case Deed.START if self._there.root:
                start(self.app, offer.profile, self._there.config)
            case Deed.START | Deed.ROOT | Deed.BARRED:
                self._as_root(offer.profile)
            case Deed.SET_UP:
                self._set_up()
            case Deed.AGAIN:
                self._look()

    def _as_root(self, profile: str) -> None:
        doing = f"looking at {profile}" if profile else "going on as root"
        if self._there.root:
            error = PermissionDenied(doing, "its socket lets nobody in", "look at its directory's rights: /run/vpnpf")
            self.app.push_screen(Told(error))
        elif not self._root.possible:
            self._root.want(profile, self._there.config)
            self._root.wanted = False
            self.app.push_screen(Told(PermissionDenied(doing, "there is no sudo", f"type: {self._root.line}")))
        else:
            self._root.want(profile, self._there.config)
            self.app.exit()

    def _set_up(self) -> None:
        if self._there.mistakes:
            self.app.push_screen(Told(ConfigError(self._there.mistakes)))
            return
        from vpnpf.tui.screens.wizard import Wizard  # noqa: PLC0415 - most never need it

        def left(course: Course | None) -> None:
            self._course = course
            self._look()

        self.app.push_screen(Wizard(self._config, self._course), left)


def _line(offer: Offer) -> Content:
    title = printable(offer.title, _NAME)
    # No colour: on the marked line it could not be read in every theme.
    return Content.assemble((f"{title:<{_NAME}}  ", "bold"), offer.stands)


def _mistake(mistake: Mistake) -> str:
    hint = f"\n  What to do: {printable(mistake.hint)}" if mistake.hint else ""
    return f"✗ {printable(mistake.where)}: {printable(mistake.what)}{hint}"
