"""What is open to the internet: each port, who may use it, the program behind it, and what is wrong with that."""

from __future__ import annotations

from msgspec import Struct
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import DataTable

from vpnpf.control.messages import Json
from vpnpf.control.told import told
from vpnpf.printable import printable
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.sheets.plan import Finding, finding_lines
from vpnpf.tui.sheets.sheet import Sheet

_LONGEST = 48
_WIDEST = (18, 24, 40, 40)
"""Columns of a cell at most."""


class _Listener(Struct, frozen=True):
    port: int
    address: str = ""
    program: str | None = None
    user: str | None = None
    interpreter: str | None = None
    pid: int | None = None
    beside_the_tunnel: bool = False


class _Open(Struct, frozen=True):
    protocol: str
    first: int
    last: int
    why: str | None = None
    sources: tuple[str, ...] = ()
    target: str | None = None
    listeners: tuple[_Listener, ...] = ()


class _Found(Struct, frozen=True):
    severity: str
    what: str
    why: str = ""
    do: str = ""
    ports: tuple[str, ...] = ()


class _Told(Struct, frozen=True):
    mode: str
    open: tuple[_Open, ...] = ()
    findings: tuple[_Found, ...] = ()
    notes: tuple[str, ...] = ()


class Exposure(Sheet[None]):
    """A table, and below it what is wrong, in full."""

    DEFAULT_CSS = """
    Exposure > #sheet { max-width: 130; }
    Exposure DataTable { height: auto; max-height: 45vh; background: transparent; }
    Exposure VerticalScroll { height: auto; max-height: 38vh; }
    Exposure .part { margin-top: 1; }
    Exposure .under { padding-left: 4; }
    """
    HEADING = "open to the internet"

    def __init__(self, said: Json) -> None:
        """`said`: what `GET /v1/exposure` answers. Raises Unavailable if it cannot be read."""
        super().__init__()
        self._told = told(said, _Told)

    def content(self) -> ComposeResult:
        """Everything."""
        told = self._told
        if not told.open:
            yield Line(f"Nothing is open ({printable(told.mode, _LONGEST)}).")
        else:
            table: DataTable[Text] = DataTable(cursor_type="row", zebra_stripes=True)
            table.add_columns("port", "who may", "program", "wrong")
            for texts in rows(told):
                table.add_row(*(_cell(*each) for each in zip(texts, _WIDEST, strict=True)))
            yield table
        with VerticalScroll(can_focus=True):
            if told.open and not told.findings:
                yield Line("✓ Nothing to warn of.", classes="part")
            yield from finding_lines([Finding(each.severity, each.what, each.why, each.do) for each in told.findings])
            for note in told.notes:
                yield Line(f"note: {printable(note)}", classes="part")


def _cell(text: str, widest: int) -> Text:
    cell = Text(printable(text, 300))
    cell.truncate(widest, overflow="ellipsis")
    return cell


def rows(told: _Told) -> list[tuple[str, str, str, str]]:
    """A row for each program behind a port; for what nobody waits behind, one for the port."""
    found = []
    for each in told.open:
        who = ", ".join(each.sources) or "everybody"
        ports = f"{each.first}" if each.first == each.last else f"{each.first}-{each.last}"
        if each.target:
            found.append((f"{ports}/{each.protocol}", who, f"goes on to {each.target}", _wrong(told, each, None)))
        elif not each.listeners:
            found.append((f"{ports}/{each.protocol}", who, "nothing listens", _wrong(told, each, None)))
        for listener in each.listeners:
            found.append(  # noqa: PERF401 - in the order of what is open
                (f"{listener.port}/{each.protocol}", who, _program(listener), _wrong(told, each, listener))
            )
    return found


def _program(listener: _Listener) -> str:
    name = listener.program or "a program that is hidden from us"
    by = f", {listener.interpreter}" if listener.interpreter else ""
    pid = f" (pid {listener.pid}{by})" if listener.pid else ""
    return f"{name}{pid}"


def _wrong(told: _Told, each: _Open, listener: _Listener | None) -> str:
    port = f"{listener.port if listener else each.first}/{each.protocol}"
    found = [finding.severity for finding in told.findings if port in finding.ports]
    beside = ["beside the tunnel, too"] if listener and listener.beside_the_tunnel else []
    return ", ".join([*(f"✗ {severity}" for severity in dict.fromkeys(found)), *beside]) or "·"
