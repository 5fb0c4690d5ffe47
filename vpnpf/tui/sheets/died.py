"""A daemon that was started and ended: why, and the last that it said."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from vpnpf.errors import VpnpfError
from vpnpf.printable import printable
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.sheets.told import Told


class Died(Told):
    """As `Told`, with the lines."""

    DEFAULT_CSS = """
    Died > #sheet { max-width: 96; }
    Died #last { height: auto; max-height: 12; border: round $panel-lighten-2; padding: 0 1; }
    Died #last Line { margin: 0; }
    """

    def __init__(self, error: VpnpfError, said: Sequence[str]) -> None:
        super().__init__(error)
        self._last = tuple(said)

    def content(self) -> ComposeResult:
        """As of `Told`, then what it said."""
        yield from super().content()
        if self._last:
            with VerticalScroll(id="last") as last:
                last.border_title = "the last that it said"
                yield Line("\n".join(printable(line) for line in self._last))
