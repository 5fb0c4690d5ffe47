"""What `vpnpf login` asks a person, or reads from a script."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vpnpf.errors import UsageError
from vpnpf.logins.typed import check_typed
from vpnpf.secrets import LARGEST

if TYPE_CHECKING:
    from vpnpf.logins.subjects import Subject


def ask(subject: Subject, *, stdin: bool) -> str:
    """The secret as it is kept: the password, after a line with the user name where one is asked for. Raises UsageError."""
    names = ("user name", "password") if subject.asks_user else ("password",)
    doing = f"reading the {' and '.join(names)}"
    if stdin:
        lines = _lines(doing, len(names))
    elif sys.stdin.isatty():
        lines = [
            click.prompt(
                f"{subject.title}: {name}", hide_input=name == "password", err=True, default="", show_default=False
            )
            for name in names
        ]
    else:
        raise UsageError(doing, "standard input is no terminal", "add --stdin, and write one a line")
    check_typed(doing, dict(zip(names, lines, strict=True)))
    return "\n".join(lines)


def _lines(doing: str, wanted: int) -> list[str]:
    data = sys.stdin.buffer.read(2 * LARGEST + 1)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageError(doing, "it is not UTF-8 text", "write it anew") from None
    lines = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    while len(lines) > wanted and not lines[-1]:
        lines.pop()
    if len(lines) != wanted:
        what = "two lines are needed: user name and password" if wanted > 1 else "one line is needed: the password"
        there = f"there {'is one' if len(lines) == 1 else f'are {len(lines)}'}" if lines else "nothing came"
        raise UsageError(doing, f"{what}, and {there}", "hand it a file: vpnpf login NAME --stdin < FILE")
    return lines


def agreed(question: str) -> bool | None:
    """Ask yes or no; None: nobody is there to be asked."""
    return click.confirm(question, err=True) if sys.stdin.isatty() else None
