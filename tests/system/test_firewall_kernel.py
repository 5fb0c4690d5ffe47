"""Our table in a real kernel: read back, tampered with, taken over from a dead process, and gone without a trace."""

from __future__ import annotations

import json
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.system.firewall_lab import Lab, boottime, forward, inside, policy
from tests.unit.test_nft_render import POLICIES
from vpnpf.errors import PermissionDenied, Transient, Unsupported
from vpnpf.firewall.nft import APPLYING, Nft, refusal
from vpnpf.firewall.render import render
from vpnpf.firewall.ruleset import script
from vpnpf.io.process import find, run
from vpnpf.model import FirewallStage, Opening, PolicyMode, PortPolicy, Protocol

pytestmark = pytest.mark.system

CONNECTED = FirewallStage.CONNECTED
FULL = policy(
    CONNECTED,
    forward(40000, listen=51413, until=None),
    forward(40007),
    forward(5000, name="odd.name; drop"),
    inbound=PortPolicy(PolicyMode.ALLOW_LIST, openings=(Opening(45000, 45010, Protocol.TCP),)),
)


@pytest.fixture
def lab():
    made = Lab()
    yield made
    made.close()


@pytest.fixture
def nft(lab):
    return Nft(prefix=lab.prefix)


def handle(lab: Lab, chain: str, label: str) -> str:
    rules = json.loads(lab.nft("-j", "list", "chain", "inet", "vpnpf", chain))["nftables"]
    return next(str(each["rule"]["handle"]) for each in rules if label in each.get("rule", {}).get("comment", ""))


TAMPERING = {
    "flush ruleset": ("flush ruleset", "the table inet vpnpf is gone"),
    "flush table": ("flush table inet vpnpf", "rule 1 (this machine itself) is missing"),
    "delete a rule": ("delete rule inet vpnpf output handle {dns}", "(DNS elsewhere) is missing"),
    "delete the last rule": ("delete rule inet vpnpf forward handle {last}", "(everything else) is missing"),
    "insert a rule": ("insert rule inet vpnpf output accept", "chain output: rule 1 is not ours"),
    "append a rule": ("add rule inet vpnpf input accept", "is not ours"),
    "replace a rule under its comment": (
        'replace rule inet vpnpf output handle {dns} meta l4proto {{ tcp, udp }} th dport {{ 54, 853 }} counter drop comment "{was}"',
        "(DNS elsewhere) was changed",
    ),
    "turn a drop into an accept": (
        'replace rule inet vpnpf output handle {dns} meta l4proto {{ tcp, udp }} th dport {{ 53, 853 }} counter accept comment "{was}"',
        "(DNS elsewhere) was changed",
    ),
    "policy accept": ("add chain inet vpnpf output {{ policy accept; }}", "policy is accept instead of drop"),
    "make dormant": ("add table inet vpnpf {{ flags dormant; }}", ""),  # 1.0.6 cannot even list it
    "a chain more": (
        "add chain inet vpnpf more {{ type filter hook output priority -1; policy accept; }}",
        "chain more is not ours",
    ),
    "open a port": ("add element inet vpnpf fwd_torrent_tcp {{ 22 }}", "port 22 is open, but should not be"),
    "close a port": ("delete element inet vpnpf fwd_torrent_udp {{ 40000 }}", "port 40000 is closed"),
    "a set more": ("add set inet vpnpf more {{ type inet_service; }}", "set more is not ours"),
}


@pytest.mark.parametrize(("command", "evidence"), TAMPERING.values(), ids=TAMPERING)
async def test_tampering_is_noticed_and_healed(lab, nft, command, evidence):
    applied = await nft.apply(FULL, boottime())
    assert applied.intact, applied.evidence
    assert (await nft.read()).intact, "control"
    rules = json.loads(lab.nft("-j", "list", "chain", "inet", "vpnpf", "output"))["nftables"]
    was = next(each["rule"]["comment"] for each in rules if "DNS else" in each.get("rule", {}).get("comment", ""))
    dns, last = handle(lab, "output", "DNS elsewhere"), handle(lab, "forward", "everything else")
    lab.nft("-f", "-", text=command.format(dns=dns, last=last, was=was) + "\n")

    reading = await nft.read()
    assert not reading.intact
    assert evidence in reading.evidence

    healed = await nft.apply(FULL, boottime())
    assert healed.intact, healed.evidence
    again = await nft.read()
    assert again.intact, again.evidence


async def test_traffic_and_time_alone_are_no_tampering(lab):
    time = [boottime()]
    nft = Nft(prefix=lab.prefix, clock=lambda: time[0])
    await nft.apply(policy(CONNECTED, forward(40000, until=time[0] + 60)), time[0])
    lab.ip("netns", "exec", lab.client, "ping", "-qc1", "127.0.0.1")
    assert (await nft.read()).intact
    # As after a suspend: the kernel's timeouts stood still, the clock of the lease did not.
    time[0] += 61
    assert "stays open longer than its lease" in (await nft.read()).evidence
    assert (await nft.apply(policy(CONNECTED, forward(40000, until=time[0] - 1)), time[0])).intact


