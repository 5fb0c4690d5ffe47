"""What the command line has to do with faults: the options of `serve`, and the list of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from mock_provider import scenario as language
from mock_provider.faults import SWITCHES
from mock_provider.gateway import Gateway
from mock_provider.player import playing
from mock_provider.scenario import Change, Scenario
from mock_provider.scenario_text import ABSENCES, EVENTS, numbered, parse_lines
from vpnpf.errors import Unavailable

F = TypeVar("F", bound=Callable[..., None])
WIDTH = 36
"""Columns for a name and its value."""


def options(command: F) -> F:
    """Add what says when which fault is on."""
    scenario = click.option(
        "--scenario",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A file of timed faults, one a line.",
    )
    fault = click.option(
        "--fault", multiple=True, metavar="LINE", help="One line of a scenario: 'at 30s rotate'. Repeatable."
    )
    return scenario(fault(command))


def load(path: Path | None, lines: tuple[str, ...]) -> Scenario:
    """Read a file and then single lines. Raises Unavailable, or ConfigError with all mistakes."""
    named = [(f'--fault "{line}"', line) for line in lines]
    if path is not None:
        doing = f"reading {path}"
        try:
            named = [*numbered(path.read_text(encoding="utf-8"), str(path)), *named]
        except OSError as error:
            raise Unavailable(doing, error.strerror or str(error)) from error
        except UnicodeDecodeError as error:
            raise Unavailable(doing, f"it is not UTF-8 text: {error.reason}") from error
    return parse_lines(named)


async def play_until(stop: asyncio.Event, scenario: Scenario, gateway: Gateway) -> None:
    """Play a scenario until `stop` is set, or until it breaks; then its error is raised."""

    def over(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception():
            stop.set()

    async with playing(scenario, gateway, on_change=show) as task:
        task.add_done_callback(over)
        await stop.wait()


def show(change: Change) -> None:
    """Say that a fault begins or ends."""
    print(f"{time.strftime('%H:%M:%S')} scenario, {change.at:g} s: {change.text}", flush=True)


@click.command()
def faults() -> None:
    """List all that can go wrong, and how to say when."""
    print("Lines of a scenario (serve --scenario FILE, serve --fault LINE):\n")
    print(str(language.__doc__).split("\n\n")[1])
    print("\nTimes: 250ms, 90s, 2m, 1h30m, 1d. Chances: 20%. Rates: 10/s. Every switch can be set to off.")
    print("\nWhat happens at a moment:\n")
    for name, event in EVENTS.items():
        _row(f"{name} {event.count}", event.text)
    print("\nThe gateway itself, with the time that it lasts or until it is off:\n")
    for name, text in ABSENCES.items():
        _row(f"{name} [TIME]", text)
    print("\nSwitches:\n")
    for one in SWITCHES.values():
        if one.name not in ABSENCES:
            _row(f"{one.name} {one.kind.shape}", one.text)


def _row(name: str, text: str) -> None:
    print(f"  {name.strip():<{WIDTH}} {text}")
