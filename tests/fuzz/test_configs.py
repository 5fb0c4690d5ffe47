"""The short form of the fuzzing of configuration files; and that it would find something."""

from __future__ import annotations

from functools import partial

import pytest

from tests.fuzz import configs
from vpnpf.protocol import (
    openvpn_config,
    openvpn_lexer,
    openvpn_management,
    openvpn_material,
    openvpn_options,
    values,
)


def as_it_is(name, words):
    return (name, *words)


def test_no_mutated_file_or_talk_is_misread():
    result = configs.fuzz(6_000, seed=7)
    assert (result.raised, result.wrongly) == ([], [])
    assert all(result.accepted[name] > 100 for name in (*configs.JUDGES, "words"))


@pytest.mark.parametrize(
    ("module", "name", "weaker"),
    [
        (openvpn_lexer, "quoted", str),
        (openvpn_lexer, "_BLANKS", " "),
        (openvpn_config, "_ALWAYS", (("client",), ("dev", "tun"), ("nobind",), ("up", "x"))),
        (openvpn_options, "READERS", {name: partial(as_it_is, name) for name in openvpn_options.READERS}),
        (openvpn_material, "read", lambda _, lines: "".join(f"{line}\n" for line in lines)),
        (openvpn_management, "_clean", str),
        (values, "place", lambda value: (value, 1)),
    ],
)
def test_a_parser_that_is_weaker_is_found_out(monkeypatch, module, name, weaker):
    monkeypatch.setattr(module, name, weaker)
    result = configs.fuzz(3_000, seed=7)
    assert result.raised or result.wrongly
