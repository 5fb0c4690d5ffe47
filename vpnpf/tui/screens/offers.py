"""What the start screen has to offer, as values. Pure."""

from __future__ import annotations

from enum import Enum, auto

from msgspec import Struct

from vpnpf.printable import printable
from vpnpf.tui.found import Begin, Running


class Deed(Enum):
    """What comes of choosing it."""

    LOOK = auto()
    BARRED = auto()
    START = auto()
    SET_UP = auto()
    ROOT = auto()
    AGAIN = auto()


class Offer(Struct, frozen=True):
    """One line of the list."""

    deed: Deed
    title: str
    stands: str
    """How it is, in a few words."""
    then: str
    """What enter does, in a sentence."""
    profile: str = ""

    @property
    def key(self) -> str:
        """What it is told by, also after another look."""
        return f"{self.deed.name} {self.profile}"


def elsewhere(there: Begin, named: str) -> str:
    """Of what runs and has nothing to do with the configuration that was `named`, a sentence; empty where it has, or none was."""
    some = [each.profile for each in there.running if each.open]
    if not (named and some) or there.mistakes or set(some) & set(there.configured):
        return ""
    what = f"{printable(some[0])} runs, and is" if len(some) == 1 else f"{len(some)} profiles run, and are"
    return f"{what} not of {printable(named)}."


def heading(there: Begin) -> str:
    """How it is, in a sentence."""
    some = [each for each in there.running if each.open]
    if there.mistakes:
        return "The configuration has mistakes. Nothing was changed."
    if there.running and not some:
        return "vpnpf runs, but not for you."
    if len(some) == 1:
        return "One profile runs."
    if some:
        return f"{len(some)} profiles run. Which one do you want to see?"
    if there.configured:
        return "Nothing runs yet. Which profile do you want to start?"
    return "Nothing runs, and nothing is set up yet."


def offers(there: Begin) -> tuple[Offer, ...]:
    """In the order of the list: what runs, what can be started, what else."""
    found = [_running(each, there) for each in there.running]
    names = {each.profile for each in there.running}
    found += [_start(name, there) for name in there.configured if name not in names]
    if there.mistakes:
        found.append(
            Offer(Deed.AGAIN, "Look again", "", "Enter reads the configuration again, when you have mended it.")
        )
    elif there.root:
        found.append(
            Offer(
                Deed.SET_UP,
                "Set up another profile" if there.configured else "Set up a profile",
                "",
                "Enter asks a few questions, one a page. Nothing is written before you have seen it.",
            )
        )
    elif not there.configured:
        found.append(Offer(Deed.ROOT, "Go on as root", "", _AS_ROOT))
        found.append(
            Offer(
                Deed.SET_UP,
                "Set up a profile as you",
                "",
                "Enter asks the questions; to start it you need root all the same.",
            )
        )
    else:
        found.append(Offer(Deed.SET_UP, "Set up another profile", "", "Enter asks a few questions, one a page."))
    return tuple(found)


_AS_ROOT = (
    "vpnpf makes a network device and rules for the packet filter, so it runs as root. Enter goes on with sudo, which asks "
    "for your password."
)


def _running(each: Running, there: Begin) -> Offer:
    if each.open:
        return Offer(Deed.LOOK, each.profile, "✓ runs", "Enter shows it.", each.profile)
    then = (
        "It runs as another user, and its socket lets in only root, that user, and the group that its configuration names "
        "([control] group). "
    )
    return Offer(
        Deed.BARRED,
        each.profile,
        "✗ runs, not for you",
        then + ("" if there.root else "Enter goes on as root, with sudo."),
        each.profile,
    )


def _start(name: str, there: Begin) -> Offer:
    then = "Enter starts it, and shows how far it is."
    return Offer(Deed.START, name, "· does not run", then if there.root else f"Enter starts it. {_AS_ROOT}", name)
