"""Every file of the corpus is refused by its line; nothing is run, opened or written meanwhile."""

from __future__ import annotations

import sys

import pytest

from tests.malicious import corpus
from vpnpf.errors import ConfigError
from vpnpf.protocol import openvpn_config, wireguard_config

TOUCHES = ("open", "os.", "subprocess.", "socket.", "shutil.", "exec", "import", "ctypes.", "pty.")
WIREGUARD = corpus.WIREGUARD.encode()
watched: list[str] | None = None


def _watch(event, _arguments):
    if watched is not None and event.startswith(TOUCHES):
        watched.append(event)


sys.addaudithook(_watch)


@pytest.fixture
def touched():
    """The names of what Python does to the outside during the test."""
    global watched  # noqa: PLW0603 - an audit hook cannot be taken off
    watched = seen = []
    yield seen
    watched = None


def wireguard(data, name):
    return wireguard_config.parse(data.decode(), name)


def refused(parse, data):
    with pytest.raises(ConfigError) as found:
        parse(data, "a.conf")
    return found.value.mistakes


def test_without_the_bad_part_the_files_are_good():
    assert openvpn_config.parse(corpus.ovpn(), "a.ovpn").remotes
    assert wireguard(WIREGUARD, "a.conf").port == 51820


def test_there_are_enough():
    assert len(corpus.OVPN_CASES) + len(corpus.WIREGUARD_CASES) >= 200


@pytest.mark.parametrize(
    ("parse", "good", "case"),
    [
        *(pytest.param(openvpn_config.parse, corpus.ovpn(), case, id=name) for name, case in corpus.OVPN_CASES.items()),
        *(pytest.param(wireguard, WIREGUARD, case, id=name) for name, case in corpus.WIREGUARD_CASES.items()),
    ],
)
def test_it_is_refused_by_its_line(parse, good, case, tmp_path, touched):
    data = case.data(good, tmp_path / "hunter2")
    touched.clear()
    mistakes = refused(parse, data)
    assert touched == []
    assert list(tmp_path.iterdir()) == []
    assert mistakes[0].where == f"a.conf:{case.number(good)}"
    assert parse is wireguard or all(each.hint for each in mistakes)
    for said in map(str, mistakes):
        assert said.isprintable()
        assert "hunter2" not in said


def test_the_watch_sees_what_a_reader_must_not_do(touched, tmp_path):
    (tmp_path / "mark").write_text("")
    assert "open" in touched
