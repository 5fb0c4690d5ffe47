"""`vpnpf policy` against a run: what it says becomes so, for real packets, and what it refuses changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from asyncio.subprocess import PIPE

import pytest

from mock_provider.product import Product, unique_profile
from mock_provider.topology import EXIT

pytestmark = pytest.mark.system

SSH = 22
"""A port that something listens on, and nobody forwarded but the server, for everybody (a DMZ host)."""


@pytest.fixture
def profile():
    return unique_profile()


@pytest.fixture
def config(provider, profile, tmp_path):
    provider.client_config(tmp_path / "proton.conf")
    path = tmp_path / "config.toml"
    path.write_text(f"""
[profiles.{profile}]
provider = "protonvpn"
tunnel = {{ type = "wireguard", config = "proton.conf" }}
policy = {{ mode = "allow-list", allow = ["forwarded"] }}
forwards.web = {{ protocols = ["tcp"], internal_port = 8080 }}
""")
    return path


class Cli:
    """`vpnpf policy` beside a run, in its directories."""

    def __init__(self, product, config, profile):
        self.product, self.config, self.profile = product, config, profile

    async def __call__(self, verb, *arguments, wrap=()):
        """Returns (status, stdout, stderr)."""
        directory = self.product.directory
        env = {
            **os.environ,
            "STATE_DIRECTORY": str(directory / "state"),
            "RUNTIME_DIRECTORY": str(directory / "runtime"),
            "HOME": str(directory),
        }
        argv = (*wrap, sys.executable, "-m", "vpnpf", "policy", verb, self.profile, *arguments)
        config = ("--config", str(self.config))
        process = await asyncio.create_subprocess_exec(*argv, *config, stdout=PIPE, stderr=PIPE, env=env)
        out, err = await process.communicate()
        assert b"Traceback" not in err
        return process.returncode, out.decode(), err.decode()

    async def good(self, verb, *arguments):
        status, out, err = await self(verb, *arguments)
        assert status == 0, err
        return out

    async def shown(self):
        return json.loads(await self.good("show", "--json"))


def ready(state):
    return state["phase"] == "ready"


async def test_show(provider, profile, config, tmp_path):
    with provider.lab.client.socket() as web:
        web.bind(("0.0.0.0", 8080))
        web.listen()
        async with Product(provider.lab.client, tmp_path, config, profile) as product:
            await product.until(ready)
            cli = Cli(product, config, profile)
            print(await cli.good("show"))
            print(await cli("set", "block-all"))
            print(await cli.good("show"))
            print(await cli("plan", "allow-list", "forwarded", "22/tcp for 2h", "ssh/tcp from 203.0.113.0/24"))
            print(await cli("plan", "allow-list", "forwarded", "22/tcp for 2h", "minecraft"))
            print(await cli("set", "allow-list", "forwarded", "22/tcp for 2h", "minecraft"))
            print(await cli.good("show"))
            print(await cli.good("show", "--json"))
            print(await cli("explain", "22/tcp"))
            print(await cli("reset"))
            print(await cli.good("show"))
            print(os.listdir(tmp_path / "runtime"), os.listdir(tmp_path / "state"))
            print(product.talk)
            assert await product.stop() == 0
        print(os.listdir(tmp_path / "runtime"), os.listdir(tmp_path / "state"))
