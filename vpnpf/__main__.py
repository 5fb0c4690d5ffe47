"""The program's entry: as little as possible before the command is known."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line and end the process with its status."""
    if sys.argv[1:] == ["--version"]:
        # The command line's own library costs three times as much as this answer.
        from vpnpf import __version__  # noqa: PLC0415

        sys.stdout.write(f"vpnpf {__version__}\n")
        return
    if sys.argv[1:2] == ["status"] and (status := _plain_status(sys.argv[2:])) is not None:
        # All is written. Taking the interpreter down in good order takes longer than the asking did.
        os._exit(status)
    from vpnpf.cli.main import run_command_line  # noqa: PLC0415

    sys.exit(run_command_line(sys.argv[1:]))


def _plain_status(arguments: list[str]) -> int | None:
    """The exit status of `vpnpf status [PROFILE] [--json]`, which is asked often and so has to be fast; None: it is more."""
    if any(each.startswith("-") and each != "--json" for each in arguments):
        return None
    gc.disable()  # what is loaded now stays until the end, which is near
    from vpnpf.cli.status_showing import main as show_status  # noqa: PLC0415
    from vpnpf.cli.status_showing import plain  # noqa: PLC0415

    asked = plain(arguments)
    return None if asked is None else show_status(asked[0], as_json=asked[1])


if __name__ == "__main__":
    main()
