"""The configuration file: TOML in, frozen values out (settings.py), and every mistake at once.

config_schema.py looks at types and unknown keys; config_checker.py, config_options.py, config_policy.py and config_forwards.py at what
the values mean together.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from msgspec.structs import replace

from vpnpf.config_checker import Checker, missing
from vpnpf.config_positions import Positions
from vpnpf.config_schema import Reader, Root
from vpnpf.errors import ConfigError, Mistake
from vpnpf.interfaces import Clock
from vpnpf.io.clock import BootClock
from vpnpf.settings import Config

_LARGEST = 1024 * 1024
"""Bytes of a configuration; nobody writes so much."""
_DEEPEST = 12
"""Levels of tables and lists; ours has five."""


def places() -> tuple[Path, ...]:
    """Where a configuration is looked for, the first wins."""
    everywhere = Path("/etc/vpnpf/config.toml")
    try:
        home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    except RuntimeError:  # a user without a home
        return (everywhere,)
    return Path(home, "vpnpf", "config.toml"), everywhere


def load(path: Path | None = None, *, ended: bool = False) -> Config:
    """Read and check a configuration. Raises ConfigError with every mistake.

    An entry of an allow-list whose end is past is a mistake; with `ended` it is left out, for those to whom what comes in
    is of no concern.
    """
    found = path or next((place for place in places() if not missing(place)), None)
    if found is None:
        looked = " and ".join(map(str, places()))
        hint = "make one with: vpnpf init; or name another with --config"
        raise ConfigError((Mistake("config.toml", f"not found: looked for {looked}", hint),))
    found = found.absolute()
    try:
        with found.open("rb") as file:
            data = file.read(_LARGEST + 1)
        text = data.decode("utf-8-sig")
    except PermissionError as error:
        hint = "run it as root, or name another one with --config"
        raise ConfigError((Mistake(str(found), error.strerror or str(error), hint),)) from error
    except (OSError, ValueError) as error:
        undecoded = isinstance(error, UnicodeDecodeError)
        what = "it is not UTF-8 text" if undecoded else getattr(error, "strerror", "") or str(error)
        hint = "write it anew" if undecoded else "name another one with --config"
        raise ConfigError((Mistake(str(found), what, hint),)) from error
    if len(data) > _LARGEST:
        raise ConfigError((Mistake(str(found), f"it is larger than {_LARGEST // 1024} KiB", "is it the right file?"),))
    return parse(text, found, ended=ended)


def parse(text: str, path: Path, clock: Clock | None = None, *, ended: bool = False) -> Config:
    """Check the text of a configuration; `path` is where it lies. Raises ConfigError with every mistake.

    The clock decides what has ended, and is the machine's if none is given; for `ended` see `load`.
    """
    try:
        raw = tomllib.loads(text)
        if _deeper(raw, _DEEPEST):
            raise RecursionError
    except RecursionError:
        raise ConfigError(
            (Mistake(str(path), "its tables or lists are nested too deeply", "is it the right file?"),)
        ) from None
    except ValueError as error:  # also a number with thousands of digits, which is no TOMLDecodeError
        line = re.search(r"line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else str(path)
        what = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a number is too long"
        raise ConfigError((Mistake(where, f"it is not TOML: {what}", "see https://toml.io"),)) from None
    positions = Positions(text, path)
    reader = Reader()
    root = reader.read(Root, raw)
    first = tuple(Mistake(positions.where(key), what, hint) for key, what, hint in reader.mistakes)
    # What has the right type may be wrong in other ways: that is said in the same go.
    checker = Checker(path, positions, frozenset(reader.broken), clock or BootClock(), ended=ended)
    config, more = checker.check(root.profiles, root.clients)
    if first or more:
        raise ConfigError(positions.in_order((*first, *more)))
    return replace(config, group=root.control.group or "")


def _deeper(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_deeper(each, levels - 1) for each in inner)
