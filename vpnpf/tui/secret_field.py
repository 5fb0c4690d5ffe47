"""A field for a password."""

from __future__ import annotations

from textual.actions import SkipAction
from textual.widgets import Input


class SecretField(Input):
    """Shows dots, and gives nothing to the clipboard: what is there can be read by every program of the desktop."""

    def __init__(
        self,
        value: str = "",
        placeholder: str = "",
        *,
        compact: bool = False,
        id: str | None = None,  # noqa: A002 - Textual's
    ) -> None:
        super().__init__(value, placeholder, password=True, compact=compact, id=id)

    def action_copy(self) -> None:
        """Nothing is copied; the key means what it does elsewhere."""
        raise SkipAction

    def action_cut(self) -> None:
        """Nothing is cut."""
