"""The account at the provider, logged in to at the end of the first start."""

import stat

import pytest

from tests.unit.setup_world import found
from vpnpf.errors import Misconfigured, NoAnswer
from vpnpf.logins.provider import ProviderSubject
from vpnpf.secret_places import account_file
from vpnpf.setup import account
from vpnpf.setup.answers import Answers

ANSWERS = Answers(provider="pia", account_user="p1234567", account_secret="correct horse")


@pytest.fixture
def provider(monkeypatch, tmp_path):
    """PIA, which answers as `fails` has it."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    tried, fails = [], []

    async def log_in(_self, secret):
        tried.append(secret)
        if fails:
            raise fails[0]

    monkeypatch.setattr(ProviderSubject, "log_in", log_in)
    return tried, fails


async def test_it_is_tried_once_and_kept_for_us_alone(provider):
    tried, _ = provider
    trial = await account.log_in(found(root=True), ANSWERS)
    assert trial.good
    assert tried == ["p1234567\ncorrect horse"]
    file = account_file("pia")
    assert file.read_text() == "p1234567\ncorrect horse\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(file) in trial.said


@pytest.mark.parametrize(
    ("failure", "good"),
    [(Misconfigured("logging in", "wrong password"), False), (NoAnswer("logging in", "no answer in 10 s"), None)],
)
async def test_what_is_not_right_is_not_kept_and_can_be_done_later(provider, failure, good):
    provider[1].append(failure)
    trial = await account.log_in(found(root=True), ANSWERS)
    assert trial.good is good
    assert "vpnpf login pia --store file" in trial.hint
    assert "correct horse" not in repr(trial)
    assert not account_file("pia").exists()


def test_without_an_answer_nothing_is_tried():
    assert account.wanted(ANSWERS)
    assert not account.wanted(Answers(provider="pia", account_user="", account_secret=""))
