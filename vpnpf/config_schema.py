"""The configuration's tables: types and known keys, nothing else.

`read` takes what TOML says apart table by table and goes on after a mistake, so that all of them are found in one go.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo, fields

from vpnpf.hidden import without
from vpnpf.plugins import nearest

Key = tuple[str | int, ...]
Port = Annotated[int, Meta(ge=1, le=65535)]
Text = Annotated[str, Meta(min_length=1)]
T = TypeVar("T", bound="Table")


def said(text: str) -> Meta:
    """What a key is for: part of the JSON Schema, and the hint of its mistakes."""
    return Meta(description=text)


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table: with the keys it has and no others."""


class SecretTable(Table, frozen=True, kw_only=True):
    """Where a secret is: exactly one of the keys."""

    keyring: Annotated[Text | None, said("Name in the keyring, service vpnpf.")] = None
    file: Annotated[Text | None, said("A file of mode 0600, relative to this one.")] = None
    env: Annotated[Text | None, said("An environment variable.")] = None
    credential: Annotated[Text | None, said("A systemd credential (LoadCredential=).")] = None


class TunnelTable(Table, frozen=True, kw_only=True):
    """[profiles.NAME.tunnel]."""

    type: Annotated[Text, said('Tunnel back end: "wireguard", "openvpn", "existing" or "none".')]
    config: Annotated[
        Text | list[Text] | None, said("The provider's file, relative to this one; or a list of them, one a server.")
    ] = None
    interface: Annotated[Text | None, said('With "existing": the device that another program brought up.')] = None
    gateway: Annotated[
        Text | None, said('With "existing": address in the tunnel that the provider\'s gateway answers on.')
    ] = None
    username: Annotated[Text | None, said("User at the provider, where the tunnel asks for one.")] = None
    password: Annotated[SecretTable | None, said("Where its password is.")] = None
    namespace: Annotated[bool, said("Give the tunnel a network namespace of its own; see `vpnpf exec`.")] = False
    publish: Annotated[
        list[Text] | None, said('With "namespace": ports of this machine that lead into it: "127.0.0.1:8080".')
    ] = None


class AllowTable(Table, frozen=True, kw_only=True, rename={"from_": "from", "for_": "for"}):
    """An entry of `allow` with more to say than its port."""

    port: Annotated[Text | None, said('Port or range, and protocol: "22/tcp", "8000-8010/udp".')] = None
    service: Annotated[Text | None, said('Instead of port: "ssh", "https/udp", "preset:openvpn".')] = None
    from_: Annotated[Text | list[Text] | None, said('Who may come in: "203.0.113.9", "2001:db8::/32".')] = None
    for_: Annotated[Text | None, said('How long from when it is first put in force: "2h", "7d".')] = None
    until: Annotated[Any, said("Instead of for, when it ends: 2026-12-01T10:00:00Z.")] = None
    comment: Annotated[Text | None, said("What it is for.")] = None

    def as_written(self) -> dict[str, object]:
        """The keys that are there."""
        values = {key: getattr(self, field.name) for key, field in _known(type(self)).items()}
        return {key: value for key, value in values.items() if value is not None}


class PolicyTable(Table, frozen=True, kw_only=True):
    """[profiles.NAME.policy]."""

    mode: Annotated[Literal["open-all", "block-all", "allow-list"], said("What may come in.")] = "allow-list"
    allow: Annotated[
        list[str | AllowTable] | None,
        said('"forwarded", and entries: "22/tcp", "8000-8010/udp", "ssh", or tables of port or service and more.'),
    ] = None
    report_unused: Annotated[
        Text | None, said('Report an opening after this time without an inbound packet: "7d".')
    ] = None
    close_unused: Annotated[bool, said("Close it then.")] = False


class LockTable(Table, frozen=True, kw_only=True):
    """[profiles.NAME.lock]."""

    mode: Annotated[
        Literal["on", "lockdown", "off"] | None,
        said("Block what goes past the tunnel: while vpnpf runs, always, never."),
    ] = None
    lan: Annotated[bool, said("Keep private prefixes on directly connected links reachable.")] = True


