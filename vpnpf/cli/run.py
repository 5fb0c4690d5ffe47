"""`vpnpf run`: the engine in the foreground, without a face of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path

import click

from vpnpf.cli.ending import end_at_last
from vpnpf.cli.options import CONFIG
from vpnpf.control import routes
from vpnpf.control.policy_verbs import PolicyVerbs
from vpnpf.control.server import ControlServer
from vpnpf.core.policy_words import moment
from vpnpf.errors import EX_OK, EX_SOFTWARE
from vpnpf.events import StopRequested
from vpnpf.io.lines import LineWriter
from vpnpf.io.privileges import no_core
from vpnpf.observers.log import write_events, write_talk
from vpnpf.observers.status_file import keep_status
from vpnpf.observers.systemd import tell_systemd
from vpnpf.store import runtime_directory
from vpnpf.wiring import Run, prepare, ruling

STDIN, STDOUT, STDERR = 0, 1, 2


@click.command()
@click.argument("profile", required=False)
@CONFIG
@click.option("--events", is_flag=True, help="One JSON object per event on standard output.")
@click.option("--verbose", "-v", is_flag=True, help="Say every renewal too.")
def run(profile: str | None, config: Path | None, *, events: bool, verbose: bool) -> None:
    """Bring the tunnel up, get the port, and keep both until Ctrl-C or SIGTERM.

    PROFILE may be left out if the configuration has only one. The first signal gives the port back, takes the
    tunnel down and restores the machine; a second one does not wait for the provider.
    """
    _keep_standard_descriptors()
    no_core()
    sys.exit(asyncio.run(_run(profile, config, events=events, verbose=verbose)))


def _keep_standard_descriptors() -> None:
    """Open what of 0, 1 and 2 is closed: else the next file or socket gets the number, and our lines."""
    for number in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one


async def _run(profile: str | None, config: Path | None, *, events: bool, verbose: bool) -> int:
    talk = LineWriter(STDERR)
    data = LineWriter(STDOUT) if events else None
    try:
        with await prepare(profile, config) as prepared:
            _listen_to_signals(prepared)
            observers = [_observe("talk", write_talk(prepared.hub, prepared.clock, talk.put, verbose=verbose), talk)]
            keeping = keep_status(prepared.hub, prepared.clock, runtime_directory(), talk.put)
            observers.append(_observe("status file", keeping, talk))
            observers.append(_observe("word to systemd", tell_systemd(prepared.hub), talk))
            if data is not None:
                observers.append(_observe("events", write_events(prepared.hub, prepared.clock, data.put), talk))
            beside = [_observe(f"relay of {each.place}", each.serve(), talk) for each in prepared.relays]
            beside.append(_observe("control socket", _control(prepared, talk).serve(), talk))
            # Tasks start in the order they were made: the observers hear the engine's first word.
            supervising = asyncio.create_task(prepared.supervisor.run(), name="supervisor")
            status = EX_SOFTWARE
            try:
                await supervising
                status = EX_SOFTWARE if prepared.supervisor.left_behind else EX_OK
            finally:
                end_at_last(status, supervising)
            await asyncio.gather(*observers)
            for task in beside:
                task.cancel()
            # The control socket goes with it, and so before the next run can make its own.
            await asyncio.gather(*beside, return_exceptions=True)
            if said := prepared.leave():
                talk.put(said)
    finally:
        for writer in (data, talk):
            if writer is not None:
                writer.close()
    return status


def _control(prepared: Run, talk: LineWriter) -> ControlServer:
    policies, supervisor = prepared.policies, prepared.supervisor
    if policies.trouble:
        talk.put(f"problem: {policies.trouble}")
    elif policies.by_hand is not None:
        talk.put(
            f"the port policy is the one set by hand on {moment(policies.by_hand.set_at)}: see `vpnpf policy show`"
        )
    verbs = PolicyVerbs(prepared.hub, prepared.clock, supervisor.post, policies, ruling(prepared))
    table = {**routes.watching(prepared), **routes.policy(lambda: verbs)}
    return ControlServer(runtime_directory(), prepared.profile, table, talk.put)


def _listen_to_signals(prepared: Run) -> None:
    stopping = False

    def stop() -> None:
        nonlocal stopping
        prepared.supervisor.post(StopRequested(force=stopping))
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def _observe(name: str, writing: Coroutine[None, None, None], talk: LineWriter) -> asyncio.Task[None]:
    """Run an observer; if it fails, that is said and the engine goes on."""

    async def guarded() -> None:
        try:
            await writing
        except Exception as error:  # noqa: BLE001 - a face must not take the engine down, nor die unseen
            talk.put(f"problem: the {name} ended: {error!r}; the port is kept all the same")

    return asyncio.create_task(guarded(), name=name)
