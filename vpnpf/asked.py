"""What a profile that runs answers beside its life: plan, exposure, report, logins. Nothing of it holds up the engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

from vpnpf.config import load
from vpnpf.core.exposure import Finding, must_ask
from vpnpf.core.policy_codec import digest, policy_json, without_ended
from vpnpf.core.policy_words import consequence, difference
from vpnpf.errors import Transient, Unavailable, UsageError, VpnpfError
from vpnpf.events import Event, RenewWanted
from vpnpf.exposing.looking import LOOKING, Known, Look, before, look_here
from vpnpf.exposing.words import as_json
from vpnpf.hub import Hub
from vpnpf.interfaces import Account, Clock, Outside, OutsideIO
from vpnpf.io.apart import apart
from vpnpf.io.outside import BesideTunnel
from vpnpf.logins.here import LoginsHere
from vpnpf.model import FirewallStage, Phase, PortPolicy, State
from vpnpf.policy_changes import Times, policy_closed, policy_opened, policy_set
from vpnpf.policy_store import PolicyStore
from vpnpf.printable import printable
from vpnpf.report import Told, gather
from vpnpf.settings import ProfileSettings
from vpnpf.tunnels.names import mark_of, table_of

T = TypeVar("T")

SOON = 20.0
"""Seconds that finding an answer may take."""
SHOWN = 1000
"""Changes of a plan that are told one by one."""
LONGEST_REPORT = 3_000_000
"""Characters of a report."""
_PLANNING = "planning a port policy"
_HOW = '"set", "open" or "close" with a list of texts, or "reset": true'

Change = Callable[[PortPolicy, Sequence[str], Times], PortPolicy]
_CHANGES: Mapping[str, Change] = {"set": policy_set, "open": policy_opened, "close": policy_closed}


def _nowhere() -> Outside | None:
    return None


class Asked:
    """Of one profile; what an engine has is asked for anew each time, as another start has another."""

    def __init__(
        self,
        settings: Callable[[], ProfileSettings],
        config: Path | None,
        hub: Hub,
        clock: Clock,
        policies: Callable[[], PolicyStore],
        post: Callable[[Event], None],
        tell: Callable[[State, float, float], Told],
        outside: Callable[[], Outside | None] = _nowhere,
    ) -> None:
        """`tell` puts a state into words, at a time on CLOCK_BOOTTIME, with wall-clock time minus that.

        `outside` is the machine's own network namespace, if the tunnel has another and we are in it.
        """
        self._settings = settings
        self._config = config
        self._hub = hub
        self._clock = clock
        self._policies = policies
        self._tell = tell
        self._outside = outside
        self._post = post
        self._logins = LoginsHere(settings, self._way, self._again)

    async def exposure(self) -> Mapping[str, object]:
        """What `vpnpf exposure --json` prints. Raises Unavailable, Transient."""
        settings, state, times = self._settings(), self._state(), self._times()
        known = _known(settings, state)

        def found() -> Mapping[str, object]:
            seen = look_here(settings, (state.policy,), known)
            spans, wrong = seen.of(state.policy)
            name, place, notes = settings.spec.name, seen.place, seen.notes
            return as_json(name, state.policy, spans, wrong, seen.listening, place, notes, times.offset)

        return await _in_thread(found, LOOKING)

    async def plan(self, body: Mapping[str, object]) -> Mapping[str, object]:
        """What a change would bring; changes nothing. Raises UsageError."""
        settings, state, times = self._settings(), self._state(), self._times()
        kind, words = _asked_for(body)
        configured = self._policies().configured

        def planned() -> Mapping[str, object]:
            old = without_ended(state.policy, times.boot)
            new = without_ended(configured, times.boot) if kind == "reset" else _CHANGES[kind](old, words, times)
            changes = difference(old, new, times.boot, times.offset)
            if kind == "open":
                changes += [
                    f"+ {use.what} again: it was closed because nobody used it" for use in state.uses if use.closed
                ]
            found = before(old, new, lambda: _looked(settings, state, (old, new))) if changes else ()
            if len(changes) > SHOWN:
                changes = [*changes[:SHOWN], f"and {len(changes) - SHOWN} more"]
            return {
                "policy": policy_json(new, times.offset),
                "before": digest(state.policy),
                "changes": list(map(printable, changes)),
                "consequence": consequence(old, new),
                "findings": list(map(_finding, found)),
                "ask": must_ask(found),
            }

        return await _in_thread(planned, _PLANNING)

    async def report(self) -> str:
        """What `vpnpf report` prints: redacted."""
        settings, state, times = self._settings(), self._hub.state, self._times()

        def gathered() -> str:
            told = self._tell(state, times.boot, times.offset) if state else Told(("it is just starting",))
            text = asyncio.run(gather([settings], self._mistakes(), told))
            return text if len(text) <= LONGEST_REPORT else f"{text[:LONGEST_REPORT]}\nand more, which is left out\n"

        return await _in_thread(gathered, "gathering a report")

    async def logins(self) -> Mapping[str, object]:
        """Whom one can log in to."""
        return {"logins": await self._logins.known()}

    async def login(self, body: Mapping[str, object]) -> Mapping[str, object]:
        """As `LoginsHere.log_in`."""
        return await self._logins.log_in(body)

    def _again(self) -> None:
        """Have what waits after a failure tried now; an engine that does not run has nothing to try."""
        with contextlib.suppress(VpnpfError):
            self._post(RenewWanted(""))

    def _way(self, account: Account) -> OutsideIO:
        """Through the tunnel while it is up. Else beside it, with the mark for which the lock lets out the provider's services."""
        state = self._hub.state
        stage = state.firewall if state else None
        # Stopped we are out of the tunnel's namespace; between two engines the lock stands as without a tunnel.
        between = stage is FirewallStage.BLOCKED and self._outside() is None
        stopped = state is not None and state.phase is Phase.STOPPED and not between
        if stopped or stage is FirewallStage.CONNECTED:
            return BesideTunnel(account, self._clock)
        mark = 0 if stage is None else mark_of(table_of(self._settings().spec.name))
        return BesideTunnel(account, self._clock, mark, self._outside())

    def _mistakes(self) -> list[str]:
        """What is wrong with the configuration as it is now, which the engine may not have read."""
        try:
            load(self._config, ended=True)
        except VpnpfError as error:
            return ["the configuration as it is now:", *(printable(line) for line in str(error).splitlines())]
        return []

    def _state(self) -> State:
        if self._hub.state is None:
            raise Transient("asking vpnpf", "it is just starting", "ask again")
        return self._hub.state

    def _times(self) -> Times:
        return Times(self._clock.now(), self._clock.wall())


