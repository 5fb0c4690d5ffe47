"""The short form of `make fuzz`; and that it would find something."""

from __future__ import annotations

import pytest

from tests.fuzz import datagrams
from vpnpf.protocol import natpmp, pcp


def test_no_mutated_datagram_is_misread():
    result = datagrams.fuzz(20_000, seed=7)
    assert (result.raised, result.wrongly, result.dropped) == ([], [], [])
    assert all(result.accepted[name] > 100 for name in datagrams.PARSERS)


@pytest.mark.parametrize(
    ("module", "name", "weaker"),
    [
        (natpmp, "_ADDRESS_LENGTH", 16),
        (natpmp, "LONGEST_LIFETIME", 86401),
        (pcp, "_LONGEST", 2000),
        (pcp, "SHORT_LIFETIME_ERRORS", frozenset()),
        (pcp, "_options", lambda _data: ()),
        (pcp, "_echoes", lambda data, _wanted: len(data) >= 60),
    ],
)
def test_a_parser_that_is_weaker_is_found_out(monkeypatch, module, name, weaker):
    monkeypatch.setattr(module, name, weaker)
    result = datagrams.fuzz(20_000, seed=7)
    assert result.raised or result.wrongly
