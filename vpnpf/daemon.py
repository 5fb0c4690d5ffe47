"""A profile's process: its engine, begun and ended as often as somebody wants, until the process is to end.

What outlives an engine is one hub, so that who watches goes on watching; one control socket; one lock on the profile. Every
engine is made from the configuration as it is then, which is read and checked before anything that runs is touched.

The timeline goes on from engine to engine: who asks in the morning why there was no port at three wants to see that it was
stopped, and when it began again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.control.messages import NotNow
from vpnpf.control.policy_verbs import PolicyVerbs
from vpnpf.core import wishes
from vpnpf.core.policy_words import moment
from vpnpf.core.schedule import LONGEST_SLEEP
from vpnpf.core.serialise import servers_json
from vpnpf.core.state import Machine
from vpnpf.errors import Transient, VpnpfError
from vpnpf.events import Event, StopRequested
from vpnpf.hub import Hub
from vpnpf.interfaces import Clock
from vpnpf.model import Entry, FailureKind, LockMode, Phase, Problem, State
from vpnpf.settings import ProfileSettings
from vpnpf.supervisor import DEADLINES
from vpnpf.wiring import Run, ruling

Say = Callable[[str], None]
Build = Callable[[Hub, tuple[Entry, ...]], Awaitable[Run]]
"""Makes an engine that publishes to a hub and goes on with a timeline. Raises VpnpfError, with all as it was."""


class Following(Struct, frozen=True):
    """An engine that can be made now."""

    build: Build
    closed: bool = False
    """Whether nothing may leave between the engine that runs and this one."""


Read = Callable[[ProfileSettings | None], Awaitable[Following]]
"""Reads the configuration and checks it, and changes nothing; given are the settings of the engine that runs, if one does.

