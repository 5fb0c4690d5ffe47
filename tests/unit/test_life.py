"""How the end of a daemon is seen whose process cannot be."""

from __future__ import annotations

import pytest

from vpnpf.cli import life
from vpnpf.control.dialing import silent
from vpnpf.control.messages import NotNow
from vpnpf.errors import Transient


@pytest.mark.parametrize(("looks", "gone"), [(3, True), (10_000, False)])
def test_one_that_still_answers_has_not_ended(monkeypatch, looks, gone):
    seen = []

    def running():
        seen.append(1)
        return ["home"] if len(seen) <= looks else ["other"]

    monkeypatch.setattr(life, "running", running)
    monkeypatch.setattr(life, "_AGAIN", 0.001)
    assert life._silent("home", 0.2) is gone


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (silent(30.0), "kill -9 4711; its block stays"),
        (NotNow("ending", "it is ending", "wait"), "wait"),
    ],
)
def test_one_that_hangs_is_told_of_with_the_way_out(said, hint):
    class Hanging:
        def post(self, path):
            assert path == "/v1/shutdown"
            raise said

    with pytest.raises(Transient) as caught:
        life._shut_down(Hanging(), 4711)
    assert hint in caught.value.hint
    assert caught.value.cause == said.cause
