"""`vpnpf watch`: what happens in a profile that runs, as it happens."""

from __future__ import annotations

import json
import time

import click

from vpnpf.cli.guard import say
from vpnpf.cli.options import PROFILE
from vpnpf.control.client import Connection
from vpnpf.control.dialing import chosen
from vpnpf.control.following import Following
from vpnpf.control.messages import Json
from vpnpf.errors import Transient, Unavailable
from vpnpf.printable import printable

AGAIN = 0.5
"""Seconds between two looks whether it is back."""


@click.command()
@PROFILE
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event, as it comes.")
@click.option("--verbose", "-v", is_flag=True, help="Say every renewal too.")
def watch(profile: str | None, *, as_json: bool, verbose: bool) -> None:
    """Follow what happens, until Ctrl-C: the lines that `vpnpf run` says.

    It goes on when vpnpf ends, and shows what happens when it is back.
    """
    name = chosen(profile)
    following = Following(verbose=verbose)
    known = greeted = False
    while True:
        events = Connection(name).events()
        here = False
        while True:
            try:
                event = next(events)
            except StopIteration:
                gone = _end(following)
                break
            except (Unavailable, Transient) as error:
                if not known:
                    raise
                gone = f"went away: {error.cause}"
                break
            if known and not here:
                say(f"{name} is back")
            known = here = True
            _show(event, following, as_json=as_json)
            if not greeted and following.seen is not None and not as_json:
                greeted = True
                # Hours may pass until something happens: nobody is to think that it hangs.
                say(f"{name} is {printable(following.seen.phase_text)}; from now on, what happens (Ctrl-C ends this):")
        if here:
            say(f"{name} {gone}; waiting for it to come back (Ctrl-C ends this)")
        time.sleep(AGAIN)


def _end(following: Following) -> str:
    """How the stream ended that has come to its end in good order."""
    stopped = following.seen is not None and following.seen.phase == "stopped"
    return "was ended on purpose" if stopped else "went away without a word"


def _show(event: Json, following: Following, *, as_json: bool) -> None:
    lines = following.lines(event)
    if as_json:
        lines = [json.dumps(event, separators=(",", ":"), ensure_ascii=False)]
    for line in lines:
        click.echo(line)
