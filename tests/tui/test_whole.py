"""Nothing of the face is without its tests: a new action or screen fails here until it has them."""

from __future__ import annotations

import importlib
import pkgutil

from textual.screen import Screen

from tests.system.pressing import ON_ONE_PORT, ON_SEVERAL
from tests.tui.snapshots import PLACE, SIZES
from vpnpf import tui
from vpnpf.tui.actions import ACTIONS
from vpnpf.tui.app import Face
from vpnpf.tui.sheets.sheet import Sheet

SNAPSHOTS = {
    "Choose": ("logins", "profiles", "which-forward"),
    "Client": ("client", "client-wrong"),
    "Confirm": ("disconnect", "start-it", "stop-all"),
    "Dashboard": ("dashboard-ready", "dashboard-blocked"),
    "Died": ("died",),
    "Entries": ("entries", "entries-empty"),
    "Exposure": ("exposure", "exposure-none"),
    "Help": ("help",),
    "Login": ("login",),
    "Plan": ("plan-danger", "plan-changed", "plan-long"),
    "Policy": ("policy",),
    "Report": ("report",),
    "Servers": ("servers",),
    "Start": ("start-several", "start-broken", "start-nothing"),
    "Told": ("mistakes",),
    "Wizard": (
        "wizard-provider", "wizard-files", "wizard-client", "wizard-secret", "wizard-policy", "wizard-name", "wizard-last",
    ),
    "Working": ("working",),
}  # fmt: skip
"""Of each screen, by its class, the names that tests compare it by."""


def screens():
    """The names of the face's own screens; what sheets have in common is none."""
    for module in pkgutil.walk_packages(tui.__path__, f"{tui.__name__}."):
        importlib.import_module(module.name)
    return {each.__name__ for each in below(Screen) if each.__module__.startswith(f"{tui.__name__}.")} - {
        Sheet.__name__
    }


def below(kind):
    for each in kind.__subclasses__():
        yield each
        yield from below(each)


def test_every_action_is_pressed_at_a_real_run():
    """The tests at real runs fail themselves if what they pressed is not what they say here."""
    assert {each.name for each in ACTIONS} == ON_ONE_PORT | ON_SEVERAL
    assert all(callable(getattr(Face, f"action_{each.name}")) for each in ACTIONS)


def test_every_screen_is_kept_at_all_sizes():
    assert set(SNAPSHOTS) == screens()
    wanted = {f"{name}-{wide}x{high}.txt" for names in SNAPSHOTS.values() for name in names for wide, high in SIZES}
    assert wanted <= {each.name for each in PLACE.iterdir()}


def test_every_snapshot_is_compared_with():
    """What is kept and compared with nothing would look like a test."""
    text = "".join(each.read_text() for each in PLACE.parent.glob("test_*.py") if each.name != "test_whole.py")
    for name in {each.stem.rpartition("-")[0] for each in PLACE.iterdir()}:
        plain = name.removeprefix("dashboard-").removeprefix("ready-")
        assert f'"{name}"' in text or f'"{plain}"' in text, name
