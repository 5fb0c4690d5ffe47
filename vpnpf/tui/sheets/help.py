"""All keys, and what the signs mean."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from vpnpf.tui.actions import ACTIONS, Action
from vpnpf.tui.panels.panel import Line, styled
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
    Help .heading { margin-top: 1; color: $text-muted; text-style: bold; }
    Help .heading:first-child { margin-top: 0; }
    """

    def content(self) -> ComposeResult:
        """Keys, signs, proofs."""
        with VerticalScroll():
            yield Line("Keys", classes="heading")
            for action in ACTIONS:
                yield _row(_key(action), action.help + ("." if not action.changes else ", if you are its owner."))
            for key, what in _MOVES:
                yield _row(key, f"{what}.")
            yield Line("Signs", classes="heading")
            for sign, what in _SIGNS:
                yield _row(sign, f"{what}.")
            yield Line("The chain of proofs: each counts only if those before it hold", classes="heading")
            for name, what in _PROOFS:
                yield _row(name, f"{what}.")


def _key(action: Action) -> str:
    return _KEYS.get(action.key, action.key)


def _row(key: str, what: str) -> Line:
    line = Line()
    line.say(styled((f"{key:<10} ", "bold $accent"), what))
    return line
