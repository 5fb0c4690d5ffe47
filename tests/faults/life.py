"""One profile that is killed at a step, looked at, started again, and looked at again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import ndiff
from pathlib import Path

from mock_provider.product import Product, traces
from tests.faults.cable import Leaks
from tests.faults.world import World

KILLER = Path(__file__).with_name("killer.py")
WITHIN = 5.0
"""Seconds from a restart to READY."""
SOCKETS = Path("/var/run/wireguard")
SAMPLES = 30
"""Looks at the programs that run."""
PARTS = ("up", "policy", "renew", "down")
LONG, SHORT = 60, 6
"""Seconds of a lease; the short one while renewals are killed: the next comes after half of it."""
ALLOWED = '"41000/tcp"'
"""What the policy's change adds."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where to kill."""

    part: str
    at: int
    how: str = "before"

    def __str__(self) -> str:
        return f"{self.part}, step {self.at} ({self.how})"


@dataclass(slots=True)
class Account:
    """What came of it."""

    steps: dict[str, list[str]] = field(default_factory=dict)
    """All steps of each part, as a run that was not killed made them."""
    checked: list[str] = field(default_factory=list)
    """The steps of check-config."""
    killed: Counter[str] = field(default_factory=Counter)
    """By part."""
    missed: int = 0
    """Points that a run did not come to: the order of steps differs a little from run to run."""
    wrong: list[str] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    """Seconds from each restart to READY."""
    probes: int = 0
    leaked: int = 0
    unseen: int = 0
    """Kinds of probes that were not seen before there were any rules: the control."""
    begun: float = field(default_factory=time.time)
    """Seconds since 1970."""
    seconds: float = 0.0


