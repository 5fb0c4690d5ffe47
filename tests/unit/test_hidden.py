"""No value shows a secret when it is printed: every Struct and dataclass with a field that sounds like one is looked at."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator

import msgspec
import pytest

import vpnpf
import vpnpf_providers
from vpnpf.hidden import without
from vpnpf.interfaces import HttpResponse
from vpnpf.io.process import Completed
from vpnpf.model import BOTH, Lease
from vpnpf.protocol.openvpn_lexer import Block

CANARY = "canary-5d1f"
SECRET = re.compile(
    r"password|passwd|token|private|preshared|psk|secret|nonce|cookie|credential|signature|payload|authorization"
)
SHOWN = {
    # Where a secret is, or a function that reads it.
    ("vpnpf.settings", "ClientSettings", "password"),
    ("vpnpf.settings", "TunnelSettings", "password"),
    ("vpnpf.interfaces.client", "ClientOptions", "password"),
    ("vpnpf.interfaces.tunnel", "TunnelOptions", "password"),
    ("vpnpf.config_schema", "TunnelTable", "password"),
    ("vpnpf.config_schema", "ClientTable", "password"),
    ("vpnpf.config_schema", "SecretTable", "credential"),
    # Whether one is needed.
    ("vpnpf.protocol.openvpn_config", "OpenVpnConfig", "needs_password"),
}
"""Fields that sound like a secret and are none."""
ALSO = {
    ("vpnpf.interfaces.account", "Configuration"): {"text"},
    ("vpnpf.interfaces.account", "Credentials"): {"username"},
    ("vpnpf.interfaces.http", "HttpResponse"): {"body", "headers"},
    ("vpnpf.io.process", "Completed"): {"stdout", "stderr"},
    ("vpnpf.protocol.openvpn_config", "OpenVpnConfig"): {"inline"},
    ("vpnpf.protocol.openvpn_lexer", "Block"): {"lines"},
    ("vpnpf.settings", "ProfileSettings"): {"options"},
    ("vpnpf.setup.answers", "Answers"): {"options"},
    ("vpnpf.config_schema", "ProfileTable"): {"options"},
}
"""Fields that do not sound like one and may be."""


def classes() -> Iterator[type]:
    for package in (vpnpf, vpnpf_providers):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for each in vars(module).values():
                if isinstance(each, type) and each.__module__ == module.__name__ and names(each):
                    yield each


def names(each: type) -> tuple[str, ...]:
    """The fields of a class of values; none if it is another kind of class."""
    if issubclass(each, msgspec.Struct):
        return each.__struct_fields__
    if dataclasses.is_dataclass(each):
        return tuple(field.name for field in dataclasses.fields(each))
    return getattr(each, "_fields", ()) if issubclass(each, tuple) else ()


def secret(each: type) -> set[str]:
    here = (each.__module__, each.__name__)
    sounding = {name for name in names(each) if SECRET.search(name.lower()) and (*here, name) not in SHOWN}
    return sounding | ALSO.get(here, set())


def printed(each: type) -> str:
    """What a value of the class prints, whose secret fields are canaries; its checks of values are passed by."""
    hidden = secret(each)
    values: dict[str, object] = {name: CANARY if name in hidden else f"{name}'s value" for name in names(each)}
    if "inline" in hidden:
        values["inline"] = (("key", CANARY),)
    if issubclass(each, msgspec.Struct):
        unchecked = {"__post_init__": lambda _self: None}
        frozen = each.__struct_config__.frozen
        return repr(msgspec.defstruct("Printed", [], bases=(each,), namespace=unchecked, frozen=frozen)(**values))
    return repr(each(**values))


WITH_SECRETS = [each for each in classes() if secret(each)]


def test_they_are_found():
    found = {each.__name__ for each in WITH_SECRETS}
    assert {"Lease", "Credentials", "WireGuardConfig", "Login", "MapRequest"} <= found
    known = {(each.__module__, each.__name__) for each in classes()}
    assert {place[:2] for place in SHOWN} | set(ALSO) <= known


@pytest.mark.parametrize("each", WITH_SECRETS, ids=lambda each: f"{each.__module__}.{each.__name__}")
def test_none_of_them_prints_it(each):
    assert CANARY not in printed(each)


def test_the_control():
    class Open(msgspec.Struct):
        token: str

    assert CANARY in printed(Open)


def test_the_rest_is_shown():
    lease = Lease(40000, 40001, BOTH, 1.0, 60.0, token=CANARY)
    assert "external_port=40000" in repr(lease)
    assert "token=..." in repr(lease)
    assert "status=200" in repr(HttpResponse(200, {"set-cookie": CANARY}, CANARY.encode(), {"SID": CANARY}))
    assert CANARY not in repr([Completed(0, CANARY, CANARY), Block("key", ((1, CANARY),)), {"x": lease}])
    assert without(lease, "token") == repr(lease)
