"""Reading a scenario: strict, and with every mistake at once. The language is that of `scenario`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from mock_provider import kinds
from mock_provider.faults import SWITCHES
from mock_provider.scenario import Do, Scenario, Set, Statement, Times
from vpnpf.errors import ConfigError, Mistake
from vpnpf.plugins import nearest

T = TypeVar("T")

LARGEST_SEED = 2**32 - 1
BEGINNINGS = ("at", "from", "every", "seed")
TWICE = '"from" says already how long it lasts'
MANY = kinds.whole(1, 1_000_000)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens at a moment."""

    text: str
    count: str = ""
    """How a number after it is written in the list: "COUNT", "[COUNT]" if it may be missing, empty if there is none."""


EVENTS = {
    "rotate": Event("every mapping gets a new external port at its next renewal"),
    "reset-epoch": Event("all mappings are lost, and the epoch starts at 0"),
    "forget": Event("all mappings are lost, and the epoch goes on as if nothing had happened"),
    "refuse": Event("so many requests are refused", "COUNT"),
    "silent": Event("so many requests are lost", "COUNT"),
    "lose-answers": Event("so many requests are obeyed and their answers lost", "COUNT"),
    "announce": Event("the external address is multicast, 10 times or as often as said", "[COUNT]"),
}
ABSENCES = {
    "gone": "nothing listens; the gateway comes back with its mappings",
    "restart": "nothing listens; the gateway comes back without its mappings, and with a new epoch",
}
"""They may have how long they last right behind them: "gone 20s"."""
_ATTRIBUTES = {one.name: one for one in SWITCHES.values() if one.field != "gone"}
WORDS = tuple(dict.fromkeys((*EVENTS, *ABSENCES, *_ATTRIBUTES)))


def parse(text: str, where: str = "scenario") -> Scenario:
    """Read lines of text. Raises ConfigError with all mistakes, each with its line: "scenario, line 3"."""
    return parse_lines(numbered(text, where))


def numbered(text: str, where: str) -> list[tuple[str, str]]:
    """The lines of a text, each with where it is."""
    return [(f"{where}, line {number}", line) for number, line in enumerate(text.split("\n"), 1)]


def parse_lines(lines: Iterable[tuple[str, str]]) -> Scenario:
    """Read lines that each say where they come from. Raises ConfigError."""
    statements: list[Statement] = []
    mistakes: list[Mistake] = []
    seed: int | None = None
    for where, line in lines:
        words = line.partition("#")[0].split()
        try:
            if words[:1] == ["seed"]:
                if seed is not None:
                    raise _Wrong("there is a seed already")
                seed = _seed(words[1:])
            elif words:
                statements.append(_Line(words).read())
        except _Wrong as error:
            mistakes.append(Mistake(where, str(error), error.hint))
    if mistakes:
        raise ConfigError(tuple(mistakes))
    return Scenario(tuple(statements), seed)


class _Wrong(Exception):
    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint


class _Line:
    """One line, read word by word."""

    def __init__(self, words: list[str]) -> None:
        self._rest = list(words)
        self._text = " ".join(words)

    def read(self) -> Statement:
        times, window = self._when()
        again = times.period is not None
        action, lasts = self._action(window=window is not None, again=again)
        if lasts is None and self._take("for"):
            lasts = self._time(kinds.positive)
            if isinstance(action, Do):
                raise _Wrong(f"{action.event} happens at a moment: it has no time that it lasts")
            if window is not None:
                raise _Wrong(TWICE)
        if self._rest:
            raise _Wrong(f'"{self._rest[0]}" is too much', f'the line is complete before it, after "{self._done()}"')
        if isinstance(action, Do):
            return Statement(times, action, 0, self._text)
        if again and lasts is None:
            raise _Wrong("it is not said how long the switch is on each time", 'add "for 10s", say')
        if times.period is not None and lasts is not None and lasts >= times.period:
            raise _Wrong("the switch would be on the whole time", 'it has to last shorter than "every" says')
        return Statement(times, action, window or lasts, self._text)

    def _when(self) -> tuple[Times, int | None]:
        """When it happens; and how long a switch is on, if "from" says that: 0 without an end."""
        if self._take("at"):
            return Times(self._time()), None
        first = end = None
        if self._take("from"):
            first = self._time()
            if self._take("to"):
                end = self._time()
                if end <= first:
                    raise _Wrong(f'it ends before it begins: "{self._done()}"')
        if self._take("every"):
            period = self._time(kinds.positive)
            return Times(period if first is None else first, period, end), None
        if first is None:
            raise _Wrong(f'a line does not begin with "{self._rest[0]}"', nearest(self._rest[0], BEGINNINGS))
        return Times(first), 0 if end is None else end - first

    def _action(self, *, window: bool, again: bool) -> tuple[Set | Do, int | None]:
        """What happens, and how long it lasts if the word itself says so."""
        word = self._word("what happens")
        number = bool(self._rest) and self._rest[0][:1].isdigit()
        if word in ABSENCES:
            if self._take("off"):
                return Set("gone", value=False), None
            lasts = self._time(kinds.positive) if number else None
            if lasts is not None and window:
                raise _Wrong(TWICE)
            return Set("gone", word), lasts
        event = EVENTS.get(word)
        # "refuse" is a switch; with a number behind it, or again and again, it is an event.
        if event is not None and (number or word not in _ATTRIBUTES or (again and "for" not in self._rest)):
            if window:
                raise _Wrong(f"{word} happens at a moment", 'say "at", or "every" behind the times')
            count = None
            if event.count == "COUNT" or (event.count and number):
                count = self._value(f"how many, after {word},", MANY, word)
            return Do(word, count), None
        if word not in _ATTRIBUTES:
            raise _Wrong(f'nothing is called "{word}"', nearest(word, WORDS))
        one = _ATTRIBUTES[word]
        if self._take("off"):
            return Set(one.field, one.default), None
        value = self._value(f"the value of {word}, {one.kind.shape},", one.kind.read, word) if one.kind.shape else True
        return Set(one.field, value), None

    # -- words -------------------------------------------------------------------------------

    def _take(self, word: str) -> bool:
        if self._rest[:1] != [word]:
            return False
        self._rest.pop(0)
        return True

    def _word(self, what: str) -> str:
        if not self._rest:
            raise _Wrong(f"{what} is missing at the end")
        return self._rest.pop(0)

    def _time(self, read: Callable[[str], float] = kinds.duration) -> int:
        """Read a time; in milliseconds."""
        return round(self._value("a time", read) * 1000)

    def _value(self, what: str, read: Callable[[str], T], word: str = "") -> T:
        """Read a value, that of `word` if it has a name."""
        text = self._word(what)
        try:
            return read(text)
        except ValueError as error:
            raise _Wrong(f"{word}: {error}" if word else str(error)) from error

    def _done(self) -> str:
        count = len(self._text.split()) - len(self._rest)
        return " ".join(self._text.split()[:count])


def _seed(words: list[str]) -> int:
    try:
        (word,) = words
        return kinds.whole(0, LARGEST_SEED)(word)
    except ValueError:
        raise _Wrong(f"after seed there is one whole number from 0 to {LARGEST_SEED}") from None
