"""A question of the first start on a plain terminal."""

from __future__ import annotations

import shutil
import textwrap

import click

from vpnpf.printable import printable
from vpnpf.setup.questions import Choice, Question

BACK = "<"
_WIDEST = 100
"""Columns; longer lines are hard to read, however wide the terminal."""


def ask(question: Question) -> tuple[str, ...] | None:
    """What was answered, as values; None: one question back. Raises click.Abort for Ctrl-C and Ctrl-D."""
    click.echo()
    say(question.why)
    possible = [each for each in question.choices if not each.refused]
    for number, choice in enumerate(possible, 1):
        _show(f"{number:>3}) ", choice.title, choice.note)
    for choice in question.choices:
        if choice.refused:
            _show("  -  ", choice.title, f"{choice.refused}{f' Next: {choice.hint}.' if choice.hint else ''}")
    more = " Several with commas between them." if question.many and len(possible) > 1 else ""
    typed = click.prompt(
        printable(question.text) + more + _default(question, possible),
        default="",
        show_default=False,
        hide_input=question.hidden,
        prompt_suffix=" ",
    )
    text = str(typed)
    if question.hidden:
        return (text,)
    if text.strip() == BACK:
        return None
    return values(question, text, possible)


def values(question: Question, text: str, possible: list[Choice]) -> tuple[str, ...]:
    """The choices or texts that a line means."""
    line = text.strip()
    if not question.many or any(each.value == line for each in question.choices):
        return (_value(line, possible),)
    parts = [part.strip() for part in line.split(",")]
    # A path may hold a comma; numbers do not.
    if len(parts) > 1 and not all(_numbered(part, possible) for part in parts):
        return (_value(line, possible),) if not all("/" in part for part in parts) else tuple(parts)
    return tuple(_value(part, possible) for part in parts)


def _numbered(text: str, possible: list[Choice]) -> bool:
    longest = 4
    return text.isascii() and text.isdigit() and len(text) < longest and 0 < int(text) <= len(possible)


def _value(text: str, possible: list[Choice]) -> str:
    return possible[int(text) - 1].value if _numbered(text, possible) else text


def _default(question: Question, possible: list[Choice]) -> str:
    if not question.default:
        return ""
    place = next((number for number, each in enumerate(possible, 1) if each.value == question.default), None)
    return f" [{place if place is not None else printable(question.default)}]"


def _show(mark: str, title: str, note: str) -> None:
    say(f"{title}: {note}" if note else title, mark)


def say(text: str, mark: str = "") -> None:
    """A paragraph for a person, as wide as the terminal."""
    width = min(_WIDEST, max(30, shutil.get_terminal_size().columns))
    indent = " " * len(mark)
    # A path stays whole, so that it can be copied.
    wrap = textwrap.TextWrapper(width, mark, indent, break_on_hyphens=False, break_long_words=False)
    for line in wrap.wrap(printable(text)):
        click.echo(line)
