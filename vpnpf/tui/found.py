"""Which profiles run on this machine, and which are configured: what there is to begin with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from vpnpf.control.believing import NotBelieved
from vpnpf.control.dialing import connect, directories, listed
from vpnpf.control.place import name_of
from vpnpf.errors import ConfigError, Mistake, PermissionDenied, VpnpfError

PATIENCE = 0.5
"""Seconds for a connection that the kernel makes at once, if it makes it at all."""
NAME = "config.toml"
"""What a configuration is called that the questions write."""


class Running(Struct, frozen=True):
    """A profile that runs."""

    profile: str
    open: bool = True
    """Whether we may ask it."""


class Begin(Struct, frozen=True):
    """What there is to begin with."""

    running: tuple[Running, ...] = ()
    configured: tuple[str, ...] = ()
    """Profiles of the configuration, in its order."""
    config: Path | None = None
    """The configuration's file; None: there is none."""
    mistakes: tuple[Mistake, ...] = ()
    """Why it cannot be used."""
    root: bool = True
    """Whether a tunnel may be made by who looks: root, or a user who was given the right."""

    @property
    def nothing(self) -> bool:
        """Whether nothing runs and nothing is configured, so that the first thing is to set something up."""
        return not (self.running or self.configured or self.config or self.mistakes)


def running(named: Iterable[str] = (), places: Sequence[Path] = ()) -> tuple[Running, ...]:
    """The profiles whose daemon answers, by name. Blocks for half a second at worst for each that is stuck.

    `named`: profiles to look for by name too, since a directory may be searched by who may not list it. `places`: the
    runtime directories; without any, where daemons have theirs.
    """
    found: dict[str, bool] = {}
    for place in places or directories():
        for profile in dict.fromkeys((*_listed(place), *named)):
            may = _answers(place, profile)
            if may is not None and not found.get(profile):
                found[profile] = may
    return tuple(Running(profile, may) for profile, may in sorted(found.items()))


def _listed(place: Path) -> list[str]:
    try:
        return listed(place)
    except OSError:  # not there, or not for us
        return []


def _answers(place: Path, profile: str) -> bool | None:
    """Whether it lets us in; None: nobody is there, as far as can be seen."""
    try:
        connect(place, profile, PATIENCE).close()
    except NotBelieved:
        return None
    except PermissionError:
        # Of the socket: it is there. Of the directory: whether it is there cannot be seen.
        return False if _is_there(place, profile) else None
    except (TimeoutError, BlockingIOError):  # so many wait already (unix(7): EAGAIN): somebody is there
        return True
    except (OSError, ValueError):
        return None
    return True


def _is_there(place: Path, profile: str) -> bool:
    try:
        return (place / name_of(profile)).is_socket()
    except OSError:
        return False


def begin(config: Path | None = None) -> Begin:
    """Look at what there is. `config`: the configuration that was named; else the usual places. Blocks as `running` does."""
    from vpnpf.config import load, places  # noqa: PLC0415 - with the next, only where there is a choice to make
    from vpnpf.config_checker import missing  # noqa: PLC0415

    path = config or next((each for each in places() if not missing(each)), None)
    if path is not None and path.name == NAME and missing(path):
        path = None  # it was named, and can be written there
    names: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    if path is not None:
        try:
            names = tuple(load(path, ended=True).profiles)
        except ConfigError as error:
            mistakes = error.mistakes
    return Begin(running(names), names, path and path.absolute(), mistakes, _may(path))


def _may(config: Path | None) -> bool:
    """Whether we may start one."""
    from vpnpf.launch import plan_launch  # noqa: PLC0415 - as in `begin`

    try:
        plan_launch("any", config)
    except PermissionDenied:
        return False
    except VpnpfError:  # something else is missing, and is said when it is started
        return True
    return True
