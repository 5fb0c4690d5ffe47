"""PIA's side of ninety days: its servers, which ports are bound where, the account, and the way to all of that."""

from __future__ import annotations

import asyncio
from collections import deque
from urllib.parse import urlsplit

from tests.contract.pia_world import DAY, OWN, REGIONS, PiaService, answer, busy
from tests.soak.virtual import START, LoopClock
from vpnpf.errors import Failure, NoAnswer, Transient
from vpnpf.interfaces import ANSWER_LIMIT, Credentials, HttpResponse
from vpnpf.testing import Asked, FakeAccount, FakeIO, FakeOutside, Fate, HttpReply

EPOCH = 1.8e9
"""Seconds since 1970 when the first day begins."""
ROUND_TRIP = 0.05
DEADLINE = 10.0
"""Seconds after which a request that nobody answers is over (`io.http`)."""
SOON = 7 * DAY
"""Seconds before the end of a signature, when another one is due."""


class Clock(LoopClock):
    """The machine's clocks: it may be suspended, and what it takes for the time of day may be wrong."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.asleep = 0.0
        """Seconds suspended so far; timers know nothing of them."""
        self.wrong = 0.0
        """Seconds that its wall clock is ahead."""
        self.now = lambda: loop.time() + self.asleep

    def true_wall(self) -> float:
        return self.now() - START + EPOCH

    def wall(self) -> float:
        return self.true_wall() + self.wrong


class Far(PiaService):
    """PIA, with servers that know keys and ports of their own."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock.now, clock.true_wall)
        self.clock = clock
        self.regions = list(REGIONS)
        self.current = ""
        self.dead: set[str] = set()
        """Servers that are off."""
        self.knows: set[str] = set()
        """Servers that know our key."""
        self.stirred = asyncio.Event()
        """Set when the tunnel may be dead."""
        self.where: dict[int, str] = {}
        """At which server a port was bound last."""
        self.taken: set[tuple[str, int]] = set()
        """Ports of servers that somebody else has."""
        self.reasons: list[str] = []
        """Why a port that was held could not stay, since `change` was called last."""
        self.ends: dict[str, float] = {}
        """When each signature ends, by payload."""
        self.held = ""
        """The payload that was bound last."""
        self.denied = 0
        """Logins that were answered with a refusal."""
        self.too_soon = 0
        """Logins in the time that PIA had said to wait for."""
        self.wait_until = 0.0
        self.most_in_an_hour = 0
        """Logins, whoever was asked."""
        self._recent: deque[float] = deque()
        self.missed = 0
        """Times that a port was bound again after it had run out."""

    @property
    def alive(self) -> bool:
        """Whether the tunnel leads somewhere."""
        return self.current in self.knows and self.current not in self.dead

    def has(self, port: int) -> bool:
        """Whether packets to this port come through the tunnel."""
        return self.alive and self.where.get(port) == self.current and self.bound.get(port, 0.0) > self.now()

    def forget_key(self) -> None:
        """The server evicts our key."""
        self.knows.discard(self.current)
        self.stirred.set()

    def restart(self) -> None:
        """The server loses all it knows."""
        self.forget_key()
        for port, server in self.where.items():
            if server == self.current:
                self.bound[port] = 0.0

    def new_key(self) -> None:
        """PIA signs with another key from now on: what it signed before is worth nothing."""
        self.signatures = {payload: ("of before", port) for payload, (_, port) in self.signatures.items()}

    def change(self) -> list[str]:
        """The reasons for a change of the port, until now."""
        reasons, self.reasons = self.reasons, []
        return reasons

    def answer(self, asked: Asked, *, inside: bool = False) -> HttpReply:
        host = urlsplit(asked.url).hostname or ""
        if inside and not self.alive:
            return NoAnswer("asking", "no whole answer within 10 s")
        if host in self.dead:
            return NoAnswer("asking", "no whole answer within 10 s")
        logins = len(self.logins)
        reply = super().answer(asked, inside=inside)
        if len(self.logins) > logins:
            self._recent.append(self.now())
            while self._recent[0] < self.now() - 3600:
                self._recent.popleft()
            self.most_in_an_hour = max(self.most_in_an_hour, len(self._recent))
        if len(self.logins) > logins and isinstance(reply, HttpResponse):
            self.too_soon += self.now() < self.wait_until
            self.denied += reply.status in (401, 402)
            if reply.status == 429:
                self.wait_until = self.now() + float(reply.headers.get("retry-after", 59))
        if urlsplit(asked.url).path == "/addKey" and isinstance(reply, HttpResponse) and b'"OK"' in reply.body:
            self.knows.add(host)
        return reply

    def _forwarded(self, asked, host, path, query, *, inside):
        if self.forward is not None or path != "/bindPort":
            return super()._forwarded(asked, host, path, query, inside=inside)
        payload = query["payload"][0]
        signature, port = self.signatures[payload]
        if signature != query["signature"][0]:
            self.reasons.append("bad signature")
        elif (self.current, port) in self.taken:
            self.reasons.append("busy")
            return busy(port)
        elif self.ends[payload] <= self.wall():
            self.reasons.append("ended")
            return answer({"message": "port expired"}, 401)
        ran_out = self.bound.get(port, 0.0) < self.now()
        again = port in self.where
        reply = super()._forwarded(asked, host, path, query, inside=inside)
        if signature == query["signature"][0]:
            self.missed += again and ran_out
            self.where[port] = self.current
            self.held = payload
        return reply

    def signed(self, token: str) -> dict[str, str]:
        left = self.ends.get(self.held, float("inf")) - self.wall()
        if 0 < left <= SOON:
            self.reasons.append("renewed before its end")
        made = super().signed(token)
        self.ends[made["payload"]] = self.wall() + self.signed_for
        return made


class Way:
    """HTTP to PIA (`interfaces.Http`), through the tunnel or beside it, with the time that it takes."""

    def __init__(self, far: Far, *, inside: bool) -> None:
        self._far = far
        self._inside = inside

    async def request(
        self, method, url, *, form=None, content=None, headers=None, connect_to="", ca="", limit=ANSWER_LIMIT
    ) -> HttpResponse:
        await asyncio.sleep(ROUND_TRIP)
        asked = Asked(method, url, form, headers or {}, content, connect_to, ca, limit)
        reply = self._far.answer(asked, inside=self._inside)
        if isinstance(reply, NoAnswer):
            await asyncio.sleep(DEADLINE)
        if isinstance(reply, Failure):
            raise reply
        return HttpResponse(reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.body)


class Locked(FakeAccount):
    """An account whose login may be locked for some time."""

    clock: Clock

    async def credentials(self) -> Credentials:
        """As `FakeAccount`. Raises Transient while it is locked."""
        for _, cause, until in self.refusals:
            if until is not None and until > self.clock.wall():
                raise Transient("reading the account's password", cause, "wait", retry_after=until - self.clock.wall())
        return await super().credentials()


class Beside(Locked, FakeOutside):
    """`interfaces.OutsideIO`."""


class Through(Locked, FakeIO):
    """`interfaces.ProviderIO`."""


def ways(far: Far, clock: Clock, login: Credentials) -> tuple[Beside, Through]:
    """What the provider can do beside the tunnel, and through it; both know the same account."""
    outside = Beside(clock=clock)
    outside.login = login
    outside.http = Way(far, inside=False)
    inside = Through(lambda _: Fate.SILENT, clock=clock, address=OWN, account=outside)
    inside.http = Way(far, inside=True)
    return outside, inside
