"""Another port, and the same one again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vpnpf.control.messages import Json
from vpnpf.control.seen import SeenForward
from vpnpf.printable import printable
from vpnpf.tui.commands import Commands
from vpnpf.tui.sheets.choose import Choice, Choose
from vpnpf.tui.sheets.confirm import Confirm
from vpnpf.tui.sheets.working import Say

_ALL = ""


def new_port(face: Commands) -> None:
    """Ask which forward, say what it costs, and have it done."""

    def chosen(name: str) -> None:
        some = [each for each in _forwards(face) if name in {_ALL, each.name} and each.external_port]
        ports = ", ".join(str(each.external_port) for each in some)
        lost = f"Port {ports} is given back." if some else "The provider is asked for a port."
        said = (
            lost,
            "Whoever knows it loses it: a running torrent's peers come back when its tracker has told them the new one.",
        )

        def agreed() -> None:
            _ask(face, "asking for another port", "/v1/new-port", name, "another port is asked for all the same")

        face.confirm(Confirm("another port?", said, "New port"), agreed)

    _which(face, "another port: for which forward?", chosen)


def renew(face: Commands) -> None:
    """Ask which forward, and have the same port asked for again."""
    _which(
        face,
        "renew: which forward?",
        lambda name: _ask(face, "renewing", "/v1/renew", name, "it is renewed all the same"),
    )


def _which(face: Commands, heading: str, then: Callable[[str], None]) -> None:
    forwards = _forwards(face)
    if len(forwards) < 2:  # noqa: PLR2004 - one is no choice
        then(_ALL)
        return
    choices = [Choice(_ALL, "all forwards", f"{len(forwards)} of them")]
    choices += [Choice(each.name, each.name, _port(each.external_port)) for each in forwards]

    def chosen(name: str | None) -> None:
        if name is not None:
            then(name)

    face.push_screen(Choose(heading, choices), chosen)


def _ask(face: Commands, title: str, path: str, name: str, goes_on: str) -> None:
    before = {each.name: each.external_port for each in _forwards(face)}

    async def doing(say: Say) -> Json:
        say("the provider is asked")
        return await face.link.ask("POST", path, {"forward": name or None})

    face.work(
        title, doing, lambda answer: face.tell(outcome(answer, before)), f"Nobody waits for it any more; {goes_on}."
    )


def outcome(answer: Json, before: Mapping[str, int | None]) -> str:
    """What became of the ports, a line each: "41877 → 52110", or "confirmed: 41877"."""
    found = [each for each in answer.get("forwards") or () if isinstance(each, dict)]
    lines = []
    for each in found:
        name, port = str(each.get("name")), each.get("external_port")
        old = before.get(name)
        said = f"confirmed: {_port(port)}" if port == old else f"{_port(old)} → {_port(port)}"
        lines.append(said if len(found) == 1 else f"{printable(name, 40)}: {said}")
    return "\n".join(lines) or "There is no forward, so there was nothing to ask for."


def _port(port: object) -> str:
    return str(port) if isinstance(port, int) else "no port"


def _forwards(face: Commands) -> tuple[SeenForward, ...]:
    return face.view.seen.forwards if face.view.seen else ()
