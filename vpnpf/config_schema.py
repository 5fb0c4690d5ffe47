"""The configuration's tables as pydantic sees them: types and known keys, nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vpnpf.config_positions import Positions
from vpnpf.errors import Mistake
from vpnpf.plugins import nearest

Key = tuple[str | int, ...]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
Text = Annotated[str, Field(min_length=1)]


class Table(BaseModel):
    """A table: frozen, with the keys it has and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TunnelTable(Table):
    """[profiles.NAME.tunnel]."""

    type: Text = Field(description='Tunnel back end: "wireguard".')
    config: Text = Field(description="The provider's file, relative to this one.")


class PolicyTable(Table):
    """[profiles.NAME.policy]."""

    mode: Literal["open-all", "block-all", "allow-list"] = Field("allow-list", description="What may come in.")
    allow: list[str] | None = Field(None, description='"forwarded", and entries such as "22/tcp", "8000-8010/udp".')


class LockTable(Table):
    """[profiles.NAME.lock]."""

    lan: bool = Field(True, description="Keep private prefixes on directly connected links reachable.")


class ForwardTable(Table):
    """[profiles.NAME.forwards.NAME]."""

    client: Text | None = Field(None, description="Name of a torrent client under [clients].")
    protocols: list[Literal["tcp", "udp"]] = Field(["tcp", "udp"], description="What to forward.")
    internal_port: Port | None = Field(None, description="Fixed local port; otherwise the external port.")
    external_port: Port | None = Field(None, description="External port to ask for; the provider may give another.")


class SecretTable(Table):
    """Where a secret is: exactly one of the keys."""

    keyring: Text | None = Field(None, description="Name in the keyring, service vpnpf.")
    file: Text | None = Field(None, description="A file of mode 0600, relative to this one.")
    env: Text | None = Field(None, description="An environment variable.")
    credential: Text | None = Field(None, description="A systemd credential (LoadCredential=).")


class ProfileTable(Table):
    """[profiles.NAME]."""

    provider: Text = Field(description="Id of a provider plug-in; `vpnpf providers` lists them.")
    options: dict[str, Any] = Field({}, description="The provider's own settings.")
    tunnel: TunnelTable = Field(description="Type and configuration file of the tunnel.")
    policy: PolicyTable = Field(PolicyTable(), description="What may come in.")  # type: ignore[call-arg] # all keys have defaults
    lock: LockTable = Field(LockTable(), description="What may go past the tunnel.")  # type: ignore[call-arg]
    forwards: dict[str, ForwardTable] = Field({}, description="The ports to get, by a name of your own.")


class ClientTable(Table):
    """[clients.NAME]."""

    type: Text = Field(description='Torrent client plug-in: "qbittorrent".')
    url: Text = Field(description="Its Web API: http://127.0.0.1:8080.")
    username: str = Field("", description="Its user; none if the password is an API key.")
    password: SecretTable | None = Field(None, description="Where its password or API key is.")


class Root(Table):
    """The configuration of vpnpf (config.toml)."""

    model_config = ConfigDict(title="vpnpf")

    profiles: dict[str, ProfileTable] = Field({}, description="What to run, by a name of your own.")
    clients: dict[str, ClientTable] = Field({}, description="Torrent clients, by a name of your own.")


_MODELS: dict[str, type[Table]] = {
    "tunnel": TunnelTable,
    "policy": PolicyTable,
    "lock": LockTable,
    "password": SecretTable,
}


_WORDS = {
    "string_type": "it is not text in quotes",
    "string_too_short": "it is empty",
    "int_type": "it is not a whole number",
    "bool_type": "it is neither true nor false",
    "list_type": 'it is not a list: [ "…", "…" ]',
    "greater_than_equal": "it is not a port: 1 to 65535",
    "less_than_equal": "it is not a port: 1 to 65535",
}
"""By pydantic's type of error; its own words are for programmers."""


def mistakes_of(error: ValidationError, positions: Positions) -> Iterator[Mistake]:
    """What pydantic found, in words, with positions and hints. Values are not repeated: one may be a secret."""
    for each in error.errors(include_url=False, include_input=False):
        key = each["loc"]
        where = positions.where(key)
        last = str(key[-1]) if key else ""
        match each["type"]:
            case "extra_forbidden":
                known = tuple(_model_of(key[:-1]).model_fields)
                yield Mistake(where, f'unknown key "{last}"', nearest(last, known))
            case "missing":
                yield Mistake(where, f'the key "{last}" is missing', _describe(key))
            case "literal_error":
                yield Mistake(where, f"it is not one of {each.get('ctx', {}).get('expected')}", "")
            case "model_type" | "dict_type" if last == "password":
                hint = '{ keyring = "…" }, { file = "…" }, { env = "…" } or { credential = "…" }'
                yield Mistake(where, "a password is not written here, only where it is", hint)
            case "model_type" | "dict_type":
                yield Mistake(where, "it is not a table", _describe(key))
            case kind:
                yield Mistake(where, _WORDS.get(kind, each["msg"].lower()), _describe(key))


def mended(raw: Mapping[str, Any]) -> tuple[Root | None, frozenset[Key]]:
    """A file with what is wrong in it left out or filled up, so that the rest can be looked at too; and what that was.

    None instead of the first if there is nothing left to look at.
    """
    copy = deepcopy(dict(raw))
    broken: set[Key] = set()
    for _ in range(_DEEPEST):
        try:
            return Root.model_validate(copy), frozenset(broken)
        except ValidationError as error:
            for each in error.errors(include_url=False, include_input=False):
                key = next(
                    (each["loc"][:n] for n, part in enumerate(each["loc"]) if isinstance(part, int)), each["loc"]
                )
                broken.add(key)
                _mend(copy, key, each["type"])
    return None, frozenset(broken)


_DEEPEST = 6
"""Levels of tables in a file: filling one up may show what is missing in the next."""


def _mend(table: dict[str, Any], key: Key, kind: str) -> None:
    for part in key[:-1]:
        if not isinstance(table, dict) or part not in table:
            return
        table = table[str(part)]
    if not (key and isinstance(table, dict)):
        return
    last = str(key[-1])
    field = _model_of(key[:-1]).model_fields.get(last)
    table.pop(last, None)
    if kind in {"model_type", "dict_type"} or (field is not None and last == "tunnel"):
        table[last] = {}
    elif field is not None and field.is_required():
        table[last] = "?"


def _model_of(key: Key) -> type[Table]:
    """The model of the table at a key."""
    match key:
        case ():
            return Root
        case ("profiles", _):
            return ProfileTable
        case ("clients", _):
            return ClientTable
        case ("profiles", _, "forwards", _):
            return ForwardTable
        case (*_, str(last)) if last in _MODELS:
            return _MODELS[last]
        case _:
            return Table


def _describe(key: Key) -> str:
    """A field's description, as a hint."""
    while key and isinstance(key[-1], int):
        key = key[:-1]
    found = _model_of(key[:-1]).model_fields.get(str(key[-1])) if key else None
    return (found.description or "").rstrip(".") if found else ""
