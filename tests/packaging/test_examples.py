"""The example plug-ins of the documents: built, installed, found, tested by their own tests, and asked for real; without a network.

And the documents themselves: what they show of Python and TOML is in the examples, or in the interfaces, word for word.
"""

import contextlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vpnpf import plugins
from vpnpf.api import ClientOptions, Credentials, ForwardSpec, ListenSettings, MappingRequest, Misconfigured
from vpnpf.io.clock import BootClock
from vpnpf.io.http import HttpClient
from vpnpf.io.udp import TunnelIO
from vpnpf.testing import FakeAccount, a_tunnel

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
TUNNEL_FILE = f"""\
[Interface]
PrivateKey = {KEY}
Address = 10.2.0.2/32
[Peer]
PublicKey = {KEY}
AllowedIPs = 0.0.0.0/0
Endpoint = 198.51.100.10:51820
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """By name: a directory that the example was built and installed into, from a copy of its own."""
    found = {}
    for name in NAMES:
        source, target = tmp_path_factory.mktemp("source") / name, tmp_path_factory.mktemp("target")
        shutil.copytree(EXAMPLES / name, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(source / "dist")]
        subprocess.run(build, cwd=source, check=True, capture_output=True)
        (wheel,) = (source / "dist").glob("*.whl")
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-index",
        ]
        subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, capture_output=True)
        found[name] = target
    return found


def run(target, *arguments, cwd):
    """Run Python with an installed example; returns what it printed. Fails with what it said."""
    env = {**os.environ, "PYTHONPATH": str(target), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "80"}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_is_one_of_each():
    assert NAMES == ["vpnpf-example-client", "vpnpf-example-provider"]


@pytest.mark.parametrize(
    ("name", "command", "id_"), [(NAMES[0], "clients", "gust"), (NAMES[1], "providers", "acme")], ids=NAMES
)
def test_vpnpf_finds_it(installed, tmp_path, name, command, id_):
    target = installed[name]
    assert {path.name for path in target.glob("*.py")} == {f"{name.replace('-', '_')}.py"}
    said = run(target, "-m", "vpnpf", command, cwd=tmp_path)
    assert re.search(rf"^{id_} +\S+.* a mock, not the real service$", said, re.MULTILINE)
    one = json.loads(run(target, "-m", "vpnpf", command, id_, "--json", cwd=tmp_path))
    assert one["id"] == id_
    assert one["help"]
    for file in ("acme.conf", "home.conf"):
        (tmp_path / file).write_text(TUNNEL_FILE)
    (tmp_path / "gust.password").touch(0o600)
    (tmp_path / "gust.password").write_text("correct-horse\n")
    shutil.copy(EXAMPLES / name / "config.toml", tmp_path)
    assert "config.toml: good" in run(target, "-m", "vpnpf", "check-config", "--config", "config.toml", cwd=tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_its_own_tests_pass_with_what_was_installed(installed, tmp_path, name):
    module = name.replace("-", "_")
    for file in ("pyproject.toml", f"test_{module}.py"):
        shutil.copy(EXAMPLES / name / file, tmp_path)
    said = run(installed[name], "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert re.search(r"\d+ passed", said)
    assert "skipped" not in said


def test_their_types_are_right(tmp_path):
    cache = ROOT / ".mypy_cache" / "examples"
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, "--cache-dir", str(cache)]
    modules = [str(EXAMPLES / name / f"{name.replace('-', '_')}.py") for name in NAMES]
    done = subprocess.run([*mypy, *modules], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_it_sees_nothing_of_vpnpf_but_the_plug_in_surface(name):
    module = name.replace("-", "_")
    assert set(
        re.findall(r"^(?:from|import) (vpnpf\S*)", (EXAMPLES / name / f"{module}.py").read_text(), re.MULTILINE)
    ) == {"vpnpf.api"}
    its_tests = set(
        re.findall(r"^(?:from|import) (vpnpf\S*)", (EXAMPLES / name / f"test_{module}.py").read_text(), re.MULTILINE)
    )
    assert its_tests == {"vpnpf.api", "vpnpf.testing", module}


# -- for real -------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(answer):
    """A server on loopback: `answer(method, path, headers, body)` gives (status, value). Yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, value = answer(self.command, self.path, self.headers, body)
            data = b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do  # noqa: N815 - the library's names

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def plugin(installed, monkeypatch):
    """Load an installed example as vpnpf does."""

    def load(name, group, id_):
        monkeypatch.syspath_prepend(str(installed[name]))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name.replace("-", "_"), raising=False)
        loaded = {"provider": plugins.provider, "client": plugins.client}[group](id_)
        assert sys.modules[loaded.__module__].__file__.startswith(str(installed[name]))
        return loaded

    return load


