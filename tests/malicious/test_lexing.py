"""The lexer against OpenVPN itself: the same words, or a refusal where OpenVPN refuses."""

from __future__ import annotations

import random
import re
import subprocess

import pytest

from vpnpf.protocol import openvpn_lexer as lexer

pytestmark = pytest.mark.system
PREFIX = "echo msg"
"""OpenVPN prints the words behind `echo` if the first of them begins with msg."""
BY_HAND = [
    'a "b c" d', "a 'b\\c' d", "a\\ b", '"a\\"b" c', "a\\\\b", "\\ a", '\\"a b', "a#b ;c", "a # b", "\\# b", '"a"b', "a'b'",
    '"a', "'a", "a\\", "\\a", "a\\'b", '"a"\'b\'c', "\ta\tb", "\x0ba\x0cb", "a\rb", '""', "'' a", "a \\", "é 'é é'", "; a",
]  # fmt: skip


def lines():
    dice = random.Random(3)
    return BY_HAND + ["".join(dice.choices('ab\\\\""\'# ;\t', k=dice.randrange(1, 16))) for _ in range(250)]


def openvpn(tmp_path, lines):
    """What OpenVPN prints for each line up to one that it refuses; then None."""
    file = tmp_path / "a.ovpn"
    file.write_text("".join(f"{PREFIX} {line}\n" for line in lines), encoding="utf-8", newline="")
    done = subprocess.run(("openvpn", "--config", file), check=False, capture_output=True)
    said = done.stdout.decode(errors="replace")
    found = re.findall(r"^(?:\S+ \S+ )?ECHO:(.*(?:\n(?![0-9]{4}-|Options|Use).*)*)$", said, re.MULTILINE)
    refused = re.search(r"^Options (?:error|warning): .* in \S*a\.ovpn:([0-9]+)", said, re.MULTILINE)
    return [*found, None] if refused and int(refused[1]) == len(found) + 1 else found


def test_it_reads_the_words_that_openvpn_reads(tmp_path):
    rest, compared, refused = lines(), 0, 0
    while rest:
        said = openvpn(tmp_path, rest)
        assert said, rest[0]
        for line, theirs in zip(rest, said, strict=False):
            try:
                ours = " ".join(lexer.lex(f"{PREFIX} {line}\n").words[1:])
            except lexer.Unlexable:
                ours = None
            assert ours == theirs, line
            compared, refused = compared + 1, refused + (theirs is None)
        rest = rest[len(said) :]
    assert (compared, refused > 20) == (len(lines()), True)


PARTS = [
    *("echo msg%d", "--echo msg%d # x", '"echo" msg%d', "\techo\tmsg%d\r", "# echo msg%d", "; <dh>", "", " ", "verb 3"),
    *("<dh>", "<dh> # x", '"<dh>"', "--<dh>", "\t<dh>\r", "<dh", "dh>", "<dh> x", "# <dh>"),
    *("</dh>", "  </dh>", "\t</dh>\r", "x</dh>", "</dh", "</DH>", "# </dh>", "</ca>"),
]


def test_it_sees_the_blocks_that_openvpn_sees(tmp_path):
    dice, compared, blocks = random.Random(5), 0, 0
    for _ in range(300):
        lines = [part % number if "%" in part else part for number, part in enumerate(dice.choices(PARTS, k=12))]
        data = "\n".join(["\ufeff" * dice.randrange(2) + "echo msg", *lines, "</dh>", "echo msg", ""]).encode()
        seen = list(lexer.file_lines(data))
        if any(line.mistake for line in seen) or any(line.words[:1] in {("<dh",), ("dh>",)} for line in seen):
            continue
        if any(line.words and line.words[0] not in {"echo", "verb", "</dh>"} for line in seen):
            continue
        upto = next((at for at, line in enumerate(seen) if line.words[:1] == ("</dh>",)), len(seen))
        ours = [line.words[1] for line in seen[:upto] if line.words[:1] == ("echo",)]
        file = tmp_path / "a.ovpn"
        file.write_bytes(data)
        done = subprocess.run(("openvpn", "--config", file), check=False, capture_output=True, text=True)
        assert re.findall(r"ECHO:(\S+)$", done.stdout, re.MULTILINE) == ours, data
        compared, blocks = compared + 1, blocks + any(line.block for line in seen)
    assert (compared > 20, blocks > 10) == (True, True), (compared, blocks)
