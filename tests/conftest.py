"""For every test: hypothesis without a clock of its own, since the cores are shared."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("vpnpf", deadline=None)
settings.load_profile("vpnpf")
