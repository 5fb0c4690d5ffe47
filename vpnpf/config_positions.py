"""Where a key stands in a TOML file, for errors: the standard parser does not say.

It looks at one line at a time, so a line of a multi-line string that looks like a key can mislead it. It only
decides which line an error names. The items of a list have lines too: a long list has one entry to a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vpnpf.errors import Mistake

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[{{1,2}}\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")
_TOKEN = re.compile(r"""\"(?:\\.|[^\"\\])*\"|'[^']*'|[\[\]{},#]|[^\s\"'\[\]{},#]+""")
_INLINE = re.compile(rf"[{{,]\s*({_DOTTED})\s*=")


class _Items:
    """The value of a key, read line by line for as long as it is a list that is not closed."""

    def __init__(self, key: tuple[str, ...]) -> None:
        self.key = key
        self.closed = False
        self._depth = 0
        self._place = -1
        self._between = False

    def begun(self, line: str) -> Iterator[int]:
        """The places of the items that begin on the next line of it."""
        for found in _TOKEN.finditer(line):
            token = found[0]
            if token == "#":  # noqa: S105 - of the text
                break
            if self._depth == 0 and token != "[":  # noqa: S105
                break
            if token in ("]", "}"):
                self._depth -= 1
                if self._depth == 0:
                    break
                continue
            if self._depth == 1:
                if self._between and token != ",":  # noqa: S105
                    self._place += 1
                    yield self._place
                self._between = token == ","  # noqa: S105
            if token in ("[", "{"):
                self._between = self._depth == 0
                self._depth += 1
        self.closed = self._depth == 0


class Positions:
    """The lines of the keys of one file."""

    def __init__(self, text: str, path: Path) -> None:
        self._path = path
        self._lines: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        lists: dict[tuple[str, ...], int] = {}
        """How many tables a list of tables has so far."""
        items: _Items | None = None
        for number, line in enumerate(text.split("\n"), 1):
            if items is not None and not items.closed:
                self._note_items(items, line, number)
            elif header := _HEADER.match(line):
                table = _parts(header[1])
                if line.lstrip().startswith("[["):
                    lists[table] = lists.get(table, -1) + 1
                    table = (*table, str(lists[table]))
                self._note(table, number)
            elif key := _KEY.match(line):
                whole = (*table, *_parts(key[1]))
                self._note(whole, number)
                items = _Items(whole)
                self._note_items(items, line[key.end() :], number)
                for inner in _INLINE.finditer(line, key.end() - 1):
                    self._note((*whole, *_parts(inner[1])), number)

    def where(self, key: tuple[str | int, ...]) -> str:
        """As "config.toml:12: profiles.home.policy.mode"; the line is that of the nearest table that is there."""
        names = tuple(str(part) for part in key)
        for length in range(len(names), 0, -1):
            line = self._lines.get(names[:length])
            if line is not None:
                return f"{self._path}:{line}: {'.'.join(names)}"
        return f"{self._path}: {'.'.join(names)}" if names else str(self._path)

    def in_order(self, mistakes: tuple[Mistake, ...]) -> tuple[Mistake, ...]:
        """Mistakes in the order of their lines; those without a line go first."""
        return tuple(sorted(mistakes, key=lambda mistake: self._line_of(mistake.where)))

    def _line_of(self, where: str) -> int:
        number = where.removeprefix(f"{self._path}:").partition(":")[0]
        return int(number) if number.isdigit() else 0

    def _note_items(self, items: _Items, line: str, number: int) -> None:
        for place in items.begun(line):
            self._note((*items.key, str(place)), number)

    def _note(self, key: tuple[str, ...], number: int) -> None:
        for length in range(1, len(key) + 1):
            self._lines.setdefault(key[:length], number)
        self._lines[key] = number


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))
