"""The test doubles: they behave as what they stand for, since others rely on them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from vpnpf import testing
from vpnpf.errors import NoAnswer, Refused, Transient, Unsupported
from vpnpf.interfaces import HttpResponse
from vpnpf.model import FirewallPolicy, FirewallReading, FirewallStage, ForwardRule, Hits, PortPolicy, Protocol
from vpnpf.protocol.exchange import Exchange
from vpnpf.testing import FakeClock, FakeFirewall, FakeHttp, FakeIO, Fate, Network, a_tunnel, scripted

WHERE = ("10.2.0.1", 5351)
ASKING = Exchange(b"?", lambda data: data.decode() if data.startswith(b"!") else None, "asking")


async def ask(io: FakeIO, exchange=ASKING) -> str:
    return await io.exchange(exchange, *WHERE)


def yes() -> FakeIO:
    return FakeIO(lambda _: b"!yes")


# -- time -----------------------------------------------------------------------------------------


def test_a_clock_goes_when_told_and_never_back():
    clock = FakeClock(now=10.0, wall=500.0)
    clock.advance(2.5)
    clock.advance_to(13.0)
    clock.advance_to(1.0)
    assert (clock.now(), clock.wall()) == (13.0, 503.0)
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="time does not go back"):
            clock.advance(wrong)


# -- datagrams ------------------------------------------------------------------------------------


async def test_an_answer_costs_no_time_and_what_was_sent_is_kept():
    io = yes()
    assert await ask(io) == "!yes"
    assert io.now() == 1000.0
    assert [(sent.at, sent.address, sent.port, sent.data) for sent in io.sent] == [(1000.0, *WHERE, b"?")]
    assert io.exchanges == ["asking"]


async def test_silence_takes_the_whole_schedule():
    io = FakeIO(lambda _: Fate.SILENT)
    with pytest.raises(NoAnswer, match=r"asking: no answer in 3\.75 s"):
        await ask(io)
    assert [sent.at for sent in io.sent] == [1000.0, 1000.25, 1000.75, 1001.75]
    assert io.now() == 1003.75


@pytest.mark.parametrize("how", ["switch", "far side", "counted"])
async def test_refused(how):
    io = FakeIO(lambda _: Fate.REFUSED) if how == "far side" else yes()
    io.refuse = how == "switch"
    io.refuse_next(4 * (how == "counted"))
    with pytest.raises(Refused):
        await ask(io)


async def test_counted_fates_come_one_by_one_and_end():
    io = yes()
    io.drop_next()
    io.refuse_next()
    assert await ask(io) == "!yes"
    assert [sent.at for sent in io.sent] == [1000.0, 1000.25, 1000.75]


async def test_delayed_answers_come_to_a_later_try_and_too_late_ones_never():
    io = yes()
    io.delay = 0.6
    assert await ask(io) == "!yes"
    assert io.now() == 1000.6
    assert len(io.sent) == 2
    io.delay = 3.8
    with pytest.raises(NoAnswer):
        await ask(io)


async def test_lost_answers_and_doubled_datagrams_are_obeyed():
    seen = []
    io = FakeIO(lambda sent: seen.append(sent) or b"!yes")
    io.drop_answers = True
    with pytest.raises(NoAnswer):
        await ask(io)
    assert len(seen) == 4
    io.drop_answers, io.duplicate = False, True
    assert await ask(io) == "!yes"
    assert len(seen) == 6


async def test_what_does_not_parse_is_waited_out():
    io = FakeIO(scripted({(*WHERE, b"?"): [b"rubbish", Fate.SILENT, b"!yes"]}))
    assert await ask(io) == "!yes"
    assert await ask(io) == "!yes", "the last answer stays"


async def test_faults_meet_what_they_are_told_to():
    io = yes()
    io.meets = lambda sent: sent.port == 9
    io.drop = True
    assert await ask(io) == "!yes"
    with pytest.raises(NoAnswer):
        await io.exchange(ASKING, WHERE[0], 9)


async def test_a_device_that_is_gone_sends_nothing():
    io = yes()
    io.gone = True
    with pytest.raises(Transient, match="No such device"):
        await ask(io)
    assert not io.sent


async def test_names_are_not_looked_up():
    with pytest.raises(Unsupported, match="no name is looked up"):
        await yes().exchange(ASKING, "gateway.test", 5351)


async def test_a_request_that_nobody_wrote_down_is_shown():
    io = FakeIO(scripted({}))
    with pytest.raises(AssertionError, match=r"nothing is written down for 3f to 10\.2\.0\.1 port 5351"):
        await ask(io)


def test_random_ports_are_dynamic_ones_and_do_not_repeat_soon():
    io = yes()
    ports = [io.random_port() for _ in range(16384)]
    assert set(ports) == set(range(49152, 65536))
    assert io.random_port() == 49152


def test_nothing_is_wrong_to_begin_with():
    assert Network()._fate() is None


# -- the others -----------------------------------------------------------------------------------


async def test_a_firewall_remembers_counts_and_notices_tampering():
    rule = ForwardRule("torrent", (Protocol.TCP, Protocol.UDP), 41877, 41877)
    policy = FirewallPolicy(FirewallStage.CONNECTED, a_tunnel().plan, PortPolicy(), (rule,))
    firewall = FakeFirewall()
    assert not (await firewall.read()).intact
    firewall.knock("torrent", Protocol.TCP)
    reading = await firewall.apply(policy, 0.0)
    assert reading.intact
    assert reading.hits == (("torrent", Protocol.TCP, Hits(1, 60)), ("torrent", Protocol.UDP, Hits()))
    firewall.tamper("a rule is gone")
    assert await firewall.read() == FirewallReading(intact=False, evidence="a rule is gone")
    assert (await firewall.apply(policy, 0.0)).intact
    firewall.flush()
    assert not (await firewall.read()).intact
    assert firewall.policies == [policy, policy]
    firewall.failure = Transient("applying", "no")
    with pytest.raises(Transient):
        await firewall.apply(policy, 0.0)
    assert firewall.current is None
    await firewall.remove()


async def test_http_answers_and_fails_as_told():
    http = FakeHttp(lambda asked: HttpResponse(200, {"Set-X": "1"}, b"ok") if asked.form else NoAnswer("asking", "no"))
    assert (await http.request("POST", "http://h/", form={"a": "b"})).headers == {"set-x": "1"}
    with pytest.raises(NoAnswer):
        await http.request("GET", "http://h/", headers={"A": "b"})
    assert [(asked.method, asked.form, dict(asked.headers)) for asked in http.asked] == [
        ("POST", {"a": "b"}, {}),
        ("GET", None, {"A": "b"}),
    ]


def test_it_rests_on_the_interfaces_alone():
    ours = set()
    for path in Path(testing.__file__).parent.glob("*.py"):
        imported = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
        ours |= {name for name in imported if name.startswith(("vpnpf", "mock_provider"))}
    assert {name for name in ours if not name.startswith("vpnpf.testing.")} <= {
        "vpnpf.errors",
        "vpnpf.interfaces",
        "vpnpf.model",
        "vpnpf.protocol.announcement",
        "vpnpf.protocol.exchange",
    }
