"""The provider `pia` keeps the contract of providers, over a model of PIA's service."""

from __future__ import annotations

from tests.contract.pia_world import PiaWorld, list_key, options
from tests.contract.providers import ProviderContract
from vpnpf_providers.pia import PrivateInternetAccess
from vpnpf_providers.pia_authority import AUTHORITY, LIST_KEY


class TestPia(ProviderContract):
    plugin = PrivateInternetAccess
    world_type = PiaWorld
    lifetime = 900
    options = options()
    good_options = (
        ("region", "auto"),
        ("region", "nl_amsterdam, DE Berlin"),
        ("transport", "tcp"),
        ("ca", AUTHORITY),
        ("list_key", LIST_KEY),
        ("list_key", list_key()),
    )
    wrong_options = (
        ("region", 7),
        ("region", "nl_amsterdam,,"),
        ("transport", "sctp"),
        ("ca", "/etc/ssl/certs/ca.pem"),
        ("list_key", "MIIB"),
        ("list_key", AUTHORITY),
    )
    # A port is bound for both protocols, whatever is asked, and nothing unbinds it.
    exact = False
    releases = False
    exit_address = None
    patience = 30.0
    silence_hint = "tunnel"
