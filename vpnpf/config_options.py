"""A provider's own options: each by itself, and all of them with the forwards, as its manifest has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vpnpf import plugins
from vpnpf.config_policy import Wrong
from vpnpf.config_schema import Key
from vpnpf.interfaces import Manifest, Objection, Option
from vpnpf.model import ForwardSpec

_TYPES = {str: "text in quotes", int: "a whole number", bool: "true or false", list: "a list in [ ]"}
_LOGIN = {"account", "user", "username", "password"}
"""What people write where a login does not belong."""


def check_options(
    wrong: Wrong, at: Key, manifest: Manifest, given: Mapping[str, object], forwards: tuple[ForwardSpec, ...]
) -> None:
    """Say what is wrong with the options of the profile at `at`, and with its forwards as the provider sees them."""
    right = _right(wrong, (*at, "options"), manifest, given)
    if all(option.name in right for option in manifest.options if option.required):
        for objection in _objections(manifest, right, forwards):
            wrong((*at, *objection.key), objection.what, objection.hint)


def _right(wrong: Wrong, at: Key, manifest: Manifest, given: Mapping[str, object]) -> dict[str, object]:
    """The options that are right by themselves; what is wrong with the others is said."""
    options = {option.name: option for option in manifest.options}
    right = {}
    for key, value in given.items():
        option = options.get(key)
        if option is None:
            hint = plugins.nearest(key, tuple(options)) if options else f"{manifest.id} has no options"
            if manifest.account and key in _LOGIN:
                hint = f"remove it; `vpnpf login {manifest.id}` asks for the account"
            wrong((*at, key), f'unknown option "{key}"', hint)
            continue
        found = tuple(_wrong_in(option, value))
        for below, what in found:
            wrong((*at, key, *below), what, option.help)
        if not found:
            right[key] = value
    for option in manifest.options:
        if option.required and option.name not in given:
            hint = f"{option.help}. {manifest.help}".rstrip(". ")
            wrong((*at, option.name), f'the option "{option.name}" is missing', hint)
    return right


def _wrong_in(option: Option, value: object) -> Iterator[tuple[Key, str]]:
    """What is wrong with the value of an option, and where in it."""
    if type(value) is not option.type:
        yield (), f"not {_TYPES.get(option.type, option.type.__name__)}"
        return
    places = [((place,), item) for place, item in enumerate(value)] if isinstance(value, list) else [((), value)]
    for place, item in places:
        if what := _checked(option, item):
            yield place, what


def _checked(option: Option, value: object) -> str:
    try:
        return option.check(value)
    except Exception as error:  # noqa: BLE001 - a plug-in's own code, given whatever somebody wrote
        return f"its plug-in could not check it ({type(error).__name__})"


def _objections(
    manifest: Manifest, options: Mapping[str, object], forwards: tuple[ForwardSpec, ...]
) -> tuple[Objection, ...]:
    try:
        return tuple(manifest.check(options, forwards))
    except Exception as error:  # noqa: BLE001 - likewise
        return (Objection(("options",), f"its plug-in could not check them ({type(error).__name__})"),)
