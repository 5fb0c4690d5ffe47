"""No secret in anything that a run shows or leaves behind: twelve of them, through whole runs, a crash and an abort."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from mock_provider.openvpn import PASSWORD, USERNAME
from mock_provider.panel import register
from mock_provider.product import Product, unique_profile
from mock_provider.provider import MockProvider
from mock_provider.qbittorrent import QBittorrent
from tests.system import canaries
from vpnpf.control.place import name_of

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


def write_secret(path, text):
    path.touch(mode=0o600)
    path.write_text(text + "\n")


def ready(state):
    return state["phase"] == "ready"


class Run:
    """Runs of one profile, with all that they show gathered."""

    def __init__(self, host, directory, config, profile, env):
        self.host, self.directory, self.config, self.profile = host, directory, config, profile
        self.shown: dict[str, bytes] = {}
        """By where it was seen."""
        self.crash = directory / "crash"
        (directory / "plugin").mkdir(parents=True, exist_ok=True)
        (directory / "plugin" / "sitecustomize.py").write_text(canaries.CRASH)
        path = f"{directory / 'plugin'}:{env.get('PYTHONPATH', '')}".rstrip(":")
        self.env = {**env, "PYTHONPATH": path, "VPNPF_DEBUG": "1", "CANARY_CRASH": str(self.crash)}
        self._runs = 0

    @contextlib.asynccontextmanager
    async def run(self):
        self._runs += 1
        trace = self.directory / "trace"
        # Cores as large as they like, in a directory of their own.
        wrap = ("env", f"--chdir={self.cores}", "prlimit", "--core=unlimited:unlimited", *canaries.traced(trace))
        arguments = ("--events", "--verbose")
        async with Product(
            self.host, self.directory, self.config, self.profile, env=self.env, wrap=wrap, arguments=arguments
        ) as product:
            try:
                yield product
            finally:
                product.signal(signal.SIGKILL)
                await self.over(product)
        self.shown[f"standard error {self._runs}"] = product.talk.encode()
        events = "\n".join(json.dumps(event, ensure_ascii=False) for event in product.events)
        self.shown[f"events {self._runs}"] = events.encode()
        self.shown[f"programs begun {self._runs}"] = canaries.begun(trace)
        trace.unlink()

    async def over(self, product):
        """Wait for its end; returns its status."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(product.pid)
            try:
                await asyncio.to_thread(select.select, [handle], [], [], 20)
            finally:
                os.close(handle)
        # wireguard-go outlives it, and so does strace, which holds the pipes that are read to their ends.
        for where, data in canaries.of_processes(self.host.processes).items():
            if where.endswith("cmdline") and data.startswith(b"strace\0"):
                os.kill(int(where.split("/")[2]), signal.SIGTERM)
        return await product.ended()

    @property
    def cores(self):
        directory = self.directory / "cores"
        directory.mkdir(exist_ok=True)
        return directory

    async def ask(self, *others):
        """All that can be asked of a run, and what its processes show; `others` are processes of somebody else."""
        vpnpf = (sys.executable, "-m", "vpnpf")
        about = (self.profile, "--config", str(self.config))
        directories = {f"{name}_DIRECTORY": str(self.directory / name.lower()) for name in ("STATE", "RUNTIME")}
        env = {**self.env, **directories, "HOME": str(self.directory), "CANARY_CRASH": ""}
        commands = {
            "report": ("report", *about),
            "status": ("status", self.profile),
            "status as JSON": ("status", self.profile, "--json"),
            "policy": ("policy", "show", self.profile),
            "exposure": ("exposure", *about),
            "check-config": ("check-config", "--config", str(self.config)),
        }
        runs = [self.host.run((*vpnpf, *argv), env=env, deadline=30) for argv in commands.values()]
        for name, done in zip(commands, await asyncio.gather(*runs), strict=True):
            assert "Traceback" not in done.stderr
            self.shown[name] = f"{done.stdout}\n{done.stderr}".encode()
            assert done.stdout, (name, done.stderr)
        place = self.directory / "runtime" / name_of(self.profile)
        for line in (b"{}\n", b"nonsense\n", b'{"version": 1, "verb": "state", "arguments": {}}\n'):
            reader, writer = await asyncio.open_unix_connection(str(place))
            writer.write(line)
            self.shown[f"the control socket's answer to {line!r}"] = await reader.read()
            writer.close()
        self.shown |= canaries.of_processes(set(self.host.processes) - set(others))

    def hits(self, secrets):
        """Where any of them is that it should not be."""
        hits = [hit for where, data in self.shown.items() for hit in canaries.found(where, data, secrets)]
        state, runtime = self.directory / "state", self.directory / "runtime"
        return hits + canaries.in_files((state, runtime, self.cores), secrets, but=[state / "secrets"])

    def kept(self, secrets):
        """The names of those that are among the secrets on disk; they have to be there to be found anywhere."""
        text = b"".join(path.read_bytes() for path in (self.directory / "state" / "secrets").iterdir())
        return {name for name, secret in secrets.items() if canaries.found("", text, {name: secret})}


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
    subprocess.run(["prlimit", "--core=unlimited:unlimited", sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert canaries.in_files([tmp_path], {"it": SECRET})
    limited = "import resource; from vpnpf.io.privileges import no_core; no_core(); "
    other = tmp_path / "other"
    other.mkdir()
    command = ["prlimit", "--core=unlimited:unlimited", sys.executable, "-c", limited + code]
    subprocess.run(command, cwd=other, check=False)
    assert list(other.iterdir()) == []
