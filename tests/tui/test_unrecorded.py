"""A password that is typed is in no file of Textual's, whatever it is told in the environment to write down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOW = """
import json, sys
from vpnpf.tui import entry

def run(profile, config, root):
    # As where the face is loaded: what is typed comes through this, and is told to the log.
    from textual import constants, log
    from textual._xterm_parser import XTermParser
    from textual.features import parse_features
    import os
    parser = XTermParser(debug=constants.DEBUG)
    list(parser.feed("hunter2"))
    parser.feed("")
    log("a key:", "hunter2")
    print(json.dumps([constants.DEBUG, constants.LOG_FILE, constants.SCREENSHOT_DELAY, sorted(parse_features(os.getenv("TEXTUAL", "")))]))

entry._run = run
if sys.argv[1] == "unguarded":
    entry._unrecorded = lambda: None
entry.enter(None, None)
"""
RECORDING = {"TEXTUAL": "debug,devtools", "TEXTUAL_DEBUG": "1", "TEXTUAL_LOG": "keys.txt", "TEXTUAL_SCREENSHOT": "1"}


def typed(directory, how):
    argv = [sys.executable, "-c", SHOW, how]
    environment = {**os.environ, **RECORDING, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(argv, cwd=directory, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]), "".join(each.read_text() for each in directory.iterdir())


@pytest.mark.parametrize("how", ["guarded", "unguarded"])
def test_what_textual_is_told_to_write_down(tmp_path, how):
    told, written = typed(tmp_path, how)
    if how == "guarded":
        assert told == [False, None, -1, []]
        assert not list(tmp_path.iterdir())
    else:  # the control: each of them would have been heeded
        assert told == [True, "keys.txt", 1, ["debug", "devtools"]]
        assert "hunter2" in written
