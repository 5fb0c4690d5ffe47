"""What the values of a configuration mean together: the mistakes that a type does not show."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import structs

from vpnpf import plugins
from vpnpf.accounts import parse
from vpnpf.config_forwards import NAME, NO_NAME, ForwardChecker
from vpnpf.config_options import check_options
from vpnpf.config_policy import PolicyChecker
from vpnpf.config_positions import Positions
from vpnpf.config_schema import ClientTable, ForwardTable, Key, LockTable, PolicyTable, ProfileTable, SecretTable
from vpnpf.core.networks import is_private
from vpnpf.core.services import LAST_PORT
from vpnpf.errors import Misconfigured, Mistake, Unavailable
from vpnpf.interfaces import Clock, Manifest
from vpnpf.model import Endpoint, LockMode, ProfileSpec, Protocol
from vpnpf.plugins import Group
from vpnpf.secrets import Source, reader
from vpnpf.settings import ClientSettings, Config, ProfileSettings, TunnelSettings

_NEEDED = {
    "config": "download the file from your provider",
    "interface": "name the device: `ip link` lists them",
    "username": "it is in your account at the provider",
    "password": 'write password = { file = "…" }, { keyring = "…" }, { env = "…" } or { credential = "…" }',
}

_SUPPLIED = {"config", "username", "password"}
"""Keys of the tunnel that its provider has in place of the file."""
_ROUTER = {
    "to": "write the local port alone: to = 8080",
    "from": "remove it; the machine's own firewall decides",
    "open": "remove the forward",
}


class Checker:
    """What the values mean together."""

    def __init__(
        self, path: Path, positions: Positions, broken: frozenset[Key], clock: Clock, *, ended: bool = False
    ) -> None:
        self._path = path
        self._positions = positions
        self._broken = broken
        """Keys of which enough was said: nothing at or below them is said again."""
        self._mistakes: list[Mistake] = []
        self._policies = PolicyChecker(self._wrong, clock, ended=ended)

    def check(
        self, tables: Mapping[str, ProfileTable], client_tables: Mapping[str, ClientTable]
    ) -> tuple[Config, tuple[Mistake, ...]]:
        """The configuration as far as it goes, and the mistakes."""
        if not tables:
            self._wrong(
                ("profiles",),
                "there is no profile",
                "`vpnpf init` makes one; or begin with [profiles.home], README.md has an example",
            )
        clients = {name: self._client(name, table) for name, table in client_tables.items()}
        profiles = {}
        for name, table in tables.items():
            if not NAME.fullmatch(name):
                self._wrong(("profiles", name), NO_NAME)
            profiles[name] = self._profile(name, table, clients)
        return Config(self._path, profiles, clients), tuple(self._mistakes)

    def _profile(self, name: str, table: ProfileTable, clients: Mapping[str, ClientSettings]) -> ProfileSettings:
        at: Key = ("profiles", name)
        most, provider = self._provider(at, table)
        tunnel = self._tunnel((*at, "tunnel"), table)
        self._directness(at, table)
        if table.exit_check is not None and (wrong := wrong_url(table.exit_check)):
            self._wrong((*at, "exit_check"), wrong, "write it as https://HOST/PATH")
        if not table.forwards:
            self._wrong(at, "no port is asked for", f"add [profiles.{name}.forwards.torrent]")
        elif len(table.forwards) > most:
            what = f"{len(table.forwards)} forwards; {table.provider} gives at most {most}"
            self._wrong((*at, "forwards"), what, f"remove {len(table.forwards) - most} of them")
        local = {client: is_local(settings.url) for client, settings in clients.items()}
        kinds = {client: manifest for client, each in clients.items() if (manifest := _of_client(each.type))}
        checker = ForwardChecker(self._wrong, self._policies, local, kinds)
        forwards = tuple(checker.forwards((*at, "forwards"), table.forwards, namespace=table.tunnel.namespace))
        if provider is not None:
            check_options(self._wrong, at, provider, table.options, forwards)
        policy, timed = self._policies.policy((*at, "policy"), table.policy)
        used = {forward.name: clients.get(forward.client) for forward in forwards if forward.client}
        return ProfileSettings(
            spec=ProfileSpec(name, table.provider, forwards, policy, table.lock.lan, _lock(table)),
            tunnel=tunnel,
            options=table.options,
            clients={forward: client for forward, client in used.items() if client},
            account=self._account((*at, "account"), table),
            exit_check=table.exit_check,
            timed=timed,
        )

    def _tunnel(self, at: Key, table: ProfileTable) -> TunnelSettings:
        """Check the tunnel."""
        kind, given = table.tunnel.type, table.tunnel.config
        known = plugins.names(Group.TUNNELS)
        names = [given] if isinstance(given, str) else given or []
        files = tuple(self._beside(name).absolute() for name in names)
        settings = TunnelSettings(
            kind,
            files,
            table.tunnel.interface or "",
            table.tunnel.gateway or "",
            table.tunnel.username or "",
            self._secret((*at, "password"), table.tunnel.password),
            table.tunnel.namespace,
            tuple(self._published((*at, "publish"), table)),
        )
        if kind not in known:
            self._wrong((*at, "type"), f'there is no tunnel type "{kind}"', plugins.nearest(kind, known))
            return settings
        try:
            manifest = plugins.manifest(Group.TUNNELS, kind)
        except Unavailable as error:
            self._wrong((*at, "type"), error.cause, error.hint)
            return settings
        supplied = self._tunnel_keys(at, table, manifest)
        for file in () if supplied else files:
            if files.count(file) > 1:
                self._wrong((*at, "config"), f"{file} is there twice", "name each file once")
            elif missing(file):
                self._wrong((*at, "config"), f"there is no file {file}", "download it from your provider")
            elif not os.access(file, os.R_OK):
                self._wrong((*at, "config"), f"{file} cannot be read", "run as root, or as its owner")
        return settings

    def _tunnel_keys(self, at: Key, table: ProfileTable, manifest: Manifest) -> bool:
        """See that the tunnel has the keys that its type needs, and no others; and that the lock fits it.

        Returns whether the provider makes its configuration.
        """
        values = structs.asdict(table.tunnel)
        given = {key for key, value in values.items() if key != "type" and value not in (None, False, [])}
        supplied = self._supplied(at, table, manifest)
        for key in sorted(given - set(manifest.keys) - (_SUPPLIED if supplied else set())):
            self._wrong((*at, key), f'a tunnel of type "{manifest.id}" has no "{key}"', "remove the line")
        for key in manifest.required:
            if key not in given and not (supplied and key == "config"):
                self._wrong((*at, key), f'the key "{key}" is missing', _NEEDED.get(key, ""))
        gateway = table.tunnel.gateway
        if gateway is not None:
            try:
                ipaddress.ip_address(gateway)
            except ValueError:
                self._wrong((*at, "gateway"), "it is not an IP address", "write it as 10.2.0.1")
        lock: Key = (*at[:-1], "lock", "mode")
        if manifest.adopts and table.lock.mode not in (None, "off"):
            what = (
                f'a tunnel of type "{manifest.id}" belongs to another program, and so does blocking what passes it by'
            )
            self._wrong(lock, what, 'leave it out, or use type = "wireguard" or "openvpn"')
        elif table.tunnel.namespace and table.lock.mode not in (None, "on"):
            what = "a tunnel with a network namespace of its own has its lock in there, always"
            self._wrong(lock, what, "leave it out")
        return supplied

    def _supplied(self, at: Key, table: ProfileTable, tunnel: Manifest) -> bool:
        """Whether the provider makes the tunnel's configuration; then nothing of it is written here."""
        try:
            provider = plugins.manifest(Group.PROVIDERS, table.provider)
        except Unavailable:  # said already
            return False
        if not provider.supplies:
            return False
        if tunnel.direct:  # said already
            return False
        if tunnel.id not in provider.supplies:
            kinds = " or ".join(f'"{kind}"' for kind in provider.supplies)
            self._wrong((*at, "type"), f"{provider.name} makes no tunnel of this type", f"write type = {kinds}")
            return False
        for key in sorted(_SUPPLIED):
            if getattr(table.tunnel, key) is not None:
                what = f"{provider.name} makes the tunnel's configuration itself"
                self._wrong((*at, key), what, f"remove the line; `vpnpf login {provider.id}` asks for the account")
        return True

    def _account(self, at: Key, table: ProfileTable) -> Source | None:
        """Where the account's user name and password are."""
        try:
            wanted = plugins.manifest(Group.PROVIDERS, table.provider).account
        except Unavailable:  # said already
            wanted = True
        if table.account is not None and not wanted:
            self._wrong(at, f'"{table.provider}" has no login', "remove it")
        return self._secret(at, table.account, partial(parse, provider=table.provider))

    def _published(self, at: Key, table: ProfileTable) -> Iterator[Endpoint]:
        """Ports of this machine that lead into the namespace: for itself or the LAN, never for the internet."""
        if table.tunnel.publish and not table.tunnel.namespace:
            self._wrong(at, 'it means something with "namespace = true" only', "add that, or remove the line")
        for place, text in enumerate(table.tunnel.publish or ()):
            address, _, port = text.rpartition(":")
            try:
                found = ipaddress.ip_address(address.strip("[]") if ":" in address else address)
                alone = ipaddress.ip_network(found)
                number = int(port) if port.isascii() and port.isdigit() else 0
                if "%" in address or not 0 < number <= LAST_PORT:
                    raise ValueError
            except ValueError:
                self._wrong((*at, place), "it is not an address and a port", "write it as 127.0.0.1:8080 or [::1]:8080")
                continue
            if found.is_loopback or is_private(alone):
                yield Endpoint(str(found), number, Protocol.TCP)
            else:
                hint = "take 127.0.0.1, or an address of this machine on the LAN"
                self._wrong((*at, place), f"{found} is neither the loopback nor a private address", hint)

    def _directness(self, at: Key, table: ProfileTable) -> None:
        """See that provider and tunnel are both for a machine without a VPN, or both for one with."""
        try:
            provider = plugins.manifest(Group.PROVIDERS, table.provider).direct
            tunnel = plugins.manifest(Group.TUNNELS, table.tunnel.type).direct
        except Unavailable:  # said already
            return
        if provider and not tunnel:
            what = f'"{table.provider}" works without a tunnel only'
            self._wrong((*at, "tunnel", "type"), what, 'write tunnel = { type = "none" }')
        elif tunnel and not provider:
            what = f'"{table.provider}" is reached through a tunnel, and this profile has none'
            self._wrong((*at, "provider"), what, 'use another tunnel, or provider = "router"')
        elif tunnel:
            if table.policy != PolicyTable():
                what = "without a tunnel nothing is blocked, so a policy means nothing"
                self._wrong((*at, "policy"), what, "remove it; the machine's own firewall decides")
            if table.lock != LockTable():
                self._wrong((*at, "lock"), "without a tunnel nothing is locked, so it means nothing", "remove it")
            for name, forward in table.forwards.items():
                for key in ("to", "from", "open"):
                    if _means_rules(forward, key):
                        what = "without a tunnel no packet is judged or rewritten here, so it means nothing"
                        self._wrong((*at, "forwards", name, key), what, _ROUTER[key])

    def _provider(self, at: Key, table: ProfileTable) -> tuple[int, Manifest | None]:
        """Check the provider and its options; returns how many forwards it can have, and it, if it can be had."""
        known = plugins.names(Group.PROVIDERS)
        if table.provider not in known:
            hint = plugins.nearest(table.provider, known)
            self._wrong((*at, "provider"), f'there is no provider "{table.provider}"', hint)
            return LAST_PORT, None
        try:
            manifest = plugins.manifest(Group.PROVIDERS, table.provider)
        except Unavailable as error:
            self._wrong((*at, "provider"), error.cause, error.hint)
            return LAST_PORT, None
        if manifest.ended:
            hint = "`vpnpf providers` lists those that have"
            self._wrong((*at, "provider"), manifest.ended.rstrip("."), hint)
            return LAST_PORT, None
        return manifest.max_forwards, manifest

    def _client(self, name: str, table: ClientTable) -> ClientSettings:
        at: Key = ("clients", name)
        if table.type not in plugins.names(Group.CLIENTS):
            hint = plugins.nearest(table.type, plugins.names(Group.CLIENTS))
            self._wrong((*at, "type"), f'there is no client type "{table.type}"', hint)
        if wrong := wrong_url(table.url):
            self._wrong((*at, "url"), wrong, "write it as http://127.0.0.1:8080")
        elif table.password is not None and table.url.lower().startswith("http:") and not is_local(table.url):
            what = "the password would travel unencrypted to another machine"
            self._wrong((*at, "url"), what, "use https, or a client on this machine")
        source = self._secret((*at, "password"), table.password)
        return ClientSettings(name, table.type, table.url.rstrip("/"), table.username, source)

    def _secret(self, at: Key, table: SecretTable | None, read: Callable[[str], object] = str) -> Source | None:
        """Where a secret is, if it is anywhere; `read` raises Misconfigured for what it cannot be."""
        if table is None:
            return None
        given = [(kind, value) for kind, value in structs.asdict(table).items() if value is not None]
        if len(given) == 1:
            kind, value = given[0]
            source = Source(kind, str(self._beside(value)) if kind == "file" else value)
            self._readable(at, source, read)
            return source
        if not any(key[: len(at)] == at for key in self._broken):
            self._wrong(at, "exactly one place is needed", "keyring, file, env or credential")
        return None

    def _readable(self, at: Key, source: Source, read: Callable[[str], object]) -> None:
        """See now that a file with a secret can be used; the other places may be there only when it runs."""
        if source.kind == "file":
            try:
                read(reader(source)())
            except Misconfigured as error:
                self._wrong(at, str(error), error.hint)

    def _beside(self, written: str) -> Path:
        """A path of the file, relative to it."""
        path = Path(written)
        with contextlib.suppress(RuntimeError):  # "~name" of somebody who is not there: taken as it is written
            path = path.expanduser()
        return self._path.parent / path

    def _wrong(self, key: Key, what: str, hint: str = "") -> None:
        if any(key[:length] in self._broken for length in range(len(key) + 1)):
            return
        self._mistakes.append(Mistake(self._positions.where(key), what, hint))


