"""What listens where the tunnel is, and what is wrong with it being reached.

It takes long where there are many sockets and programs: each look is made by a thread of its own, which is where the
caller is unless `enter` puts it elsewhere.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from vpnpf.core.exposure import Finding, Severity, WebInterface, findings, warnings_for
from vpnpf.core.reach import Exposed, ForwardPort, Place, exposed, forward_port
from vpnpf.errors import Transient, Unavailable, VpnpfError
from vpnpf.io import listeners, web_interface
from vpnpf.io.listeners import Listening
from vpnpf.model import PolicyMode, PortPolicy, Protocol
from vpnpf.settings import ClientSettings, ProfileSettings

LOOKING = "looking for what the internet can reach"
LONGEST = 15.0
"""Seconds for a look."""
_HIDDEN = "some programs are hidden from root here: they belong to another container, or nobody may look into them"
_PORTS = {"http": 80, "https": 443}


class Known(Struct, frozen=True):
    """What is known of the profile as it runs."""

    tunnel: str = ""
    """The tunnel's device; empty: as it was configured."""
    ports: Mapping[str, int | None] = {}
    """By forward: the local port, or None: none is held."""
    notes: tuple[str, ...] = ()
    """What is not known."""


class Look(Struct, frozen=True):
    """What was seen of this machine."""

    listening: Listening
    place: Place
    forwards: tuple[ForwardPort, ...]
    web: tuple[WebInterface, ...]
    notes: tuple[str, ...]
    """What could not be seen, and how it can be."""

    def of(self, policy: PortPolicy) -> tuple[tuple[Exposed, ...], tuple[Finding, ...]]:
        """What a policy opens, and what is wrong with that."""
        spans = exposed(policy, self.forwards, self.listening.listeners, self.place)
        return spans, findings(spans, self.listening.listeners, self.place, self.web)


def look_here(settings: ProfileSettings, policies: tuple[PortPolicy, ...], known: Known) -> Look:
    """See what listens in the network namespace of the calling thread, which has no loop.

    Raises Unavailable or Transient if the kernel does not say.
    """

    async def in_time() -> Look:
        try:
            async with asyncio.timeout(LONGEST):
                return await _look(settings, policies, known)
        except TimeoutError:
            raise Transient(LOOKING, f"not done within {LONGEST:g} s", "ask again") from None

    return asyncio.run(in_time())


def before(old: PortPolicy, new: PortPolicy, look: Callable[[], Look]) -> tuple[Finding, ...]:
    """What a person should know before `new` takes the place of `old`, the worst first.

    Where this machine cannot be looked at, that is a finding too; no VpnpfError is raised.
    """
    try:
        seen = look()
    except VpnpfError as error:
        return unseen(old, new, error)
    return warnings_for(old, new, seen.forwards, seen.listening.listeners, seen.place, seen.web)


def unseen(old: PortPolicy, new: PortPolicy, error: VpnpfError) -> tuple[Finding, ...]:
    """The same where nobody can look, and why."""
    found = warnings_for(old, new, (), ())
    nobody = Place()
    if old.mode is PolicyMode.OPEN_ALL or set(exposed(new, (), (), nobody)) <= set(exposed(old, (), (), nobody)):
        return found
    title = f"what listens behind the ports cannot be seen: {error}"
    why = "nobody can say what strangers would reach"
    return (*found, Finding(Severity.WARNING, "unseen", title, why, error.hint or "run it as root"))


def unreadable() -> Unavailable:
    """That there is no configuration to look by."""
    return Unavailable(LOOKING, "the configuration cannot be read", "mend it first")


def not_held(settings: ProfileSettings, why: str) -> tuple[str, ...]:
    """A note, if a forward has no local port of its own: then it is not known without a run."""
    return (why,) if any(forward.internal_port is None for forward in settings.spec.forwards) else ()


async def _look(settings: ProfileSettings, policies: tuple[PortPolicy, ...], known: Known) -> Look:
    spec = settings.spec
    listening = await listeners.listening()
    tunnel = known.tunnel or settings.tunnel.interface
    by_device = await listeners.addresses()
    own = by_device.get(tunnel, ())
    elsewhere = tuple(each for device, found in by_device.items() if device != tunnel for each in found)
    alone = settings.tunnel.namespace or settings.tunnel.type == "none"
    place = Place(tunnel, own, elsewhere, spec.lock, spec.lan, alone)
    held = (forward_port(forward, known.ports.get(forward.name)) for forward in spec.forwards)
    forwards = tuple(each for each in held if each is not None)
    spans = [span for policy in policies for span in exposed(policy, forwards, listening.listeners, place)]
    reached = {each.port for span in spans for each in span.listeners if each.protocol is Protocol.TCP}
    clients = {client.name: client for client in settings.clients.values()}.values()
    web = [await _web(client, (*own, *elsewhere), reached) for client in clients]
    notes = known.notes
    if any(each.unseen for span in spans for each in span.listeners):
        notes = (*notes, _HIDDEN if os.geteuid() == 0 else "run it as root to see the names of all programs")
    return Look(listening, place, forwards, tuple(each for each in web if each is not None), notes)


async def _web(client: ClientSettings, own: tuple[str, ...], reached: set[int]) -> WebInterface | None:
    """A client's web interface, asked whether it lets anybody in, if the policy opens its port. None: it is not here."""
    try:
        parts = urlsplit(client.url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    if port not in reached:
        return None
    strangers = (f"http://{f'[{each}]' if ':' in each else each}:{port}" for each in own[:2])
    urls = (*strangers, client.url) if parts.scheme == "http" else (client.url,)
    return WebInterface(client.type, port, await web_interface.lets_in(client.type, urls))