async def test_the_provider_gets_and_gives_back_a_port_over_the_real_io(plugin, monkeypatch):
    asked = []

    def answer(method, path, headers, body):
        asked.append((method, path))
        if path == "/v1/token":
            return (200, {"token": "t-1"}) if b"password=correct-horse" in body else (401, None)
        if headers["Authorization"] != "Bearer t-1":
            return 401, None
        return (
            (204, None) if method == "DELETE" else (200, {"port": 41877, "seconds": 3600, "address": "198.51.100.11"})
        )

    acme = plugin("vpnpf-example-provider", "provider", "acme")
    tunnel = a_tunnel("127.0.0.1", "127.0.0.1/8", interface="lo")
    account = FakeAccount()
    account.login = Credentials("ada", "correct-horse")
    io = TunnelIO(tunnel, BootClock(), account)
    with serving(answer) as port:
        monkeypatch.setattr(acme, "login_url", f"http://127.0.0.1:{port}/v1/token")
        monkeypatch.setattr(acme, "port_url", f"http://{{gateway}}:{port}/v1/port?device={{device}}")
        provider = acme({"device": "shed"})
        request = MappingRequest(ForwardSpec("torrent"))
        lease = await provider.acquire(io, tunnel, request)
        assert (lease.external_port, lease.lifetime, lease.exit_address) == (41877, 3600.0, "198.51.100.11")
        assert account.store.load("token") == {"token": "t-1"}
        await provider.acquire(io, tunnel, MappingRequest(request.spec, lease, renewal=True))
        await provider.release(io, tunnel, lease)
        account.store.forget("token")
        account.login = Credentials("ada", "wrong-horse")
        with pytest.raises(Misconfigured):
            await provider.acquire(io, tunnel, request)
    port_path = "/v1/port?device=shed"
    token = ("POST", "/v1/token")
    assert asked == [token, ("GET", port_path), ("GET", port_path), ("DELETE", port_path), token]


async def test_the_client_is_set_and_read_back_over_the_real_http(plugin):
    settings = {"port": 6881, "device": "", "random": True, "upnp": True}

    def answer(method, path, headers, body):
        if headers["Authorization"] != "Bearer correct-horse":
            return 401, None
        if method == "PUT":
            settings.update(json.loads(body))
        return 200, {"/api/version": {"name": "Gust", "version": "2.1"}, "/api/settings": settings}[path]

    gust = plugin("vpnpf-example-client", "client", "gust")
    wanted = ListenSettings(41877, "vpf-home")
    with serving(answer) as port:
        options = ClientOptions(f"http://127.0.0.1:{port}", password=lambda: "correct-horse")
        client = gust(HttpClient(), options)
        assert await client.probe() == "Gust 2.1"
        await client.set_listen(wanted)
        assert await client.get_listen() == wanted
    assert settings == {"port": 41877, "device": "vpf-home", "random": False, "upnp": False}


# -- the documents --------------------------------------------------------------------------------

DOCUMENTS = {"write-a-provider.md": NAMES[1], "write-a-client.md": NAMES[0]}
BLOCK = re.compile(r"(?:<!-- (\S+) -->\n)?```(\w*)\n(.*?)```", re.DOTALL)


def windows(text, length):
    """All runs of so many lines, without what they are indented by."""
    lines = text.splitlines()
    return (textwrap.dedent("\n".join(lines[first : first + length])).strip("\n") for first in range(len(lines)))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_document_shows_is_there_word_for_word(document):
    blocks = BLOCK.findall((ROOT / "docs" / document).read_text())
    assert sum(language == "python" for _, language, _ in blocks) >= 3
    for file, language, text in blocks:
        assert language in {"python", "toml", "sh"}, (
            f"a block of {language or 'no language'} cannot be held against anything"
        )
        if language == "sh":
            continue
        assert file, f"it does not say where this is from:\n{text}"
        shown = textwrap.dedent(text).strip("\n")
        assert shown in windows((ROOT / file).read_text(), shown.count("\n") + 1), f"{file} has no such lines:\n{shown}"


def test_the_control_a_block_that_drifted_is_noticed():
    text = (EXAMPLES / NAMES[1] / "config.toml").read_text()
    shown = 'provider = "acme"\ntunnel'
    assert shown.replace("tunnel", 'tunnel = { type = "wireguard", config = "acme.conf" }') in windows(text, 2)
    assert 'provider = "acne"' not in windows(text, 1)


@pytest.mark.parametrize(("document", "name"), DOCUMENTS.items())
def test_the_commands_of_a_document_are_those_that_were_run_here(document, name):
    text = (ROOT / "docs" / document).read_text()
    commands = [line for _, language, block in BLOCK.findall(text) if language == "sh" for line in block.splitlines()]
    module, what = name.replace("-", "_"), {NAMES[0]: "clients gust", NAMES[1]: "providers acme"}[name]
    assert [line.partition("  #")[0].rstrip() for line in commands] == [
        f"cp -r docs/examples/{name} my-plug-in && cd my-plug-in",
        "pip install --editable '.[test]'",
        "python -m pytest",
        f"python -m mypy --strict {module}.py",
        f"vpnpf {what}",
        "vpnpf check-config --config config.toml",
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_name_of_a_document_is_of_the_surface(document):
    """What is written as `vpnpf.api.X`, and every field of a manifest that is said to be one."""
    api = importlib.import_module("vpnpf.api")
    manifest = importlib.import_module("vpnpf.interfaces").Manifest
    text = (ROOT / "docs" / document).read_text()
    table = text.partition("## The manifest")[2].partition("\n## ")[0]
    fields = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    assert fields
    assert fields <= set(manifest.__struct_fields__)
    failures = set(
        re.findall(r"^\| `(\w+)` \|", text.partition("## What went wrong")[2].partition("\n## ")[0], re.MULTILINE)
    )
    assert failures >= {"Transient", "LeaseLost", "Misconfigured", "Unsupported"} - (
        {"LeaseLost"} if "client" in document else set()
    )
    assert all(hasattr(api, name) for name in failures)
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / "docs" / link).exists(), link
