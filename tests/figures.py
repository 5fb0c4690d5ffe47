# ruff: noqa: T201 - it talks to a person
"""Figures with their budgets, as `make soak`, `make fuzz` and `make bench` print them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table."""

    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    """Without either it is told and not judged."""

    @property
    def kept(self) -> bool:
        """Whether it is within its budget."""
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    def __str__(self) -> str:
        """One line for a person."""
        budget, verdict = "-", ""
        if self.at_most is not None:
            budget = f"<= {_number(self.at_most)}"
        elif self.at_least is not None:
            budget = f">= {_number(self.at_least)}"
        if budget != "-":
            verdict = "kept" if self.kept else "NOT KEPT"
        return f"{self.what:<62} {_number(self.value):>12} {self.unit:<5} {budget:>12}  {verdict}".rstrip()


def show(title: str, figures: list[Figure]) -> int:
    """Print a table; returns an exit code: 0 if every budget is kept."""
    print(title)
    print(f"{'':<62} {'figure':>12} {'':<5} {'budget':>12}")
    for figure in figures:
        print(figure)
    return 0 if all(figure.kept for figure in figures) else 1


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3f}"
