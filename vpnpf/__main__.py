"""The program's entry: as little as possible before the command is known."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and end the process with its status."""
    if sys.argv[1:] == ["--version"]:
        # The command line's own library costs three times as much as this answer.
        from vpnpf import __version__  # noqa: PLC0415

        sys.stdout.write(f"vpnpf {__version__}\n")
        return
    from vpnpf.cli.main import run_command_line  # noqa: PLC0415

    sys.exit(run_command_line(sys.argv[1:]))


if __name__ == "__main__":
    main()
