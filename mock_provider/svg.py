"""A screen of text as SVG: still, or moving with SMIL. It loads nothing from elsewhere, no font either."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

WIDTH, HEIGHT, SIZE = 8.43, 16.3, 14
"""Of a cell, in pixels, and the font's: with these the lines of DejaVu Sans Mono's boxes meet."""
_MARGIN = 12
_FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
_DARK, _LIGHT = "#121212", "#e0e0e0"

Frame = tuple[str, ...]
"""A screen, by rows of elements; each row's origin is its own top left corner."""


def frame(strips: Iterable[Strip]) -> Frame:
    """A screen as Textual lays it out."""
    return tuple(_row(strip.simplify()) for strip in strips)


def still(screen: Frame, columns: int, title: str) -> str:
    """One picture of it."""
    rows = "".join(_at(number, row) for number, row in enumerate(screen) if row)
    return _page(columns, len(screen), title, rows)


def moving(frames: Sequence[tuple[float, Frame]], ends: float, columns: int, title: str) -> str:
    """All of them, each from its time on, over and over; the times in seconds from 0, `ends` after the last.

    A row that stays the same is there once. What cannot move it shows the last one.
    """
    shown: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for (at, screen), until in zip(frames, [at for at, _ in frames[1:]] + [ends], strict=True):
        for number, row in enumerate(screen):
            spans = shown.setdefault((number, row), [])
            if spans and spans[-1][1] == at:
                spans[-1] = (spans[-1][0], until)
            else:
                spans.append((at, until))
    groups: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for (number, row), spans in shown.items():
        if row:
            groups.setdefault(tuple(spans), []).append(_at(number, row))
    drawn = "".join(_timed(spans, rows, ends) for spans, rows in groups.items())
    return _page(columns, len(frames[-1][1]), title, drawn)


def _timed(spans: Sequence[tuple[float, float]], rows: Sequence[str], ends: float) -> str:
    inside = "".join(rows)
    if tuple(spans) == ((0.0, ends),):
        return f"<g>{inside}</g>"
    turns: list[tuple[float, str]] = [] if spans[0][0] == 0 else [(0.0, "hidden")]
    for (begin, end), after in [*pairwise(spans), (spans[-1], None)]:
        turns.append((begin, "visible"))
        if end < ends and (after is None or after[0] > end):
            turns.append((end, "hidden"))
    times = ";".join(f"{at / ends:.4f}".rstrip("0").rstrip(".") for at, _ in turns)
    values = ";".join(value for _, value in turns)
    move = (
        f'<animate attributeName="visibility" calcMode="discrete" dur="{ends:g}s" repeatCount="indefinite" '
        f'keyTimes="{times}" values="{values}"/>'
    )
    return f'<g visibility="{turns[-1][1]}">{move}{inside}</g>'


def _page(columns: int, rows: int, title: str, drawn: str) -> str:
    width, height = columns * WIDTH + 2 * _MARGIN, rows * HEIGHT + 2 * _MARGIN
    ground = _background(drawn)
    drawn = re.sub(rf'<rect [^>]*fill="{ground}"/>', "", drawn)  # the page has it already
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" xml:space="preserve">'
        f"<title>{escape(title)}</title>"
        f"<style>text{{font:{SIZE}px {_FONT};white-space:pre}}.b{{font-weight:bold}}.i{{font-style:italic}}"
        f".u{{text-decoration:underline}}.d{{opacity:.6}}</style>"
        f'<rect width="100%" height="100%" rx="8" fill="{ground}"/>'
        f'<g transform="translate({_MARGIN} {_MARGIN})">{drawn}</g></svg>\n'
    )


def _background(drawn: str) -> str:
    """Of the margin: the colour that most of the screen has."""
    found: defaultdict[str, float] = defaultdict(float)
    for width, colour in re.findall(r'<rect x="[^"]*" width="([^"]*)" height="[^"]*" fill="([^"]*)"/>', drawn):
        found[colour] += float(width)
    return max(found, key=found.__getitem__) if found else _DARK


def _at(number: int, row: str) -> str:
    return f'<g transform="translate(0 {number * HEIGHT:.1f})">{row}</g>'


def _row(segments: Iterable[Segment]) -> str:
    column, before = 0, ""
    grounds: list[tuple[str, int, int]] = []
    """Colour, first column and how many: neighbours of one colour are one."""
    for segment in segments:
        style, cells = segment.style or Style(), segment.cell_length
        colour, ground = _hex(style.color, _LIGHT), _hex(style.bgcolor, "")
        if style.reverse:
            colour, ground = ground or _DARK, colour
        if grounds and grounds[-1][0] == ground:
            grounds[-1] = (ground, grounds[-1][1], grounds[-1][2] + cells)
        else:
            grounds.append((ground, column, cells))
        text = segment.text.rstrip()
        lead = len(text) - len(text.lstrip())
        if text := text.strip():
            marks = [
                name
                for name, on in zip("bidu", (style.bold, style.italic, style.dim, style.underline), strict=True)
                if on
            ]
            kind = f' class="{" ".join(marks)}"' if marks else ""
            length = Segment(text).cell_length * WIDTH
            before += (
                f'<text x="{(column + lead) * WIDTH:.1f}" y="{SIZE * 0.93:.1f}" textLength="{length:.1f}" '
                f'fill="{colour}"{kind}>{escape(text)}</text>'
            )
        column += cells
    behind = (
        f'<rect x="{first * WIDTH:.1f}" width="{cells * WIDTH + 0.3:.1f}" height="{HEIGHT + 0.3:.1f}" fill="{ground}"/>'
        for ground, first, cells in grounds
        if ground
    )
    return "".join(behind) + before


def _hex(colour: Color | None, otherwise: str) -> str:
    if colour is None or colour.is_default:
        return otherwise
    return colour.get_truecolor().hex
