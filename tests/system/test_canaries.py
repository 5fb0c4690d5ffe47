"""No secret in anything that a run shows or leaves behind: twelve of them, through whole runs, a crash and an abort."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from mock_provider.openvpn import PASSWORD, USERNAME
from mock_provider.panel import register
from mock_provider.product import unique_profile
from mock_provider.provider import MockProvider
from mock_provider.qbittorrent import QBittorrent
from tests.system import canaries
from tests.system.canary_run import Run, write_secret

pytestmark = pytest.mark.system

ACCOUNT = {
    "account user name": "canary-user-7c1e88",
    "account password": 'canary "pass+word/ 4d22b1 \u00e9',
    "account token": "canary-token-93ab07d2c4",
    "lease payload": "canary/payload+5e70c1==",
    "lease signature": "canary/signature+61b9f0==",
}
PLUGIN = f"""
import json
from msgspec.structs import replace
from mock_provider.mock_vpn import MockVpn

class Canary(MockVpn):
    manifest = replace(MockVpn.manifest, id="canary", account=True)
    crashed = False

    async def acquire(self, io, tunnel, request):
        credentials = await io.credentials()
        io.store.save("token", {{"token": {ACCOUNT["account token"]!r}}})
        if not Canary.crashed:
            Canary.crashed = True
            raise RuntimeError("canary: nobody expected this")
        lease = await super().acquire(io, tunnel, request)
        token = {{"payload": {ACCOUNT["lease payload"]!r}, "signature": {ACCOUNT["lease signature"]!r}}}
        return replace(lease, token=json.dumps(token))