def _looked(settings: ProfileSettings, state: State, policies: tuple[PortPolicy, ...]) -> Look:
    return look_here(settings, policies, _known(settings, state))


def _known(settings: ProfileSettings, state: State) -> Known:
    """What a run knows of itself. Raises Unavailable where the tunnel's namespace is not there."""
    if settings.tunnel.namespace and state.phase is Phase.STOPPED:
        cause = f"{settings.spec.name} has a network namespace of its own, and is stopped"
        raise Unavailable(LOOKING, cause, "start it first")
    ports = {each.spec.name: each.listen_port for each in state.forwards}
    return Known(state.tunnel.interface if state.tunnel else "", ports)


def _asked_for(body: Mapping[str, object]) -> tuple[str, tuple[str, ...]]:
    """Which change, and its words. Raises UsageError."""
    kinds = [each for each in (*_CHANGES, "reset") if each in body]
    if len(kinds) != 1:
        raise UsageError(_PLANNING, "one change is planned at a time", _HOW)
    kind, value = kinds[0], body[kinds[0]]
    if kind == "reset":
        if value is not True:
            raise UsageError(_PLANNING, "it is not said whether to reset", _HOW)
        return kind, ()
    words = cast("list[object]", value) if isinstance(value, list) else []
    if not words or not all(isinstance(each, str) for each in words):
        raise UsageError(_PLANNING, f'"{kind}" has no list of texts', _HOW)
    return kind, tuple(cast("list[str]", words))


def _finding(found: Finding) -> Mapping[str, object]:
    why = found.why + (f" ({found.source})" if found.source else "")
    said = {"title": found.what, "why": why, "advice": found.todo}
    return {"severity": str(found.severity), **{key: printable(text) for key, text in said.items()}}


async def _in_thread(call: Callable[[], T], doing: str) -> T:
    """In a thread of its own, which is where the engine is: those of a pool may have been begun elsewhere.

    Raises Transient if it takes too long, and what `call` raises.
    """
    try:
        async with asyncio.timeout(SOON):
            return await apart(call, _stay, "vpnpf asked")
    except TimeoutError:
        raise Transient(doing, f"not done within {SOON:g} s", "ask again") from None


def _stay() -> None:
    """Where the caller is."""
