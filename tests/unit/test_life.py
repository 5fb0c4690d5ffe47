"""How the end of a daemon is seen whose process cannot be."""

from __future__ import annotations

import pytest

from vpnpf.cli import life


@pytest.mark.parametrize(("looks", "gone"), [(3, True), (10_000, False)])
def test_one_that_still_answers_has_not_ended(monkeypatch, looks, gone):
    seen = []

    def running():
        seen.append(1)
        return ["home"] if len(seen) <= looks else ["other"]

    monkeypatch.setattr(life, "running", running)
    monkeypatch.setattr(life, "_AGAIN", 0.001)
    assert life._silent("home", 0.2) is gone
