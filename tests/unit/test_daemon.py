"""The daemon's life around real engines in a world: what is asked of it, in whatever order, ends as it should."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import vpnpf.daemon as module
from tests.unit.engine_world import PLAN, SPEC, START, World
from vpnpf.control.messages import NotNow
from vpnpf.core.schedule import LONGEST_SLEEP
from vpnpf.core.state import initial
from vpnpf.daemon import Daemon, Following
from vpnpf.errors import ConfigError, Mistake, Transient, VpnpfError
from vpnpf.events import NewPortWanted, RenewWanted, StopTunnel
from vpnpf.hub import Hub
from vpnpf.model import FirewallStage, Phase
from vpnpf.supervisor import Supervisor


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 0.0

    def time(self):
        return self.at

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.at = max(self.at, self._scheduled[0].when())
        super()._run_once()


class Clock:
    def now(self):
        return START + asyncio.get_running_loop().time()

    def wall(self):
        return self.now() + 1.7e9


class Machine:
    """A machine that engines are made for; what they do to it is counted, and they can be kept from it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.hub = Hub()
        self.said: list[str] = []
        self.made = 0
        self.held: list[int] = []
        """Engines that hold what is made for them."""
        self.wrong: VpnpfError | None = None
        """What is wrong with the configuration."""
        self.barred: VpnpfError | None = None
        """Why no engine can be made."""
        self.reading = 0.0
        self.building = 0.0
        self.stopping = 0.0
        self.ending = 0.0
        """Seconds that what is beside an engine takes to end."""
        self.closes = True
        self.shut: VpnpfError | None = None
        """Why what was left closed cannot be opened."""
        self.let_out = 0
        """How often what was left closed was opened."""
        self.daemon = Daemon(self.engine(()), self.read, self.said.append)
        self.life = asyncio.create_task(self.daemon.live())

    async def read(self, beside):
        await asyncio.sleep(self.reading)
        if self.wrong:
            raise self.wrong
        return Following(self.build, closed=self.closes)

    async def build(self, hub, timeline):
        assert hub is self.hub
        assert not self.held, "two engines at a time"
        await asyncio.sleep(self.building)
        if self.barred:
            raise self.barred
        return self.engine(timeline)

    def engine(self, timeline):
        self.made += 1
        number = self.made
        world = World(plan=PLAN)

        class Doer:
            async def carry_out(_, order):  # noqa: N805 - the machine is self
                await asyncio.sleep(self.stopping if isinstance(order.work, StopTunnel) else 0.001)
                world.now = self.clock.now()
                return world.success(order)

        machine = replace(initial(SPEC, PLAN, self.clock.now()), timeline=timeline)
        self.held.append(number)
        locks = contextlib.ExitStack()
        locks.callback(self.held.remove, number)
        return SimpleNamespace(
            profile=SPEC.name,
            hub=self.hub,
            clock=self.clock,
            supervisor=Supervisor(machine, Doer(), self.clock, self.hub),
            locks=locks,
            leave=lambda: "",
            relays=(SimpleNamespace(place="80", serve=self.serve),),
            let_out=self.opened,
            settings=None,
            policies=SimpleNamespace(trouble="", by_hand=None, configured=SPEC.policy),
        )

    async def serve(self):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(self.ending)

    async def opened(self):
        assert not self.held, "an engine's lock was taken away"
        if self.shut:
            raise self.shut
        self.let_out += 1

    @property
    def phase(self):
        return self.hub.state.phase if self.hub.state else None

    async def until(self, phase, engine=None, within=60.0):
        async with asyncio.timeout(within):
            while self.phase is not phase or (engine is not None and self.made != engine):  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.01)

    async def rested(self):
        async with asyncio.timeout(60):
            while self.daemon._running:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.01)


def live(story):
    """Tell a story of a machine, and end the daemon if that did not."""

    async def main():
        machine = Machine()
        await machine.until(Phase.READY)
        await story(machine)
        machine.daemon.end()
        async with asyncio.timeout(60):
            await machine.life
        assert machine.phase is Phase.STOPPED
        assert not machine.held
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with machine.hub.subscribe() as reader:  # it is closed
            assert len([update async for update in reader.updates()]) == 1
        return machine

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