Raises ConfigError, and whatever else is wrong here.
"""

SOON = 20.0
"""Seconds that a start is waited for by who asked for it; then it goes on without that."""
AGAIN = 15.0
"""Seconds until a restart is tried again that found the profile cannot begin."""
_STARTING, _STOPPING, _RESTARTING, _ASKING = "starting", "stopping", "restarting", "asking vpnpf"
_SEE = "see `vpnpf status`"


class Daemon:
    """What the control socket serves (`control.served.Served`). Everything in the loop's thread."""

    def __init__(self, first: Run, read: Read, say: Say) -> None:
        """Begins with an engine that is ready to go; `say` takes lines for the person who sees the process."""
        self.profile = first.profile
        self.hub: Hub = first.hub
        self.clock: Clock = first.clock
        self.ending = False
        """Whether the process is to end."""
        self.asked_to_end = False
        """Whether that was asked for over the control socket."""
        self.run: Run = first
        """The engine that runs, or was the last one to."""
        self._read = read
        self._say = say
        self._running = False
        self._beginning: asyncio.Task[None] | None = None
        """A start that is under way."""
        self._closed = False
        """Whether an engine that was to be followed left the lock in force, and none followed yet."""
        self._next: Build | None = None
        """What begins when the engine that runs has ended."""
        self._news, self._rested = asyncio.Event(), asyncio.Event()
        self._take(first)

    # -- its life -------------------------------------------------------------------------------

    async def live(self) -> None:
        """Until it is to end. Raises what the engine raised by mistake."""
        try:
            while True:
                if self._running:
                    await self._live_once()
                if self.ending:
                    await self._let_out()
                    return
                await self._rest()
        finally:
            if self._beginning is not None:
                self._beginning.cancel()
            self.hub.close()

    def end(self) -> None:
        """Have everything taken down and the process ended; the second time, without waiting for the provider."""
        force, self.ending, self._next = self.ending, True, None
        if self._beginning is not None:
            self._beginning.cancel()
        if self._running:
            self.run.supervisor.post(StopRequested(force=force))
        self._news.set()

    @property
    def left_behind(self) -> tuple[Problem, ...]:
        """What the last engine could not put back as it was."""
        return self.run.supervisor.left_behind

    async def _live_once(self) -> None:
        run = self.run
        relays = [asyncio.create_task(self._relay(each.place, each.serve())) for each in run.relays]
        try:
            await run.supervisor.run()
        finally:
            self._running = False
            for relay in relays:
                relay.cancel()
            await asyncio.gather(*relays, return_exceptions=True)
            if said := run.leave():
                self._say(said)
            run.locks.close()
            ended = run.supervisor.machine
            self._closed = ended.closed and ended.spec.lock is LockMode.ON
            self._rested.set()

    async def _relay(self, place: object, serving: Awaitable[None]) -> None:
        try:
            await serving
        except Exception as error:  # noqa: BLE001 - what is published must not take the engine down, nor die unseen
            self._say(f"problem: the relay of {place} ended: {error!r}; the port is kept all the same")

    async def _rest(self) -> None:
        """Wait until there is something to do, and turn meanwhile, so that the watchdog sees us live."""
        if self._next is not None:
            build, self._next = self._next, None
            self._beginning = asyncio.create_task(self._begin_at_last(build), name="restart")
        while not self._running and not self.ending:
            if self._beginning is None:
                await self._let_out()
            if self.hub.state is not None:
                self.hub.publish(self.hub.state, ())
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_SLEEP):
                    await self._news.wait()
        if self._beginning is not None:
            await asyncio.wait([self._beginning])

    async def _let_out(self) -> None:
        """Open what was kept closed for an engine that does not follow after all. What cannot be is said, and tried again."""
        if not self._closed:
            return
        try:
            async with asyncio.timeout(DEADLINES["RemoveFirewall"]):
                await self.run.let_out()
        except (VpnpfError, TimeoutError) as error:
            why = str(error) or "it takes too long"
            self._say(f"problem: the machine stays locked: {why} (open it by hand: sudo vpnpf unlock)")
            return
        self._closed = False
        if self.hub.state is not None:
            self.hub.publish(replace(self.hub.state, firewall=None), ())

    async def _begin(self, build: Build) -> None:
        run = await build(self.hub, self.run.supervisor.machine.timeline)
        if self.ending:
            run.locks.close()
            return
        self._take(run)

    async def _begin_at_last(self, build: Build) -> None:
        """Begin, however often that has to be tried: nobody asked for a profile that stays down."""
        said = ""
        try:
            while True:
                try:
                    return await self._begin(build)
                except VpnpfError as error:
                    if said != str(error):
                        said = str(error)
                        hint = f" ({error.hint})" if error.hint else ""
                        self._say(f"problem: it cannot begin again: {said}{hint}; it is tried every {AGAIN:g} s")
                        if self._closed:
                            self._say(f"  nothing leaves this machine meanwhile; to open it: vpnpf down {self.profile}")
                    self._trouble(error)
                    await asyncio.sleep(AGAIN)
        finally:
            self._beginning = None
            self._trouble(None)
            self._news.set()

    def _take(self, run: Run) -> None:
        self.run, self._running, self._closed = run, True, False
        self._rested.clear()
        self.policies = PolicyVerbs(self.hub, self.clock, self.post, run.policies, ruling(run))
        """Of this engine."""
        if run.policies.trouble:
            self._say(f"problem: {run.policies.trouble}")
        elif run.policies.by_hand is not None:
            since = moment(run.policies.by_hand.set_at)
            self._say(f"the port policy is the one set by hand on {since}: see `vpnpf policy show`")
        self._news.set()

    def _trouble(self, error: VpnpfError | None) -> None:
        """Show in the state why it does not begin, or no longer."""
        state: State | None = self.hub.state
        if state is None or self._running:
            return
        left = self.left_behind
        if error is not None:
            now = self.clock.now()
            doing, hint = f"{_RESTARTING}: {error.doing}", error.hint
            if self._closed:
                opens = f"nothing leaves meanwhile; vpnpf down {self.profile} opens this machine"
                hint = f"{hint}; {opens}" if hint else opens
            left += (Problem(doing, FailureKind.TRANSIENT, error.cause, hint, now, retry_at=now + AGAIN),)
        self.hub.publish(replace(state, problems=left), ())

    # -- commands -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the configuration anew and begin; answered when the engine runs, or after a while.

        Raises NotNow if it runs, ConfigError and whatever else it cannot begin for; then it is stopped as before.
        """
        self._not_ending(_STARTING)
        if self._beginning is not None or self._next is not None:
            raise NotNow(_STARTING, f"the profile {self.profile} is starting already", _SEE)
        if self._running and self._machine.phase is not Phase.STOPPED:
            doing = "is stopping" if self._stopping else "runs already"
            hint = (
                "start it again when it has stopped" if self._stopping else "restart it to have its configuration read"
            )
            raise NotNow(_STARTING, f"the profile {self.profile} {doing}", hint)
        begun = self._beginning = asyncio.create_task(self._read_and_begin(), name="start")
        done, _ = await asyncio.wait([begun], timeout=SOON)
        if done and begun.cancelled():
            raise NotNow(_STARTING, "it was stopped again meanwhile", _SEE)
        if done:
            begun.result()

    async def _read_and_begin(self) -> None:
        try:
            await self._rested.wait()  # told to be stopped, it still lets go of what was made for it
            await self._begin((await self._read(None)).build)
        except VpnpfError as error:
            self._say(f"problem: it cannot start: {error}" + (f" ({error.hint})" if error.hint else ""))
            raise
        finally:
            self._beginning = None
            self._news.set()

    async def stop(self) -> None:
        """Have tunnel and port taken down, and stay. Taken on, not waited for. Raises NotNow if it is stopped."""
        self._not_ending(_STOPPING)
        followed, self._next = self._next is not None, None
        if self._beginning is not None:
            self._beginning.cancel()
        elif not self._running and not followed:
            raise NotNow(_STOPPING, f"the profile {self.profile} is stopped already", "end its process: vpnpf down")
        else:  # also where it is stopping already: it may be for an engine that was to follow
            self.run.supervisor.post(StopRequested())

    async def restart(self) -> None:
        """Read the configuration anew, and only then stop and begin again; that is taken on, not waited for.

        Raises NotNow if it does not run, ConfigError and whatever else is wrong; then it goes on untouched.
        """
        self._can_restart()
        run = self.run
        following = await self._read(run.settings)
        self._can_restart()
        if self.run is not run:
            raise NotNow(_RESTARTING, "it was restarted by somebody else meanwhile", _SEE)
        self._next = following.build
        run.supervisor.post(StopRequested(closed=following.closed))

    async def shutdown(self) -> None:
        """Have everything taken down and the process ended; taken on, not waited for."""
        self.asked_to_end = True
        if not self.ending:
            self.end()

    def post(self, event: Event) -> None:
        """Hand the engine a wish. Raises NotNow if none runs."""
        if why := self._why_nothing():
            raise NotNow(_ASKING, why, f"start it: vpnpf up {self.profile}")
        self.run.supervisor.post(event)

    async def servers(self) -> Sequence[Mapping[str, object]]:
        """Each with number, place, endpoint and current; for a place that nobody told, the name of its file."""
        if self.hub.state is None:
            raise Transient(_ASKING, "it is just starting", "ask again")
        found = servers_json(self.hub.state)
        files = dict(enumerate((path.stem for path in self.run.settings.tunnel.configs), 1))
        return [{**each, "place": each["place"] or files.get(cast("int", each["number"]))} for each in found]

    def traffic(self, interface: str) -> tuple[int, int] | None:
        """Bytes that a device received and sent since it exists, or None."""
        return self.run.traffic(interface)

    def why_not_renew(self, name: str) -> str:
        """Why nothing can be asked for again of a forward ("": of all); empty: it can."""
        return self._why_nothing() or wishes.why_not_renew(self._machine, name)

    def why_not_port(self, name: str) -> str:
        """Why no other port can be asked for."""
        return self._why_nothing() or wishes.why_not_port(self._machine, name)

    def why_not_server(self, number: int | None) -> str:
        """Why the tunnel cannot go to a server."""
        return self._why_nothing() or wishes.why_not_server(self._machine, number)

    def _why_nothing(self) -> str:
        if self._running:
            return "the profile is stopping" if self._stopping else ""
        starting = self._beginning is not None or self._next is not None
        return "the profile is starting" if starting else "the profile is stopped"

    def _can_restart(self) -> None:
        self._not_ending(_RESTARTING)
        if why := self._why_nothing():
            raise NotNow(_RESTARTING, why, f"start it: vpnpf up {self.profile}")
        if self._next is not None:
            raise NotNow(_RESTARTING, "it is restarting already", _SEE)

    def _not_ending(self, doing: str) -> None:
        if self.ending:
            raise NotNow(doing, f"the profile {self.profile} is ending", f"then start it: vpnpf up {self.profile}")

    @property
    def _machine(self) -> Machine:
        return self.run.supervisor.machine

    @property
    def _stopping(self) -> bool:
        return self._machine.stopping
