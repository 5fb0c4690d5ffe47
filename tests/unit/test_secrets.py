"""Where secrets come from, which places are refused, and that no text ever holds one."""

import errno
import os
import subprocess
import sys
import threading
import traceback

import keyring
import keyring.backend
import keyring.backends.fail
import keyring.backends.null
import keyring.errors
import pytest

from vpnpf import keyrings
from vpnpf.errors import Misconfigured
from vpnpf.interfaces import ClientOptions
from vpnpf.secrets import Source, reader

SECRET = "correct horse battery staple \u00e9"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(SECRET + "\n")
    return path


def refused(source):
    """The text of the refusal, traceback and hint included."""
    with pytest.raises(Misconfigured) as caught:
        reader(source)()
    said = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert SECRET not in said
    assert caught.value.hint
    return f"{caught.value} ({caught.value.hint})"


def of(path):
    return Source("file", str(path))


# -- a file ---------------------------------------------------------------------------------------


def test_a_file_without_its_line_end(file):
    assert reader(of(file))() == SECRET
    file.write_bytes(SECRET.encode() + b"\r\n\r\n")
    assert reader(of(file))() == SECRET


def test_it_is_read_when_it_is_needed_and_not_kept(file):
    read = reader(of(file))
    assert read() == SECRET
    file.write_text("another")
    assert read() == "another"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o602, 0o601, 0o777])
def test_a_file_that_others_may_use_is_refused(file, mode):
    file.chmod(mode)
    said = refused(of(file))
    assert f"{mode:04o}" in said
    assert f"chmod 600 {file}" in said


@pytest.mark.system  # only root can give files away
def test_a_file_of_somebody_else_is_refused(file):
    os.chown(file, 12345, 12345)
    assert "another user" in refused(of(file))


def test_a_symbolic_link_is_refused(file):
    link = file.with_name("link")
    link.symlink_to(file)
    assert "symbolic link" in refused(of(link))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "not a plain file" in refused(of(tmp_path / "pipe"))


def test_what_is_no_file(tmp_path):
    assert "not a plain file" in refused(of(tmp_path))
    assert "not a plain file" in refused(of("/dev/null"))
    assert "install -m 600" in refused(of(tmp_path / "none"))
    assert "name" in refused(of(tmp_path / "nul\0"))
    assert "name" in refused(of(tmp_path / ("x" * 300)))


def test_an_empty_file_is_said(file):
    file.write_text("\n")
    assert "it is empty" in refused(of(file))


def test_a_file_that_is_no_password(file):
    file.write_bytes(b"\xff\xfe")
    assert "UTF-8" in refused(of(file))
    file.write_text(SECRET * 1000)
    assert "longer" in refused(of(file))


def test_a_file_that_may_not_be_read_names_root(file, monkeypatch):
    def denied(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.open", denied)
    said = refused(of(file))
    assert "Permission denied" in said
    assert "run vpnpf as root" in said


# -- the environment, systemd ---------------------------------------------------------------------


def test_the_environment(monkeypatch):
    monkeypatch.setenv("VPNPF_TEST", SECRET)
    assert reader(Source("env", "VPNPF_TEST"))() == SECRET
    monkeypatch.setenv("VPNPF_TEST", "")
    assert "empty" in refused(Source("env", "VPNPF_TEST"))
    monkeypatch.delenv("VPNPF_TEST")
    assert "export VPNPF_TEST" in refused(Source("env", "VPNPF_TEST"))


def test_a_systemd_credential(monkeypatch, tmp_path):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "qb").write_text(SECRET + "\n")
    assert reader(Source("credential", "qb"))() == SECRET
    assert "LoadCredential=none:" in refused(Source("credential", "none"))
    (tmp_path / "qb").write_text("x" * 5000)
    assert "longer" in refused(Source("credential", "qb"))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", ".", "a\0b"])
def test_a_credential_is_a_name_and_no_path(monkeypatch, tmp_path, file, name):
    (tmp_path / "credentials").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert "LoadCredential" in refused(Source("credential", name))


