# ruff: noqa: T201 - it talks to a person
"""Figures, measured side by side in one run: `make bench`. Prints a table; succeeds if all budgets are kept.

The rival is the shell that people use: `wg-quick up`, two `natpmpc`, one `curl` to qBittorrent. It gets every
favour: no DNS line (wg-quick would run resolvconf), no packet filter, no login at qBittorrent, and nothing is
read back. Both run in the same namespaces against the same server, turn by turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mock_provider.product import Product, unique_profile, write_config
from mock_provider.provider import MockProvider
from mock_provider.qbittorrent import QBittorrent

READY_AT_MOST = 3.0
"""Times the shell's time."""
VERSION_AT_MOST = 5.0
"""Times the time of `python -c pass`."""
STATUS_AT_MOST = 6.0
"""The same of `vpnpf status` for one profile that runs."""
MEMORY_AT_MOST = 45.0
"""MB resident after READY."""

SHELL = """
set -eu
wg-quick up {config} >/dev/null 2>&1
natpmpc -a 1 0 udp 60 -g {gateway} >/dev/null
port=$(natpmpc -a 1 0 tcp 60 -g {gateway} | sed -n 's/.*Mapped public port \\([0-9]*\\).*/\\1/p')
curl -sSf --data-urlencode "json={{\\"listen_port\\":$port}}" {url}/api/v2/app/setPreferences
echo "$port"
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    ours: float
    rival: float | None
    unit: str
    at_most: float

    @property
    def figure(self) -> float:
        """What the budget is about: a ratio, or the value itself."""
        return self.ours / self.rival if self.rival else self.ours

    @property
    def kept(self) -> bool:
        """Whether it is within the budget."""
        return self.figure <= self.at_most


async def ready(rounds: int) -> tuple[list[float], list[float], list[float], list[tuple[float, float]]]:
    """Seconds until READY, seconds of the shell, and MB resident after READY, one of each per round; and `statuses`."""
    ours, shell, memory, status = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="vpnpf-bench-") as name:
        directory = Path(name)
        async with (
            MockProvider() as provider,
            QBittorrent(
                provider.lab.client,
                directory / "qbittorrent",
                settings={"Preferences/WebUI\\LocalHostAuth": "false"},
            ) as client,
        ):
            profile = unique_profile()
            config = write_config(directory, provider, client, profile)
            plain = directory / "shell.conf"
            lines = (directory / "proton.conf").read_text().splitlines()
            plain.write_text("\n".join(line for line in lines if not line.startswith("DNS")) + "\n")
            plain.chmod(0o600)
            for _ in range(rounds):
                async with Product(provider.lab.client, directory, config, profile) as product:
                    await product.until(lambda state: state["phase"] == "ready")
                    ours.append(time.monotonic() - product.started)
                    await product.until(lambda state: bool(state["forwards"][0]["renew_at"]))
                    memory.append(resident(product.pid))
                    status += await asyncio.to_thread(statuses, directory, profile)
                    await product.stop()
                shell.append(await by_shell(provider, client, plain))
    return ours, shell, memory, status


def statuses(directory: Path, profile: str) -> list[tuple[float, float]]:
    """Seconds of `vpnpf status` and of `python -c pass`, turn by turn."""
    program = str(Path(sys.executable).with_name("vpnpf"))
    env = {**os.environ, "RUNTIME_DIRECTORY": str(directory / "runtime")}
    bare = (sys.executable, "-c", "pass")
    return [
        (
            timed(lambda: subprocess.run([program, "status", profile], check=True, capture_output=True, env=env)),
            timed(lambda: subprocess.run(bare, check=True, capture_output=True)),
        )
        for _ in range(5)
    ]


async def by_shell(provider: MockProvider, client: QBittorrent, config: Path) -> float:
    """Seconds of the shell's way; everything is taken down again."""
    host = provider.lab.client
    script = SHELL.format(config=shlex.quote(str(config)), gateway=provider.gateway_address, url=client.url)
    before = time.monotonic()
    port = (await host.must(("sh", "-c", script), deadline=60.0)).strip()
    seconds = time.monotonic() - before
    if (await client.preferences())["listen_port"] != int(port):
        raise SystemExit(f"the shell's way did not set the port: {port!r}")
    await host.run(("wg-quick", "down", str(config)), deadline=30.0)
    return seconds


def resident(pid: int) -> float:
    """MB that a process holds in memory (VmRSS)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def starts(rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of `vpnpf --version` and of `python -c pass`, turn by turn."""
    program = str(Path(sys.executable).with_name("vpnpf"))
    ours, bare = [], []
    for _ in range(rounds):
        ours.append(timed(lambda: subprocess.run([program, "--version"], check=True, capture_output=True)))
        bare.append(timed(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True, capture_output=True)))
    return ours, bare


def timed(work: Callable[[], object]) -> float:
    """Seconds of a call."""
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def table(rows: list[Row]) -> str:
    """The rows for a person."""
    lines = [f"{'':<40} {'vpnpf':>10} {'rival':>10} {'figure':>9} {'at most':>9}"]
    for row in rows:
        rival = f"{row.rival:.3f}" if row.rival else "-"
        unit = "x" if row.rival else f" {row.unit}"
        lines.append(
            f"{row.what:<40} {row.ours:>10.3f} {rival:>10} {row.figure:>7.2f}{unit:<3} {row.at_most:>6g}{unit:<3}"
            f" {'kept' if row.kept else 'NOT KEPT'}"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    bare_ours, bare = starts(4 * options.rounds)
    ours, shell, memory, status = asyncio.run(ready(options.rounds))
    median = statistics.median
    rows = [
        Row("start to READY; wg-quick+natpmpc+curl (s)", median(ours), median(shell), "s", READY_AT_MOST),
        Row("vpnpf --version; python -c pass (s)", median(bare_ours), median(bare), "s", VERSION_AT_MOST),
        Row(
            "vpnpf status; python -c pass (s)",
            median(each for each, _ in status),
            median(each for _, each in status),
            "s",
            STATUS_AT_MOST,
        ),
        Row("resident after READY (MB)", max(memory), None, "MB", MEMORY_AT_MOST),
    ]
    if options.json:
        print(json.dumps([{"what": r.what, "ours": r.ours, "rival": r.rival, "kept": r.kept} for r in rows]))
    else:
        print(f"medians of {options.rounds} turns ({4 * options.rounds} for --version), memory: the largest\n")
        print(table(rows))
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
