"""The controls of the corpus: the programs that people give such files to do run them, and do write the files.

In network namespaces of their own, with nothing to connect to.
"""

from __future__ import annotations

import datetime as dt
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.malicious import corpus
from vpnpf.errors import ConfigError
from vpnpf.model import Endpoint
from vpnpf.protocol import openvpn_config

pytestmark = pytest.mark.system
PATIENCE = 20.0
PLUGIN = "openvpn/plugins/openvpn-plugin-down-root.so"
"""Of OpenVPN itself: runs its argument when the device goes down."""


@pytest.fixture(scope="module")
def good():
    """The corpus's good file with a real key, so that OpenVPN starts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return corpus.ovpn(certificate.public_bytes(pem).decode(), private.decode())


@pytest.fixture
def mark(tmp_path):
    """What the bad thing makes; MARK.sh and MARK.ovpn, which make it, are there."""
    made = tmp_path / "mark"
    script = made.with_suffix(".sh")
    script.write_text(f"#!/bin/sh\nexec /usr/bin/touch {made}\n")
    script.chmod(0o755)
    made.with_suffix(".ovpn").write_text(f"script-security 2\nup {script}\n")
    return made


def plugin():
    found = [path for root in ("/usr/lib", "/usr/lib64") for path in Path(root).glob(f"**/{PLUGIN}")]
    assert found, "OpenVPN's own plug-ins are missing"
    return found[0]


def holds(true, process):
    """Whether it becomes true before the program ends or the patience does."""
    until = time.monotonic() + PATIENCE
    while not true() and time.monotonic() < until:
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
        break
    return true()


def openvpn(file):
    """The program on a file, in namespaces of its own: without links, and with nothing left when it is killed."""
    command = ("unshare", "--net", "--pid", "--fork", "--kill-child", "openvpn", "--config", file)
    with said_in(file).open("w") as said:
        return subprocess.Popen(command, cwd=file.parent, stdout=said, stderr=said)


def said_in(file):
    """Where its output goes: no pipe, since a plug-in's own process would hold it open."""
    return file.with_suffix(".txt")


def ended(process):
    """Killed: OpenVPN forgets a SIGTERM that comes while it starts, and namespaces and device go with it."""
    process.kill()
    process.wait()


@pytest.mark.parametrize("name", {**corpus.RUNS, **corpus.WRITES})
def test_openvpn_runs_or_writes_what_is_refused_here(name, good, mark):
    data = corpus.OVPN_CASES[name].data(good, mark, plugin())
    with pytest.raises(ConfigError):
        openvpn_config.parse(data, "a.ovpn")
    file = mark.with_name("a.ovpn")
    file.write_bytes(data)
    process = openvpn(file)
    try:
        found = holds(mark.exists, process)
    finally:
        ended(process)
    assert found, said_in(file).read_text()


def test_openvpn_takes_what_is_written_anew_and_makes_nothing(good, mark):
    config = openvpn_config.parse(good, "a.ovpn")
    file = mark.with_name("a.ovpn")
    file.write_text(openvpn_config.render(config, Endpoint("127.0.0.1", 9)))
    process = openvpn(file)
    try:
        started = holds(lambda: "link remote: [AF_INET]127.0.0.1:9" in said_in(file).read_text(), process)
    finally:
        ended(process)
    assert started, said_in(file).read_text()
    assert sorted(path.name for path in mark.parent.iterdir()) == ["a.ovpn", "a.txt", "mark.ovpn", "mark.sh"]


@pytest.mark.parametrize("name", corpus.WIREGUARD_RUNS)
def test_wg_quick_runs_what_is_refused_here(name, mark):
    file = mark.with_name("vpf-attack.conf")
    file.write_bytes(corpus.WIREGUARD_CASES[name].data(corpus.WIREGUARD.encode(), mark))
    file.chmod(0o600)
    both = 'wg-quick up "$0"; wg-quick down "$0"'
    command = (
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        f"mount -t tmpfs tmpfs /run; {both}",
        file,
    )
    said = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert mark.exists(), said.stderr
