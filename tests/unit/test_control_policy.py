"""Verbs about the port policy: answered when the kernel has it, taken back when it does not take it, and kept."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import PLAN, SPEC, START, World
from vpnpf.control import policy_verbs
from vpnpf.control.policy_verbs import PolicyVerbs
from vpnpf.core.policy_codec import digest, policy_json
from vpnpf.core.state import initial
from vpnpf.core.view import view
from vpnpf.errors import Transient, Unavailable, UsageError
from vpnpf.events import ApplyFirewall
from vpnpf.hub import Hub
from vpnpf.model import FailureKind, Opening, PolicyMode, PortPolicy, Protocol, ProviderPolicy
from vpnpf.policy_store import PolicyStore
from vpnpf.store import FileStore
from vpnpf.testing import FakeClock

CONFIGURED = PortPolicy()
BLOCKED = PortPolicy(PolicyMode.BLOCK_ALL)
SSH = Opening(22, 22, Protocol.TCP, name="ssh")
WITH_SSH = PortPolicy(openings=(SSH,))


class Run:
    """An engine in a world, a hub, and the verbs beside it."""

    def __init__(self, directory, spec=SPEC, plan=PLAN):
        self.clock = FakeClock(START)
        self.offset = self.clock.wall() - START
        self.hub = Hub()
        self.store = FileStore(directory)
        self.kept = PolicyStore(self.store, "home", CONFIGURED)
        policy = self.kept.load(START, self.offset)
        self.world = World(initial(replace(spec, policy=policy), plan, START), plan=plan)
        self.world.ready()
        self.publish()
        self.verbs = PolicyVerbs(self.hub, self.clock, self.post, self.kept)

    def post(self, event):
        asyncio.get_running_loop().call_soon(self.take, event)

    def take(self, event):
        self.world.take(event)
        self.publish()
        self.world.settle()
        self.publish()

    def publish(self):
        self.hub.publish(view(self.world.machine), ())

    def json(self, policy):
        return policy_json(policy, self.offset)

    async def set(self, policy, **more):
        return await self.verbs.set({"policy": self.json(policy), **more})

    @property
    def in_force(self):
        return self.world.table.inbound


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


async def test_what_is_in_force_and_where_it_is_from(run):
    said = await run.verbs.show({})
    assert json.loads(json.dumps(said)) == said
    assert said["policy"] == run.json(CONFIGURED)
    assert (said["applied"], said["set_at"], said["differs"]) == (True, None, False)
    assert [(each["name"], each["external_port"]) for each in said["forwards"]] == [("torrent", 40000)]


async def test_another_policy_is_in_force_when_the_answer_comes(run):
    said = await run.set(WITH_SSH)
    assert run.in_force == WITH_SSH
    assert (said["applied"], said["differs"], said["unsaved"]) == (True, True, "")
    assert said["set_at"] == pytest.approx(run.clock.wall())
    assert said["took"] == 0.0


async def test_a_mode_alone_leaves_the_entries_as_they_are(run):
    await run.set(WITH_SSH)
    await run.verbs.set({"mode": "block-all"})
    assert run.in_force == replace(WITH_SSH, mode=PolicyMode.BLOCK_ALL)
    with pytest.raises(UsageError, match='no mode "open"'):
        await run.verbs.set({"mode": "open"})
    await run.verbs.set({"mode": "allow-list"})
    assert run.in_force == WITH_SSH
    assert run.kept.by_hand.policy == WITH_SSH


async def test_a_policy_that_is_in_force_already_is_answered_at_once(run):
    await run.set(CONFIGURED)
    assert run.in_force == CONFIGURED


async def test_it_is_there_after_a_restart_and_until_it_is_reset(run, tmp_path):
    await run.set(BLOCKED)
    again = Run(tmp_path)
    assert again.in_force == BLOCKED
    said = await again.verbs.reset({})
    assert again.in_force == CONFIGURED
    assert (said["set_at"], said["differs"]) == (None, False)
    assert Run(tmp_path).in_force == CONFIGURED


async def test_a_policy_that_the_kernel_does_not_take_is_taken_back(run):
    run.world.fail(ApplyFirewall, FailureKind.UNSUPPORTED)
    with pytest.raises(Unavailable, match="it was unsupported") as caught:
        await run.set(WITH_SSH)
    assert "stays" in caught.value.hint
    await asyncio.sleep(0)
    assert run.world.machine.spec.policy == CONFIGURED
    assert run.in_force == CONFIGURED
    assert run.kept.by_hand is None
    # And the next one is not refused for what failed before.
    run.world.faults.clear()
    await run.set(BLOCKED)
    assert run.in_force == BLOCKED


async def test_a_kernel_that_does_not_come_back_is_not_waited_for_for_ever(run, monkeypatch):
    monkeypatch.setattr(policy_verbs, "SOON", 0.02)
    run.world.held.add(ApplyFirewall)
    with pytest.raises(Unavailable, match=r"not in force after 0\.02 s"):
        await run.set(BLOCKED)
    await asyncio.sleep(0)
    assert run.world.machine.spec.policy == CONFIGURED


async def test_a_run_that_ends_meanwhile_says_so(run):
    run.world.held.add(ApplyFirewall)
    asking = asyncio.create_task(run.set(BLOCKED))
    await asyncio.sleep(0)
    run.hub.close()
    with pytest.raises(Unavailable, match="ending"):
        await asking


async def test_two_at_once_come_one_after_the_other(run):
    said = await asyncio.gather(run.set(WITH_SSH), run.set(BLOCKED))
    assert [each["policy"]["mode"] for each in said] == ["allow-list", "block-all"]
    assert run.in_force == BLOCKED


async def test_what_was_made_from_another_policy_is_refused(run):
    seen = digest(CONFIGURED)
    await run.set(BLOCKED, before=seen)
    with pytest.raises(Transient, match="somebody else"):
        await run.set(WITH_SSH, before=seen)
    assert run.in_force == BLOCKED


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        (None, "object"),
        ([], "object"),
        ({"mode": "open"}, "mode"),
        ({"mode": "open-all", "more": 1}, "more"),
        ({"mode": "allow-list", "openings": [{"first": 0, "last": 1, "protocol": "tcp"}]}, "first"),
        ({"mode": "allow-list", "openings": [{"first": 1, "last": 65536, "protocol": "tcp"}]}, "last"),
        ({"mode": "allow-list", "openings": [{"first": 9, "last": 8, "protocol": "tcp"}]}, "9-8/tcp is inverted"),
        ({"mode": "allow-list", "openings": [{"first": 9, "last": 9, "protocol": "sctp"}]}, "protocol"),
        (
            {"mode": "allow-list", "openings": [{"first": 9, "last": 9, "protocol": "tcp", "sources": ["10.0.0.1/8"]}]},
            "sources",
        ),
        (
            {"mode": "allow-list", "openings": [{"first": 9, "last": 9, "protocol": "tcp", "comment": "\x1b[2J"}]},
            "printed",
        ),
        ({"mode": "allow-list", "openings": [{"first": 9, "last": 9, "protocol": "tcp", "ends_at": 1.0}]}, "past"),
        (
            {
                "mode": "allow-list",
                "openings": [
                    {"first": 9, "last": 12, "protocol": "tcp"},
                    {"first": 11, "last": 14, "protocol": "tcp"},
                ],
            },
            "11-14/tcp overlaps 9-12/tcp",
        ),
        (
            {
                "mode": "allow-list",
                "openings": [
                    {"first": 9, "last": 12, "protocol": "tcp"},
                    {"first": 11, "last": 11, "protocol": "tcp", "sources": ["203.0.113.0/24"]},
                ],
            },
            "changes nothing",
        ),
    ],
)
async def test_bad_policies_are_named_and_change_nothing(run, policy, named):
    before = len(run.world.orders)
    with pytest.raises(UsageError, match=named):
        await run.verbs.set({"policy": policy})
    assert run.in_force == CONFIGURED
    assert len(run.world.orders) == before


async def test_timed_entries_keep_their_very_end(run):
    timed = replace(SSH, ends_at=START + 60)
    await run.set(PortPolicy(openings=(timed,)))
    end = run.in_force.openings[0].ends_at
    web = Opening(443, 443, Protocol.TCP)
    drifted = run.json(PortPolicy(openings=(replace(timed, ends_at=end + 0.003), web)))
    await run.verbs.set({"policy": drifted})
    assert [each.ends_at for each in run.in_force.openings] == [end, None]


async def test_an_entry_that_ended_meanwhile_is_left_out(run):
    timed = replace(SSH, ends_at=START + 60)
    await run.set(PortPolicy(openings=(timed,)))
    run.clock.advance(61)
    said = await run.set(PortPolicy(PolicyMode.ALLOW_LIST, forwarded=False, openings=(timed,)))
    assert said["policy"]["openings"] == []


async def test_a_disk_that_says_no_is_told_and_the_policy_is_in_force_all_the_same(run, tmp_path, monkeypatch):
    def full(_name, _value):
        raise Unavailable("saving", "no room")

    monkeypatch.setattr(run.store, "save", full)
    said = await run.set(BLOCKED)
    assert run.in_force == BLOCKED
    assert "no room" in said["unsaved"]
    assert Run(tmp_path).in_force == CONFIGURED


async def test_without_a_tunnel_nothing_is_blocked_and_so_nothing_is_set(tmp_path):
    run = Run(tmp_path, plan=replace(PLAN, direct=True))
    with pytest.raises(UsageError, match="without a tunnel"):
        await run.set(BLOCKED)


async def test_before_the_first_state_one_has_to_ask_again(run):
    run.hub.state = None
    with pytest.raises(Transient, match="starting"):
        await run.verbs.show({})


async def test_which_part_decides(run):
    async def asked(port, source=None, protocol="tcp"):
        return await run.verbs.explain({"protocol": protocol, "port": port, "source": source})

    run.world.packets["torrent"] = 3
    run.world.wait(60)
    run.publish()
    said = await asked(40000)
    assert (said["admitted"], said["rule"], said["packets"]) == (True, "forwarded: torrent", 3)
    assert not (await asked(22))["admitted"]
    await run.set(PortPolicy(openings=(replace(SSH, sources=("203.0.113.0/24",)),)))
    assert (await asked(22, "203.0.113.9"))["rule"] == "22/tcp (ssh)"
    refused = await asked(22, "198.51.100.1")
    assert (refused["admitted"], refused["rule"]) == (False, "allow-list")
    assert "203.0.113.0/24" in refused["why"]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"protocol": "sctp", "port": 1},
        {"protocol": "tcp"},
        {"protocol": "tcp", "port": 0},
        {"protocol": "tcp", "port": 65536},
        {"protocol": "tcp", "port": True},
        {"protocol": "tcp", "port": 1, "source": "example.org"},
        {"protocol": "tcp", "port": 1, "source": "fe80::1%eth0"},
    ],
)
async def test_bad_questions_are_refused(run, arguments):
    with pytest.raises(UsageError):
        await run.verbs.explain(arguments)


async def test_what_was_closed_because_nobody_used_it_is_opened_by_the_same_policy_once_more(run):
    policy = PortPolicy(openings=(SSH,), report_unused=60.0, close_unused=True)
    await run.set(policy)
    run.world.until(lambda: not run.in_force.openings, 600)
    run.publish()
    said = await run.verbs.show({})
    assert (said["applied"], said["uses"]["22/tcp"]["closed"]) == (True, True)
    said = await run.set(policy)
    assert run.in_force == policy
    assert not any(each["closed"] for each in said["uses"].values())


async def test_the_rule_set_in_force_has_the_last_word(run):
    run.verbs = PolicyVerbs(run.hub, run.clock, run.post, run.kept, lambda *_: {"admitted": True, "kernel": "a rule"})
    asked = {"protocol": "tcp", "port": 22, "source": "203.0.113.9"}
    said = await run.verbs.explain(asked)
    assert (said["admitted"], said["rule"], said["kernel"]) == (True, "allow-list", "a rule")
    assert "kernel" not in await run.verbs.explain({**asked, "source": None})


async def test_the_providers_layer_is_told(run):
    assert (await run.verbs.show({}))["provider"] is None
    said = ProviderPolicy(PolicyMode.BLOCK_ALL)
    how = "the provider still blocks all ports"
    run.hub.publish(replace(run.hub.state, provider_policy=said, provider_policy_at=START, disagree=how), ())
    told = (await run.verbs.show({}))["provider"]
    assert told == {"lets_in": "blocks all ports", "at": START + run.offset, "disagree": how}


async def test_a_policy_that_somebody_flushed_is_not_said_to_be_in_force(run):
    run.world.flushed = True
    run.world.held.add(ApplyFirewall)
    run.world.wait(120)
    run.publish()
    assert (await run.verbs.show({}))["applied"] is False
