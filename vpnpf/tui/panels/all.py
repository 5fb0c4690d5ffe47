"""All panels below the banner, in the order of the narrow grid."""

from vpnpf.tui.panels.inbound import InboundPanel
from vpnpf.tui.panels.policy import PolicyPanel
from vpnpf.tui.panels.port import PortPanel
from vpnpf.tui.panels.problems import ProblemsPanel
from vpnpf.tui.panels.proofs import ProofsPanel
from vpnpf.tui.panels.renewal import RenewalPanel
from vpnpf.tui.panels.throughput import ThroughputPanel
from vpnpf.tui.panels.timeline import TimelinePanel

PANELS = (PortPanel, ProofsPanel, RenewalPanel, InboundPanel, PolicyPanel, ThroughputPanel, TimelinePanel)
__all__ = ["PANELS", "ProblemsPanel"]
