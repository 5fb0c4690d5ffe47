"""Everything that a person can do, once: the keys, the footer, the command palette and the help are made of this."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from msgspec import Struct
from textual.binding import Binding
from textual.command import DiscoveryHit, Hit, Hits, Provider


class Action(Struct, frozen=True):
    """One of them; the app's method is `action_NAME`."""

    name: str
    key: str
    label: str
    """In the footer: a word or two."""
    help: str
    """In the palette and the help: what it does, in a sentence."""
    changes: bool = False
    """Whether it changes something, so that only the owner may."""
    footer: bool = True


ACTIONS = (
    Action("copy_port", "c", "Copy", "Copy the external port to the clipboard"),
    Action("connect", "d", "On/off", "Connect, or take the tunnel down and give the port back", changes=True),
    Action("servers", "s", "Server", "Choose another server", changes=True),
    Action("new_port", "n", "New port", "Ask the provider for another port", changes=True),
    Action("renew", "r", "Renew", "Ask for the same port again, now", changes=True, footer=False),
    Action("policy", "p", "Policy", "Choose what the internet may reach", changes=True),
    Action("entries", "a", "Allow-list", "Open and close ports, also for a time", changes=True),
    Action("exposure", "x", "Exposure", "See each open port and the program behind it", changes=True, footer=False),
    Action("client", "t", "Client", "See the torrent client's settings as read back", footer=False),
    Action("login", "l", "Login", "Log in at the provider or the torrent client", changes=True),
    Action(
        "report", "w", "Report", "Save a report without secrets, for where you ask for help", changes=True, footer=False
    ),
    Action("forward", "f", "Next forward", "Look at the next forward", footer=False),
    Action("profiles", "o", "Profiles", "Look at another profile", footer=False),
    Action("theme", "v", "Theme", "Dark, light, or high contrast", footer=False),
    Action(
        "end", "Q", "Stop all", "Give the port back, take the tunnel down and end vpnpf", changes=True, footer=False
    ),
    Action("help", "question_mark", "Help", "All keys, and what the signs mean"),
    Action("leave", "q", "Leave", "Leave this screen; vpnpf goes on and keeps the port"),
)
"""In the order of the footer."""
BY_NAME = {action.name: action for action in ACTIONS}


def bindings() -> Iterator[Binding]:
    """As Textual has them."""
    for each in ACTIONS:
        yield Binding(each.key, each.name, each.label, tooltip=each.help, show=each.footer)


class ActionCommands(Provider):
    """The same in the command palette."""

    async def discover(self) -> Hits:
        """All of them."""
        for each in ACTIONS:
            yield DiscoveryHit(each.help, self._run(each), text=each.help)

    async def search(self, query: str) -> Hits:
        """Those that match."""
        matcher = self.matcher(query)
        for each in ACTIONS:
            score = matcher.match(f"{each.label} {each.help}")
            if score > 0:
                yield Hit(score, matcher.highlight(each.help), self._run(each), text=each.help)

    def _run(self, action: Action) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            await self.app.run_action(action.name)

        return run
