"""Every route that the control socket can have, and who may ask for it: what is allowed is written here, once more.

The table is found, not written: each public function of `vpnpf.control` that says it returns `Routes` is asked for
its own. What is behind it is taken away, so that an answer tells of nothing but who was let through.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from dataclasses import replace
from inspect import isfunction, signature
from unittest.mock import MagicMock

from vpnpf import control
from vpnpf.control.routes import Route

WATCHED = frozenset({"GET /v1", "GET /v1/state", "GET /v1/events", "GET /v1/policy", "GET /v1/servers"})
OWNED = {
    "PUT /v1/policy": 200,
    "DELETE /v1/policy": 200,
    "POST /v1/policy/explain": 200,
    "POST /v1/policy/plan": 200,
    "POST /v1/renew": 200,
    "POST /v1/new-port": 200,
    "POST /v1/server": 202,
    "POST /v1/start": 202,
    "POST /v1/stop": 202,
    "POST /v1/restart": 202,
    "POST /v1/shutdown": 202,
    "GET /v1/exposure": 200,
    "GET /v1/report": 200,
    "GET /v1/logins": 200,
    "POST /v1/login": 200,
}
"""With what it answers an owner."""
ROLES = ("owner", "watcher", "stranger")


def expected(route: str, role: str) -> int:
    """The status that somebody of a role gets."""
    if role == "owner" or (role == "watcher" and route in WATCHED):
        return OWNED.get(route, 200)
    return 403


def makers():
    """What makes routes."""
    for each in pkgutil.iter_modules(control.__path__):
        module = importlib.import_module(f"{control.__name__}.{each.name}")
        for name, made in sorted(vars(module).items()):
            here = isfunction(made) and made.__module__ == module.__name__
            if here and not name.startswith("_") and signature(made).return_annotation == "Routes":
                yield made


def table() -> dict[tuple[str, str], Route]:
    """All of them, with answers that say who asked and do nothing. Fails if two are not of one mind."""
    found: dict[tuple[str, str], Route] = {}
    for make in makers():
        for at, route in make(*(MagicMock() for _ in signature(make).parameters)).items():
            assert found.get(at, route).role is route.role, f"{at} is given to two roles"
            found[at] = harmless(route)
    return found


def harmless(route: Route) -> Route:
    """The same for the same people, with nothing behind it."""

    async def answer(body, role):
        del body
        return {"role": str(role)}

    async def stream():
        yield json.dumps({"role": "any"}).encode() + b"\n"

    return replace(route, stream=stream) if route.stream else replace(route, answer=answer)


def known(found: dict[tuple[str, str], Route]) -> set[str]:
    """As they are written above."""
    return {" ".join(at) for at in found}
