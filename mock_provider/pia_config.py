"""What a person writes to use PIA, for the mock: config.toml, the account's file, and the certificates to trust."""

from __future__ import annotations

import json
from pathlib import Path

from mock_provider.pia import REGION, MockPia
from mock_provider.pia_pki import web_authority

ACCOUNT = "pia.account"
CONFIG = """\
[profiles.{profile}]
provider = "{provider}"
account = {{ file = "{account}" }}
[profiles.{profile}.options]
{options}
[profiles.{profile}.tunnel]
type = "{type}"
{forwards}"""
GAME = """\
[profiles.{profile}.forwards.game]
internal_port = 25565
"""
"""A port without a torrent client, with a program behind it that waits on a port of its own."""


def write_account(directory: Path, username: str, password: str) -> Path:
    """Write the account's file, readable by its owner alone; returns its path."""
    path = directory / ACCOUNT
    path.touch(mode=0o600)
    path.write_text(f"{username}\n{password}\n")
    return path


def write_config(
    directory: Path,
    pia: MockPia,
    profile: str,
    *,
    provider: str = "pia",
    forwards: str = GAME,
    password: str = "",
    **options: str,
) -> Path:
    """Write config.toml and the account's file into a directory; returns the path of the first.

    `forwards` is the rest of the file, with {profile} in it; `options` are the provider's, by default the main region.
    """
    write_account(directory, pia.account.username, password or pia.account.password)
    kind, _, transport = pia.tunnel.partition("-")
    chosen = {"region": REGION, "ca": pia.ca, "list_key": pia.list_key}
    chosen |= {"transport": transport} if transport else {}
    lines = [f"{name} = {json.dumps(value)}" for name, value in (chosen | options).items()]
    config = directory / "config.toml"
    config.write_text(
        CONFIG.format(
            profile=profile,
            provider=provider,
            account=ACCOUNT,
            options="\n".join(lines),
            type=kind,
            forwards=forwards.format(profile=profile),
        )
    )
    return config


def environment(directory: Path) -> dict[str, str]:
    """The environment of a run that is to trust the mock's sites on the web, and no others."""
    return {"SSL_CERT_FILE": str(web_authority().write(directory / "web-ca.pem"))}
