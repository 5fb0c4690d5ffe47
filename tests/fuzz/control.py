"""Mutated HTTP requests against the control socket: `python -m tests.fuzz.control`, the same as `make fuzz`.

Eight at a time, and beside them a client that asks properly: none may bring the server down, make it say that it made a
mistake, or keep the proper one waiting.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tests.figures import Figure, show
from tests.io.control_table import OWNED, WATCHED, table
from tests.io.control_world import Serving
from tests.unit.test_asked import CONFIG
from tests.unit.test_cli import TUNNEL
from tests.unit.test_control_policy import Run
from vpnpf.asked import Asked
from vpnpf.cli.report_words import told_of
from vpnpf.config import load
from vpnpf.control import routes, wishes
from vpnpf.control.asked import asked

AT_MOST = 1.0
"""Seconds that the proper client may wait."""
BESIDE = 4
"""Connections at a time that send what is mutated: with the proper one, fewer than are answered at a time."""
GOES = 0.01
"""Seconds after which a client that got no answer goes: what it sent is no whole request."""
_POLICY = {"mode": "allow-list", "forwarded": True, "openings": [{"first": 22, "last": 22, "protocol": "tcp"}]}
_BODIES: dict[str, tuple[dict[str, object], ...]] = {
    "POST /v1/echo": ({"protocol": "tcp", "port": 22, "what": "x"},),
    "POST /v1/no": ({"what": "x"},),
    "PUT /v1/policy": ({"mode": "block-all"}, {"policy": _POLICY, "before": None}),
    "DELETE /v1/policy": ({},),
    "POST /v1/policy/explain": ({"protocol": "tcp", "port": 22, "source": "192.0.2.1"},),
    "POST /v1/policy/plan": (
        {"set": ["block-all"]},
        {"open": ["22/tcp", "8000-8010/udp from 192.0.2.0/24"]},
        {"close": ["22/tcp"]},
        {"reset": True},
    ),
    "POST /v1/renew": ({"forward": None}, {"forward": "torrent"}),
    "POST /v1/new-port": ({"forward": None}, {"forward": "torrent"}),
    "POST /v1/server": ({"number": 2}, {"number": None}),
    "POST /v1/login": ({"name": "provider", "username": "somebody", "password": "secret", "untried": True},),
}
"""What is sent to each path; nothing to those that are not named."""
_ASKED = {"POST /v1/policy/plan", "GET /v1/logins", "POST /v1/login"}
_VALUES = (
    None,
    True,
    -1,
    0,
    65536,
    2**70,
    1.5,
    "",
    "\0",
    "tcp",
    "x" * 5000,
    "\ud800",
    [],
    [[]],
    {},
    {"a": [None]},
    ["22/tcp"] * 300,
)
"""What takes the place of a value."""
_HEADERS = (
    b"connection: keep-alive",
    b"connection: upgrade\r\nupgrade: websocket",
    b"expect: 100-continue",
    b"content-type: application/json",
    b"content-length: 4",
    b"content-length: 99999999999",
    b"transfer-encoding: chunked",
    b"transfer-encoding: gzip, chunked",
    b"x: " + b"y" * 3000,
)
_PATHS = (b"/v1", b"/v1/state", b"/v1/events", b"/v1/echo", b"/v1/no", b"/v2", b"*", b"http://a/v1", b"/v1/%2e%2e/%ff")
_METHODS = (b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE", b"get")
_KNOWN = tuple(
    (method.encode(), path.encode()) for method, path in (each.split() for each in sorted({*WATCHED, *OWNED, *_BODIES}))
)
_TOKENS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b":",
    b" ",
    b"\t",
    b"\xff",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"0\r\n\r\n",
    b"{",
    b"[" * 500,
)
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


class Mutator:
    """Requests without end, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def next(self) -> bytes:
        """One more: a valid request, or one that is nearly so, after up to three changes."""
        dice = self._dice
        data = self._request()
        if dice.random() < 0.1:
            data += self._request()
        for _ in range(dice.randrange(4)):
            data = self._changed(data)
        return data

    def _request(self) -> bytes:
        dice = self._dice
        method, path = dice.choice(_KNOWN) if dice.random() < 0.7 else (dice.choice(_METHODS), dice.choice(_PATHS))
        body = self._body(f"{method.decode()} {path.decode()}") if dice.random() < 0.7 else b""
        headers = [b"host: vpnpf", *(dice.sample(_HEADERS, dice.randrange(3)) if dice.random() < 0.5 else ())]
        if dice.random() < 0.3:
            headers.append(b"transfer-encoding: chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        elif dice.random() < 0.9:
            headers.append(b"content-length: %d" % len(body))
        line = b" ".join((method, path, b"HTTP/1.1"))
        return b"\r\n".join((line, *headers, b"", body))

    def _body(self, to: str) -> bytes:
        """An object as it should be, or with another value somewhere."""
        dice = self._dice
        body = copy.deepcopy(dice.choice(_BODIES.get(to) or _BODIES["POST /v1/echo"]))
        inner = body.get("policy")
        for within in (body, *([cast("dict[str, object]", inner)] if isinstance(inner, dict) else [])):
            if within and dice.random() < 0.4:
                within[dice.choice(sorted(within))] = dice.choice(_VALUES)
        return json.dumps(body).encode()

    def _changed(self, data: bytes) -> bytes:
        dice = self._dice
        at = dice.randrange(len(data) + 1)
        match dice.randrange(5):
            case 0:
                return data[:at]
            case 1:
                return data[:at] + dice.choice(_TOKENS) + data[at:]
            case 2:
                return data[:at] + dice.randbytes(dice.randrange(1, 20)) + data[at:]
            case 3:
                end = min(len(data), at + dice.randrange(1, 10))
                return data[:at] + data[end:]
            case _:
                return data[:at] + bytes((dice.randrange(256),)) + data[at + 1 :]


@dataclass
class Result:
    """What came of it."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Requests with an answer that is none, or that speaks of a mistake of ours."""
    crashes: list[str] = field(default_factory=list)
    """What the loop was told, and that the server ended."""
    longest: float = 0.0
    """Seconds that the proper client waited."""
    asked: int = 0


def served(directory: Path) -> Serving:
    """A server with every route there is: policy, plans, logins and wishes as they are, before an engine in a world of its own."""
    run = Run(directory / "kept")
    (directory / "home.conf").write_text(TUNNEL)
    config = directory / "config.toml"
    config.write_text(CONFIG)
    (directory / "qb.password").touch(mode=0o600)
    (directory / "qb.password").write_text("secret\n")
    settings = load(config).profile(None)

    def refuse(what: object) -> str:
        del what
        return "not here"

    whole = {
        at: route for at, route in table().items() if " ".join(at) not in ("GET /v1", "GET /v1/state", "GET /v1/events")
    }
    more = asked(Asked(lambda: settings, config, run.hub, run.clock, lambda: run.kept, run.post, told_of))
    # The others look at this machine, which takes a while and no body.
    whole |= {at: route for at, route in more.items() if " ".join(at) in _ASKED}
    whole |= routes.policy(lambda: run.verbs)
    whole |= wishes.wishes(run.hub, run.post, refuse, refuse) | wishes.server(run.hub, run.post, refuse)
    serving = Serving(directory, whole)
    serving.hub = serving.seen.hub = run.hub
    return serving


async def fuzz(count: int, seed: int) -> Result:
    """Send so many."""
    result, mutator = Result(), Mutator(seed)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: result.crashes.append(str(context)))
    left = iter(range(count))

    async def send(serving: Serving) -> None:
        for _ in left:
            data = mutator.next()
            async with serving.raw() as (reader, writer):
                writer.write(data)
                try:
                    answer = await asyncio.wait_for(reader.read(65536), GOES)
                except (TimeoutError, ConnectionError):
                    answer = b""
            found = _STATUS.match(answer)
            result.statuses[found[1].decode() if found else "none"] += 1
            if (answer and not found) or b"made a mistake" in answer:
                result.wrong.append((data, answer))

    async def ask(serving: Serving) -> None:
        while True:
            began = time.perf_counter()
            answer = await serving.told(b"GET /v1 HTTP/1.1\r\nhost: vpnpf\r\n\r\n")
            result.longest = max(result.longest, time.perf_counter() - began)
            result.asked += 1
            if b" 200 " not in answer:
                result.wrong.append((b"the proper one", answer))
            await asyncio.sleep(0.002)

    with tempfile.TemporaryDirectory() as directory:
        serving = served(Path(directory))
        async with serving:
            asking = asyncio.create_task(ask(serving))
            await asyncio.gather(*(send(serving) for _ in range(BESIDE)))
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            if serving.task.done():
                result.crashes.append("the server ended")
            if "mistake" in "".join(serving.said):
                result.crashes.extend(serving.said)
    return result


def main() -> int:
    """Fuzz, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    result = asyncio.run(fuzz(options.count, options.seed))
    rows = [
        Figure("requests", result.statuses.total(), "", at_least=options.count),
        Figure("crashes", len(result.crashes), "", at_most=0),
        Figure("answers that are none, or speak of a mistake", len(result.wrong), "", at_most=0),
        *(Figure(f"answered with {each}", count, "") for each, count in sorted(result.statuses.items())),
        Figure("requests of the proper client beside them", result.asked, "", at_least=1),
        Figure("the longest that it waited", result.longest, "s", at_most=AT_MOST),
        Figure("real time", time.monotonic() - began, "s"),
    ]
    code = show(f"{options.count:,} requests to the control socket, seed {options.seed}", rows)
    for found in (*result.wrong[:10], *result.crashes[:10]):
        print(found)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
