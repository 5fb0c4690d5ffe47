"""Who comes in from outside: how many in the last ten minutes, and the last of them."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Sparkline

from vpnpf.control.seen import SeenPeer
from vpnpf.core.spans import span
from vpnpf.tui.panels.panel import Line, Panel, lines, styled
from vpnpf.tui.view import View

FLAT = 4
"""Rows below which there is one line of words."""


class InboundPanel(Panel):
    """New flows on forwarded ports."""

    TITLE = "inbound"
    DEFAULT_CSS = """
    InboundPanel {
        Sparkline { height: 1; margin-bottom: 0; }
        Sparkline > .sparkline--max-color { color: $accent; }
        Sparkline > .sparkline--min-color { color: $accent 40%; }
        Line { text-wrap: nowrap; text-overflow: ellipsis; }
    }
    """

    def compose(self) -> ComposeResult:
        """A sparkline, and words below."""
        yield Sparkline([], id="flows")
        yield Line(id="came")

    def show(self, view: View) -> None:
        """As `Panel.show`."""
        flows = self.query_one(Sparkline)
        data = (0, *view.inbound)  # the scale begins at 0
        if flows.data != data:
            flows.data = data
        self.query_one("#came", Line).say(_said(view, self.content_size.height))
        self.subtitle("ten minutes" if view.seen else "")


def _said(view: View, room: int) -> Content:
    forward = view.forward
    peers = forward.peers if forward else ()
    if forward is None or (not forward.packets and not peers and not sum(view.inbound)):
        return styled(("nobody came in yet" if view.seen else "", "$text-muted"))
    recent = f"{sum(view.inbound):,} came in" if sum(view.inbound) else "nobody lately"
    if room < FLAT:
        last = f" · last {_address(peers[0])}" if peers else f" · {forward.packets:,} in all"
        return styled((recent, "bold"), last)
    head = styled((recent, "bold"), (f" · {forward.packets:,} since the port is open", "$text-muted"))
    return lines([head, *(_peer(peer, view) for peer in peers)])


def _peer(peer: SeenPeer, view: View) -> Content:
    # Who is not seen need not be gone: after a change of port, connections that came in by the old one go on.
    since = f"for {span(view.age(peer.since) or 0)}" if peer.connected and peer.since else ""
    parts = [
        peer.protocol,
        since or ("connected" if peer.connected else "earlier"),
        "" if peer.came_in else "either way",
    ]
    return styled(f"{_address(peer):<24}", (", ".join(filter(None, parts)), "$text-muted"))


def _address(peer: SeenPeer) -> str:
    host = f"[{peer.address}]" if ":" in peer.address else peer.address
    return f"{host}:{peer.port}" if peer.port else peer.address
