"""A password that is typed is in no file of Textual's, whatever it is told to write down, and never on the clipboard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from textual.widgets import Input

from tests.tui import situations
from tests.tui.pilots import face, sheet
from tests.tui.test_wizard import face as wizard_face
from tests.tui.test_wizard import machine, page, to_the_client

__all__ = ["machine"]

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


@pytest.mark.parametrize("key", ["ctrl+c", "ctrl+x"])
async def test_a_password_is_not_copied(key):
    daemon = situations.ready()
    whom = {"name": "acme", "kind": "provider", "title": "Acme", "asks_user": True, "kept": None}
    daemon.answers["GET", "/v1/logins"] = {"logins": [whom]}
    copied = {}
    async with face(daemon, (100, 34)) as pilot:
        await pilot.press("l")
        await sheet(pilot, "Login")
        for name in ("username", "password"):
            field = pilot.app.screen.query_one(f"#{name}", Input)
            field.focus()
            field.value = f"{name}-hunter2"
            field.select_all()
            await pilot.press(key)
            await pilot.pause()
            copied[name] = pilot.app.clipboard
    assert copied["username"] == "username-hunter2"  # the control: what is no secret is copied
    assert "password" not in copied["password"]


async def test_nor_that_of_a_torrent_client_in_the_first_questions(machine):
    async with wizard_face().run_test(size=(100, 30)) as pilot:
        await to_the_client(pilot)
        await pilot.press("enter")
        await page(pilot, "client_secret")
        field = pilot.app.screen.query_one(Input)
        field.value = "hunter2"
        field.select_all()
        await pilot.press("ctrl+x")
        await pilot.pause()
        assert pilot.app.clipboard == ""
        assert field.password
