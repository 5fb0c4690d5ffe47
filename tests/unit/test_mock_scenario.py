"""Scenarios: what is written, what is wrong with it, and what it means at any moment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_provider import kinds
from mock_provider import scenario as language
from mock_provider.behaviour import Behaviour
from mock_provider.faults import SWITCHES, Fate, Faults
from mock_provider.natpmp import EPOCH, Machine
from mock_provider.perform import Performer
from mock_provider.scenario import As, Change, Do, Playback, Scenario, Set, Times
from mock_provider.scenario_text import EVENTS, parse
from vpnpf.errors import ConfigError


def played(text: str, until: float) -> list[tuple[float, Set | Do]]:
    return [(change.at, change.action) for change in parse(text).changes(-1, until)]


def on(switch: str, value: object = True) -> Set:
    return Set(switch, value)


def off(switch: str) -> Set:
    return Set(switch, As.BEFORE)


# -- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ("at 30s rotate", [(30, Do("rotate"))]),
        ("at 0 rotate", [(0, Do("rotate"))]),
        ("at 2m reset-epoch", [(120, Do("reset-epoch"))]),
        ("at 2m forget # and say nothing", [(120, Do("forget"))]),
        ("every 300s refuse 1", [(300, Do("refuse", 1)), (600, Do("refuse", 1)), (900, Do("refuse", 1))]),
        ("from 0 every 6m silent 2", [(0, Do("silent", 2)), (360, Do("silent", 2)), (720, Do("silent", 2))]),
        ("from 1m to 5m every 2m lose-answers 3", [(60, Do("lose-answers", 3)), (180, Do("lose-answers", 3))]),
        ("at 1s announce", [(1, Do("announce"))]),
        ("at 1s announce 3", [(1, Do("announce", 3))]),
        ("from 60s to 90s loss 20%", [(60, on("loss", 0.2)), (90, off("loss"))]),
        ("from 10m loss 20%", [(600, on("loss", 0.2))]),
        ("at 90s loss 20%", [(90, on("loss", 0.2))]),
        ("at 90s loss off", [(90, on("loss", 0.0))]),
        ("at 90s refuse", [(90, on("refuse"))]),
        ("at 90s refuse off", [(90, on("refuse", False))]),
        ("at 90s refuse for 250ms", [(90, on("refuse")), (90.25, off("refuse"))]),
        (
            "every 7m loss 50% for 30s",
            [(420, on("loss", 0.5)), (450, off("loss")), (840, on("loss", 0.5)), (870, off("loss"))],
        ),
        (
            "every 7m silent for 30s",
            [(420, on("silent")), (450, off("silent")), (840, on("silent")), (870, off("silent"))],
        ),
        ("at 3m gone 20s", [(180, on("gone", "gone")), (200, off("gone"))]),
        ("at 3m gone for 20s", [(180, on("gone", "gone")), (200, off("gone"))]),
        ("from 3m to 4m restart", [(180, on("gone", "restart")), (240, off("gone"))]),
        ("every 10m restart 20s", [(600, on("gone", "restart")), (620, off("gone"))]),
        ("at 3m gone", [(180, on("gone", "gone"))]),
        ("at 3m gone off", [(180, on("gone", False))]),
        ("at 1s delay 100ms-2s", [(1, on("delay", (0.1, 2.0)))]),
        ("at 1s delay 1h30m", [(1, on("delay", 5400.0))]),
        ("at 1s says-lifetime 4294967295s", [(1, on("says_lifetime", 2**32 - 1))]),
        ("at 1s opcodes udp,tcp", [(1, on("opcodes", frozenset({1, 2})))]),
        ("at 1s wrong-source port", [(1, on("wrong_source", "port"))]),
        ("at 1s says-address 0.0.0.0", [(1, on("says_address", "0.0.0.0"))]),
        ("at 1s epoch-rate -0.5", [(1, on("epoch_rate", -0.5))]),
        ("at 1s reset-flood 10/s", [(1, on("reset_flood", 10.0))]),
        ("  at  1s\trotate  \r\n\n# nothing\n", [(1, Do("rotate"))]),
        ("", []),
    ],
)
def test_good_lines(text, then):
    assert played(text, 1000) == then


def test_a_seed_is_no_change():
    scenario = parse("seed 7\nat 1s rotate")
    assert scenario.seed == 7
    assert len(scenario.statements) == 1


def test_every_switch_and_event_can_be_written():
    values = {"CHANCE": "20%", "COUNT": "2", "TIME[-TIME]": "1s", "RATE": "1/s", "FACTOR": "2", "0..255": "3", "": ""}
    values |= {"0..65535": "3", "OCTETS": "3", "SECONDS": "3s", "ADDRESS": "1.2.3.4", "port|address": "port"}
    values |= {"address,udp,tcp": "udp"}
    for one in SWITCHES.values():
        (change,) = parse(f"at 1s {one.name} {values[one.kind.shape]}").changes(-1, 1)
        assert change.action.switch == one.field
        assert change.action.value != one.default
    for name, event in EVENTS.items():
        (change,) = parse(f"at 1s {name} {event.count and '2'}").changes(-1, 1)
        assert change.action == Do(name, 2 if event.count else None)


def test_the_lines_of_the_documentation_are_good():
    lines = str(language.__doc__).split("\n\n")[1]
    examples = [line[4:41].strip() for line in lines.splitlines()]
    scenario = parse("\n".join(examples))
    assert len(scenario.statements) == len(examples) - 2


# -- what is wrong with it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("bla", 'a line does not begin with "bla" (known: at, from, every, seed)'),
        ("aat 1s rotate", 'a line does not begin with "aat" (did you mean "at"?)'),
        ("rotate at 30s", 'a line does not begin with "rotate"'),
        ("At 1s rotate", 'a line does not begin with "At"'),
        ("at", "a time is missing at the end"),
        ("at 1s", "what happens is missing at the end"),
        ("at 30 rotate", '"30" is no time like 90s, 2m, 1h30m or 250ms: a unit is missing (ms, s, m, h or d)'),
        ("at -1s rotate", '"-1s" is no time'),
        ("at 1s2 rotate", '"1s2" is no time'),
        ("at \u0661s rotate", "is no time"),
        ("at 0.5ms rotate", '"0.5ms" is finer than 1ms'),
        ("at 900d rotate", '"900d" is longer than a year'),
        ("at 1s rotat", 'nothing is called "rotat" (did you mean "rotate"?)'),
        ("at 1s Rotate", 'nothing is called "Rotate"'),
        ("at 1s reset_epoch", 'did you mean "reset-epoch"?'),
        ("at 1s says_address 1.2.3.4", 'did you mean "says-address"?'),
        ("at 1s rotates 3", 'did you mean "rotate"?'),
        ("at 1s rotate 3", '"3" is too much (the line is complete before it, after "at 1s rotate")'),
        ("at 1s refuse for 3s now", '"now" is too much'),
        ("at 1s loss 20% 30%", '"30%" is too much'),
        ("at 1s rotate for 3s", "rotate happens at a moment: it has no time that it lasts"),
        ("from 1s to 2s rotate", 'rotate happens at a moment (say "at"'),
        ("from 1s rotate", "rotate happens at a moment"),
        ("from 1s loss 20% for 1s", '"from" says already how long it lasts'),
        ("from 1s to 2s refuse 3", "refuse happens at a moment"),
        ("from 2s to 2s loss 20%", 'it ends before it begins: "from 2s to 2s"'),
        ("from 2s to 1s every 1s rotate", "it ends before it begins"),
        ("from 1s to", "a time is missing at the end"),
        ("from 1s to 2s gone 3s", '"from" says already how long it lasts'),
        ("from 1s to 2s loss 20% for 1s", '"from" says already how long it lasts'),
        ("every 0 rotate", "it has to be longer than 0"),
        ("every 1m loss 20%", 'it is not said how long the switch is on each time (add "for 10s", say)'),
        ("every 1m gone", "it is not said how long the switch is on each time"),
        ("every 1m refuse", "how many, after refuse, is missing at the end"),
        ("every 1m refuse-every 3", "it is not said how long"),
        ("every 1m loss 20% for 1m", "the switch would be on the whole time"),
        ("every 1m gone 2m", "the switch would be on the whole time"),
        ("at 1s gone 20", '"20" is no time'),
        ("at 1s gone 0s", "it has to be longer than 0"),
        ("at 1s loss", "the value of loss, CHANCE, is missing at the end"),
        ("at 1s loss 0.2", 'loss: "0.2" is no chance like 20%'),
        ("at 1s loss 0%", "is no chance"),
        ("at 1s loss 101%", "is no chance"),
        ("at 1s loss nan%", "is no chance"),
        ("at 1s delay 2s-1s", 'delay: "2s-1s" does not go from less to more'),
        ("at 1s delay 1s-1s", "does not go from less to more"),
        ("at 1s delay 0", "it has to be longer than 0"),
        ("at 1s reorder 1", "is no whole number from 2 to 1000"),
        ("at 1s refuse 0", 'refuse: "0" is no whole number from 1 to 1000000'),
        ("at 1s result 65536", 'result: "65536" is no whole number from 0 to 65535'),
        ("at 1s says-version -1", "is no whole number from 0 to 255"),
        ("at 1s says-lifetime 1m", '"1m" is no number of whole seconds'),
        ("at 1s says-lifetime 4294967296s", "is no number of whole seconds from 0s to 4294967295s"),
        ("at 1s says-address 1.2.3", '"1.2.3" is no IPv4 address'),
        ("at 1s wrong-source gateway", '"gateway" is not one of port, address'),
        ("at 1s opcodes udp,icmp", '"icmp" is not one of address, udp, tcp'),
        ("at 1s opcodes udp,", '"" is not one of'),
        ("at 1s reset-flood 10", '"10" is no rate like 10/s'),
        ("at 1s reset-flood 0/s", "is no rate"),
        ("at 1s epoch-rate fast", '"fast" is no factor'),
        ("at 1s epoch-rate 9999", "is no factor"),
        ("seed", "after seed there is one whole number from 0 to 4294967295"),
        ("seed 1 2", "after seed there is one whole number"),
        ("seed x", "after seed there is one whole number"),
        ("seed 1\nseed 2", "there is a seed already"),
    ],
)
def test_mistakes(line, mistake):
    with pytest.raises(ConfigError) as caught:
        parse(line)
    (found,) = caught.value.mistakes
    assert mistake in str(found)
    assert found.where == f"scenario, line {len(line.splitlines())}"


def test_all_mistakes_at_once_each_with_its_line():
    with pytest.raises(ConfigError) as caught:
        parse("at 1s rotate\nat 1s rotat\n\nevery rotate\n# fine\nat 5s loss 20\n", "calm.txt")
    assert [found.where for found in caught.value.mistakes] == [f"calm.txt, line {number}" for number in (2, 4, 6)]
    assert str(caught.value).count("\n") == 2


WORDS = (
    "at from to every for seed off 1s 2m 0 3 20% -1 10/s # \0 é "
    "gone restart rotate refuse announce loss delay opcodes udp says-address"
)
words = st.sampled_from([*WORDS.split(" "), "\n"])


@given(st.lists(words, max_size=12).map(" ".join) | st.text(max_size=40))
def test_no_text_is_too_strange(text):
    try:
        scenario = parse(text)
    except ConfigError as error:
        assert error.mistakes  # noqa: PT017 - nothing else may be raised
    else:
        assert all(change.at >= 0 for change in scenario.changes(-1, 100))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90s", 90), ("2m", 120), ("1h30m", 5400), ("250ms", 0.25), ("1d", 86400), ("1.5s", 1.5)],
)
def test_times(text, seconds):
    assert kinds.duration(text) == seconds


# -- what it means at any moment ------------------------------------------------------------------


def test_what_began_last_holds_and_ends_in_what_held_before():
    text = "from 0 to 100s loss 10%\nfrom 50s to 60s loss 50%\nat 80s loss off\nat 90s loss 30%"
    assert played(text, 200) == [
        (0, on("loss", 0.1)),
        (50, on("loss", 0.5)),
        (60, on("loss", 0.1)),
        (80, on("loss", 0.0)),
        (90, on("loss", 0.3)),
    ]


def test_of_those_that_begin_together_the_last_line_holds():
    assert played("from 1s to 9s loss 10%\nfrom 1s to 5s loss 20%", 10) == [
        (1, on("loss", 0.2)),
        (5, on("loss", 0.1)),
        (9, off("loss")),
    ]


def test_windows_that_touch_make_one_change():
    assert played("from 1s to 2s loss 10%\nfrom 2s to 3s loss 20%", 10) == [
        (1, on("loss", 0.1)),
        (2, on("loss", 0.2)),
        (3, off("loss")),
    ]
    assert played("from 1s to 2s refuse\nfrom 2s to 3s refuse", 10) == [(1, on("refuse")), (3, off("refuse"))]


def test_at_one_moment_the_order_is_that_of_the_lines():
    assert played("at 1s rotate\nat 1s loss 10%\nat 1s announce 1\nat 1s rotate", 1) == [
        (1, Do("rotate")),
        (1, on("loss", 0.1)),
        (1, Do("announce", 1)),
        (1, Do("rotate")),
    ]


def test_moments_that_are_the_same_are_the_same_however_they_are_reckoned():
    assert [action for at, action in played("at 9ms rotate\nevery 1ms announce 1", 0.009) if at == 0.009] == [
        Do("rotate"),
        Do("announce", 1),
    ]


def test_each_change_says_which_line_wants_it():
    changes = parse("from  1s to 2s   loss 10%  # rain").changes(-1, 9)
    assert [change.text for change in changes] == ["from 1s to 2s loss 10%", "loss as before"]


lines = st.one_of(
    st.builds("at {}ms rotate".format, st.integers(0, 20)),
    st.builds("every {}ms announce 1".format, st.integers(1, 9)),
    st.builds("from {}ms every {}ms refuse 1".format, st.integers(0, 9), st.integers(1, 9)),
    st.builds(lambda a, b, p: f"from {a}ms to {a + b}ms every {p}ms silent 1", *(st.integers(1, 9),) * 3),
    st.builds(lambda a, b, v: f"from {a}ms to {a + b}ms loss {v}%", *(st.integers(1, 9),) * 3),
    st.builds("at {}ms loss {}%".format, st.integers(0, 20), st.integers(1, 9)),
    st.builds(lambda p, d, v: f"every {p + d}ms loss {v}% for {d}ms", *(st.integers(1, 9),) * 3),
    st.builds("at {}ms gone {}ms".format, st.integers(0, 20), st.integers(1, 9)),
)
scenarios = st.lists(lines, max_size=5).map("\n".join).map(parse)


@given(scenarios, st.lists(st.floats(0, 0.05), max_size=6))
def test_in_pieces_it_is_the_same_as_in_one(scenario, stops):
    whole = list(scenario.changes(-1, 0.05))
    pieces, after = [], -1.0
    for stop in [*sorted(stops), 0.05]:
        pieces += scenario.changes(after, stop)
        after = max(after, stop)
    assert pieces == whole
    assert [change.at for change in whole] == sorted(change.at for change in whole)


@given(scenarios)
def test_next_after_misses_nothing(scenario):
    moments, at = [], -1.0
    while (found := scenario.next_after(at)) is not None and found <= 0.05:
        assert found > at
        at = found
        moments.append(at)
    assert {change.at for change in scenario.changes(-1, 0.05)} <= set(moments)


@given(scenarios)
def test_switches_change_only_to_something_else(scenario):
    held: dict[str, object] = {}
    for change in scenario.changes(-1, 0.05):
        if isinstance(change.action, Set):
            assert held.get(change.action.switch, As.BEFORE) != change.action.value
            held[change.action.switch] = change.action.value


@given(st.integers(0, 50), st.integers(1, 9) | st.none(), st.integers(1, 30) | st.none(), st.integers(-1, 100))
def test_moments_before_and_after(first, period, lasts, moment):
    times = Times(first, period, None if lasts is None else first + lasts)
    every = [first] if period is None else list(range(first, 200 if times.end is None else times.end, period))
    assert times.after(moment) == min((at for at in every if at > moment), default=None)
    assert times.last(moment) == max((at for at in every if at <= moment), default=None)


# -- played ---------------------------------------------------------------------------------------


@given(scenarios, st.floats(0, 1e9), st.lists(st.floats(0, 0.02), max_size=8))
def test_playback_on_a_clock_says_each_thing_once_and_wakes_for_it(scenario, start, pauses):
    playback = Playback(scenario, start)
    now, seen = start, []
    for pause in pauses:
        now += pause
        seen += playback.due(now)
        assert playback.next_due is None or playback.next_due > now
    for _ in range(20):
        if (due := playback.next_due) is None:
            break
        seen += playback.due(due)
        assert playback.next_due is None or playback.next_due > due
    if seen:
        assert seen == list(scenario.changes(-1, seen[-1].at))


def test_a_clock_that_goes_back_brings_nothing_twice():
    playback = Playback(parse("at 1s rotate\nat 3s forget"), 100.0)
    assert len(playback.due(102.0)) == 1
    assert playback.due(100.5) == ()
    assert playback.due(102.0) == ()
    assert playback.next_due == 103


def a_gateway(**wrong) -> Behaviour:
    faults = Faults(**wrong)
    return Behaviour(faults, Machine(faults, now=0.0, choose=min))


def perform(scenario: Scenario, gateway: Behaviour, until: float) -> Performer:
    performer = Performer(gateway, interface="wg9")
    for change in scenario.changes(-1, until):
        performer.perform(change, change.at)
    return performer


def test_switches_are_set_and_put_back_as_they_were():
    gateway = a_gateway(loss=0.05, refuse=True)
    scenario = parse("from 1s to 5s loss 20%\nfrom 1s to 3s refuse off\nat 2s delay 1s\nat 2s gone")
    performer = perform(scenario, gateway, 2)
    faults = gateway.faults
    assert (faults.loss, faults.refuse, faults.delay, faults.gone) == (0.2, False, 1.0, True)
    performer.put_back(4)
    assert (faults.loss, faults.refuse, faults.delay, faults.gone) == (0.05, True, 0.0, False)
    gateway = a_gateway(loss=0.05)
    perform(scenario, gateway, 9)
    assert (gateway.faults.loss, gateway.faults.delay) == (0.05, 1.0)


def test_what_happens_at_a_moment_happens():
    gateway = a_gateway()
    perform(parse("at 1s rotate\nat 1s refuse 1\nat 2s silent 1\nat 3s lose-answers 1\nat 3s announce 2"), gateway, 9)
    assert gateway.faults.rotations == 1
    assert [gateway.faults.fate(1) for _ in range(4)] == [Fate.REFUSED, Fate.SILENT, Fate.ANSWER_LOST, Fate.ANSWERED]
    assert [(send.interface, send.data[1]) for send in gateway.tick(3)[1]] == [("wg9", 128)]


MAP = bytes.fromhex("000100000000000100 00003c")


@pytest.mark.parametrize(
    ("text", "mapped", "epoch"),
    [
        ("at 1s reset-epoch", 0, 9),
        ("at 1s forget", 0, EPOCH + 10),
        ("at 1s gone 5s", 1, EPOCH + 10),
        ("at 1s restart 5s", 0, 4),
        ("at 1s rotate", 1, EPOCH + 10),
    ],
)
def test_what_becomes_of_mappings_and_epoch(text, mapped, epoch):
    gateway = a_gateway()
    gateway.receive(MAP, ("10.2.0.2", 5000), 0.0)
    perform(parse(text), gateway, 10)
    assert len(gateway.machine.table) == mapped
    assert gateway.machine.epoch(10) == epoch


def test_putting_back_a_restart_says_what_became_of_the_mappings():
    gateway = a_gateway()
    performer = perform(parse("at 1s restart"), gateway, 2)
    gateway.faults.gone = False
    gateway.receive(MAP, ("10.2.0.2", 5000), 0.0)
    gateway.faults.gone = True
    assert len(performer.put_back(3).remove) == 1


def test_an_event_that_nobody_knows_is_a_programming_error():
    with pytest.raises(ValueError, match='no event is called "sing"'):
        Performer(a_gateway()).perform(Change(0, Do("sing"), ""), 0)
