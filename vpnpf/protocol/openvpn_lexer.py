"""How OpenVPN 2.6 reads the lines of its configuration (`parse_line` and `read_config_file` of its options.c).

Word for word the same rules, since a reader that sees other words than OpenVPN does lets through what it
means to refuse. Where OpenVPN is lenient (words after the sixteenth, what stands behind the end of a block) this is strict.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from vpnpf.hidden import without

LONGEST_LINE = 255
"""Bytes of a line with its end; OpenVPN refuses 256, and cuts such lines of a block into two."""
LONGEST_WORD = 256
"""Bytes."""
MOST_WORDS = 16
_BLANKS = " \t\n\v\f\r"
"""isspace(3) in the C locale."""
_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.,:/=@+?!*()-")


class Unlexable(ValueError):
    """A line that has no words; says why, and never what."""


class Words(Struct, frozen=True):
    """A line."""

    words: tuple[str, ...]
    comment: str = ""
    """What stands behind # or ;, stripped."""


class Block(Struct, frozen=True):
    """<name> ... </name>."""

    name: str
    lines: tuple[tuple[int, str], ...]
    """With their numbers."""

    def __repr__(self) -> str:
        return without(self, "lines")


class Line(Struct, frozen=True):
    """One line of a file, or one block."""

    number: int
    words: tuple[str, ...] = ()
    block: Block | None = None
    comment: str = ""
    mistake: str = ""
    """Why it cannot be read; then there is nothing else but the hint."""
    hint: str = "write the line anew, as plain text in UTF-8"


def lex(line: str) -> Words:  # noqa: C901 - one machine, to be held against OpenVPN's
    """Split a line, with or without its end. Raises Unlexable."""
    words: list[str] = []
    word = ""
    quote: str | None = None
    """None: between words; "": in a word without quotes."""
    escaped = False
    for at, character in enumerate((*line, "\0")):
        if character == "\\" and not escaped and quote != "'":
            escaped = True
            continue
        end = character == "\0"
        blank = end or character in _BLANKS
        out = False
        if quote is None:
            if character in "#;":
                return Words(tuple(words), line[at + 1 :].strip())
            if not blank and character in "\"'" and not escaped:
                quote = character
            elif not blank:
                quote, out = "", True
        elif (quote and character == quote and not escaped) or (not quote and blank and not escaped):
            words.append(word)
            word, quote = "", None
        else:
            out = not end
        if escaped and out and character not in '\\"' and not blank:
            raise Unlexable("a backslash before a character that needs none")
        escaped = False
        word += character if out else ""
        if len(words) == MOST_WORDS and line[at + 1 :].strip(_BLANKS):
            raise Unlexable(f"more than {MOST_WORDS} words")
    if quote is not None:
        raise Unlexable("a quote that is not closed" if quote else "a backslash at its end")
    if any(len(each.encode()) > LONGEST_WORD for each in words):
        raise Unlexable(f"a word of more than {LONGEST_WORD} bytes")
    return Words(tuple(words))


def quoted(word: str) -> str:
    """The word as OpenVPN reads it back. It must hold no control character."""
    if word and all(character in _BARE for character in word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def file_lines(data: bytes) -> Iterator[Line]:
    """The lines and blocks of a file, each once, in order; what is not plain text is a mistake of its line."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        yield Line(1, mistake="it is UTF-16, not UTF-8")
        return
    raw = data.split(b"\n")
    ended = raw[-1] == b""
    if ended:
        raw.pop()
    numbered = [
        (number, *_decoded(each, first=number == 1, ended=ended or number < len(raw)))
        for number, each in enumerate(raw, 1)
    ]
    yield from _grouped(numbered)


def block_lines(block: Block) -> Iterator[Line]:
    """The lines of a block that is itself configuration."""
    yield from _grouped([(number, text, "") for number, text in block.lines])


def _grouped(numbered: list[tuple[int, str, str]]) -> Iterator[Line]:
    rest = iter(numbered)
    for number, text, mistake in rest:
        if mistake:
            yield Line(number, mistake=mistake)
            continue
        try:
            found = lex(text)
        except Unlexable as error:
            yield Line(number, mistake=f"it holds {error}")
            continue
        words = _undashed(found.words)
        name = _tag(words)
        if name is None:
            yield Line(number, words, comment=found.comment)
        else:
            yield from _block(number, name, rest)


def _block(number: int, name: str, rest: Iterator[tuple[int, str, str]]) -> Iterator[Line]:
    """All up to the end tag. OpenVPN looks only at how a line begins; what follows the tag there is refused here."""
    tag = f"</{name}>"
    lines: list[tuple[int, str]] = []
    mistakes: list[Line] = []
    for inner, text, mistake in rest:
        if mistake:
            mistakes.append(Line(inner, mistake=mistake))
        stripped = text.strip(_BLANKS)
        if stripped.startswith(tag):
            if stripped != tag:
                what = "something stands behind the end of a block"
                mistakes.append(Line(inner, mistake=what, hint="end the line there"))
            break
        lines.append((inner, text))
    else:
        hint = "download the file anew from your provider"
        mistakes.append(Line(number, mistake="the block that begins here does not end", hint=hint))
    if not mistakes:
        yield Line(number, block=Block(name, tuple(lines)))
    yield from mistakes


def _tag(words: tuple[str, ...]) -> str | None:
    """The name in <name>, if the line is that and nothing else."""
    if len(words) == 1 and words[0].startswith("<") and words[0].endswith(">"):
        return words[0][1:-1]
    return None


def _undashed(words: tuple[str, ...]) -> tuple[str, ...]:
    """Without the -- of the command line before the first word."""
    if words and len(words[0].encode()) > 2 and words[0].startswith("--"):  # noqa: PLR2004 - the dashes and a letter
        return (words[0][2:], *words[1:])
    return words


def _decoded(raw: bytes, *, first: bool, ended: bool) -> tuple[str, str]:
    """The text of a line, or why there is none."""
    if len(raw) + ended > LONGEST_LINE:
        return _lossy(raw), f"it is longer than {LONGEST_LINE - 1} bytes"
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return _lossy(raw), "it is not UTF-8"
    text = text.removesuffix("\r")
    text = text.removeprefix("\ufeff") if first else text
    if any(not (character.isprintable() or character == "\t") for character in text):
        return _lossy(raw), "it holds a control character"
    return text, ""


def _lossy(raw: bytes) -> str:
    """Enough of a refused line to see whether it ends a block."""
    return raw.decode("ascii", "replace")