def _of_client(kind: str) -> Manifest | None:
    """The manifest of a type of client; None: there is none, which is said where it is written."""
    try:
        return plugins.manifest(Group.CLIENTS, kind) if kind in plugins.names(Group.CLIENTS) else None
    except Unavailable:
        return None


def _means_rules(table: ForwardTable, key: str) -> bool:
    """Whether a key of a forward asks for rules of ours; a fixed port on this machine is the router's business."""
    if key == "to":
        return isinstance(table.to, str) and not table.to.strip().isdigit()
    return table.from_ is not None if key == "from" else not table.open


def _lock(table: ProfileTable) -> LockMode:
    """The mode that was written, or the usual one of the tunnel's type."""
    if table.lock.mode is not None:
        return LockMode(table.lock.mode)
    try:
        manifest = plugins.manifest(Group.TUNNELS, table.tunnel.type)
    except Unavailable:
        return LockMode.ON
    return LockMode.OFF if manifest.adopts or manifest.direct else LockMode.ON


def wrong_url(url: str) -> str:
    """What is wrong with the URL of a client or page, in a few words; empty: nothing."""
    try:
        parts = urlsplit(url)
        port_zero = parts.port == 0
    except ValueError:
        return "it is not a URL"
    if parts.scheme not in {"http", "https"} or not parts.hostname or port_zero:
        return "it is not an http or https URL"
    if "@" in parts.netloc:
        return "it holds a user name or password; set username and password apart from it"
    if any(not "!" <= character <= "~" for character in url):
        return "it holds a blank, a control character or one beyond ASCII"
    return "it has a query or a fragment" if parts.query or parts.fragment else ""


def is_local(url: str) -> bool:
    """Whether a URL names this machine, so that its sockets can be seen from here."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def missing(path: Path) -> bool:
    """Whether there is no file; one that cannot be looked at counts as there, so that the reason is said."""
    try:
        return not path.is_file()
    except OSError:
        return False
