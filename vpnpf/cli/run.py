"""`vpnpf run`: the daemon in the foreground, without a face of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path

import click

from vpnpf.asked import Asked
from vpnpf.cli.ending import end_at_last
from vpnpf.cli.options import CONFIG
from vpnpf.cli.report_words import told_of
from vpnpf.control import routes
from vpnpf.control.asked import asked
from vpnpf.control.server import ControlServer
from vpnpf.control.wishes import server, wishes
from vpnpf.daemon import Daemon, Following, Read
from vpnpf.errors import EX_OK, EX_SOFTWARE, ConfigError, Mistake, Transient, UsageError, VpnpfError
from vpnpf.hub import Hub
from vpnpf.io.clock import BootClock
from vpnpf.io.lines import LineWriter
from vpnpf.io.privileges import end_with, no_core
from vpnpf.observers.log import write_events, write_talk
from vpnpf.observers.status_file import keep_status
from vpnpf.observers.systemd import tell_systemd
from vpnpf.settings import Config, ProfileSettings
from vpnpf.store import runtime_directory
from vpnpf.wiring import build, look_ahead, only, read, stays_closed

STDIN, STDOUT, STDERR = 0, 1, 2
_LOOKING = 20.0
"""Seconds to look ahead in, before a restart."""
_AHEAD = "looking ahead, before anything is stopped"
_OPEN = "it goes on as it was; where nothing can be looked up while all is blocked: vpnpf down, then vpnpf up"


@click.command()
@click.argument("profiles", nargs=-1, metavar="[PROFILE]...")
@CONFIG
@click.option("--events", is_flag=True, help="One JSON object per event on standard output.")
@click.option("--verbose", "-v", is_flag=True, help="Say every renewal too.")
@click.option("--parent", type=int, hidden=True)
def run(profiles: tuple[str, ...], config: Path | None, *, events: bool, verbose: bool, parent: int | None) -> None:
    """Bring the tunnel up, get the port, and keep both until Ctrl-C or SIGTERM.

    PROFILE may be left out if the configuration has only one; several run each in a process of its own, and end together.
    The first signal gives the port back, takes the tunnel down and restores the machine; a second one does not wait for the
    provider.
    """
    _keep_standard_descriptors()
    no_core()
    # A profile with a network namespace comes back from it to the root directory.
    place = config.absolute() if config else None
    if len(profiles) > 1:
        from vpnpf.cli.several import run_several  # noqa: PLC0415 - one alone does not need it

        sys.exit(asyncio.run(run_several(profiles, place, events=events, verbose=verbose)))
    if parent is not None:
        end_with(parent)
    sys.exit(asyncio.run(_run(next(iter(profiles), None), place, events=events, verbose=verbose)))


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
        found = _found(profile, config)
        name = found.profile(profile).spec.name
        with only(name):
            return await _live(name, config, found, talk, data, verbose=verbose)
    finally:
        for writer in (data, talk):
            if writer is not None:
                writer.close()


def _found(profile: str | None, config: Path | None) -> Config:
    try:
        return read(profile, config)
    except UsageError as error:
        if profile is not None:
            raise
        raise UsageError(error.doing, error.cause, f"{error.hint}; or run several: vpnpf run A B") from error


async def _live(
    name: str, config: Path | None, found: Config, talk: LineWriter, data: LineWriter | None, *, verbose: bool
) -> int:
    hub, clock = Hub(), BootClock()
    daemons: list[Daemon] = []
    # Tasks start in the order they were made: the observers hear the engine's first word. And they are there before it moves
    # into a network namespace, in which a thread of theirs would stay.
    observers = [_observe("talk", write_talk(hub, clock, talk.put, verbose=verbose), talk)]
    observers.append(_observe("status file", keep_status(hub, clock, runtime_directory(), talk.put), talk))
    observers.append(
        _observe("word to systemd", tell_systemd(hub, ending=lambda: any(each.ending for each in daemons)), talk)
    )
    if data is not None:
        observers.append(_observe("events", write_events(hub, clock, data.put), talk))
    await asyncio.sleep(0)
    told = asyncio.Event()
    building = asyncio.create_task(build(found.profile(name), hub), name="build")

    def give_up() -> None:
        told.set()
        building.cancel()  # it may have a namespace already, and wait for a name to be looked up

    _listen_to_signals(give_up)
    try:
        first = await building
    except BaseException as error:
        hub.close()
        await asyncio.gather(*observers)
        if isinstance(error, asyncio.CancelledError) and told.is_set():
            return EX_OK
        raise
    with first:
        daemon = Daemon(first, _reading(name, config), talk.put)
        daemons.append(daemon)
        _listen_to_signals(daemon.end)
        if told.is_set():  # just when it was done
            daemon.end()
        server = ControlServer(runtime_directory(), name, _routes(daemon, config), talk.put, found.group)
        control = _observe("control socket", server.serve(), talk)
        living = asyncio.create_task(daemon.live(), name="daemon")
        status = EX_SOFTWARE
        try:
            await living
            status = _status(daemon, os.environ)
        finally:
            end_at_last(status, living)
        await asyncio.gather(*observers)
        # The control socket goes with it, and so before the next run can make its own.
        control.cancel()
        await asyncio.gather(control, return_exceptions=True)
    return status


def _status(daemon: Daemon, environment: Mapping[str, str]) -> int:
    """Of an end without a mistake. Something that was left behind is one, but not to systemd for who was asked to end.

    It would start us again (Restart=on-failure), and somebody wanted it down; what was left is in the journal.
    """
    wanted = daemon.asked_to_end and "NOTIFY_SOCKET" in environment
    return EX_SOFTWARE if daemon.left_behind and not wanted else EX_OK


def _reading(name: str, config: Path | None) -> Read:
    """Reads the configuration as it is now, in a thread: the engine that runs shall not wait for it."""

    async def reading(beside: ProfileSettings | None) -> Following:
        try:
            found = await asyncio.to_thread(read, name, config)
        except UsageError as error:  # of the file, this time: the profile is no longer in it
            raise ConfigError((Mistake(str(config or "config.toml"), error.cause, error.hint),)) from error
        settings = found.profile(name)
        closed = beside is not None and stays_closed(beside, settings)
        if closed:
            await _look_ahead(settings)
        return Following(partial(build, settings), closed)

    return reading


async def _look_ahead(settings: ProfileSettings) -> None:
    """Raises Transient where that cannot be done: an engine that is stopped then could not be followed."""
    try:
        async with asyncio.timeout(_LOOKING):
            await look_ahead(settings)
    except TimeoutError:
        raise Transient(_AHEAD, f"not done within {_LOOKING:g} s", _OPEN) from None
    except ConfigError:
        raise
    except VpnpfError as error:
        raise Transient(f"{_AHEAD}: {error.doing}", error.cause, error.hint or _OPEN) from error


def _routes(daemon: Daemon, config: Path | None) -> routes.Routes:
    """All that can be asked for over the control socket."""
    beside = Asked(
        settings=lambda: daemon.run.settings,
        config=config,
        hub=daemon.hub,
        clock=daemon.clock,
        policies=lambda: daemon.run.policies,
        post=daemon.post,
        tell=told_of,
        outside=lambda: daemon.run.outside,
    )
    return {
        **routes.watching(daemon),
        **routes.policy(lambda: daemon.policies),
        **routes.commands(daemon),
        **wishes(daemon.hub, daemon.post, daemon.why_not_renew, daemon.why_not_port),
        **server(daemon.hub, daemon.post, daemon.why_not_server),
        **asked(beside),
    }


def _listen_to_signals(end: Callable[[], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, end)


def _observe(name: str, writing: Coroutine[None, None, None], talk: LineWriter) -> asyncio.Task[None]:
    """Run an observer; if it fails, that is said and the engine goes on."""

    async def guarded() -> None:
        try:
            await writing
        except Exception as error:  # noqa: BLE001 - a face must not take the engine down, nor die unseen
            talk.put(f"problem: the {name} ended: {error!r}; the port is kept all the same")

    return asyncio.create_task(guarded(), name=name)
