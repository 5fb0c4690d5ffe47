"""What `vpnpf-lockdown.service` puts up at boot before the network: the locked rule set, for `nft -f` and `ip -batch`."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from vpnpf.core import routes
from vpnpf.errors import Unavailable
from vpnpf.firewall.render import render
from vpnpf.firewall.ruleset import script
from vpnpf.model import FirewallPolicy, FirewallStage, LockMode, TunnelPlan
from vpnpf.whole_file import replace_file

RULES, ROUTES = "rules.nft", dict(zip(routes.FAMILIES, ("ip4.batch", "ip6.batch"), strict=True))


class BootFiles:
    """The files of one directory, kept while the mode is "lockdown"."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._kept: TunnelPlan | None = None
        """Whose lock they are, if we wrote them."""
        self._gone = False
        """Whether we removed them since."""

    def keep(self, policy: FirewallPolicy) -> None:
        """Write what this policy's lock is without a tunnel; in other modes, remove it. Raises Unavailable."""
        if policy.lock is not LockMode.LOCKDOWN:
            if not self._gone:
                self.forget()
            return
        if policy.plan == self._kept:  # nothing else of a policy is in them
            return
        wanted = {RULES: script(render(replace(policy, stage=FirewallStage.LOCKED, forwards=())), 0.0)}
        wanted |= {name: "\n".join(routes.hold(policy.plan, family)) + "\n" for family, name in ROUTES.items()}
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, text in wanted.items():
                replace_file(self._directory / name, text)
        except OSError as error:
            hint = "without it nothing is blocked after the next boot until vpnpf runs"
            raise Unavailable(f"writing {self._directory}", error.strerror or str(error), hint) from error
        self._kept, self._gone = policy.plan, False

    def forget(self) -> None:
        """Remove them. Raises Unavailable."""
        self._kept = None
        try:
            for name in (RULES, *ROUTES.values()):
                (self._directory / name).unlink(missing_ok=True)
            if self._directory.is_dir() and not any(self._directory.iterdir()):
                self._directory.rmdir()
        except OSError as error:
            hint = "remove it by hand, or the next boot locks this machine"
            raise Unavailable(f"removing {self._directory}", error.strerror or str(error), hint) from error
        self._gone = True