BROKEN = ConfigError((Mistake("config.toml:3: profiles.home.provider", "there is none of that name", "mend it"),))


def test_stopped_it_waits_and_starts_again_with_what_it_knew():
    async def story(machine):
        await machine.daemon.stop()
        await machine.until(Phase.STOPPED)
        await machine.rested()
        assert not machine.held
        assert not machine.life.done()
        before = machine.hub.state.timeline
        await machine.daemon.start()
        await machine.until(Phase.READY, 2)
        assert machine.hub.state.timeline[: len(before)] == before
        assert len(machine.hub.state.timeline) > len(before)

    assert live(story).made == 2


def test_who_watches_goes_on_watching():
    async def story(machine):
        phases = []

        async def watch():
            with machine.hub.subscribe() as reader:
                phases.extend([update.state.phase async for update in reader.updates()])

        watching = asyncio.create_task(watch())
        await machine.daemon.restart()
        await machine.until(Phase.READY, 2)
        assert not watching.done()
        machine.daemon.end()
        await watching
        seen = [phase for n, phase in enumerate(phases) if n == 0 or phases[n - 1] is not phase]
        assert seen[0] is seen[seen.index(Phase.STOPPED) + 4] is Phase.READY, seen
        assert seen[-1] is Phase.STOPPED

    live(story)


def test_a_broken_configuration_leaves_what_runs_untouched_and_what_rests_at_rest():
    async def story(machine):
        machine.wrong = BROKEN
        with pytest.raises(ConfigError) as caught:
            await machine.daemon.restart()
        assert caught.value.mistakes == BROKEN.mistakes
        await asyncio.sleep(60)
        assert (machine.phase, machine.made) == (Phase.READY, 1)
        await machine.daemon.stop()
        await machine.rested()
        with pytest.raises(ConfigError):
            await machine.daemon.start()
        assert (machine.phase, machine.made, machine.held) == (Phase.STOPPED, 1, [])
        machine.wrong = None
        await machine.daemon.start()
        await machine.until(Phase.READY, 2)

    live(story)


def test_a_restart_that_cannot_begin_is_said_and_tried_until_it_can():
    async def story(machine):
        machine.barred = Transient("looking up the server", "no answer", "is there a network?")
        await machine.daemon.restart()
        await machine.rested()
        await asyncio.sleep(100)
        assert [problem.message for problem in machine.hub.state.problems] == ["no answer"]
        assert len([line for line in machine.said if "cannot begin again" in line]) == 1
        with pytest.raises(NotNow, match="starting already"):
            await machine.daemon.start()
        machine.barred = None
        await machine.until(Phase.READY, 2)
        assert not machine.hub.state.problems

    live(story)


def test_a_restart_that_cannot_begin_can_be_stopped():
    async def story(machine):
        machine.barred = Transient("looking up the server", "no answer")
        await machine.daemon.restart()
        await machine.rested()
        await asyncio.sleep(1)
        await machine.daemon.stop()
        await asyncio.sleep(100)
        assert (machine.phase, machine.made, machine.hub.state.problems) == (Phase.STOPPED, 1, ())
        with pytest.raises(NotNow, match="stopped already"):
            await machine.daemon.stop()

    live(story)


@pytest.mark.parametrize("how", ["stop", "end"])
def test_what_a_restart_keeps_closed_is_opened_when_nothing_follows_after_all(how):
    async def story(machine):
        machine.barred = Transient("looking up the server", "no answer")
        await machine.daemon.restart()
        await machine.rested()
        await asyncio.sleep(40)
        assert machine.let_out == 0
        assert machine.hub.state.firewall is FirewallStage.BLOCKED
        if how == "stop":
            await machine.daemon.stop()
        else:
            machine.daemon.end()
        await asyncio.sleep(1)
        assert machine.let_out == 1
        assert machine.hub.state.firewall is None
        await asyncio.sleep(40)
        assert machine.let_out == 1

    live(story)


