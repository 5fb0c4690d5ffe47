# ruff: noqa: T201 - it talks to a person
"""After each `down` the machine is as it was before: `python -m tests.faults.as_before`, part of `make faults`.

Compared are rules and routes of all tables, addresses, links, all settings below net.ipv4 and net.ipv6, the packet
filter, the resolver's file (bytes, mode, owner, kind), processes, and the files of /run. Somebody else's tables are
compared byte for byte while the profile runs, too.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mock_provider.host import Host
from mock_provider.product import traces
from tests.faults.world import World
from tests.figures import Figure, show

FOREIGN = """
table inet foreign {
  counter seen { packets 7 bytes 700; }
  quota some { over 25 mbytes; }
  set these { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.18.0.0/15 }; }
  set soon { type inet_service; flags timeout; elements = { 4242 timeout 1d }; }
  map where { type inet_service : verdict; elements = { 80 : accept, 443 : drop }; }
  chain mine { tcp dport 9 drop; }
  chain early {
    type filter hook input priority -10; policy accept;
    ip saddr @these counter name "seen" tcp dport vmap @where
  }
  chain late { type filter hook output priority 10; policy accept; udp dport 9999 jump mine; }
}
table ip nat {
  chain post {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 172.17.0.0/16 oifname "nowhere" counter packets 3 bytes 300 masquerade
  }
}
table arp foreign {
  chain in { type filter hook input priority 0; policy accept; arp operation 9 counter packets 5 bytes 50; }
}
"""
"""Tables of somebody else, with counters that nothing here counts up."""
RUN = (Path("/run/wireguard"), Path("/run/vpnpf"))


@dataclass(slots=True)
class Account:
    """What came of it."""

    ends: int = 0
    settings: int = 0
    """Kernel settings that were compared each time."""
    looks: int = 0
    """At the foreign tables, while the profile ran."""
    differs: list[str] = field(default_factory=list)
    control: list[str] = field(default_factory=list)
    """What differed while the profile was up: what a look that sees nothing would miss."""
    seconds: float = 0.0


async def run(times: int) -> Account:
    """Up and down so many times."""
    account, begun = Account(), time.monotonic()
    async with World() as world:
        client = world.lab.client
        await client.must(("nft", "-f", "-"), stdin=FOREIGN)
        before = await machine(world)
        foreign = await tables_of_others(client)
        account.settings = len(before["settings"])
        for number in range(1, times + 1):
            ended = asyncio.Event()
            watching = asyncio.create_task(_watch(client, foreign, account, ended))
            await world.start()
            await world.ready()
            if number == 1:
                up = await machine(world)
                account.control = sorted(key for key in before if up[key] != before[key])
            status = await world.stop()
            ended.set()
            await watching
            account.ends += 1
            if status:
                account.differs.append(f"end {number}: status {status}")
            after = await machine(world)
            account.differs += [
                f"end {number}: {key}: {_unlike(before[key], after[key])}"
                for key in before
                if after[key] != before[key]
            ]
    account.seconds = time.monotonic() - begun
    return account


async def machine(world: World) -> dict[str, Any]:
    """All that is compared."""
    client = world.lab.client
    found = await traces(client)
    del found["filter"]  # counters and timeouts go on; `nft` below has all else
    found["nft"] = await client.must(("nft", "-s", "list", "ruleset"))
    found["settings"] = dict(_settings(client))
    # The real file, and what programs in the namespace see in its place.
    found["resolver's file"] = _file(client.resolver), _file(Path("/etc/resolv.conf"))
    found["processes"] = client.processes
    found["files"] = sorted(_files(world))
    return found


def _settings(client: Host) -> Iterator[tuple[str, str]]:
    with client.inside():
        for family in ("ipv4", "ipv6"):
            for path in Path("/proc/sys/net", family).rglob("*"):
                with suppress(OSError, UnicodeDecodeError):  # some can only be written
                    # `rglob` goes into what is gone already as well.
                    if path.is_file() and path.name not in _LIVELY:
                        yield str(path), path.read_text()


_LIVELY = {"route_max_size", "stable_secret"}


def _file(path: Path) -> tuple[str, bytes, int, int, int]:
    found = path.lstat()
    kind = str(path.readlink()) if path.is_symlink() else ""
    return kind, path.read_bytes(), found.st_mode, found.st_uid, found.st_gid


def _files(world: World) -> Iterator[str]:
    """Of this profile: others on this machine may run tunnels of their own."""
    for place in RUN:
        yield from (str(path) for path in place.glob("*") if world.profile in path.name)
    yield from map(str, world.lab.client.etc.iterdir())


async def tables_of_others(client: Host) -> str:
    """Everything of the packet filter but our table, with counters and all."""
    listed = await client.must(("nft", "list", "ruleset"))
    tables = listed.split("\ntable ")
    return "\ntable ".join(each for each in tables if not each.removeprefix("table ").startswith("inet vpnpf "))


async def _watch(client: Host, foreign: str, account: Account, ended: asyncio.Event) -> None:
    while not ended.is_set():
        now = await tables_of_others(client)
        account.looks += 1
        if _without_clock(now) != _without_clock(foreign):
            account.differs.append(f"others' tables while it ran: {_unlike(foreign, now)}")
        await asyncio.sleep(0.02)


def _without_clock(text: str) -> str:
    """An element that times out shows the time that it has left."""
    return "\n".join(line.split(" expires ")[0] for line in text.splitlines())


def _unlike(before: Any, after: Any) -> str:
    if isinstance(before, dict):
        return "; ".join(f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in {*before, *after} if before.get(key) != after.get(key))  # fmt: skip
    return f"{before!r} -> {after!r}"


def figures(account: Account, times: int) -> list[Figure]:
    """The rows of the table."""
    return [
        Figure("ends", account.ends, "", at_least=times),
        Figure("kernel settings compared each time", account.settings, "", at_least=100),
        Figure("looks at others' tables while it ran", account.looks, "", at_least=times),
        Figure("things that were not as before", len(account.differs), "", at_most=0),
        Figure("control: things that differ while it is up", len(account.control), "", at_least=5),
        Figure("real time", account.seconds, "s"),
    ]


def main() -> int:
    """Do it, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=50)
    options = parser.parse_args()
    account = asyncio.run(run(options.times))
    for line in account.differs:
        print(f"not as before: {line[:600]}")
    print(f"control, differs while it is up: {', '.join(account.control)}")
    return show("As before", figures(account, options.times))


if __name__ == "__main__":
    sys.exit(main())
