"""Whom the kernel answers ARP for, on a made-up /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpnpf.errors import Unavailable
from vpnpf.tunnels.arp import ArpReplies


@pytest.fixture
def arp(tmp_path):
    """A made-up /proc/sys/net/ipv4/conf/all/arp_ignore: arp(0)."""
    path = tmp_path / "conf/all/arp_ignore"

    def write(value):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
        return ArpReplies(tmp_path / "run/arp_ignore", tmp_path / "conf")

    write.path = path
    return write


@pytest.mark.parametrize(("value", "narrowed"), [(0, "1"), (1, "1"), (2, "2"), (8, "8")])
def test_answers_to_arp_are_narrowed_and_put_back(arp, value, narrowed):
    made = arp(value)
    for _ in range(2):
        made.narrow()
        assert arp.path.read_text().strip() == narrowed
    for _ in range(2):
        made.restore()
        assert arp.path.read_text().strip() == str(value)


def test_what_somebody_set_for_arp_meanwhile_stays(arp):
    made = arp(0)
    made.narrow()
    arp(2)
    made.restore()
    assert arp.path.read_text() == "2\n"


def test_what_a_killed_run_left_for_arp_is_put_back_by_the_next(arp):
    arp(0).narrow()
    arp(1).restore()
    assert arp.path.read_text() == "0"


def test_a_setting_for_arp_that_cannot_be_changed_is_told(arp, tmp_path):
    made = arp(0)
    (tmp_path / "run").touch()
    with pytest.raises(Unavailable) as raised:
        made.narrow()
    assert "arp_ignore = 1" in raised.value.hint
    assert arp.path.read_text() == "0\n"


def test_a_setting_for_arp_that_may_not_be_changed_is_told_and_what_a_person_sets_then_stays(
    arp, tmp_path, monkeypatch
):
    made, write = arp(0), Path.write_text

    def refuse(path, text):
        if path == arp.path:
            raise PermissionError(1, "Operation not permitted")
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(Unavailable, match="not permitted"):
        made.narrow()
    monkeypatch.undo()
    arp(1)
    made.restore()
    assert arp.path.read_text() == "1\n"