class ForwardTable(Table, frozen=True, kw_only=True, rename={"from_": "from"}):
    """[profiles.NAME.forwards.NAME]."""

    client: Annotated[Text | None, said("Name of a torrent client under [clients].")] = None
    mode: Annotated[
        Literal["announce", "redirect"] | None,
        said("Whether the client learns the external port, or packets are rewritten to a port that stays the same."),
    ] = None
    to: Annotated[
        Port | Text | None, said('Where packets are rewritten to: a local port, or another host: "192.168.77.5:8080".')
    ] = None
    service: Annotated[
        Text | None, said('What waits behind it, with a port of its own: "minecraft", "preset:openvpn".')
    ] = None
    protocols: Annotated[
        tuple[Literal["tcp", "udp"], ...] | None, said("What to forward; otherwise what the service needs, or both.")
    ] = None
    internal_port: Annotated[Port | None, said("Fixed local port; otherwise the external port.")] = None
    external_port: Annotated[Port | None, said("External port to ask for; the provider may give another.")] = None
    from_: Annotated[Text | list[Text] | None, said('Who may come in on it: "203.0.113.0/24".')] = None
    open: Annotated[bool, said("Let anybody in; otherwise the port is held and nobody comes in on it.")] = True


class ProfileTable(Table, frozen=True, kw_only=True):
    """[profiles.NAME]."""

    provider: Annotated[Text, said("Id of a provider plug-in; `vpnpf providers` lists them.")]
    options: Annotated[dict[str, Any], said("The provider's own settings.")] = {}
    account: Annotated[
        SecretTable | None,
        said("Where user name and password of the account are, on two lines; otherwise as `vpnpf login` kept them."),
    ] = None
    tunnel: Annotated[
        TunnelTable,
        said(
            'Type and configuration file of the tunnel: type = "wireguard", config = "FILE"; no file if the provider makes it.'
        ),
    ]
    policy: Annotated[PolicyTable, said("What may come in.")] = PolicyTable()
    lock: Annotated[LockTable, said("What may go past the tunnel.")] = LockTable()
    exit_check: Annotated[
        Text | None, said("URL that answers with the address it sees: compared with what the gateway says.")
    ] = None
    forwards: Annotated[dict[str, ForwardTable], said("The ports to get, by a name of your own.")] = {}

    def __repr__(self) -> str:
        # Some providers have a token among their options.
        return without(self, "options")


class ClientTable(Table, frozen=True, kw_only=True):
    """[clients.NAME]."""

    type: Annotated[Text, said('Torrent client plug-in: "qbittorrent" or "transmission".')]
    url: Annotated[Text, said("Its Web API or RPC: http://127.0.0.1:8080.")]
    username: Annotated[str, said("Its user; none if the password is an API key.")] = ""
    password: Annotated[SecretTable | None, said("Where its password or API key is.")] = None


class ControlTable(Table, frozen=True, kw_only=True):
    """[control]."""

    group: Annotated[
        Text | None, said("A group whose members may watch, as with `vpnpf status`; otherwise only the owner and root.")
    ] = None


