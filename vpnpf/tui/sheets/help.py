"""All keys, and what the signs mean."""

from __future__ import annotations

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.containers import Grid, VerticalScroll

from vpnpf.tui.actions import ACTIONS
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.sheets.sheet import Sheet

_KEYS = {"question_mark": "?"}
_MOVES = (
    ("tab", "Go to the next part that can be scrolled; arrows, page keys and the mouse wheel scroll it"),
    ("ctrl+p", "Search everything that can be done by its name"),
    ("esc", "Leave a window; nothing has changed then"),
)
_SIGNS = (
    ("✓", "It holds: it was looked at, and that is what was seen"),
    ("✗", "It does not hold: what to do is said where there is something to do"),
    ("·", "Not looked at yet, or nothing to look at: a forward without a torrent client has nothing to ask"),
    ("■", "Blocked: nothing gets to the internet"),
    ("…", "On its way"),
    ("!", "Works, but you should know"),
    ("?", "Not known: vpnpf does not answer at this moment"),
    ("↻", "vpnpf helped itself"),
    ("»", "Somebody asked for it"),
    ("either way", "It cannot be told who began this connection"),
)
_PROOFS = (
    ("tunnel", "The server answered a handshake less than three minutes ago"),
    ("lease", "The provider granted the port, and it has not ended"),
    ("firewall", "The kernel's rules are ours, one by one, and let the port in"),
    ("client", "The torrent client says that it uses this port"),
    ("listening", "A program waits on the port"),
    ("reachable", "Somebody came in from the internet"),
)


class Help(Sheet[None]):
    """What can be done and what is seen. Its text can be scrolled."""

    HEADING = "help"
    DEFAULT_CSS = """
    Help VerticalScroll { height: auto; max-height: 100%; scrollbar-size-vertical: 1; }
    Help Grid { grid-size: 2; grid-columns: 11 1fr; grid-rows: auto; height: auto; }
    Help .key { color: $accent; text-style: bold; }
    Help .heading { margin-top: 1; color: $text-muted; text-style: bold; }
    Help .heading:first-child { margin-top: 0; }
    """

    def content(self) -> ComposeResult:
        """Keys, signs, proofs."""
        with VerticalScroll():
            keys = [(_KEYS.get(action.key, action.key), action.help) for action in ACTIONS]
            yield from _table("Keys; who only watches sees all, and changes nothing", (*keys, *_MOVES))
            yield from _table("Signs", _SIGNS)
            yield from _table("The chain of proofs: each counts only if those before it hold", _PROOFS)


def _table(heading: str, rows: Iterable[tuple[str, str]]) -> ComposeResult:
    yield Line(heading, classes="heading")
    with Grid():
        for key, what in rows:
            yield Line(key, classes="key")
            yield Line(f"{what}.")