class Life:
    """One profile that is killed and started again, over and over."""

    def __init__(self, world: World, leaks: Leaks, account: Account) -> None:
        self._world = world
        self._leaks = leaks
        self._account = account
        self._log = world.directory / "steps.log"
        self._seen = 0
        self._port = 0
        self._ports: frozenset[int] = frozenset()
        """All external ports so far."""
        self._whole: dict[str, object] = {}
        """What is there while it is READY."""
        self._tables: dict[str, set[str]] = {"": set(), ALLOWED: set()}
        """The rule sets that may stand, by what the policy allows besides."""

    async def begin(self) -> None:
        """Learn what is there when all is well, and which rule sets there are; ends killed, with its rules standing."""
        for allowed in (ALLOWED, ""):
            self._world.allow = allowed
            self._world.configure()
            await self._learn()
        self._seen = await self._leaks.count()

    async def _learn(self) -> None:
        """The rule sets of the stages under a policy: the tunnel is being made, stands without a port, has its port."""
        world, gateway, tables = self._world, self._world.provider.gateway, self._tables[self._world.allow]
        await world.provider.server.mute()
        await world.start()
        await world.product.until(lambda state: state["phase"] == "connecting" and state["policy"]["stage"] is not None)
        tables.add(await self._table())
        gateway.silent = True
        await world.provider.server.unmute()
        await world.product.until(lambda state: state["policy"]["stage"] == "connected")
        tables.add(await self._table())
        gateway.silent = False
        await world.ready()
        tables.add(await self._table())
        self._whole = await self._there()
        # What runs for a moment only adds to what stays.
        self._whole["programs"] = min([_programs(world) for _ in range(SAMPLES)], key=len)
        await world.kill()

    async def count(self, part: str) -> list[str]:
        """The steps of a part, from a run that is not killed."""
        await self._to(Point(part, 0))
        steps = self._log.read_text().splitlines()
        await self._restart(Point(part, 0))
        return steps

    async def point(self, point: Point) -> None:
        """Kill there, look at what is left, start again and look again."""
        killed = await self._to(point)
        self._account.killed[point.part] += killed
        self._account.missed += not killed
        await self._restart(point)

    async def _to(self, point: Point) -> bool:
        """Live until the point; whether it was killed there. A part that is over ends by a kill of ours."""
        world = self._world
        world.provider.gateway.lifetime = SHORT if point.part == "renew" else LONG
        if point.part == "policy":
            world.allow = "" if world.allow else ALLOWED
            world.configure()
        when = "signal" if point.part in {"renew", "down"} else "start"
        product = world.make((sys.executable, str(KILLER), str(self._log), str(point.at), when, point.how))
        world.product = product
        async with product:
            if when == "signal":
                await world.ready()
                product.signal(signal.SIGUSR1)
            if point.part == "down":
                product.signal(signal.SIGTERM)
                await product.ended()
            elif point.part == "renew":
                await _until_over(product, lambda: _renewed(product))
            else:
                await _until_over(product, lambda: product.state.get("phase") == "ready")
            killed = product.status == -signal.SIGKILL
        await self._left(point)
        return killed

    async def _left(self, point: Point) -> None:
        """What the end left: the rules of the old state or the new, whole; or, after a stop, nothing at all."""
        self._judge(point, "store", self._store())
        text = await self._table()
        await self._judge_leaks(point)
        # A release that was on its way when it was killed has been obeyed when an answer comes after it.
        await self._world.lab.client.run(("ping", "-c", "1", "-W", "1", self._world.provider.gateway.address))
        held = {rule.external_port for rule in self._world.provider.gateway.mappings}
        self._port = self._port if self._port in held else 0
        if not text and point.part == "down":
            after = await traces(self._world.lab.client)
            differs = sorted(key for key in after if after[key] != self._world.before[key])
            self._judge(point, "the rules went before", ", ".join(differs))
            self._seen = -1
        elif not any(text in tables for tables in self._tables.values()):
            self._judge(point, "rule set", f"neither old nor new: {self._unlike(text)}")

    async def _restart(self, point: Point) -> None:
        """Start again, look, and kill: the next point begins with rules that stand."""
        world = self._world
        begun = time.monotonic()
        await world.start()
        await world.ready()
        took = time.monotonic() - begun
        if self._seen < 0:  # until the rules stood again everything went out, as it may after an end
            self._seen = await self._leaks.count()
        self._account.back.append(took)
        self._judge(point, "READY", f"after {took:.1f} s" if took > WITHIN else "")
        if self._port:
            self._judge(point, "port", f"{world.port} instead of {self._port}" if world.port != self._port else "")
        self._port = world.port
        for key, value in (await self._settled()).items():
            if value != self._whole[key]:
                self._judge(point, key, f"{value} instead of {self._whole[key]}")
                self._whole[key] = value  # told once, not again at each point that follows
        table = await self._table()
        self._judge(point, "rule set of the policy", "" if table in self._tables[world.allow] else self._unlike(table))
        await world.kill()
        await self._judge_leaks(point)

    async def _settled(self) -> dict[str, object]:
        """What is there; a program or file that is there for a moment is waited for, and seen if it stays."""
        until = time.monotonic() + WITHIN
        while (found := await self._there()) != self._whole and time.monotonic() < until:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        return found

    async def _judge_leaks(self, point: Point) -> None:
        if self._seen < 0:
            return
        count = await self._leaks.count()
        if count > self._seen:
            # A stop that came to its end lets everything out, as it should, from then on.
            if point.part == "down" and not await self._table():
                return
            self._account.leaked += count - self._seen
            self._judge(point, "leaked", str(dict(self._leaks.by_kind(self._seen))))
        self._seen = count

    def _judge(self, point: Point, what: str, wrong: str) -> None:
        if wrong:
            self._account.wrong.append(f"{point}: {what}: {wrong}")

    def _store(self) -> str:
        """What is wrong with the store; empty: nothing."""
        for path in (self._world.directory / "state").glob("*.json"):
            try:
                if not isinstance(json.loads(path.read_text()), dict):
                    return f"{path.name} is no value"
            except ValueError as error:
                return f"{path.name}: {error}"
        return ""

    async def _table(self) -> str:
        """Our rules without what differs from run to run; empty: there are none."""
        done = await self._world.lab.client.run(("nft", "-s", "list", "table", "inet", "vpnpf"))
        text = re.sub(r"elements = {[^}]*}", "elements = { the port }", done.stdout)
        self._ports |= self._world.provider.gateway.external_ports
        for port in self._ports:
            text = re.sub(rf"\b{port}\b", "the port", text)
        return re.sub(r' [0-9a-f]{8}"', '"', text)

    def _unlike(self, table: str) -> str:
        """How a rule set differs from the one that is most like it."""
        known = [text.splitlines() for tables in self._tables.values() for text in tables]
        differs = [[line for line in ndiff(text, table.splitlines()) if line[0] in "+-"] for text in known]
        return " ".join(min(differs, key=len)) or "nothing"

    async def _there(self) -> dict[str, object]:
        """All that a start could have left twice, or a kill could have left over."""
        world, host = self._world, self._world.lab.client
        found: dict[str, object] = {}
        for family in ("-4", "-6"):
            for what in (("rule",), ("route", "show", "table", "all")):
                listed = (await host.must(("ip", family, *what))).splitlines()
                found[f"ip {family} {what[0]}"] = sorted(
                    re.sub(r" expires \d+sec| pref \w+", "", line) for line in listed
                )
        found["tables"] = await host.must(("nft", "list", "tables"))
        found["resolver"] = host.resolver.read_text()
        found["files"] = sorted(_files(world))
        found["programs"] = _programs(world)
        return found


async def _until_over(product: Product, over: Callable[[], bool]) -> None:
    """Wait until it was killed or the part is over."""
    while product.status is None and not over():
        product._changed.clear()
        changed = asyncio.create_task(product._changed.wait())
        ended = asyncio.gather(*product._readers)
        await asyncio.wait((changed, ended), return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        if ended.done():
            await product.ended()


def _renewed(product: Product) -> bool:
    """Whether a renewal came, and the rules were looked at after it."""
    renewed = product.notices("renewed")
    checked = renewed and product.forward("game")["proofs"]["firewall"]["checked"]
    return bool(checked and checked > renewed[0]["time"])


def _files(world: World) -> Iterator[str]:
    for place in ("state", "runtime"):
        for path in (world.directory / place).rglob("*"):
            yield re.sub(r"namespace-\d+", "namespace", str(path.relative_to(world.directory)))
    yield from (path.name for path in SOCKETS.glob(f"{world.interface}*"))
    yield from (path.name for path in world.lab.client.etc.iterdir())


def _programs(world: World) -> list[str]:
    found = []
    for pid in world.lab.client.processes:
        with contextlib.suppress(OSError):  # it ended meanwhile
            found.append(Path(f"/proc/{pid}/comm").read_text().strip())
    return sorted(found)