class Root(Table, frozen=True, kw_only=True):
    """The configuration of vpnpf (config.toml)."""

    profiles: Annotated[dict[str, ProfileTable], said("What to run, by a name of your own.")] = {}
    clients: Annotated[dict[str, ClientTable], said("Torrent clients, by a name of your own.")] = {}
    control: Annotated[ControlTable, said("Who may ask a profile that runs.")] = ControlTable()


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file."""
    return msgspec.json.schema(Root)


class Reader:
    """One file on its way into tables."""

    def __init__(self) -> None:
        self.mistakes: list[tuple[Key, str, str]] = []
        """(key, what is wrong there, hint). Values are not repeated: one may be a secret."""
        self.broken: set[Key] = set()
        """Keys of which enough was said: what stands for them in the tables was made up."""

    def read(self, table: type[T], raw: object, key: Key = (), hint: str = "") -> T:
        """The table at a key; what is wrong in it is noted, and left out or filled up."""
        if not isinstance(raw, dict):
            self._wrong(key, "it is not a table", hint)
            raw = {}
        known = _known(table)
        for name in raw:
            if name not in known:
                self._wrong((*key, name), f'unknown key "{name}"', nearest(name, tuple(known)))
        return table(**{field.name: self._value(field, raw, (*key, name)) for name, field in known.items()})

    def _value(self, field: FieldInfo, raw: Mapping[str, Any], key: Key) -> object:
        kind, hint = _unwrapped(field.type)
        if field.encode_name in raw:
            return self._given(field, kind, raw[field.encode_name], key, hint)
        if not field.required:
            return field.default_factory() if field.default is msgspec.NODEFAULT else field.default
        self._wrong(key, f'the key "{field.encode_name}" is missing', hint)
        inner = _table_in(kind)
        # Filled up without a further word.
        return Reader().read(inner, {}) if inner else MADE_UP

    def _given(self, field: FieldInfo, kind: Any, value: object, key: Key, hint: str) -> object:  # noqa: ANN401 - a type
        inner = _table_in(kind)
        if inner is None:
            return self._leaf(field, kind, value, key, hint)
        if inner is SecretTable and not isinstance(value, dict):
            self._wrong(key, "a password is not written here, only where it is", _PLACES)
            return None
        if get_origin(kind) is not dict:
            return self.read(inner, value, key, hint)
        if isinstance(value, dict):
            return {name: self.read(inner, each, (*key, name)) for name, each in value.items()}
        self._wrong(key, "it is not a table", hint)
        return {}

    def _leaf(self, field: FieldInfo, kind: Any, value: object, key: Key, hint: str) -> object:  # noqa: ANN401 - a type
        plain = _plain(kind)
        items = get_args(plain)[:1] if get_origin(plain) in _LISTS else ()
        inner = _table_in(items[0]) if items else None
        if inner is not None and isinstance(value, list):
            return [self._item(inner, each, (*key, place), hint) for place, each in enumerate(value)]
        try:
            return msgspec.convert(value, kind, strict=True)
        except msgspec.ValidationError:
            self.broken.add(key)
        if isinstance(value, list) and items:
            for place, each in enumerate(value):
                if not _fits(each, items[0]):
                    self._wrong((*key, place), _words(each, items[0]), hint)
        else:
            self._wrong(key, _words(value, kind), hint)
        return MADE_UP if field.required else field.default

    def _item(self, table: type[Table], value: object, key: Key, hint: str) -> object:
        """An item of a list that is a text or a table."""
        if isinstance(value, dict):
            return self.read(table, value, key, hint)
        if isinstance(value, str):
            return value
        self._wrong(key, "it is neither text in quotes nor a table", hint)
        return MADE_UP

    def _wrong(self, key: Key, what: str, hint: str) -> None:
        self.mistakes.append((key, what, hint.rstrip(".")))
        self.broken.add(key)


_LISTS = (list, tuple)
_UNIONS = (Union, UnionType)
MADE_UP = "?"
"""Stands for a text that is missing or wrong."""
_PLACES = '{ keyring = "…" }, { file = "…" }, { env = "…" } or { credential = "…" }'


@cache
def _known(table: type[Table]) -> Mapping[str, FieldInfo]:
    """A table's keys, looked up once: a list may have thousands of tables."""
    return {field.encode_name: field for field in fields(table)}


def _unwrapped(kind: Any) -> tuple[Any, str]:  # noqa: ANN401 - a type
    """A field's type without its description, and that."""
    if get_origin(kind) is not Annotated:
        return kind, ""
    base, *metas = get_args(kind)
    described = next((meta.description for meta in metas if meta.description), "")
    kept = [meta for meta in metas if not meta.description]
    return (Annotated[base, *kept] if kept else base), described


def _table_in(kind: Any) -> type[Table] | None:  # noqa: ANN401 - a type
    """The table that a type is, may be, or has as values."""
    candidates = (kind, *get_args(kind))
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, Table)), None)


def _plain(kind: Any) -> Any:  # noqa: ANN401 - a type
    """A type without "or None" and without limits."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    others = [each for each in get_args(kind) if each is not type(None)]
    return _plain(Union[tuple(others)]) if type(None) in get_args(kind) else kind  # noqa: UP007 - a list of types


def _fits(value: object, kind: Any) -> bool:  # noqa: ANN401 - a type
    try:
        msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError:
        return False
    return True


def _words(value: object, kind: Any) -> str:  # noqa: ANN401 - a type
    """Why a value is not of a type, for a person."""
    plain = _plain(kind)
    if get_origin(plain) is Literal:
        *others, last = map(repr, get_args(plain))
        return f"it is not one of {', '.join(others)} or {last}"
    if get_origin(plain) in _UNIONS:
        return _words_of_either(value, {_plain(each) for each in get_args(plain)})
    if plain is bool:
        return "it is neither true nor false"
    if plain is int:
        return "it is not a port: 1 to 65535" if type(value) is int else "it is not a whole number"
    if plain is str:
        return "it is empty" if value == "" else "it is not text in quotes"
    return 'it is not a list: [ "…", "…" ]' if get_origin(plain) in _LISTS else "it is not a table"


def _words_of_either(value: object, kinds: set[Any]) -> str:
    if int in kinds:
        return _words(value, int if type(value) is int else str)
    return "it is neither text in quotes nor a list of such" if value else "it is empty"