@pytest.mark.parametrize("after", [0.0, 1.0, 3.0012, 3.0021])
def test_a_restart_that_becomes_a_stop_leaves_nothing_closed(after):
    async def story(machine):
        machine.stopping = 3.0
        await machine.daemon.restart()
        await asyncio.sleep(after)
        with contextlib.suppress(NotNow):
            await machine.daemon.stop()
        await machine.rested()
        await asyncio.sleep(1)
        assert machine.phase is Phase.STOPPED
        assert machine.hub.state.firewall is None

    live(story)


@pytest.mark.parametrize("ending", [0.0, 5.0])
def test_a_start_while_a_restart_is_about_to_begin_makes_no_second_engine(ending):
    async def story(machine):
        machine.building, machine.ending = 0.5, ending
        await machine.daemon.restart()
        with machine.hub.subscribe() as reader:
            async for update in reader.updates():
                if update.state.phase is Phase.STOPPED:
                    break
        with pytest.raises(NotNow, match="starting already"):
            await machine.daemon.start()
        await machine.until(Phase.READY, 2)
        await asyncio.sleep(60)
        assert machine.made == 2

    live(story)


def test_a_restart_that_is_followed_opens_nothing():
    """The control is an engine that is to lock nothing."""
    for closes in (True, False):
        stages = []

        async def story(machine, closes=closes, stages=stages):
            machine.closes, machine.building = closes, 0.5
            await machine.daemon.restart()
            await machine.until(Phase.STOPPED)
            stages.append(machine.hub.state.firewall)
            await machine.until(Phase.READY, 2)
            await machine.daemon.stop()
            await machine.rested()
            assert machine.hub.state.firewall is None

        assert live(story).let_out == 0
        assert stages == [FirewallStage.BLOCKED if closes else None]


def test_what_cannot_be_opened_is_said_and_tried_again():
    async def story(machine):
        machine.barred = Transient("looking up the server", "no answer")
        await machine.daemon.restart()
        await machine.rested()
        machine.shut = Transient("removing the rule set", "nft failed")
        await machine.daemon.stop()
        await asyncio.sleep(1)
        assert machine.hub.state.firewall is FirewallStage.BLOCKED
        assert any("stays locked" in line and "unlock" in line for line in machine.said)
        machine.shut = None
        await asyncio.sleep(LONGEST_SLEEP)
        assert machine.let_out == 1

    live(story)


def test_what_cannot_be_is_said_in_a_sentence():
    async def story(machine):
        daemon = machine.daemon
        with pytest.raises(NotNow, match="runs already"):
            await daemon.start()
        machine.stopping = 5.0
        await daemon.stop()
        await machine.until(Phase.STOPPING)
        await daemon.stop()  # once more is no more
        for refused in (daemon.start, daemon.restart):
            with pytest.raises(NotNow, match="is stopping"):
                await refused()
        assert daemon.why_not_renew("") == daemon.why_not_server(None) == "the profile is stopping"
        await machine.rested()
        with pytest.raises(NotNow, match="stopped already"):
            await daemon.stop()
        with pytest.raises(NotNow, match="is stopped"):
            await daemon.restart()
        assert daemon.why_not_port("") == daemon.why_not_renew("") == "the profile is stopped"
        with pytest.raises(NotNow, match="is stopped") as caught:
            daemon.post(RenewWanted())
        assert "vpnpf up" in caught.value.hint
        with pytest.raises(NotNow, match="is stopped"):
            await daemon.policies.set({"mode": "block-all"})

    live(story)


def test_a_wish_reaches_the_engine_that_runs_now():
    async def story(machine):
        await machine.daemon.restart()
        await machine.until(Phase.READY, 2)
        assert machine.daemon.why_not_port("") == ""
        machine.daemon.post(NewPortWanted())
        await asyncio.sleep(0.1)
        assert machine.daemon.run.supervisor.machine.forwards[0].port_asked > START

    live(story)


