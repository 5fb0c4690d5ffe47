"""No secret of Private Internet Access in anything that is shown or left behind, from the login to the logout."""

from __future__ import annotations

import base64
import json
import signal
import sys

import pytest

from mock_provider.pia import MockPia
from mock_provider.pia_config import environment, write_config
from mock_provider.product import unique_profile
from mock_provider.transmission import Transmission
from tests.system import canaries
from tests.system.canary_run import Run, write_secret

pytestmark = pytest.mark.system


TORRENT = """\
[profiles.{profile}.forwards.torrent]
client = "tr"
[clients.tr]
type = "transmission"
url = "URL"
username = "admin"
password = {{ file = "client.password" }}
"""


def ready(state):
    return state["phase"] == "ready"


async def command(run, *arguments, stdin=""):
    """vpnpf beside the run, with the same directories; what it said is gathered."""
    directories = {f"{name}_DIRECTORY": str(run.directory / name.lower()) for name in ("STATE", "RUNTIME")}
    trace = run.directory / "trace"
    argv = (*canaries.traced(trace), sys.executable, "-m", "vpnpf", *arguments, "--config", str(run.config))
    env = {**run.env, **directories, "HOME": str(run.directory), "CANARY_CRASH": ""}
    done = await run.host.run(argv, stdin=stdin, env=env, deadline=30)
    run.shown[f"vpnpf {arguments[0]}"] = f"{done.stdout}\n{done.stderr}".encode()
    run.shown[f"programs begun by {arguments[0]}"] = canaries.begun(trace)
    trace.unlink()
    assert done.status == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("tunnel", ["wireguard", "openvpn"])
async def test_from_login_to_logout(tmp_path, tunnel):
    files, directory = tmp_path / "etc", tmp_path / "product"
    files.mkdir()
    directory.mkdir()
    profile = unique_profile()
    async with MockPia(tunnel=tunnel) as pia, Transmission(pia.lab.client, tmp_path / "transmission") as client:
        config = write_config(files, pia, profile, forwards=TORRENT.replace("URL", client.url))
        write_secret(files / "client.password", client.password)
        config.write_text(config.read_text().replace('account = { file = "pia.account" }\n', ""))
        (files / "pia.account").unlink()
        others = pia.lab.client.processes
        run = Run(pia.lab.client, directory, config, profile, environment(files))
        login = ("login", "pia", "--stdin", "--store", "file")
        typed = f"{pia.account.username}\n{pia.account.password}\n"
        assert "logged in" in await command(run, *login, stdin=typed)
        async with run.run() as product:
            await product.until(ready)
            interface = product.state["tunnel"]["interface"]
            keys = {}
            if tunnel == "wireguard":
                keys["registered key"] = (await run.host.must(("wg", "show", interface, "private-key"))).strip()
            await run.ask(*others)
            run.crash.touch()
            assert await run.over(product) != 0
        run.crash.unlink()
        async with run.run() as product:
            await product.until(ready)
            product.signal(signal.SIGABRT)
            assert await run.over(product) == -signal.SIGABRT
        # The login was good for both runs: none was made by them.
        (token,) = pia.account.tokens
        (forwards,) = json.loads((directory / f"state/secrets/leases-{profile}.json").read_text())["leases"].values()
        lease = json.loads(forwards["torrent"]["token"])
        secrets = {
            "user name": pia.account.username,
            "password": pia.account.password,
            "token": token,
            # As OpenVPN's user name and password have it.
            "beginning of the token": token[:40],
            "end of the token": token[-40:],
            "payload": lease["payload"],
            "signature": lease["signature"],
            "client's password": client.password,
            "client's authorization": base64.b64encode(f"{client.username}:{client.password}".encode()).decode(),
            **keys,
        }
        assert b"canary crash" in run.shown["standard error 1"]
        here = {"registered key", "client's password", "client's authorization"}
        assert set(secrets) - here <= run.kept(secrets)
        assert not run.kept(secrets) & (here - {"registered key"})
        assert canaries.open_to_others(directory / "state" / "secrets") == []
        assert "ended at the provider" in await command(run, "logout", "pia")
        assert run.hits(secrets) == []
        left = {path.name for path in (directory / "state" / "secrets").iterdir()}
        assert left == {f"leases-{profile}.json"}
