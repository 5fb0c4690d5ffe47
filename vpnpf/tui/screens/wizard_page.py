"""One question on a page: what was found is offered first, and everything can be typed that may be."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.widgets import Input, OptionList, SelectionList
from textual.widgets._toggle_button import ToggleButton
from textual.widgets.option_list import Option
from textual.widgets.selection_list import Selection

from vpnpf.printable import printable
from vpnpf.setup.questions import Choice, Question
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.secret_field import SecretField

_MANY = 6
"""Choices from which on the list takes all the room there is."""
_WIDEST = 44
"""Columns of the titles, at most."""


class Several(SelectionList[str]):
    """Space takes one or leaves it, enter goes on."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "go_on", "Go on")]

    class GoOn(Message):
        """Enter was pressed."""

    def action_go_on(self) -> None:
        """Say so."""
        self.post_message(self.GoOn())

    def render_line(self, y: int) -> Strip:
        """As it is, but what is taken is told by a sign, not by its colour."""
        segments = list(super().render_line(y))
        place = self.scroll_offset.y + y
        if place < self.option_count and len(segments) > 1 and segments[1].text == ToggleButton.BUTTON_INNER:
            taken = self.get_option_at_index(place).value in self.selected
            segments[1] = Segment("✓" if taken else " ", segments[1].style)
        return Strip(segments)


class Page(Vertical):
    """A question; `Answered` is what it says, also when its answer is not good enough."""

    DEFAULT_CSS = """
    Page { height: 1fr; padding: 0 1; }
    Page #text { text-style: bold; color: $text-accent; }
    Page #text.-alone { margin-bottom: 1; }
    Page #why { color: $text-muted; margin-bottom: 1; }
    Page OptionList, Page OptionList:focus, Page SelectionList, Page SelectionList:focus {
        height: auto; max-height: 1fr; border: none; background: transparent; padding: 0;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    Page .-long, Page .-long:focus { height: 1fr; }
    Page Input, Page Input:focus { border: round $panel-lighten-2; background: transparent; }
    Page Input:focus { border: round $accent; }
    Page #note { color: $text-muted; margin-top: 1; min-height: 2; }
    Page #mistake { color: $text-error; text-style: bold; }
    """

    class Answered(Message):
        """Values of choices, or what was typed."""

        def __init__(self, values: tuple[str, ...]) -> None:
            super().__init__()
            self.values = values

    def __init__(self, question: Question, said: tuple[str, ...]) -> None:
        """`said`: what was answered before, or what is meant if nothing is said."""
        super().__init__()
        self.question = question
        self._said = said
        self._choices = {each.value: each for each in question.choices}
        self._typed = question.free or not question.choices
        titles = [len(each.title) for each in question.choices]
        self._width = min(max(titles, default=0), _WIDEST)

    def compose(self) -> ComposeResult:
        """The question, what to know for it, its choices, and a line to type on."""
        question = self.question
        yield Line(printable(question.text), id="text")
        yield Line(printable(question.why), id="why")
        if question.choices and question.many:
            yield Several(
                *(
                    Selection(_prompt(each, self._width), each.value, each.value in self._said and not each.refused)
                    for each in question.choices
                ),
                classes=self._long,
            )
        elif question.choices:
            yield OptionList(*(Option(_prompt(each, self._width)) for each in question.choices), classes=self._long)
        if self._typed:
            known = "" if self._choices else "".join(self._said[:1])
            other = "or type the path of another" if question.many and question.choices else ""
            field = SecretField if question.hidden else Input
            yield field(known, placeholder=other)
        yield Line(id="note")
        yield Line(id="mistake")

    @property
    def _long(self) -> str:
        return "-long" if len(self._choices) > _MANY else ""

    def on_mount(self) -> None:
        """Begin at what was said before."""
        why = self.query_one("#why", Line)
        why.display = bool(self.question.why)
        self.query_one("#text", Line).set_class(not self.question.why, "-alone")
        if self._choices:
            options = self.query_one(OptionList)
            values = list(self._choices)
            options.highlighted = next((values.index(each) for each in self._said if each in self._choices), 0)
            options.focus()
        else:
            self.query_one(Input).focus()

    def mistaken(self, said: str) -> None:
        """Say what is wrong with the answer."""
        self.query_one("#mistake", Line).say(f"✗ {printable(said)}" if said else "")

    def values(self) -> tuple[str, ...]:
        """What is answered now."""
        typed = self.query_one(Input).value if self._typed else ""
        if not self._choices:
            return (typed,)
        if self.question.many:
            chosen = self.query_one(Several).selected
            return (*chosen, typed) if typed.strip() else tuple(chosen)
        if typed.strip():
            return (typed,)
        place = self.query_one(OptionList).highlighted
        return () if place is None else (list(self._choices)[place],)

    # -- what the person does -------------------------------------------------------------------

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Say what there is to know about it."""
        choice = list(self._choices.values())[event.option_index]
        self.query_one("#note", Line).say(printable(_about(choice)))

    def on_selection_list_selection_highlighted(self, event: SelectionList.SelectionHighlighted[str]) -> None:
        """The same of one of several."""
        self.query_one("#note", Line).say(printable(_about(self._choices[event.selection.value])))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter, or a click: that is the answer."""
        event.stop()
        if not self.question.many:
            self.answer()

    def on_several_go_on(self) -> None:
        """The ones that are chosen are the answer."""
        self.answer()

    def on_input_submitted(self) -> None:
        """What was typed is the answer."""
        self.answer()

    def answer(self) -> None:
        """Say what is answered."""
        self.mistaken("")
        self.post_message(self.Answered(self.values()))


def _prompt(choice: Choice, width: int) -> Content:
    """On one line; `width` columns for the title."""
    title = f"{_cut(printable(choice.title), width):<{width}}"
    about = printable(choice.brief or choice.refused or choice.note)
    about = f"✗ {about}" if choice.refused else about
    # No colour: on the marked line it could not be read in every theme.
    return Content.assemble((title, "bold"), f"  {about}" if about else "")


def _cut(title: str, width: int) -> str:
    """Of a path that is too long the end says more."""
    return title if len(title) <= width else f"…{title[len(title) - width + 1 :]}"


def _about(choice: Choice) -> str:
    if not choice.refused:
        return f"{choice.title}  {choice.note}" if len(choice.title) > _WIDEST else choice.note
    return f"{choice.refused} Next: {choice.hint.rstrip('.')}." if choice.hint else choice.refused
