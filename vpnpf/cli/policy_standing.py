"""Where the port policy of a profile stands: asked of its run, or read from the configuration and the store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vpnpf.cli.status_reading import find
from vpnpf.config import load
from vpnpf.control.client import Connection, NotRunning
from vpnpf.control.told import unreadable
from vpnpf.core.policy_codec import PolicyError, digest, policy_from, policy_json
from vpnpf.errors import ConfigError, PermissionDenied, Transient, Unavailable, VpnpfError
from vpnpf.model import PortPolicy
from vpnpf.policy_changes import Times
from vpnpf.policy_store import PolicyStore
from vpnpf.settings import ProfileSettings
from vpnpf.store import FileStore, state_directory


class SeenForward(Struct, frozen=True):
    """A forwarded port, as a run tells it."""

    name: str
    external_port: int
    arrives: int
    listen_port: int
    protocols: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    target: str | None = None
    shut: bool = False
    packets: dict[str, int] = {}


class SeenUse(Struct, frozen=True):
    """How an entry or a forwarded port has been used, as a run tells it. Times in seconds since 1970."""

    last: float | None = None
    """When somebody came in last, or None: nobody has yet."""
    closed: bool = False
    """Whether it was closed because nobody used it."""


class SeenProvider(Struct, frozen=True):
    """What the provider's own switch said last, as a run tells it."""

    lets_in: str
    """In words, after "the provider": "blocks all ports"."""
    at: float | None = None
    """When it said so, in seconds since 1970."""
    disagree: str = ""
    """How that differs from what is wanted here; empty: it does not."""


class Seen(Struct, frozen=True):
    """What a run tells of its port policy; what a later version adds is passed over."""

    profile: str
    policy: Any
    digest: str
    phase: str = ""
    stage: str | None = None
    applied: bool = False
    unapplied: str = ""
    set_at: float | None = None
    differs: bool = False
    packets: dict[str, int] = {}
    forwards: tuple[SeenForward, ...] = ()
    uses: dict[str, SeenUse] = {}
    """By key of the entry, or "forward NAME"."""
    provider: SeenProvider | None = None
    """None: it has no switch of its own, or was not heard yet."""
    took: float | None = None
    unsaved: str = ""


class Standing(Struct, frozen=True):
    """The policy of a profile, and what is known of it."""

    seen: Seen
    policy: PortPolicy
    running: bool
    raw: dict[str, Any]


def settings_of(profile: str | None, config: Path | None) -> tuple[str, ProfileSettings | None]:
    """The profile's name and settings; None for a configuration that cannot be read, where one was named or just one runs.

    A run goes on with the configuration it has read, and what it lets in must not need a good file to be shut.
    Raises ConfigError, UsageError.
    """
    try:
        settings = load(config, ended=True).profile(profile)
    except ConfigError:
        name = profile or _only_one_running()
        if name is None:
            raise
        return name, None
    return settings.spec.name, settings


def _only_one_running() -> str | None:
    try:
        running = [each.seen.profile for each in find(None, time.time()) if each.alive]
    except VpnpfError:
        return None
    return running[0] if len(running) == 1 else None


def standing(name: str, settings: ProfileSettings | None, times: Times) -> Standing:
    """As the run says; without one, as the next run would begin. Raises what `Connection` raises for a run that refuses."""
    try:
        return told(Connection(name).get("/v1/policy"), times, running=True)
    except NotRunning:
        if settings is None:
            raise
        return at_rest(settings, times)


def policy_now(settings: ProfileSettings, times: Times) -> PortPolicy:
    """The policy in force, or that the next run would begin with; the configuration's where nobody tells."""
    try:
        return standing(settings.spec.name, settings, times).policy
    except (PermissionDenied, Unavailable, Transient):
        return settings.spec.policy


def at_rest(settings: ProfileSettings, times: Times, *, forget: bool = False) -> Standing:
    """As the next run would begin; `forget`: from now on without what was set by hand. Raises Unavailable."""
    store, spec = FileStore(state_directory()), settings.spec
    kept = PolicyStore(store, spec.name, spec.policy, settings.timed)
    policy = kept.load(times.boot, times.offset, only_look=True)
    if forget:
        kept.forget(times.wall, times.offset)
        policy = kept.configured
    raw = {
        "profile": settings.spec.name,
        "policy": policy_json(policy, times.offset),
        "digest": digest(policy),
        "set_at": kept.by_hand.set_at if kept.by_hand else None,
        "configured": policy_json(kept.configured, times.offset),
        "differs": digest(policy) != digest(kept.configured),
        "unapplied": kept.trouble,
    }
    return told(raw, times, running=False)


def told(raw: dict[str, Any], times: Times, *, running: bool) -> Standing:
    """What was told, as values. Raises Unavailable for what cannot be understood."""
    try:
        seen = msgspec.convert(raw, Seen)
        return Standing(seen, policy_from(seen.policy, times.offset), running, raw)
    except (msgspec.ValidationError, PolicyError) as error:
        raise unreadable(error) from error
