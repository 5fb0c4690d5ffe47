"""Where a key stands in a TOML file, for errors: the standard parser does not say.

It looks at one line at a time, so a line of a multi-line string that looks like a key can mislead it. It only
decides which line an error names.
"""

from __future__ import annotations

import re
from pathlib import Path

from vpnpf.errors import Mistake

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[{{1,2}}\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")
_INLINE = re.compile(rf"[{{,]\s*({_DOTTED})\s*=")


class Positions:
    """The lines of the keys of one file."""

    def __init__(self, text: str, path: Path) -> None:
        self._path = path
        self._lines: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(text.split("\n"), 1):
            if header := _HEADER.match(line):
                table = _parts(header[1])
                self._note(table, number)
            elif key := _KEY.match(line):
                whole = (*table, *_parts(key[1]))
                self._note(whole, number)
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

    def _note(self, key: tuple[str, ...], number: int) -> None:
        for length in range(1, len(key) + 1):
            self._lines.setdefault(key[:length], number)
        self._lines[key] = number


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))
