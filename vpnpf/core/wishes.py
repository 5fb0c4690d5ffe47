"""What a person can wish of a profile that goes on: the port again, another port, another server.

A wish takes effect at once and is never counted against the ladder (remedies.py). While stopping it changes nothing.
"""

from __future__ import annotations

from msgspec.structs import replace

from vpnpf.core.failing import Failing
from vpnpf.core.state import ForwardState, Machine
from vpnpf.events import Acquire, WishTaken
from vpnpf.model import Wish

ONE_WISH = 1.0
"""Seconds within which the same wish is the same wish: a key that is held down asks nobody in a loop."""


def why_not_server(machine: Machine, number: int | None) -> str:
    """Why the tunnel cannot go to a server (its number from 1; None: the next); empty: it can."""
    if machine.stopping:
        return "the profile is stopping"
    if machine.servers < 2:  # noqa: PLR2004 - there has to be another
        return "the profile has only one server"
    if number is None:
        return ""
    if not 1 <= number <= machine.servers:
        return f"there is no server {number}: they are 1 to {machine.servers}"
    if number == machine.server + 1:
        return f"server {number} is the one that is used now"
    return ""


def why_not_renew(machine: Machine, name: str) -> str:
    """Why nothing can be asked for again of a forward (empty: of all of them); empty: it can."""
    if machine.stopping:
        return "the profile is stopping"
    if not machine.forwards:
        return "the profile forwards no port"
    known = [forward.spec.name for forward in machine.forwards]
    return "" if name in {"", *known} else f"there is no forward {name}: there is {', '.join(known)}"


def why_not_port(machine: Machine, name: str) -> str:
    """Why no other port can be asked for of a forward (empty: of all of them); empty: it can."""
    why = why_not_renew(machine, name)
    meant = [forward for forward in machine.forwards if name in {"", forward.spec.name}]
    if not why and machine.fixed:
        return "its ports are set on the provider's site: change it there, and in the configuration"
    if not why and all(map(_as_configured, meant)):
        return "the port is the one that the configuration asks for (external_port)"
    return why


def _as_configured(forward: ForwardState) -> bool:
    """Whether the port is held that the person wrote down: no other is wanted."""
    return forward.lease is not None and forward.lease.external_port == forward.spec.external_port


class Wishing(Failing):
    """A wish on its way into the memory."""

    def _renew_wanted(self, name: str) -> None:
        """Ask again for what is held, and try at once what waits after a failure."""
        due = [f for f in self._meant(name) if not self._just(f.renew_asked)]
        if not due and (name or self.machine.forwards or self.machine.stopping):
            return
        for forward in due:
            self._forward(forward.spec.name, renew_asked=self.now)
            if forward.lease is not None:
                self._forward(forward.spec.name, renew_at=self.now)
            self._try_again(f"lease:{forward.spec.name}")
            self._try_again(f"client:{forward.spec.name}")
        self._try_the_rest()
        self.notices.append(WishTaken(Wish.RENEW, name))

    def _port_wanted(self, name: str) -> None:
        """Let go of what is held (the planner gives it back), and of the wish for it."""
        meant = () if self.machine.fixed else self._meant(name)
        due = [f for f in meant if not self._just(f.port_asked) and not _as_configured(f)]
        if not due:
            return
        for forward in due:
            mine, key = forward.spec.name, f"lease:{forward.spec.name}"
            job = self.machine.job(key)
            asks_for_it = isinstance(job.last, Acquire) and job.last.request.previous is not None
            if job.running == "Acquire" and asks_for_it:
                # Its answer would be what is not wanted any more.
                self._set_job(key, replace(job, running=""))
            self._try_again(key)
            self._forward(mine, wish=None, unwanted=forward.lease is not None, port_asked=self.now)
        self._try_the_rest()
        self.notices.append(WishTaken(Wish.NEW_PORT, name))

    def _server_wanted(self, number: int | None) -> None:
        """Leave for another server; whatever is held is asked for again there."""
        machine = self.machine
        if why_not_server(machine, number) or (number is None and self._just(machine.server_asked)):
            return
        server = (machine.server + 1) % machine.servers if number is None else number - 1
        self._set(server=server, planned=False, server_asked=self.now)
        # Whatever is under way for the tunnel is for that which is left.
        self._set_job("tunnel", replace(machine.job("tunnel"), running="", failures=0, not_before=0.0))
        if machine.tunnel is not None:
            self._tunnel_lost()
        self.notices.append(WishTaken(Wish.SERVER, server=server + 1))

    def _meant(self, name: str) -> tuple[ForwardState, ...]:
        if self.machine.stopping:
            return ()
        return tuple(forward for forward in self.machine.forwards if name in {"", forward.spec.name})

    def _just(self, asked: float) -> bool:
        return self.now - asked < ONE_WISH

    def _try_the_rest(self) -> None:
        """What a port cannot be had without."""
        if self.machine.tunnel is None:
            self._try_again("tunnel")
        self._try_again("firewall")

    def _try_again(self, key: str) -> None:
        job = self.machine.job(key)
        if job.failed and not job.running:
            self._set_job(key, replace(job, not_before=0.0))
