"""What the internet may reach: the mode, the list, and what is open."""

from __future__ import annotations

from vpnpf.control.messages import Json
from vpnpf.tui.commands import Commands
from vpnpf.tui.sheets.entries import Entries
from vpnpf.tui.sheets.exposure import Exposure
from vpnpf.tui.sheets.policy import Policy


def policy(face: Commands) -> None:
    """Choose the mode; the plan comes before anything is done."""
    link = face.link
    face.look(
        "looking at the policy", lambda: link.ask("GET", "/v1/policy"), lambda now: _told(face, Policy(link, now))
    )


def entries(face: Commands) -> None:
    """The allow-list."""
    link = face.link
    face.look(
        "looking at the allow-list",
        lambda: link.ask("GET", "/v1/policy"),
        lambda now: _told(face, Entries(link, now, face.view)),
    )


def _told(face: Commands, sheet: Policy | Entries) -> None:
    def over(done: Json | None) -> None:
        if done is not None:
            face.tell(in_force(done))

    face.push_screen(sheet, over)


def in_force(answer: Json) -> str:
    """What was put in force, in a sentence."""
    policy = answer.get("policy")
    mode = policy.get("mode") if isinstance(policy, dict) else None
    took = answer.get("took")
    said = f"In force: {mode}" + (f", {took * 1000:.0f} ms after it was asked for" if isinstance(took, float) else "")
    unsaved = answer.get("unsaved")
    return f"{said}. It will not be there after a restart: {unsaved}" if unsaved else f"{said}."


def exposure(face: Commands) -> None:
    """Each open port and the program behind it."""
    link = face.link
    face.look(
        "looking at what is open",
        lambda: link.ask("GET", "/v1/exposure"),
        lambda said: face.push_screen(Exposure(said)),
    )
