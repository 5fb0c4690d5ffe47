"""What a profile means, in words."""

from __future__ import annotations

from vpnpf import plugins
from vpnpf.core.overlaps import said
from vpnpf.model import Endpoint, ForwardSpec, PolicyMode
from vpnpf.plugins import Group
from vpnpf.settings import ProfileSettings


def describe(profile: ProfileSettings) -> list[str]:
    """What a profile means, a line each; without secrets, but with addresses and file names."""
    spec = profile.spec
    allow = [*(["forwarded ports"] if spec.policy.forwarded else []), *map(said, spec.policy.openings)]
    lines = [
        f"profile {spec.name}: {spec.provider} over {profile.tunnel.type} ({_source(profile)})",
        f"  comes in: {spec.policy.mode}" + (f": {', '.join(allow)}" if spec.policy.mode == "allow-list" else ""),
        f"  lock: {spec.lock}; the LAN stays {'reachable' if spec.lan else 'out of reach'}",
    ]
    if spec.policy.mode is PolicyMode.OPEN_ALL:
        see = f"`vpnpf exposure {spec.name}` lists it"
        lines.insert(2, f"  note: anybody can reach whatever listens on this machine, now or later; {see}")
    if plugins.manifest(Group.PROVIDERS, spec.provider).account:
        lines.append(f"  account: {_account(profile)}")
    if profile.tunnel.namespace:
        published = f"; led into it: {', '.join(map(str, profile.tunnel.publish))}" if profile.tunnel.publish else ""
        lines.append(f"  network namespace: vpnpf-{spec.name}, for `vpnpf exec {spec.name} -- ...`{published}")
    for forward in spec.forwards:
        client = profile.clients.get(forward.name)
        to = f"{client.name} ({client.type} at {client.url})" if client else "announced by events"
        lines.append(f"  forward {forward.name}: {' and '.join(forward.protocols)}{_behind(forward)} -> {to}")
    return lines


def _source(profile: ProfileSettings) -> str:
    """Where the tunnel comes from."""
    tunnel, provider = profile.tunnel, plugins.manifest(Group.PROVIDERS, profile.spec.provider)
    made = f"configuration by {provider.name}" if tunnel.type in provider.supplies else "no file"
    return ", ".join(map(str, tunnel.configs)) or tunnel.interface or made


def _account(profile: ProfileSettings) -> str:
    """Where user name and password are. Whether they are there is not looked at: that may be another user's."""
    source = profile.account
    if source is None:
        return f"the one that `vpnpf login {profile.spec.provider}` asked for"
    return f"in ${source.name}" if source.kind == "env" else f"in the {source.kind} {source.name}"


def _behind(forward: ForwardSpec) -> str:
    """Where its packets go, from whom, and whether anybody comes in at all."""
    words = ""
    if forward.target:
        words = f", to {Endpoint(forward.target, forward.internal_port or 0)}"
    elif forward.internal_port:
        words = f", local port {forward.internal_port}"
    if forward.sources:
        words += f", from {', '.join(forward.sources)}"
    return words + (", held shut" if forward.shut else "")
