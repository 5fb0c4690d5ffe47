"""The way through the questions: forward with an answer, back without losing any. It asks nobody and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from vpnpf.printable import printable
from vpnpf.setup import finding
from vpnpf.setup.answers import Answers
from vpnpf.setup.checking import answer
from vpnpf.setup.found import Found
from vpnpf.setup.questions import Question, next_question

_LONGEST = 32
"""Characters of an answer in the trail."""


class Course:
    """Where a person is in it. It holds what was typed, passwords too, for as long as it lives."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.answers = Answers()
        self._behind: list[tuple[Answers, Question]] = []
        self._said: dict[str, tuple[str, ...]] = {}
        self._hidden: set[str] = set()
        self.refusals = 0
        """Logins that the torrent client refused: it bans who tries too often, also after a pause."""

    @property
    def question(self) -> Question | None:
        """What to ask now; None: all is known."""
        return next_question(self.found, self.answers)

    @property
    def number(self) -> int:
        """Of the question, from 1."""
        return len(self._behind) + 1

    @property
    def trail(self) -> tuple[str, ...]:
        """What was answered, in words to show; no secret."""
        return tuple(self._shown(question) for _, question in self._behind if not question.hidden)

    @property
    def begun(self) -> bool:
        """Whether there is a question to go back to."""
        return bool(self._behind)

    def said(self, question: Question) -> tuple[str, ...]:
        """What was answered to it before, else what it means if nothing is said."""
        usual = (question.default,) if question.default is not None and not question.hidden else ()
        return self._said.get(question.key, usual)

    def take(self, question: Question, said: Sequence[str]) -> None:
        """Go on with an answer; a file that is named is looked at. Raises Mistaken; then it stays where it is. Blocks shortly."""
        values, found = tuple(said), self.found
        if question.many:
            paths = []
            for text in filter(None, values):
                found, path = finding.name_file(found, text)
                paths.append(str(path))
            values = tuple(paths)
        after = answer(found, self.answers, question, values)
        # Only now: a file that was refused is looked at again when it is named again, and is no choice.
        self.found = found
        self._behind.append((self.answers, question))
        self._said[question.key] = values
        if question.hidden:
            self._hidden.add(question.key)
        self.answers = after

    def ask_again(self, answers: Answers) -> None:
        """Go on from these answers instead: some of them turned out to be wrong."""
        self.answers = answers
        kept = [(before, question) for before, question in self._behind if not self._is_open(question)]
        self._behind = kept
        self.forget_secrets()

    def back(self) -> bool:
        """One question back. False: this is the first."""
        if not self._behind:
            return False
        self.answers, _ = self._behind.pop()
        return True

    def forget_secrets(self) -> None:
        """No page shows a password that was typed before: Enter alone would send a wrong one again."""
        for key in self._hidden:
            self._said.pop(key, None)

    def _is_open(self, question: Question) -> bool:
        return getattr(self.answers, question.key, "") is None

    def _shown(self, question: Question) -> str:
        values = self._said.get(question.key, ())
        titles = {each.value: each.title for each in question.choices}
        said = ", ".join(
            titles.get(value, value) if not question.many else value.rpartition("/")[2] for value in values if value
        )
        text = printable(said or "none")
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
