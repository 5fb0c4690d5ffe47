"""The chain of proofs: six links, each with a sign, its age and its evidence."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.content import Content

from vpnpf.control.seen import SeenProof
from vpnpf.model import PROOF_NAMES
from vpnpf.tui import words
from vpnpf.tui.panels.panel import Line, Panel, lines, safe, styled
from vpnpf.tui.view import Reach, View

ROOMY = 2 * len(PROOF_NAMES)
"""Rows from which on each proof has two."""
_STYLES = {True: "$success", False: "bold $error", None: "$text-muted"}


class ProofsPanel(Panel):
    """Of the forward that is looked at."""

    TITLE = "proofs"
    _evidence: str | None = None
    DEFAULT_CSS = """
    ProofsPanel Line { text-wrap: nowrap; text-overflow: ellipsis; height: 1fr; }
    """

    def compose(self) -> ComposeResult:
        """One text for all: their ages are drawn anew each second, and six parts cost more than one."""
        yield Line(id="chain")

    def show(self, view: View) -> None:
        """As `Panel.show`."""
        proofs = view.forward.proofs if view.forward else {}
        chain = [(name, proofs.get(name, SeenProof())) for name in PROOF_NAMES]
        roomy = self.content_size.height >= ROOMY
        line = self.query_one("#chain", Line)
        line.say(lines(_row(name, proof, view, roomy=roomy) for name, proof in chain))
        # What does not fit into its row is read here.
        evidence = "\n".join(safe(f"{name}: {proof.evidence}") for name, proof in chain if proof.evidence) or None
        if self._evidence != evidence:
            self._evidence = evidence
            line.tooltip = Content(evidence) if evidence else None
        held = sum(proofs.get(name, SeenProof()).ok is True for name in PROOF_NAMES)
        how = "held when last known" if view.reach is Reach.AWAY else "hold"
        self.subtitle(f"{held} of {len(PROOF_NAMES)} {how}" if proofs else "")


def _row(name: str, proof: SeenProof, view: View, *, roomy: bool) -> Content:
    known = view.reach is not Reach.AWAY
    sign = (words.SIGNS[proof.ok], _STYLES[proof.ok]) if known else ("?", "$text-muted")
    age = words.looked(proof, view.now)
    if not roomy:
        strong = "bold $error" if proof.ok is False else ""
        return styled(sign, f" {name:<10}", (f"{age:<10}", "$text-muted"), (proof.evidence, strong or "$foreground"))
    joint = "  " if name == PROOF_NAMES[-1] else "│ "
    head = (name, "bold $error" if proof.ok is False else "bold")
    return styled(sign, " ", head, (f"  {age}", "$text-muted"), (f"\n{joint}", "$text-muted"), proof.evidence)
