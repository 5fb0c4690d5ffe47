"""What somebody else said, made safe to show."""

from __future__ import annotations


def printable(text: str, longest: int | None = None) -> str:
    """The text on one line, without what could command a terminal, and of so many characters at most."""
    return "".join(character if character.isprintable() else "?" for character in text)[:longest]