def test_a_start_that_takes_long_is_answered_and_goes_on_and_can_be_stopped(monkeypatch):
    monkeypatch.setattr(module, "SOON", 2.0)

    async def story(machine):
        machine.building = 30.0
        await machine.daemon.stop()
        await machine.rested()
        began = asyncio.get_running_loop().time()
        await machine.daemon.start()
        assert asyncio.get_running_loop().time() - began == pytest.approx(2.0)
        with pytest.raises(NotNow, match="starting already"):
            await machine.daemon.start()
        await machine.daemon.stop()
        await asyncio.sleep(60)
        assert (machine.made, machine.held) == (1, [])
        await machine.daemon.start()
        await machine.until(Phase.READY, 2)

    live(story)


def test_who_waits_for_a_start_that_is_stopped_is_told():
    async def story(machine):
        machine.building = 10.0
        await machine.daemon.stop()
        await machine.rested()
        starting = asyncio.create_task(machine.daemon.start())
        await asyncio.sleep(1)
        await machine.daemon.stop()
        with pytest.raises(NotNow, match="stopped again"):
            await starting

    live(story)


@pytest.mark.parametrize("when", ["running", "rested", "reading", "building", "restarting"])
def test_it_ends_whatever_it_does(when):
    async def story(machine):
        machine.reading = machine.building = 5.0
        if when in {"rested", "reading", "building"}:
            await machine.daemon.stop()
            await machine.rested()
        started = None
        if when in {"reading", "building"}:
            started = asyncio.create_task(machine.daemon.start())
            await asyncio.sleep(2 if when == "reading" else 7)
        elif when == "restarting":
            await machine.daemon.restart()
            await machine.rested()
            await asyncio.sleep(1)
        assert not machine.daemon.asked_to_end
        await machine.daemon.shutdown()
        await machine.daemon.shutdown()
        assert machine.daemon.asked_to_end
        async with asyncio.timeout(4):
            await machine.life
        assert machine.made == 1
        for refused in (machine.daemon.start, machine.daemon.stop, machine.daemon.restart):
            with pytest.raises(NotNow, match="is ending"):
                await refused()
        if started is not None:
            with pytest.raises(NotNow):
                await started

    live(story)


def test_a_stop_beats_a_restart():
    async def story(machine):
        machine.stopping = 3.0
        await machine.daemon.restart()
        with pytest.raises(NotNow, match="restarting already"):
            await machine.daemon.restart()
        await machine.daemon.stop()
        await asyncio.sleep(60)
        assert (machine.phase, machine.made) == (Phase.STOPPED, 1)

    live(story)


def test_at_rest_it_turns_so_that_a_watchdog_sees_it_live():
    async def story(machine):
        await machine.daemon.stop()
        await machine.rested()
        for _ in range(5):
            turns = machine.hub.turns
            await asyncio.sleep(LONGEST_SLEEP + 0.1)
            assert machine.hub.turns > turns

    live(story)


def test_a_second_signal_does_not_wait_for_the_provider():
    async def story(machine):
        machine.stopping = 3.0
        machine.daemon.end()
        await machine.until(Phase.STOPPING)
        assert not machine.daemon.run.supervisor.machine.force
        machine.daemon.end()
        await asyncio.sleep(0.1)
        assert machine.daemon.run.supervisor.machine.force
        assert not machine.daemon.asked_to_end

    live(story)


COMMANDS = st.lists(
    st.tuples(
        st.sampled_from(["start", "stop", "restart", "wait", "break", "mend"]), st.floats(0.0, 4.0, allow_nan=False)
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(COMMANDS)
def test_any_commands_in_any_order_leave_one_engine_or_none_and_it_still_starts(commands):
    async def story(machine):
        machine.reading, machine.building, machine.stopping = 0.3, 0.5, 0.7
        asked = []
        for command, pause in commands:
            if command in {"break", "mend"}:
                machine.wrong = BROKEN if command == "break" else None
            elif command != "wait":
                asked.append(asyncio.create_task(getattr(machine.daemon, command)()))
            await asyncio.sleep(pause)
            assert len(machine.held) <= 1
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert all(each is None or isinstance(each, NotNow | ConfigError) for each in done), done
        machine.wrong = None
        await asyncio.sleep(10)
        with contextlib.suppress(NotNow):
            await machine.daemon.start()
        await machine.until(Phase.READY, machine.made)
        assert machine.held == [machine.made]

    live(story)