def test_without_systemd_there_are_no_credentials(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert "LoadCredential=qb:" in refused(Source("credential", "qb"))


def test_no_source_is_no_secret():
    assert reader(None)() == ""


# -- a keyring ------------------------------------------------------------------------------------


class Safe(keyring.backend.KeyringBackend):
    """Stands for the Secret Service."""

    priority = 5

    def get_password(self, service, username):
        return SECRET if (service, username) == ("vpnpf", "qb") else None

    def set_password(self, service, username, password):
        raise AssertionError

    def delete_password(self, service, username):
        raise AssertionError


class Weak(Safe):
    priority = 0.5


class Plaintext(Safe):
    """Stands for keyrings.alt.file.PlaintextKeyring, whose priority a user may have raised."""


Plaintext.__module__ = "keyrings.alt.file"


class Chain(Safe):
    def __init__(self, *backends):
        super().__init__()
        self.backends = backends


class Broken(Safe):
    def get_password(self, service, username):
        raise self.error(SECRET)


class Locked(Broken):
    error = keyring.errors.KeyringLocked


class Crashing(Broken):
    error = RuntimeError


@pytest.fixture
def use(monkeypatch):
    monkeypatch.setattr(keyrings._locked, "until", 0.0)
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


QB = Source("keyring", "qb")


def test_a_keyring(use):
    use(Safe())
    assert reader(QB)() == SECRET
    assert "keyring set vpnpf other" in refused(Source("keyring", "other"))
    use(Chain(Safe()))
    assert reader(QB)() == SECRET


@pytest.mark.parametrize(
    "backend",
    [keyring.backends.fail.Keyring(), keyring.backends.null.Keyring(), Plaintext(), Weak(), Chain(Safe(), Plaintext())],
    ids=lambda backend: type(backend).__name__,
)
def test_a_keyring_that_keeps_nothing_or_in_plain_text_is_refused(use, backend):
    use(backend)
    assert "no safe keyring" in refused(QB)


@pytest.mark.parametrize("backend", [Locked(), Crashing()])
def test_a_keyring_that_fails_says_how_and_not_what(use, backend):
    use(backend)
    assert ("it is locked" if isinstance(backend, Locked) else "it failed (RuntimeError)") in refused(QB)


def test_a_keyring_that_asks_somebody_is_not_waited_for_and_not_asked_twice(use, monkeypatch):
    class Asking(Safe):
        def get_password(self, service, username):
            asked.release()
            unlocked.wait(10)
            return SECRET

    asked, unlocked = threading.Semaphore(0), threading.Event()
    monkeypatch.setattr(keyrings, "PATIENCE", 0.05)
    use(Asking())
    assert "no answer in 0.05 s" in refused(QB)
    assert asked.acquire(timeout=5)
    assert "still waits" in refused(QB)
    assert not asked.acquire(blocking=False)
    unlocked.set()
    for thread in threading.enumerate():
        if thread.name == "keyring":
            thread.join(5)
    assert reader(QB)() == SECRET


class Keeping(Safe):
    """One that keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.kept = {}

    def get_password(self, service, username):
        return self.kept.get((service, username))

    def set_password(self, service, username, password):
        self.kept[service, username] = password

    def delete_password(self, service, username):
        del self.kept[service, username]


def test_writing_and_removing(use):
    backend = Keeping()
    use(backend)
    text = "p1234567\n \u00e9 pass word "
    keyrings.put("account-pia", text, "writing", "way out")
    assert backend.kept == {("vpnpf", "account-pia"): text}
    assert keyrings.get("account-pia", "reading", "way out") == text
    assert keyrings.remove("account-pia", "removing", "way out")
    assert not keyrings.remove("account-pia", "removing", "way out")
    assert not backend.kept


def test_what_comes_back_otherwise_is_not_kept(use):
    class Cutting(Keeping):
        def set_password(self, service, username, password):
            super().set_password(service, username, password.split("\n")[0])

    use(Cutting())
    with pytest.raises(keyrings.KeyringShut, match="something else"):
        keyrings.put("account-pia", "user\npassword", "writing", "way out")


class Derived(Plaintext):
    """Somebody's own back end, made from one that keeps plain text."""


Derived.__module__ = "mine"
CALLS = {
    "reading": lambda: keyrings.get("qb", "doing it", "keep it in a file"),
    "writing": lambda: keyrings.put("qb", SECRET, "doing it", "keep it in a file"),
    "removing": lambda: keyrings.remove("qb", "doing it", "keep it in a file"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "backend",
    [
        keyring.backends.fail.Keyring(),
        keyring.backends.null.Keyring(),
        Plaintext(),
        Derived(),
        Weak(),
        Chain(Safe(), Plaintext()),
        Chain(Chain(Safe(), Weak())),
    ],
    ids=lambda backend: type(backend).__name__,
)
def test_nothing_is_asked_of_a_keyring_that_is_not_safe(use, backend, call):
    # Safe's own methods fail the test when something is written or removed.
    use(backend)
    with pytest.raises(keyrings.NoKeyring, match="no safe keyring") as caught:
        call()
    assert caught.value.hint == "keep it in a file"


def test_without_a_session_that_is_the_reason(use, monkeypatch):
    use(keyring.backends.fail.Keyring())
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    assert "there is no D-Bus session" in refused(QB)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    assert "keyring.backends.fail" in refused(QB)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("kind", [keyring.errors.KeyringLocked, keyring.errors.InitError, RuntimeError])
def test_one_that_fails_has_a_way_out(use, call, kind):
    class Failing(Safe):
        def get_password(self, service, username):
            raise kind(SECRET)

        set_password = delete_password = lambda self, *_arguments: self.get_password("", "")

    use(Failing())
    locked = kind is keyring.errors.KeyringLocked
    with pytest.raises(keyrings.KeyringShut, match="it is locked" if locked else kind.__name__) as caught:
        call()
    assert caught.value.hint == "unlock the keyring, or keep it in a file"
    said = "".join(traceback.format_exception(caught.value))
    assert SECRET not in said


def test_a_locked_one_is_left_in_peace_for_a_while(use, monkeypatch):
    class Window(Safe):
        def get_password(self, service, username):
            opened.append(username)
            raise keyring.errors.KeyringLocked(SECRET)

    opened = []
    use(Window())
    for _ in range(5):
        assert "it is locked" in refused(QB)
    assert opened == ["qb"]
    # After that, and with a person who unlocked it, it is asked again.
    monkeypatch.setattr(keyrings._locked, "until", 0.0)
    use(Safe())
    assert reader(QB)() == SECRET


def test_one_whose_priority_cannot_be_told_is_not_used(use):
    class Odd(Safe):
        @property
        def priority(self):
            raise RuntimeError(SECRET)

    use(Odd())
    with pytest.raises(keyrings.KeyringShut, match="RuntimeError"):
        CALLS["writing"]()


def test_a_secret_is_in_no_repr(file):
    source = of(file)
    options = ClientOptions("http://127.0.0.1:8080", "admin", reader(source))
    options.password()
    assert SECRET not in f"{source!r} {options!r} {options.password!r}"


def test_the_keyring_is_not_loaded_without_need(file):
    code = f"""
import sys
from vpnpf.secrets import Source, reader
assert reader(Source("file", {str(file)!r}))()
assert "keyring" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
