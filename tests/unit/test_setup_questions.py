"""What the first start asks, in which order, and what it says of a wrong answer."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.setup_world import QB, file, found
from vpnpf.setup.answers import Answers
from vpnpf.setup.checking import Mistaken, answer, client_again
from vpnpf.setup.found import Standing
from vpnpf.setup.questions import next_question


def driven(known, said, answers=None):
    """Answer each question with what `said` has for its key, else with its default; returns answers and keys."""
    answers, keys = answers or Answers(), []
    while question := next_question(known, answers):
        keys.append(question.key)
        assert len(keys) < 30, "it does not end"
        answers = answer(known, answers, question, said.get(question.key, ""))
    return answers, keys


def question_of(known, said, key):
    answers = Answers()
    while (question := next_question(known, answers)).key != key:
        answers = answer(known, answers, question, said.get(question.key, ""))
    return question, answers


def test_with_a_file_and_a_client_found_everything_has_a_default_but_the_password():
    known = found(files=(file(),), clients=(QB,), root=True)
    answers, keys = driven(known, {"client_secret": "hunter22"})
    assert keys == ["provider", "files", "client", "client_secret", "policy", "name"]
    assert (answers.provider, answers.tunnel, answers.files) == ("protonvpn", "wireguard", (file().path,))
    assert (answers.client_type, answers.client_url, answers.client_user) == ("qbittorrent", QB.url, "admin")
    assert (answers.policy, answers.name, answers.client_secret) == ("allow-list", "home", "hunter22")
    assert "hunter22" not in repr(answers)


def test_a_client_that_lets_us_in_is_asked_nothing():
    known = found(files=(file(),), clients=(replace(QB, asks_login=False),))
    answers, keys = driven(known, {})
    assert "client_secret" not in keys
    assert "keep" not in keys
    assert answers.client_user == ""
    assert not answers.has_secret


def test_a_provider_that_makes_its_tunnel_asks_for_no_file_and_for_the_account():
    answers, keys = driven(found(), {"provider": "pia", "account_user": "p1234567", "account_secret": "x y"})
    assert "files" not in keys
    assert keys[:5] == ["provider", "tunnel", "region", "account_user", "account_secret"]
    assert (answers.tunnel, answers.region, answers.files) == ("wireguard", "", ())
    _, again = driven(found(logged_in=frozenset({"pia"})), {"provider": "pia"})
    assert "account_user" not in again


def test_without_a_vpn_there_is_no_file_and_no_policy():
    answers, keys = driven(found(), {"provider": "router"})
    assert keys == ["provider", "client", "name"]
    assert answers.tunnel == "none"
    assert answers.policy == ""
    assert answers.client == "none"


def test_ports_that_are_set_on_a_site_are_asked_for():
    nobodys = file("/etc/vpnpf/air.conf", provider="airvpn")
    known = found(files=(nobodys,))
    answers, _ = driven(known, {"option ports": "41001"})
    assert answers.options == {"ports": [41001]}
    question, before = question_of(known, {}, "option ports")
    for wrong in ("80", "port", "70000", ""):
        with pytest.raises(Mistaken):
            answer(known, before, question, wrong)


def test_an_openvpn_file_asks_for_its_user():
    known = found(files=(file("/home/ann/a.ovpn", type="openvpn", needs_login=True),))
    answers, keys = driven(known, {"tunnel_user": "ovpn-user", "tunnel_secret": "secret words"})
    assert keys[2:4] == ["tunnel_user", "tunnel_secret"]
    assert answers.tunnel == "openvpn"
    assert answers.has_secret


def test_those_that_ended_are_refused_with_their_sentence():
    question = next_question(found(), Answers())
    with pytest.raises(Mistaken, match="2023-07-01"):
        answer(found(), Answers(), question, "mullvad")
    assert question.default is None  # nothing was found: there is nothing sensible to take


def test_a_file_that_cannot_forward_is_refused_with_what_to_do():
    off = file(no_ports="its key was made with NAT-PMP (Port Forwarding) off", hint="make a new one")
    known = found(files=(off,))
    question, answers = question_of(known, {"provider": "protonvpn"}, "files")
    assert question.default is None
    with pytest.raises(Mistaken, match=r"off\. Next: make a new one\."):
        answer(known, answers, question, str(off.path))


def test_the_mistakes_of_files():
    theirs, other = file("/a/air.conf", provider="airvpn"), file("/a/x.ovpn", type="openvpn", provider="")
    known = found(files=(file(), theirs, other))
    question, answers = question_of(known, {"provider": "protonvpn"}, "files")
    for said, what in {
        (str(theirs.path),): "a file of AirVPN",
        (str(file().path), str(other.path)): "not of one type",
        ("/nowhere.conf",): "was not looked at",
    }.items():
        with pytest.raises(Mistaken, match=what):
            answer(known, answers, question, said)


@pytest.mark.parametrize(
    ("key", "said", "wrong"),
    [
        ("name", {}, "no good"),
        ("name", {}, "home"),
        ("policy", {}, "shut"),
        ("client", {}, "rtorrent"),
        ("client_url", {"client": "other transmission"}, "127.0.0.1:9091"),
        ("client_url", {"client": "other transmission"}, "http://127.0.0.1:1"),
        ("client_secret", {"client": "other transmission", "client_url": "http://192.0.2.1:9091"}, "plain"),
        ("client_secret", {"client": "other transmission"}, "bell\a"),
        ("client_secret", {"client": "other transmission"}, "x" * 3000),
    ],
)
def test_a_mistake_is_a_sentence(key, said, wrong):
    standing = Standing(Path("/etc/vpnpf/config.toml"), ("home",), {"tr": "http://127.0.0.1:1"})
    known = found(files=(file(),), standing=standing)
    question, answers = question_of(known, said, key)
    with pytest.raises(Mistaken) as caught:
        answer(known, answers, question, wrong)
    sentence = str(caught.value)
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "plain" not in sentence


def test_beside_a_configuration_names_are_free_ones_and_its_clients_can_be_used():
    standing = Standing(Path("/etc/vpnpf/config.toml"), ("home", "home-2"), {"qb": QB.url})
    answers, keys = driven(found(files=(file(),), clients=(QB,), standing=standing), {})
    assert answers.name == "home-3"
    assert answers.client_known == "qb"
    assert "client_url" not in keys
    assert not answers.has_secret


def test_a_refused_login_is_asked_for_again():
    known = found(files=(file(),), clients=(QB,))
    answers, _ = driven(known, {"client_secret": "wrong"})
    _, keys = driven(known, {"client_secret": "right"}, client_again(answers))
    assert keys == ["client_user", "client_secret"]


def test_where_there_is_a_keyring_it_is_asked_where_to_keep():
    answers, keys = driven(found(files=(file(),), clients=(QB,), keyring=True), {"client_secret": "x"})
    assert "keep" in keys
    assert answers.keep == "file"


@given(st.data())
def test_whatever_is_answered_it_ends_or_says_a_sentence(data):
    known = found(files=(file(), file("/a/b.ovpn", type="openvpn", provider="", needs_login=True)), clients=(QB,))
    answers = Answers()
    for _ in range(60):
        question = next_question(known, answers)
        if question is None:
            assert answers.name
            assert answers.provider
            return
        of = st.sampled_from([each.value for each in question.choices] or [question.default or "x"])
        said = data.draw(st.one_of(of, st.text(max_size=20), st.just("41001")))
        with contextlib.suppress(Mistaken):
            answers = answer(known, answers, question, said)


def test_what_was_found_is_said_first_and_marked_in_words():
    question = next_question(found(files=(file(),)), Answers())
    assert question.why.startswith("Found: proton.conf, of ProtonVPN.")
    assert [each.value for each in question.choices if each.brief == "found here"] == ["protonvpn"]
    assert "and 1 more" in next_question(found(files=(file(), file("/b.conf"))), Answers()).why
    assert next_question(found(), Answers()).why.startswith("No file of a provider was found")


def test_what_a_line_says_of_a_provider_fits_and_the_whole_is_the_note():
    for each in next_question(found(), Answers()).choices:
        assert 0 < len(each.brief) <= 46, each
        assert each.note


def test_the_account_is_asked_for_in_words_of_its_own():
    question, _ = question_of(found(), {"provider": "pia"}, "account_user")
    assert "p and seven digits" in question.why
    assert "vpnpf login" not in question.why
