"""Learning that a piece of work failed: how long to wait, what is lost by it, which rung of the ladder comes next."""

from __future__ import annotations

import math
import re

from msgspec.structs import replace

from vpnpf.core.diagnosis import why_silent
from vpnpf.core.draft import Draft, dead
from vpnpf.core.remedies import HOPELESS, Step, for_lease, for_tunnel
from vpnpf.core.schedule import SOONEST_RETRY, backoff, retry_renewal
from vpnpf.core.state import Job
from vpnpf.events import (
    ProblemNoticed,
    WorkFailed,
)
from vpnpf.model import (
    FailureKind,
    Problem,
    Remedy,
)

TUNNEL_LOOKS = 3
"""Looks at a tunnel that may fail in a row before it counts as lost; one may fail because the machine is busy."""
STOP_TRIES = 3
"""Tries to undo something while stopping, before it is left and said; one if it is forced."""
STOP_AGAIN = 1.0
"""Seconds between those tries, whatever the failure says: nobody waits minutes for an end."""
LOOKS = frozenset(
    {"PlanTunnel", "CheckTunnel", "ReadFirewall", "ReadClient", "ReadSockets", "ReadSwitch", "Listen", "CheckExit"}
)
"""Work that changes nothing: its success says nothing about a change that failed under the same key."""
UNMISSED = frozenset({"Listen", "WatchTunnel", "WatchFirewall", "FitMtu", "CheckPort"})
"""Work whose failure is nobody's problem: what it would tell is found out by the regular looks, a little later."""
ANOTHER = "another port was asked for"
"""Why a lease that was given back is gone."""
PATIENCE = 3600.0
"""Seconds; nobody is made to wait longer than that by asking for it again and again."""
ONLINE_AGAIN = 2.0
"""Seconds until a machine without a way out is looked at again."""
LEAVE, STAY = 18.0, 180.0
"""Seconds of silence after which a server is left for the next; and, where there is none, until the device is made anew.
Until then it is asked for a handshake again and again, in place: the sockets on the device live on."""
LEASE_AGAIN, ANYTHING_AGAIN = 40.0, 60.0
"""Seconds, the longest wait between tries, less or more a tenth: a gateway that is well again gives the port within
a minute, the try that was under way included."""
_SILENT = "nothing to do at first, it is tried again; if it stays so, take another server, one that has port forwarding"
AGAIN_LATER = 60.0
"""Seconds until a look that was refused is tried again, or a torrent client; its driver does not repeat a wrong
password."""


