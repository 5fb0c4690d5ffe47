"""The torrent client, logins, the report, and other profiles."""

from __future__ import annotations

import asyncio

from vpnpf.control.messages import Json
from vpnpf.control.seen import read
from vpnpf.errors import VpnpfError
from vpnpf.printable import printable
from vpnpf.tui.commands import Commands
from vpnpf.tui.link import Link, SocketLink
from vpnpf.tui.sheets.choose import Choice, Choose
from vpnpf.tui.sheets.client import Client
from vpnpf.tui.sheets.login import Login
from vpnpf.tui.sheets.report import Report

_PATIENCE = 3.0
"""Seconds for a profile to say how it stands."""


def client(face: Commands) -> None:
    """The torrent client's settings as read back."""
    seen = face.view.seen
    if seen is not None and any(each.client for each in seen.forwards):
        face.push_screen(Client(face.view))
    else:
        face.tell("No forward of this profile has a torrent client: its port is told by events and `vpnpf port`.")


def login(face: Commands) -> None:
    """Choose whom to log in to, and log in."""
    link = face.link

    def chosen(known: dict[str, Json], name: str | None) -> None:
        if name is None:
            return

        def over(answer: Json | None) -> None:
            if answer is not None:
                face.tell(logged_in(answer))

        face.push_screen(Login(link, known[name]), over)

    def found(answer: Json) -> None:
        logins = [each for each in answer.get("logins") or () if isinstance(each, dict) and each.get("name")]
        known = {str(each["name"]): each for each in logins}
        if not known:
            face.tell("This profile has nobody to log in to: neither an account nor a torrent client with a password.")
        elif len(known) == 1:
            chosen(known, next(iter(known)))
        else:
            choices = [Choice(name, str(each.get("title") or name), _kept(each)) for name, each in known.items()]
            face.push_screen(Choose("log in to whom?", choices), lambda name: chosen(known, name))

    face.look("looking for logins", lambda: link.ask("GET", "/v1/logins"), found)


def _kept(login: Json) -> str:
    kind = "account" if login.get("kind") == "provider" else "torrent client"
    return f"{kind}; kept in {login['kept']}" if login.get("kept") else f"{kind}; no login is kept"


def logged_in(answer: Json) -> str:
    """What became of a login, in a sentence or two."""
    title, kept = printable(str(answer.get("title") or "")), printable(str(answer.get("kept") or ""))
    did = "logged in" if answer.get("tried") else "not tried"
    notes = [printable(str(each)) for each in answer.get("notes") or ()]
    return "\n".join([f"{title}: {did}" + (f"; kept in {kept}." if kept else "."), *notes])


def report(face: Commands) -> None:
    """The report, whole; then it can be saved."""
    link = face.link
    face.look(
        "making the report",
        lambda: link.text("/v1/report"),
        lambda text: face.push_screen(Report(link.profile, text), lambda saved: _saved(face, saved)),
    )


def _saved(face: Commands, path: str | None) -> None:
    if path is not None:
        face.tell(f"Saved: {printable(path)}\nOnly you can read it. Look at it before you post it.")


def profiles(face: Commands) -> None:
    """The daemons that run, each with how it stands; the chosen one is followed from then on."""

    def found(choices: list[Choice]) -> None:
        if not choices:
            face.tell("No profile runs that may be looked at. Start one with: vpnpf up PROFILE")
        else:
            face.push_screen(Choose("which profile?", choices), chosen)

    def chosen(profile: str | None) -> None:
        if profile is not None and profile != face.link.profile:
            face.attach(link_to(profile))

    face.look("looking for profiles that run", lambda: _around(face.link.profile), found)


def link_to(profile: str) -> Link:
    """The way to the daemon of a profile."""
    return SocketLink(profile)


async def _around(here: str) -> list[Choice]:
    from vpnpf.tui.found import running  # noqa: PLC0415 - it looks at directories, which nothing else here does

    known = await asyncio.to_thread(running)
    return list(await asyncio.gather(*(_stands(each.profile, each.open, here) for each in known)))


async def _stands(profile: str, may: bool, here: str) -> Choice:
    mark = "✓ looked at now; " if profile == here else ""
    if not may:
        return Choice(profile, profile, f"{mark}you may not ask it: be root, or in its group")
    try:
        async with asyncio.timeout(_PATIENCE):
            seen = read(await link_to(profile).ask("GET", "/v1/state"))
    except TimeoutError:
        return Choice(profile, profile, f"{mark}it does not answer at the moment")
    except VpnpfError as error:
        return Choice(profile, profile, f"{mark}{printable(error.cause, 100)}")
    ports = ", ".join(str(each.external_port) for each in seen.forwards if each.external_port)
    return Choice(profile, profile, f"{mark}{seen.phase.upper()}, {f'port {ports}' if ports else 'no port'}")