"""
CONFIG = """\
[profiles.{profile}]
provider = "canary"
account = {{ file = "account" }}
options = {{ token = "{token}" }}
tunnel = {{ type = "wireguard", config = "proton.conf" }}
[profiles.{profile}.forwards.torrent]
client = "qb"
[clients.qb]
type = "qbittorrent"
url = "{url}"
username = "{username}"
password = {{ file = "qb.password" }}
"""
OPENVPN = """\
[profiles.{profile}]
provider = "gateway"
[profiles.{profile}.tunnel]
type = "openvpn"
config = "server.ovpn"
username = "{username}"
password = {{ file = "password" }}
[profiles.{profile}.forwards.game]
internal_port = 25565
"""


def ready(state):
    return state["phase"] == "ready"


@contextlib.asynccontextmanager
async def sessions(host, port, directory):
    """The session ids that go over loopback to a port: a set that is filled until the end."""
    seen: set[str] = set()
    capture = directory / "loopback"
    command = ("tcpdump", "-i", "lo", "-s", "0", "-U", "-Z", "root", "-w", str(capture), "tcp", "port", str(port))
    child = await host.popen(command)
    assert child.stderr is not None
    assert b"listening" in await child.stderr.readline()
    try:
        yield seen, child.pid
    finally:
        child.send_signal(signal.SIGINT)
        await child.communicate()
        seen |= {each.decode() for each in re.findall(rb"SID[\w]*=([^;\s]{16,})", capture.read_bytes())}


async def test_a_run_over_wireguard_with_an_account_a_crash_and_an_abort(tmp_path):
    files, product_directory = tmp_path / "etc", tmp_path / "product"
    files.mkdir()
    product_directory.mkdir()
    profile = unique_profile()
    async with (
        MockProvider(panel=True) as provider,
        QBittorrent(provider.lab.client, tmp_path / "qbittorrent") as client,
    ):
        provider.gateway.lifetime = 4
        host, server = provider.lab.client, provider.server
        shared = (await host.must(("wg", "genpsk"))).strip()
        peer = ("peer", provider.customer.public_key, "preshared-key", "/dev/stdin")
        await server.host.must(("wg", "set", server.interface, *peer), stdin=shared)
        path = provider.client_config(files / "proton.conf")
        path.write_text(path.read_text().replace("[Peer]", f"[Peer]\nPresharedKey = {shared}"))
        write_secret(files / "account", f"{ACCOUNT['account user name']}\n{ACCOUNT['account password']}")
        write_secret(files / "qb.password", client.password)
        config = files / "config.toml"
        token = provider.panel.token
        config.write_text(CONFIG.format(profile=profile, token=token, url=client.url, username=client.username))
        run = Run(host, product_directory, config, profile, register(product_directory / "plugin"))
        register_canary(product_directory / "plugin")
        port = int(client.url.rpartition(":")[2])
        others = host.processes
        async with sessions(host, port, tmp_path) as (seen, tcpdump):
            async with run.run() as product:
                await product.until(lambda state: ready(state) and proven(state))
                await run.ask(*others, tcpdump)
                run.crash.touch()
                assert await run.over(product) != 0
            run.crash.unlink()
            async with run.run() as product:
                await product.until(ready)
                product.signal(signal.SIGABRT)
                assert await run.over(product) == -signal.SIGABRT
        assert seen
        secrets = {
            **ACCOUNT,
            "panel token": token,
            "private key": provider.customer.private_key,
            "preshared key": shared,
            "client's password": client.password,
            **{f"session {number}": each for number, each in enumerate(seen)},
        }
        crash = run.shown["standard error 1"]
        assert b"Traceback" in crash
        assert b"canary crash" in crash
        for alive in (b"Lease(", b"ClientOptions(", b"TunnelOptions(", b"Workers("):
            assert alive in crash, alive
        assert b"canary: nobody expected this" in run.shown["events 1"]
        # The programs that got keys and passwords were seen.
        assert b"setconf" in run.shown["programs begun 1"]
        # The control: what is no secret is found in all these places.
        shown = {hit.rpartition(", in ")[2] for hit in run.hits({"no secret": profile})}
        assert {"events 1", "events 2", "programs begun 1", "report", "status", "status as JSON", "policy"} <= shown
        assert {"standard error 1", "exposure", "check-config"} <= shown
        assert any(where.endswith("/cmdline") for where in shown)
        assert any(f"status-{profile}.json" in where for where in shown)
        assert run.kept(secrets) == {"account token", "lease payload", "lease signature"}
        assert canaries.open_to_others(product_directory / "state" / "secrets") == []
        assert run.hits(secrets) == []


def proven(state):
    """Whether everything but a peer was seen."""
    proofs = state["forwards"][0]["proofs"]
    return all(proofs[name]["ok"] for name in ("tunnel", "lease", "firewall", "client", "listening"))


def register_canary(directory):
    info = directory / "canary-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: canary\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vpnpf.providers]\ncanary = canary_plugin:Canary\n")
    (directory / "canary_plugin.py").write_text(PLUGIN)


async def test_a_run_over_openvpn_with_pcp(tmp_path):
    files, product_directory = tmp_path / "etc", tmp_path / "product"
    files.mkdir()
    product_directory.mkdir()
    profile = unique_profile()
    async with MockProvider(tunnel="openvpn") as provider:
        provider.gateway.machine.speaks = "both"
        host = provider.lab.client
        provider.client_config(files / "server.ovpn")
        write_secret(files / "password", PASSWORD)
        block = (files / "server.ovpn").read_text().partition("<tls-crypt>")[2].partition("</tls-crypt>")[0]
        config = files / "config.toml"
        config.write_text(OPENVPN.format(profile=profile, username=USERNAME))
        run = Run(host, product_directory, config, profile, {})
        async with run.run() as product:
            await product.until(lambda state: state["forwards"][0]["external_port"] is not None)
            await run.ask()
            run.crash.touch()
            assert await run.over(product) != 0
        kept = b"".join(path.read_bytes() for path in (product_directory / "state/secrets").iterdir()).decode()
        nonce = re.search(r"nonce\W+([0-9a-f]{24})", kept)
        assert nonce, kept
        secrets = {"OpenVPN password": PASSWORD, "PCP nonce": nonce[1], "static key": block.split("\n")[5]}
        assert b"canary crash" in run.shown["standard error 1"]
        assert b"openvpn" in run.shown["programs begun 1"]
        assert run.kept(secrets) == {"PCP nonce"}
        assert run.hits(secrets) == []


# -- controls: what is planted is found -----------------------------------------------------------


SECRET = 'canary "pass+word/ 4d22b1 \u00e9'
LEAKS = {
    "as it is": lambda text: text.encode(),
    "JSON": lambda text: json.dumps({"message": text}).encode(),
    "repr": lambda text: repr([text]).encode(),
    "a URL": lambda text: f"https://x/?p={quote(text)}".encode(),
    "a form": lambda text: urlencode({"password": text}).encode(),
    "hex": lambda text: text.encode().hex().encode(),
    **{
        f"basic authorization, {user}": lambda text, user=user: base64.b64encode(f"{user}:{text}".encode())
        for user in ("a", "ab", "abc")
    },
    **{
        f"base64 in a longer text, {after}": lambda text, after=after: base64.urlsafe_b64encode(
            f"{{{text}{after}".encode()
        )
        for after in ("", "}", "}}", "}}}")
    },
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_a_planted_leak_is_found(tmp_path, leak):
    assert canaries.in_files([tmp_path], {"it": SECRET}) == []
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "file").write_bytes(b"before" + leak(SECRET) + b"after")
    assert canaries.in_files([tmp_path], {"it": SECRET})
    assert canaries.in_files([tmp_path], {"it": SECRET}, but=[tmp_path / "state"]) == []
    assert canaries.in_files([tmp_path], {"it": "another secret"}) == []


@pytest.mark.parametrize("script", ['"$0" "$1"', 'LEAK="$1" "$0"'])
def test_a_leak_by_arguments_or_environment_is_found(tmp_path, script):
    trace = tmp_path / "trace"
    # The shell of the control has it in its own arguments: only what it begins counts.
    inner = ("sh", "-c", f"cat >/dev/null; {script}", "/bin/true")
    subprocess.run([*canaries.traced(trace), *inner], input=b"", check=True)
    assert canaries.found("", canaries.begun(trace), {"it": SECRET}) == []
    subprocess.run([*canaries.traced(trace), *inner, SECRET], input=b"", check=True)
    lines = [line for line in canaries.begun(trace).split(b"\n") if b"/bin/true" in line and b"sh\0" not in line]
    assert canaries.found("", lines[-1], {"it": SECRET})


def test_a_core_file_would_be_found(tmp_path):
    """The machine writes them into the working directory, and a process like ours, without the limit, leaves one."""
    assert not Path("/proc/sys/kernel/core_pattern").read_text().startswith("|")
    code = f"import os; secret = {SECRET!r}; os.abort()"
    subprocess.run(["prlimit", "--core=unlimited", sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert canaries.in_files([tmp_path], {"it": SECRET})
    limited = "import resource; from vpnpf.io.privileges import no_core; no_core(); "
    other = tmp_path / "other"
    other.mkdir()
    command = ["prlimit", "--core=unlimited", sys.executable, "-c", limited + code]
    subprocess.run(command, cwd=other, check=False)
    assert list(other.iterdir()) == []