class Failing(Draft):
    """A failure on its way into the memory."""

    def _failed(self, event: WorkFailed, job: Job) -> None:  # noqa: C901 - one flat table of what is lost
        failures = job.failures + 1 if job.failed == job.running else 1
        if job.running in UNMISSED:
            self._set_job(event.key, replace(job, running="", failed="", not_before=self.now + AGAIN_LATER))
            if job.running == "FitMtu":
                self._set(mtu_for=self.machine.tunnel_number)
            elif job.running == "CheckPort":
                self._tested(event.key.partition(":")[2], None)
            return
        if job.running == "Rekey" and event.kind in HOPELESS and self._alive():
            # One of a kind that never can; it is known from now on, and the tunnel is looked at as before.
            self._set_job(event.key, replace(job, running="", failed="Rekey", not_before=0.0))
            self._set(rekey_due=False, silent_since=None)
            return
        if event.silent and job.running == "Acquire" and (why := why_silent(self.machine)):
            event = replace(event, cause=f"{event.cause}; {why}", hint=event.hint or _SILENT)
        wait = self._wait(event, job.running, failures)
        retry_at = None if math.isinf(wait) else self.now + wait
        before = job.problem
        new = before is None or (before.kind, _gist(before.message)) != (event.kind, _gist(event.cause))
        problem = Problem(
            doing=event.doing,
            kind=event.kind,
            message=event.cause,
            hint=event.hint,
            since=before.since if before else self.now,
            failures=failures,
            retry_at=retry_at,
        )
        if new:
            self.notices.append(ProblemNoticed(problem))
        self._set_job(
            event.key,
            replace(
                job,
                running="",
                failed=job.running,
                # What failed without a way out says nothing of the next try: neither a longer wait nor another server.
                failures=0 if event.offline else failures,
                not_before=self.now + wait,
                problem=problem,
            ),
        )
        kind, _, name = event.key.partition(":")
        enough = 1 if self.machine.force else STOP_TRIES
        if kind == "lease" and self.machine.stopping:
            self._forward(name, released=True)
        elif kind == "lease" and event.kind is FailureKind.LEASE_LOST:
            self._drop(self._of(name), event.cause)
        elif job.running == "Release":
            # Nobody took it back; it ends by itself, and another is asked for all the same.
            self._drop(self._of(name), ANOTHER)
        elif job.running == "StopTunnel" and failures >= enough:
            self._set(tunnel_gone=True)
        elif job.running in {"RemoveFirewall", "ApplyFirewall"} and self.machine.tunnel_gone and failures >= enough:
            # Stopping is over then: what could not be undone, or locked, is said.
            self._set(firewall_gone=True)
        elif job.running == "CheckTunnel":
            gone = event.kind is FailureKind.LEASE_LOST
            if gone or failures >= TUNNEL_LOOKS:
                self._tunnel_lost()
        elif job.running == "Rekey":
            self._not_rekeyed(event)
        elif kind == "tunnel" and event.offline:
            self._set(planned=False)
        elif kind == "tunnel" and not self.machine.stopping:
            # The server may have moved, or another of its addresses has its turn.
            self._set(planned=False)
            step = for_tunnel(self.machine, self.now, elsewhere=not event.anywhere)
            self._climb(step)
            if step is not None and step.remedy is Remedy.NEXT_SERVER and event.kind in HOPELESS:
                # It was refused by that server, and does not have to wait for another.
                job = self.machine.job(event.key)
                again = min(job.not_before, self.now + SOONEST_RETRY)
                self._set_job(event.key, replace(job, not_before=again, problem=replace(problem, retry_at=again)))
        elif job.running == "Acquire" and self.machine.tunnel is not None:
            self._climb(for_lease(self.machine, self._of(name), self.now, elsewhere=not event.anywhere))

    def _wait(self, event: WorkFailed, running: str, failures: int) -> float:  # noqa: C901, PLR0911 - one rule a line
        """Seconds until the same is tried again."""
        kind, _, name = event.key.partition(":")
        if self.machine.stopping:
            return STOP_AGAIN
        if running == "Release":
            return 0.0  # what follows is another question
        if running == "CheckTunnel":
            return self.machine.timing.tunnel / TUNNEL_LOOKS
        if running == "Rekey" and event.silent:
            return SOONEST_RETRY
        if event.offline:
            return ONLINE_AGAIN
        if event.retry_after is not None:
            # Whoever asks for patience again and again, as after too many logins, gets more of it.
            # An account keeps that itself: to look at it sends nothing.
            more = event.kind is FailureKind.TRANSIENT and not event.anywhere
            longer = event.retry_after * 2.0 ** min(failures - 1, 5) if more else 0.0
            return max(SOONEST_RETRY, event.retry_after, min(longer, PATIENCE))
        if event.kind in HOPELESS and kind == "switch":
            return PATIENCE  # of an account, which is not to be asked with the same password all day
        if event.kind in HOPELESS:
            return AGAIN_LATER if kind == "client" or running in LOOKS - {"PlanTunnel"} else math.inf
        if event.kind is FailureKind.LEASE_LOST and failures == 1:
            return 0.0
        longest = LEASE_AGAIN if kind == "lease" else ANYTHING_AGAIN
        wait = backoff(failures, f"{self.machine.spec.name}/{event.key}", longest=longest)
        if kind == "lease":
            lease = self._of(name).lease
            return retry_renewal(lease, wait, self.now) if lease else wait
        return wait

    def _not_rekeyed(self, event: WorkFailed) -> None:
        """A tunnel that cannot shake hands anew is dead, unless nothing says so but the silence."""
        machine, cause = self.machine, f"{event.doing}: {event.cause}"
        if not event.silent:
            self._restart(cause)
        else:
            self._set(silent_since=self.now if machine.silent_since is None else machine.silent_since)
            if event.offline:
                # No other server, and no other device, would be better off: that time is held against neither.
                self._set(offline_at=self.now)
            since = max(self.machine.silent_since or self.now, self.machine.offline_at)
            if machine.servers > 1 and self.now - since >= LEAVE:
                self._set(rekey_due=False)
                self._climb(Step(Remedy.NEXT_SERVER, cause))
            elif self.now - since >= STAY:
                self._restart(cause)

    def _alive(self) -> bool:
        return self.machine.health is not None and not dead(self.machine.health)


def _gist(cause: str) -> str:
    """A cause without its numbers: the age of a handshake does not make it another."""
    return _NUMBER.sub("#", cause)


_NUMBER = re.compile(r"\d+")