async def test_a_new_process_takes_over_what_a_dead_one_left(lab):
    first = Nft(prefix=lab.prefix)
    await first.apply(FULL, boottime())
    del first
    second = Nft(prefix=lab.prefix)
    assert not (await second.read()).intact, "nothing is believed before it was applied"
    reading = await second.apply(policy(CONNECTED, forward(6000, name="web")), boottime())
    assert reading.intact, reading.evidence
    assert "torrent" not in lab.nft("list", "table", "inet", "vpnpf")
    assert "portmap" not in lab.nft("list", "table", "inet", "vpnpf")


async def test_a_table_of_another_shape_is_taken_over_too(lab, nft):
    foreign = (
        """table inet vpnpf {
    set fwd_torrent_tcp { type ipv4_addr; }
    map more { type inet_service : verdict; }
    chain output { type filter hook output priority 7; policy accept; }
    chain aside { ip daddr @fwd_torrent_tcp accept; }
    chain input { type filter hook input priority 0; jump aside; }
    }
    """.replace("; }", "\n}")
        .replace("{ ", "{\n")
        .replace("; ", "\n")
    )
    lab.nft("-f", "-", text=foreign)
    reading = await nft.apply(FULL, boottime())
    assert reading.intact, reading.evidence


async def test_leftovers_that_vanish_meanwhile_do_not_stop_the_next_rules(lab, nft):
    await nft.apply(FULL, boottime())
    lab.nft("flush", "ruleset")
    assert (await nft.apply(policy(FirewallStage.BLOCKED), boottime())).intact


async def test_other_tables_are_left_as_they_are(lab, nft):
    foreign = "table ip mine {\nchain i {\ntype filter hook input priority 5; policy accept;\ntcp dport 80 counter accept\n}\n}\n"
    foreign += "table inet filter {\nset s {\ntype ipv4_addr\nelements = { 192.0.2.1 }\n}\nchain output {\nip daddr @s drop\n}\n}\n"
    lab.nft("-f", "-", text=foreign)

    def others() -> str:
        return lab.nft("-a", "list", "table", "ip", "mine") + lab.nft("-a", "list", "table", "inet", "filter")

    before = others()
    for stage in (*FirewallStage, CONNECTED):
        await nft.apply(policy(stage, forward(40000)), boottime())
        assert others() == before
    assert "vpnpf" in lab.nft("list", "ruleset")
    await nft.remove()
    assert others() == before
    assert "vpnpf" not in lab.nft("list", "ruleset")
    await nft.remove()  # gone already


async def test_without_the_privilege_it_says_so(lab):
    with_rights = Nft(prefix=lab.prefix)
    await with_rights.apply(policy(CONNECTED), boottime())
    before = lab.nft("list", "ruleset")
    nobody = (*lab.prefix, "setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
    without_rights = Nft(prefix=nobody)
    for attempt in (without_rights.apply(FULL, boottime()), without_rights.read(), without_rights.remove()):
        with pytest.raises(PermissionDenied) as caught:
            await attempt
        assert "CAP_NET_ADMIN" in caught.value.hint
    assert lab.nft("list", "ruleset") == before


async def test_what_the_kernel_lacks_is_named(lab):
    """This kernel has no nft queue; one with it would pass the command, then take another part it lacks."""
    await Nft(prefix=lab.prefix).apply(policy(CONNECTED), boottime())
    text = "add table inet vpnpf\nadd rule inet vpnpf output queue num 1\n"
    done = await run((*lab.prefix, find("nft"), "-f", "-"), stdin=text)
    assert done.status != 0, "this kernel has it: choose another part"
    failure = refusal(APPLYING, done.stderr, text)
    assert isinstance(failure, Unsupported)
    assert "queue" in str(failure)


async def test_a_refused_transaction_leaves_the_old_rules(lab, nft, monkeypatch):
    await nft.apply(FULL, boottime())
    before = lab.nft("list", "table", "inet", "vpnpf")

    def spoiled(*arguments: object) -> str:
        return real(*arguments) + "add rule inet vpnpf output nonsense\n"

    import vpnpf.firewall.nft as module  # noqa: PLC0415

    real = module.script
    monkeypatch.setattr(module, "script", spoiled)
    with pytest.raises(Transient, match="applying the firewall's rules"):
        await nft.apply(policy(FirewallStage.BLOCKED), boottime())
    assert lab.nft("list", "table", "inet", "vpnpf") == before
    assert (await nft.read()).intact


NAMES = st.from_regex(r"[a-z0-9_-]{1,32}", fullmatch=True)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(wanted=POLICIES, names=st.lists(NAMES, min_size=4, max_size=4))
def test_every_policy_is_one_that_nft_takes(any_namespace, wanted, names):
    forwards = tuple(replace(rule, name=name) for rule, name in zip(wanted.forwards, names, strict=False))
    with inside(any_namespace):
        text = script(render(replace(wanted, forwards=forwards)), 0.0)
        done = subprocess.run((find("nft"), "-c", "-f", "-"), input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def any_namespace():
    made = Lab()
    yield made.client
    made.close()
