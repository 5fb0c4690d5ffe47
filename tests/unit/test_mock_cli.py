"""What the mock provider's command line says of faults."""

from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner

from mock_provider import cli
from mock_provider.cli_faults import faults, load, show
from mock_provider.faults import SWITCHES
from mock_provider.scenario import Do, Scenario
from mock_provider.scenario_text import WORDS
from vpnpf.errors import ConfigError, Unavailable


def test_the_list_has_a_line_for_everything_that_can_be_written():
    done = CliRunner().invoke(faults)
    assert done.exit_code == 0
    first_words = {line.split()[0]: line for line in done.output.splitlines() if line.startswith("  ")}
    assert set(WORDS) <= set(first_words)
    for one in SWITCHES.values():
        if one.name not in {"gone", "refuse", "silent", "lose-answers"}:
            assert first_words[one.name].endswith(one.text)
    assert "at 30s rotate" in done.output


def test_a_file_and_single_lines_are_one_scenario(tmp_path):
    path = tmp_path / "calm.txt"
    path.write_text("# calm\nat 1s rotate\n")
    scenario = load(path, ("at 2s refuse 1", "seed 4"))
    assert [change.action for change in scenario.changes(-1, 9)] == [Do("rotate"), Do("refuse", 1)]
    assert scenario.seed == 4
    assert load(None, ()) == Scenario()


def test_mistakes_of_both_come_at_once_with_their_place(tmp_path):
    path = tmp_path / "calm.txt"
    path.write_text("\nat 1s rotat\n")
    with pytest.raises(ConfigError) as caught:
        load(path, ("at 2s", "at 3s rotate", "bla"))
    assert [mistake.where for mistake in caught.value.mistakes] == [
        f"{path}, line 2",
        '--fault "at 2s"',
        '--fault "bla"',
    ]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "calm.txt"
    with pytest.raises(Unavailable, match=r"reading .*calm.txt: No such file"):
        load(path, ())
    path.write_bytes(b"at 1s rotate \xff")
    with pytest.raises(Unavailable, match="it is not UTF-8 text"):
        load(path, ())


def test_a_change_is_shown_in_one_line(capsys):
    (change,) = load(None, ("at 1m30s rotate",)).changes(-1, 100)
    show(change)
    assert capsys.readouterr().out.endswith(" scenario, 90 s: at 1m30s rotate\n")


def test_serve_names_mistakes_before_it_does_anything(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mock_provider", "--fault", "at 30s rotat"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 78
    assert 'nothing is called "rotat" (did you mean "rotate"?)' in capsys.readouterr().err
