"""User name and password, tried at once. The password leaves its field when it is sent, and is kept nowhere here."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Button, Input

from vpnpf.control.messages import Json, NotNow
from vpnpf.errors import Transient, VpnpfError
from vpnpf.printable import printable
from vpnpf.tui.link import Link
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.secret_field import SecretField
from vpnpf.tui.sheets.confirm import Confirm
from vpnpf.tui.sheets.sheet import Sheet


class Login(Sheet[Json]):
    """Ends with what the daemon answered."""

    DEFAULT_CSS = """
    Login > #sheet { max-width: 68; padding: 1 2; }
    Login Input { margin-bottom: 1; }
    Login #title { margin-bottom: 1; text-style: bold; }
    Login #said { margin-bottom: 1; }
    Login Horizontal { height: auto; align-horizontal: right; }
    Login Button { margin-left: 2; }
    """
    HEADING = "log in"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back")]

    def __init__(self, link: Link, whom: Json) -> None:
        """`whom`: one of what `GET /v1/logins` answers."""
        super().__init__()
        self._link = link
        self._name = str(whom.get("name"))
        self._title = printable(str(whom.get("title") or self._name), 200)
        self._asks_user = bool(whom.get("asks_user"))
        self._kept = whom.get("kept")
        self._trying = False

    def content(self) -> ComposeResult:
        """The fields."""
        yield Line(self._title, id="title")
        if self._kept:
            yield Line(f"A login is kept in {printable(str(self._kept), 200)}; a new one takes its place.\n")
        if self._asks_user:
            yield Line("User name")
            yield Input(id="username", compact=True)
        yield Line("Password")
        yield SecretField(id="password", compact=True)
        yield Line("It is tried once, and kept if it is right.", id="said")
        with Horizontal():
            yield Button("Back", id="back")
            yield Button("Log in", id="log-in", variant="primary")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter goes to the next field, and from the last one sends it."""
        if event.input.id == "username":
            self.query_one("#password").focus()
        else:
            self._send()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Send it, or go back."""
        if event.button.id == "back":
            self.action_leave()
        else:
            self._send()

    def _send(self) -> None:
        if self._trying:
            return
        for field in self.query(Input):
            if not field.value:
                self._say(f"✗ The {'password' if field.id == 'password' else 'user name'} is empty.")
                field.focus()
                return
        self._trying = True
        field = self.query_one("#password", Input)
        body: Json = {"name": self._name, "password": field.value}
        if self._asks_user:
            body["username"] = self.query_one("#username", Input).value
        field.value = ""
        self._say("Trying it…")
        self.query_one("#log-in", Button).disabled = True
        self.run_worker(self._try(body), exclusive=True)

    async def _try(self, body: Json) -> None:
        """`body` is the one place where the password still is, until it was taken or refused."""
        try:
            self.dismiss(await self._link.ask("POST", "/v1/login", body))
        except VpnpfError as error:
            nobody = isinstance(error, Transient) and not isinstance(error, NotNow)
            if not nobody or not await self._keeps(error):
                self._wrong(error)
                return
            try:
                self.dismiss(await self._link.ask("POST", "/v1/login", {**body, "untried": True}))
            except VpnpfError as again:
                self._wrong(again)
        finally:
            body.clear()
            self._trying = False

    async def _keeps(self, error: VpnpfError) -> bool:
        said = (
            f"Nobody could be asked whether it is right: {printable(str(error), 300)}.",
            "It can be kept untried: vpnpf tries it when it connects, and says so if it is wrong.",
        )
        kept: bool | None = await self.app.push_screen_wait(Confirm("keep it untried?", said, "Keep it"))
        return bool(kept)

    def _wrong(self, error: VpnpfError) -> None:
        hint = f"\nWhat to do: {printable(error.hint)}" if error.hint else ""
        self._say(f"✗ {printable(str(error))}{hint}\nNothing was kept; type the password again.")
        self.query_one("#log-in", Button).disabled = False
        self.query_one("#password").focus()

    def _say(self, said: str) -> None:
        self.query_one("#said", Line).say(said)

    def action_leave(self) -> None:
        """Go back; what was sent is still tried."""
        if self._trying:
            self.app.notify("It was sent already; if it is right, it is kept.", markup=False)
        self.query_one("#password", Input).value = ""
        self.dismiss(None)
