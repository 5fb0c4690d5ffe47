"""An account, and the world beside the tunnel."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence

from vpnpf.errors import Failure, Misconfigured, Refused
from vpnpf.interfaces import Credentials, Http
from vpnpf.model import Endpoint
from vpnpf.testing.clock import FakeClock
from vpnpf.testing.http import FakeHttp


class MemoryStore:
    """Values by name, gone with the test (`interfaces.Store`). They are kept as JSON, as files would."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def load(self, name: str) -> dict[str, object] | None:
        """The value saved last, or None."""
        text = self.texts.get(name)
        return None if text is None else dict(json.loads(text))

    def save(self, name: str, value: Mapping[str, object]) -> None:
        """Replace the value."""
        self.texts[name] = json.dumps(dict(value))

    def forget(self, name: str) -> None:
        """Remove the value."""
        self.texts.pop(name, None)


class FakeAccount:
    """An account (`interfaces.Account`). `login` is who one is; None: nobody has logged in.

    What another one keeps is shared with it: `FakeIO(..., account=outside)` sees what `outside` stored.
    """

    def __init__(self, other: FakeAccount | None = None) -> None:
        self.store: MemoryStore = other.store if other else MemoryStore()
        self.refusals: list[tuple[Credentials, str, float | None]] = other.refusals if other else []
        """What `refused` was told, in order."""
        self.login: Credentials | None = other.login if other else None

    async def credentials(self) -> Credentials:
        """`login`. Raises Misconfigured if there is none, or it was refused without an end."""
        doing = "reading the account's password"
        if self.login is None:
            raise Misconfigured(doing, "nobody has logged in", "vpnpf login PROVIDER")
        for credentials, cause, until in self.refusals:
            if credentials == self.login and until is None:
                raise Misconfigured(doing, f"it was refused before: {cause}", "vpnpf login PROVIDER")
        return self.login

    async def refused(self, credentials: Credentials, cause: str, until: float | None = None) -> None:
        """Remember it in `refusals`."""
        self.refusals.append((credentials, cause, until))


class FakeOutside(FakeAccount):
    """All that a provider can do beside the tunnel (`interfaces.OutsideIO`), without a world."""

    def __init__(self, http: FakeHttp | None = None, *, clock: FakeClock | None = None) -> None:
        super().__init__()
        self.clock = clock or FakeClock()
        self.http: Http = http or FakeHttp(lambda asked: Refused(f"{asked.method} {asked.url}", "connection refused"))
        self.distances: dict[str, float | Failure] = {}
        """By address: the seconds until it takes a connection, or why it does not; others refuse."""
        self._drawn = 0

    def now(self) -> float:
        """Seconds as on CLOCK_BOOTTIME."""
        return self.clock.now()

    def wall(self) -> float:
        """Seconds since 1970 in UTC; they go on with `now`."""
        return self.clock.wall()

    def random_bytes(self, count: int) -> bytes:
        """Other bytes each time, and the same in every run."""
        self._drawn += 1
        return bytes((7 * self._drawn + place) % 256 for place in range(count))

    async def reach(self, endpoint: Endpoint) -> float:
        """What `distances` says. Raises Failure."""
        found = self.distances.get(endpoint.address) or Refused(f"connecting to {endpoint}", "connection refused")
        if isinstance(found, Failure):
            raise found
        return found

    async def reach_all(self, endpoints: Sequence[Endpoint], within: float) -> Mapping[Endpoint, float]:
        """What `distances` says of each; who is farther than `within` or fails is left out."""
        found = {}
        for endpoint in endpoints:
            with contextlib.suppress(Failure):
                found[endpoint] = await self.reach(endpoint)
        return {endpoint: seconds for endpoint, seconds in found.items() if seconds <= within}
