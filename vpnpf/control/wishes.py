"""Wishes for the ports that are held: answered once each lease was confirmed.

POST /v1/renew      {"forward": NAME or null}    the same port, asked for again now
POST /v1/new-port   {"forward": NAME or null}    another one
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from vpnpf.control.messages import PREFIX, Json, NotNow
from vpnpf.control.peers import Role
from vpnpf.control.routes import Route, Routes
from vpnpf.core.serialise import Json as Value
from vpnpf.core.wishes import ONE_WISH
from vpnpf.errors import Transient, UsageError
from vpnpf.events import Event, LeaseRenewed, NewPortWanted, PortGranted, RenewWanted, ServerWanted
from vpnpf.hub import Hub
from vpnpf.model import Phase, State

SOON = 25.0
"""Seconds in which leases have to be confirmed: the client has 30."""
APART = ONE_WISH + 0.1
"""Seconds between two wishes."""
_LONGEST = 28.0
_DOING = "asking for the port"
Post = Callable[[Event], None]
WhyNot = Callable[[str], str]
"""Why nothing can be asked for of a forward ("": of all); empty: it can."""


def wishes(hub: Hub, post: Post, why_not_renew: WhyNot, why_not_port: WhyNot) -> Routes:
    """The routes. What is wished is judged by the engine's own words before it is handed in."""
    turn, last = asyncio.Lock(), -math.inf

    async def wished(why_not: WhyNot, event: type[RenewWanted | NewPortWanted], body: Json, role: Role) -> Value:
        del role
        name = _name(body)
        if why := why_not(name):
            raise NotNow(_DOING, why, _next(hub, "see `vpnpf status`"))
        nonlocal last
        async with turn:
            now = asyncio.get_running_loop().time
            # Sooner, the engine takes it for the same wish, and there is no answer to that.
            await asyncio.sleep(max(0.0, last + APART - now()))
            last = now()
            granted = (PortGranted,) if event is NewPortWanted else (PortGranted, LeaseRenewed)
            return await _confirmed(hub, lambda: post(event(name)), name, granted)

    def route(why_not: WhyNot, event: type[RenewWanted | NewPortWanted]) -> Route:
        return Route(Role.OWNER, partial(wished, why_not, event), longest=_LONGEST, slow=True)

    return {
        ("POST", f"{PREFIX}/renew"): route(why_not_renew, RenewWanted),
        ("POST", f"{PREFIX}/new-port"): route(why_not_port, NewPortWanted),
    }


def server(hub: Hub, post: Post, why_not: Callable[[int | None], str]) -> Routes:
    """`POST /v1/server`, {"number": from 1, or null: the next}: taken on, not waited for."""

    async def wanted(body: Json, role: Role) -> Value:
        del role
        number = body.get("number")
        if number is not None and type(number) is not int:
            raise UsageError("changing the server", "it is no number", "leave it out for the next one")
        if why := why_not(number):
            raise NotNow("changing the server", why, _next(hub, "the list: vpnpf server"))
        post(ServerWanted(number))
        return {}

    return {("POST", f"{PREFIX}/server"): Route(Role.OWNER, wanted, status=HTTPStatus.ACCEPTED)}


def _next(hub: Hub, usual: str) -> str:
    """What to do about a wish that cannot be met."""
    state = hub.state
    if state is not None and state.phase is Phase.STOPPED:
        return f"start it again: vpnpf up {state.profile}"
    return usual


def _name(body: Json) -> str:
    name = body.get("forward")
    if name is not None and not isinstance(name, str):
        raise UsageError(_DOING, "the forward is no name", "leave it out for all of them")
    return name or ""


async def _confirmed(
    hub: Hub, ask: Callable[[], None], name: str, granted: tuple[type[PortGranted | LeaseRenewed], ...]
) -> Value:
    """Ask, and wait until each lease was granted or renewed. Raises Transient with what stands in the way."""
    with hub.subscribe() as reader:
        left: set[str] | None = None
        state: State | None = None
        try:
            async with asyncio.timeout(SOON):
                async for update in reader.updates():
                    state = update.state
                    if left is None:  # the first one tells how it was before
                        left = {each.spec.name for each in state.forwards if name in {"", each.spec.name}}
                        ask()
                        continue
                    left -= {each.notice.forward for each in update.moments if isinstance(each.notice, granted)}
                    if not left:
                        return {"forwards": [_forward(state, each) for each in _names(state, name)]}
        except TimeoutError:
            pass
    problem = state.problems[-1] if state and state.problems else None
    if problem is not None:
        raise Transient(problem.doing, problem.message, problem.hint)
    raise Transient(_DOING, f"not confirmed within {SOON:g} s", "look at `vpnpf status`")


def _names(state: State, name: str) -> list[str]:
    return [each.spec.name for each in state.forwards if name in {"", each.spec.name}]


def _forward(state: State, name: str) -> Value:
    lease = next((each.lease for each in state.forwards if each.spec.name == name), None)
    return {"name": name, "external_port": lease.external_port if lease else None}
