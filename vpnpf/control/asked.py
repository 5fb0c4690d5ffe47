"""What is asked beside a profile's life.

GET /v1/exposure         what the internet can reach, as `vpnpf exposure --json`
GET /v1/report           what `vpnpf report` prints: text, redacted
POST /v1/policy/plan     {"set": [WORDS]}, {"open": [ENTRIES]}, {"close": [ENTRIES]} or {"reset": true}: what it would bring
GET /v1/logins           whom one can log in to, and where that is kept
POST /v1/login           {"name", "password", "username"?, "untried"?}: tried once, and kept if it is right
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from vpnpf.control.messages import PREFIX, Json
from vpnpf.control.peers import Role
from vpnpf.control.routes import Route, Routes
from vpnpf.control.served import Asked

_LONGEST = 29.0
"""Seconds: the client has 30."""


def asked(by: Asked) -> Routes:
    """The routes: for the owner alone."""

    def route(answer: Callable[[Json], Awaitable[Mapping[str, object] | str]]) -> Route:
        async def answering(body: Json, role: Role) -> Mapping[str, object] | str:
            del role
            return await answer(body)

        return Route(Role.OWNER, answering, longest=_LONGEST, slow=True)

    return {
        ("GET", f"{PREFIX}/exposure"): route(lambda _: by.exposure()),
        ("GET", f"{PREFIX}/report"): route(lambda _: by.report()),
        ("POST", f"{PREFIX}/policy/plan"): route(by.plan),
        ("GET", f"{PREFIX}/logins"): route(lambda _: by.logins()),
        ("POST", f"{PREFIX}/login"): route(by.login),
    }
