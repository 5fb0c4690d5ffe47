"""What a command ends with, and how what went wrong is said: in one place, and without the command line's library."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable

from vpnpf.errors import EX_OK, EX_SOFTWARE, ConfigError, VpnpfError
from vpnpf.printable import printable

INTERRUPTED = 130


def guarded(work: Callable[[], int]) -> int:
    """Do some work; print what went wrong on standard error. Returns the exit status (sysexits.h)."""
    try:
        return work()
    except KeyboardInterrupt:
        return INTERRUPTED
    except VpnpfError as error:
        show(error)
        return error.exit_code
    except BrokenPipeError:
        # Nobody reads any more; what Python would still flush at its end has nowhere to go either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_OK
    except Exception as error:
        if os.environ.get("VPNPF_DEBUG"):
            raise
        say(f"error: vpnpf made a mistake: {type(error).__name__}: {error}")
        say("  hint: please report it with what VPNPF_DEBUG=1 vpnpf ... prints")
        return EX_SOFTWARE


def show(error: VpnpfError) -> None:
    """Each mistake with its hint, on standard error."""
    if isinstance(error, ConfigError):
        for mistake in error.mistakes:
            say(f"error: {mistake.where}: {mistake.what}")
            if mistake.hint:
                say(f"  hint: {mistake.hint}")
        return
    say(f"error: {error}")
    if error.hint:
        say(f"  hint: {error.hint}")


def say(text: str) -> None:
    """A line for a person; what a gateway or daemon put into it cannot command the terminal."""
    with contextlib.suppress(OSError):  # nobody reads it: the status still says it
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()
