"""The table of phases: whole, drawn in the docs as it is. That steps keep to it is checked by every world."""

from pathlib import Path

from vpnpf.core.phases import TRANSITIONS, drawn
from vpnpf.model import Phase

DOCS = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_docs_show_the_table():
    assert f"```mermaid\n{drawn()}\n```" in DOCS.read_text()


def test_every_phase_is_there_and_can_be_stopped():
    assert set(TRANSITIONS) == set(Phase)
    for phase, after in TRANSITIONS.items():
        assert phase not in after
        assert Phase.STOPPING in after or phase in {Phase.STOPPING, Phase.STOPPED}


def test_no_phase_is_out_of_reach():
    reached = {Phase.STARTING}
    while (wider := reached | {phase for before in reached for phase in TRANSITIONS[before]}) != reached:
        reached = wider
    assert reached == set(Phase)
