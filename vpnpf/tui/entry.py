"""The way in: one daemon runs, so it is shown; else the start screen has what there is."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from vpnpf.errors import PermissionDenied
from vpnpf.tui.found import Begin, Running, begin, running

_RECORDING = (
    "TEXTUAL",
    "TEXTUAL_DEBUG",
    "TEXTUAL_LOG",
    "TEXTUAL_PRESS",
    "TEXTUAL_SCREENSHOT",
    "TEXTUAL_SCREENSHOT_FILENAME",
    "TEXTUAL_SCREENSHOT_LOCATION",
    "TEXTUAL_SHOW_RETURN",
)
"""Variables that Textual reads when it is loaded."""


class Root:
    """Going on as root: asked for on a screen, and done when that is gone and the terminal is the person's again."""

    def __init__(self, profile: str = "", config: Path | None = None, *, sudo: bool = True) -> None:
        """`sudo`: whether it can ask for a password, which takes a terminal."""
        # -P: what lies in the directory where it is called must not be run as root.
        what = [sys.executable, "-P", "-m", "vpnpf", "tui", *([profile] if profile else [])]
        self._rest = ["--config", str(config.absolute())] if config is not None else []
        self._argv = what
        self._sudo = shutil.which("sudo") if sudo else None
        self.wanted = False

    @property
    def possible(self) -> bool:
        """Whether there is a sudo."""
        return self._sudo is not None

    @property
    def line(self) -> str:
        """What to type where there is none."""
        return f"su -c {shlex.quote(shlex.join([*self._argv, *self._rest]))}"

    def want(self, profile: str = "", config: Path | None = None) -> None:
        """Ask for it: to look at this profile, by this configuration."""
        self.wanted = True
        if profile:
            self._argv = [*self._argv[:5], profile]
        if config is not None:
            self._rest = ["--config", str(config)]

    def go(self) -> None:
        """Become it. Raises PermissionDenied without sudo; does not return otherwise."""
        if self._sudo is None:
            raise PermissionDenied("going on as root", "there is no sudo", f"type: {self.line}")
        os.execv(self._sudo, [self._sudo, "--", *self._argv, *self._rest])  # noqa: S606 - no shell is what is wanted


def choose(profile: str | None, found: tuple[Running, ...]) -> Running | None:
    """The one to show at once; None: there is something to say or to choose first. Pure."""
    fitting = [each for each in found if profile in {None, each.profile}]
    return fitting[0] if len(fitting) == 1 and fitting[0].open else None


def enter(profile: str | None, config: Path | None, *, sudo: bool = True) -> str:
    """Show it until the person leaves; returns what is to be said then. Raises PermissionDenied."""
    _unrecorded()
    root = Root(profile or "", config, sudo=sudo)
    said = _run(profile, config, root)
    if root.wanted:
        root.go()
    return said or ""


def _unrecorded() -> None:
    """Textual's means for developers write each key that is pressed into a file or to a port, so passwords too: it is not told of them."""
    for name in _RECORDING:
        os.environ.pop(name, None)


def _run(profile: str | None, config: Path | None, root: Root) -> str | None:
    found = running((profile,) if profile else ())
    shown = choose(profile, found)
    there: Begin | None = None
    if shown is not None and config is not None:
        there = begin(config)
        if shown.profile not in there.configured:
            shown = None  # it is of another configuration than the one that was asked for
    # What is slow to load comes after the look at what runs, and only what is needed.
    from vpnpf.tui.app import Face  # noqa: PLC0415

    if shown is not None:
        from vpnpf.tui.link import SocketLink  # noqa: PLC0415

        return Face(SocketLink(shown.profile)).run()
    from vpnpf.tui.screens.start import Start  # noqa: PLC0415

    begun = there or begin(config)
    return Face(None, first=lambda: Start(begun, root, profile or "", config)).run()
