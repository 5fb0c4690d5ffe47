"""The torrent client's settings as read back, beside what they should be."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.content import Content

from vpnpf.control.seen import SeenForward
from vpnpf.printable import printable
from vpnpf.tui import words
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.sheets.sheet import Sheet
from vpnpf.tui.view import View

_NAME = 18
_LONGEST = 60


class Client(Sheet[None]):
    """Goes on with the state."""

    DEFAULT_CSS = """
    Client > #sheet { max-width: 76; padding: 1 2; overflow-y: auto; }
    """
    HEADING = "torrent client, as read back"

    def __init__(self, view: View) -> None:
        super().__init__()
        self._view = view

    def content(self) -> ComposeResult:
        """A text of a few lines a forward."""
        yield Line(id="settings")

    def on_mount(self) -> None:
        """Fill it."""
        self.show(self._view)

    def show(self, view: View) -> None:
        """As it is now."""
        parts: list[Content | str | tuple[str, str]] = []
        for each in view.seen.forwards if view.seen else ():
            if each.client:
                parts += ["\n\n"] if parts else []
                parts += _forward(each, view)
        self.query_one("#settings", Line).say(Content.assemble(*parts) if parts else "No forward has a torrent client.")


def _forward(forward: SeenForward, view: View) -> list[Content | str | tuple[str, str]]:
    said, proof = forward.client_settings, forward.proofs.get("client")
    parts: list[Content | str | tuple[str, str]] = [
        (f"{printable(forward.client or '', _LONGEST)}", "bold"),
        f"  for the forward {printable(forward.name, _LONGEST)}\n",
    ]
    if said is None:
        parts.append("Its settings were not read yet.\n")
    else:
        wrong = forward.listen_port is not None and said.port != forward.listen_port
        parts += _setting("port", str(said.port), f"should be {forward.listen_port}" if wrong else "")
        device = printable(said.interface, _LONGEST) or "any device"
        parts += _setting("interface", device, _device(forward, view))
        parts += _setting("random port", _on(on=said.random_port), "should be off" if said.random_port else "")
        own = "should be off: it opens your own router" if said.port_mapping else ""
        parts += _setting("UPnP / NAT-PMP", _on(on=said.port_mapping), own)
        age = view.age(said.read_at)
        parts.append(f"  {'read':<{_NAME}}{words.ago(age) if age is not None else 'at a time that is not known'}\n")
    if proof is not None and proof.evidence:
        mark = {True: "✓", False: "✗"}.get(proof.ok, "·") if proof.ok is not None else "·"
        parts.append(f"\n{mark} {printable(proof.evidence, 300)}")
    return parts


def _device(forward: SeenForward, view: View) -> str:
    """What is wrong with the device: judged only where the daemon found something wrong with the client."""
    said, proof = forward.client_settings, forward.proofs.get("client")
    tunnel = view.seen.tunnel if view.seen else None
    if said is None or tunnel is None or proof is None or proof.ok is not False or "device" not in proof.evidence:
        return ""
    return "" if said.interface == tunnel.interface else f"should be {printable(tunnel.interface, _LONGEST)}"


def _setting(name: str, value: str, wrong: str) -> list[str | tuple[str, str] | Content]:
    mark = (f"  ✗ {wrong}", "bold $text-error") if wrong else "  ✓"
    return [f"  {name:<{_NAME}}{value}", mark, "\n"]


def _on(*, on: bool) -> str:
    return "on" if on else "off"
