"""Logging in to PIA: one token a day, from whoever gives it, and nobody asked twice with what was refused."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.pia_world import (
    AUTHORITY,
    BROKEN,
    DENIED,
    EXPIRED,
    NAMES,
    PASSWORD,
    USER,
    PiaService,
    answer,
    too_many,
)
from vpnpf.errors import Failure, Misconfigured, NoAnswer, Offline, Refused, Transient, Unavailable, Untrusted
from vpnpf.interfaces import Credentials, HttpResponse
from vpnpf.testing import FakeClock
from vpnpf_providers.pia_list import Server
from vpnpf_providers.pia_token import LIFETIME, TokenRefused, Tokens, _token_of

METAS = (Server("198.51.100.10", "nlamsterdam400"), Server("198.51.100.11", "nlamsterdam401"))


@pytest.fixture
def service():
    clock = FakeClock()
    made = PiaService(clock.now, clock.wall)
    made.clock = clock
    return made


@pytest.fixture
def io(service):
    return service.outside(service.clock)


async def get(io, tokens=None, *, names_first=True, metas=METAS, **more):
    return await (tokens or Tokens(AUTHORITY)).get(io, metas, names_first=names_first, **more)


# -- who is asked -----------------------------------------------------------------------------------


async def test_the_first_is_asked_with_a_form(service, io):
    token = await get(io)
    (asked,) = io.http.asked
    assert (asked.method, asked.url) == ("POST", "https://www.privateinternetaccess.com/api/client/v2/token")
    assert asked.form == {"username": USER, "password": PASSWORD}
    assert list(service.tokens) == [token]


async def test_the_others_follow_in_order_where_one_cannot_be_reached(service, io):
    service.down |= {"www", "apiv2"}
    await get(io)
    assert [(asked.url, asked.connect_to) for asked in io.http.asked[3:]] == [
        ("https://nlamsterdam400:443/api/client/v2/token", "198.51.100.10")
    ]
    assert io.http.asked[3].ca == AUTHORITY


@pytest.mark.parametrize(
    "first", [BROKEN, answer({}, 200), answer({"token": 7}), answer({"token": "a b"}), answer(b"[", 404)]
)
async def test_the_next_follows_where_one_is_broken(service, io, first):
    answers = iter([first])
    io.http.answer = lambda asked: next(answers, None) or service.answer(asked)
    await get(io)
    assert [asked.url.split("/")[2] for asked in io.http.asked] == list(NAMES[:2])


async def test_all_of_them_in_order(service, io):
    service.login = BROKEN
    with pytest.raises(Transient) as told:
        await get(io)
    assert [asked.url.removeprefix("https://") for asked in io.http.asked] == [
        "www.privateinternetaccess.com/api/client/v2/token",
        "apiv2.privateinternetaccess.com/api/client/v2/token",
        "apiv2.piaproxy.net/api/client/v2/token",
        "nlamsterdam400:443/api/client/v2/token",
        "nlamsterdam401:443/api/client/v2/token",
        "nlamsterdam400:443/authv3/generateToken",
        "nlamsterdam401:443/authv3/generateToken",
        "www.privateinternetaccess.com/gtoken/generateToken",
    ]
    assert (
        str(told.value)
        == 'logging in to PIA: none of its services gives a token: PIA answered HTTP 502: "502 Bad Gateway"'
    )


async def test_beside_the_tunnel_those_with_an_address_come_first(service, io):
    await get(io, names_first=False)
    assert [asked.connect_to for asked in io.http.asked] == ["198.51.100.10"]
    service.tokens.clear()
    io.store.forget("token")
    service.down.add("nlamsterdam")
    await get(io, names_first=False)
    assert service.logins[-1] == NAMES[0]


async def test_the_oldest_services_take_a_header(service, io):
    answered = service.answer
    io.http.answer = lambda asked: BROKEN if asked.form else answered(asked)
    await get(io)
    assert io.http.asked[-1].url == "https://nlamsterdam400:443/authv3/generateToken"
    assert len(io.http.asked) == 6


async def test_what_did_not_answer_lately_is_asked_last_and_not_for_ever(service, io):
    tokens = Tokens(AUTHORITY)

    def silent(asked):
        service.clock.advance(10)
        return NoAnswer("asking", "no whole answer within 10 s")

    io.http.answer = silent
    began = io.now()
    with pytest.raises(NoAnswer):
        await get(io, tokens)
    assert io.now() - began == 20
    io.http.answer = service.answer
    await get(io, tokens)
    assert service.logins == [NAMES[2]]


async def test_a_machine_that_is_offline_is_told_at_once(io):
    io.http.answer = lambda _: Offline("asking", "no way out")
    with pytest.raises(Offline):
        await get(io)
    assert len(io.http.asked) == 1


# -- how long it is kept ------------------------------------------------------------------------------


async def test_it_is_kept_for_a_day_less_five_minutes_also_over_a_restart(service, io):
    token = await get(io)
    service.clock.advance(LIFETIME - 1)
    assert await get(io) == token
    service.clock.advance(1)
    assert await get(io) != token
    assert LIFETIME == 86100


async def test_a_clock_that_went_back_trusts_no_token(service, io):
    await get(io)
    service.clock._wall -= 60
    await get(io)
    assert len(service.logins) == 2


async def test_a_token_of_somebody_else_is_passed_over(service, io):
    await get(io)
    io.login = Credentials("p7654321", "other")
    with pytest.raises(Misconfigured, match="does not know"):
        await get(io)


async def test_a_token_is_used_while_the_keyring_is_locked(io):
    token = await get(io)
    io.login = None
    assert await get(io) == token


@pytest.mark.parametrize(
    "kept",
    [{}, {"token": "t" * 128}, {"token": 1, "given": 1.7e9}, {"token": "a\nb" * 9, "given": 1.7e9}, {"token": "t" * 128, "given": "x"},
     {"token": "t" * 128, "given": 1.8e9}, {"token": "t" * 128, "given": 1.7e9, "account": "other"}],
)  # fmt: skip
async def test_what_is_no_token_is_none(service, io, kept):
    io.store.save("token", kept)
    assert await get(io) in service.tokens


async def test_a_full_disk_costs_one_login_and_not_one_each_time(service, io):
    def full(*_):
        raise Unavailable("saving", "No space left on device")

    io.store.save = full
    tokens = Tokens(AUTHORITY)
    assert await get(io, tokens) == await get(io, tokens)
    assert len(service.logins) == 1


# -- what is refused ----------------------------------------------------------------------------------


async def test_a_wrong_password_is_told_and_tried_with_nobody_else(service, io):
    service.login = DENIED
    with pytest.raises(Misconfigured) as told:
        await get(io)
    assert str(told.value) == "logging in to PIA: PIA does not know this user name with this password"
    assert "vpnpf login pia" in told.value.hint
    assert io.refusals == [(io.login, "PIA does not know this user name with this password", None)]
    for _ in range(3):
        with pytest.raises(Misconfigured, match="refused before"):
            await get(io)
    assert len(service.logins) == 1


async def test_a_wrong_password_told_by_an_older_service(service, io):
    service.down |= {"www", "apiv2"}
    answered = service.answer
    io.http.answer = lambda asked: BROKEN if asked.form else answered(asked)
    io.login = Credentials(USER, "wrong")
    with pytest.raises(Misconfigured, match="does not know"):
        await get(io)
    assert len(io.refusals) == 1
    assert io.http.asked[-1].url == "https://nlamsterdam400:443/authv3/generateToken"


@pytest.mark.parametrize("password", ["wrong", PASSWORD])
async def test_two_who_need_a_token_at_the_same_moment_are_one_login(service, io, password):
    """A key that is registered anew in place, and a port that is asked for meanwhile."""
    io.login = Credentials(USER, password)
    request, tokens = io.http.request, Tokens(AUTHORITY)

    async def slow(*arguments, **more):
        await asyncio.sleep(0)
        return await request(*arguments, **more)

    io.http.request = slow
    both = (tokens.get(io, (), names_first=True) for _ in range(2))
    first, second = await asyncio.gather(*both, return_exceptions=True)
    assert len(service.logins) == 1
    assert isinstance(second, Transient)
    assert second.retry_after == 2
    if password == PASSWORD:
        assert await tokens.get(io, (), names_first=True) == first
    else:
        assert isinstance(first, Misconfigured)
        with pytest.raises(Misconfigured, match="refused before"):
            await tokens.get(io, (), names_first=True)
    assert len(service.logins) == 1


async def test_an_expired_account_has_a_sentence_of_its_own(service, io):
    service.login = EXPIRED
    with pytest.raises(Misconfigured) as told:
        await get(io)
    assert str(told.value) == "logging in to PIA: the subscription of this account has expired"
    assert "renew it" in told.value.hint
    assert [until for *_, until in io.refusals] == [io.wall() + 600]
    assert len(service.logins) == 1


@pytest.mark.parametrize(
    ("reply", "wait", "words"),
    [
        (too_many(), 59, "59 seconds"),
        (too_many(150), 150, "2 minutes"),
        (too_many(3600), 3600, "60 minutes"),
        (too_many(10**8), 6 * 3600, "360 minutes"),
        (too_many(0), 1, "1 second"),
        (answer({}, 429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), 59, "59 seconds"),
        (answer({}, 429, retry_after="-5"), 59, "59 seconds"),
        (answer({"code": "too_many_attempts"}, 403), 59, "59 seconds"),
    ],
)
async def test_a_locked_login_says_how_long(service, io, reply, wait, words):
    service.login = reply
    with pytest.raises(Transient) as told:
        await get(io)
    assert f"PIA takes no login for {words}" in told.value.cause
    assert told.value.retry_after == wait
    assert io.refusals == [(io.login, told.value.cause, io.wall() + wait)]
    assert len(service.logins) == 1


async def test_nothing_secret_is_told(service, io):
    for reply in (
        DENIED,
        EXPIRED,
        too_many(),
        answer({"message": f"{PASSWORD} of {USER}"}, 500),
        answer(PASSWORD.encode(), 500),
    ):
        service.login = reply
        io.refusals.clear()
        with pytest.raises(Failure) as told:
            await get(io)
        assert PASSWORD not in f"{told.value} {told.value.hint} {told.value!r}"


# -- tokens that a server does not take ---------------------------------------------------------------


def server(*good: str):
    """A server that takes these tokens alone, and remembers which it was asked with."""
    asked = []

    async def ask(token: str) -> str:
        asked.append(token)
        if token not in good:
            raise TokenRefused("asking", "no")
        return token

    return ask, asked


async def test_a_refused_token_is_renewed_once(service, io):
    old = await get(io)
    fresh = f"{2:08x}" * 16
    ask, asked = server(fresh)
    assert await Tokens(AUTHORITY).use(io, METAS, ask, names_first=True) == fresh
    assert asked == [old, fresh]
    assert io.store.load("token")["token"] == fresh


async def test_a_server_that_takes_none_does_not_make_us_log_in_again_and_again(service, io):
    tokens = Tokens(AUTHORITY)
    ask, asked = server()
    for _ in range(5):
        with pytest.raises(TokenRefused):
            await tokens.use(io, METAS, ask, names_first=True)
    assert len(service.logins) == 2
    assert len(asked) == 6
    service.clock.advance(900)
    with pytest.raises(TokenRefused):
        await tokens.use(io, METAS, ask, names_first=True)
    assert len(service.logins) == 3


async def test_a_new_token_of_another_process_is_taken_in_place_of_a_refused_one(service, io):
    old = await get(io)
    other = service.grant()
    io.store.save("token", {**io.store.load("token"), "token": other})
    assert await get(io, refused=old) == other
    assert len(service.logins) == 1


# -- login and logout -----------------------------------------------------------------------------------


async def test_a_login_by_hand_asks_anew_and_refuses_nobody(service, io):
    await get(io)
    tokens = Tokens(AUTHORITY)
    await tokens.log_in(io, Credentials(USER, PASSWORD), (), names_first=True)
    assert len(service.logins) == 2
    with pytest.raises(Misconfigured):
        await tokens.log_in(io, Credentials(USER, "wrong"), (), names_first=True)
    assert not io.refusals


async def test_a_logout_ends_the_token(service, io):
    await Tokens(AUTHORITY).log_out(io)
    assert not io.http.asked
    await get(io)
    await Tokens(AUTHORITY).log_out(io)
    assert not service.tokens
    assert io.store.load("token") is None


async def test_a_logout_that_nobody_hears_forgets_the_token_all_the_same(service, io):
    await get(io)
    io.http.answer = lambda _: Refused("asking", "connection refused")
    await Tokens(AUTHORITY).log_out(io)
    assert io.store.load("token") is None


# -- anything at all ------------------------------------------------------------------------------------

bodies = st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["token", "status", "message", "code"]), inner, max_size=4)
    ),
).map(lambda value: json.dumps(value).encode())


@given(bodies, st.sampled_from([200, 201, 302, 400, 401, 402, 403, 429, 500]), st.text(max_size=12))
def test_whatever_is_answered_is_a_token_or_a_failure(body, status, retry_after):
    token, failure = "", None
    try:
        token = _token_of(HttpResponse(status, {"retry-after": retry_after}, body), Credentials(USER, PASSWORD))
    except Failure as error:
        failure = error
    if failure is not None:
        assert failure.retry_after is None or 1 <= failure.retry_after <= 6 * 3600
        assert failure.cause.isprintable()
    assert not token or (status == 200 and token.isascii() and " " not in token and 8 <= len(token) <= 1024)


async def test_a_certificate_of_somebody_else_is_the_cause_that_is_told(io):
    def answered(asked):
        if asked.connect_to:
            return Untrusted("GET https://x", "certificate not trusted: Hostname mismatch", "use another")
        return Transient("POST https://x", "Temporary failure in name resolution")

    io.http.answer = answered
    for names_first in (True, False):
        with pytest.raises(Transient, match="certificate not trusted") as told:
            await get(io, names_first=names_first)
        assert "nothing was told to it" in told.value.hint


async def test_an_authority_that_is_none_is_told_with_what_to_do(io):
    io.http.answer = lambda asked: (
        Misconfigured("GET https://x", "not a certificate", "give it as PEM") if asked.ca else BROKEN
    )
    with pytest.raises(Transient, match="not a certificate") as told:
        await get(io)
    assert told.value.hint == "give it as PEM"


# -- while nobody gives one ---------------------------------------------------------------------------


async def tries(service, io, hours, every=30.0, *, names_first=True):
    """Try so often while nobody gives a token; returns when somebody was asked, in seconds from the first try."""
    tokens, began, asked = Tokens(AUTHORITY), io.now(), []
    while io.now() - began < hours * 3600:
        before = len(io.http.asked)
        with pytest.raises(Transient, match="none of its services gives a token: ") as told:
            await get(io, tokens, names_first=names_first)
        assert told.value.retry_after is None, "the engine would double it, again and again"
        asked += [io.now() - began] * (len(io.http.asked) > before)
        service.clock.advance(every)
    return tokens, asked


async def test_nobody_is_asked_more_often_than_the_pauses_let(service, io):
    service.login = BROKEN
    tokens, asked = await tries(service, io, 2)
    assert asked[:6] == [0, 30, 90, 210, 510, 1110]
    assert len(service.logins) == len(asked) * 8
    assert len([at for at in asked if at < 3600]) * 8 <= 80
    # Somebody gives one again: it is had within the longest pause, and then nothing is remembered.
    service.login = None
    service.clock.advance(600)
    await get(io, tokens)
    service.login = BROKEN
    io.store.forget("token")
    for _ in range(2):
        before = len(service.logins)
        with pytest.raises(Transient):
            await get(io, tokens)
        assert len(service.logins) == before + 8


async def test_what_cannot_be_reached_at_all_is_asked_every_five_minutes(service, io):
    io.http.answer = lambda _: Transient("asking", "Temporary failure in name resolution")
    _, asked = await tries(service, io, 1)
    assert asked[:7] == [0, 30, 90, 210, 510, 810, 1110]


async def test_while_nobody_is_asked_it_is_still_said_that_nobody_answers(service, io):
    io.http.answer = lambda _: NoAnswer("asking", "no whole answer within 10 s")
    tokens = Tokens(AUTHORITY)
    for _ in range(4):
        with pytest.raises(NoAnswer, match="no whole answer"):
            await get(io, tokens)
    assert len(io.http.asked) == 16


async def test_other_credentials_another_way_and_another_server_are_new_chances(service, io):
    service.login = BROKEN
    tokens, _ = await tries(service, io, 1)
    service.login = None
    for change in ({"names_first": False}, {"metas": (Server("198.51.100.20", "deberlin400"),)}):
        await get(io, tokens, **change)
        io.store.forget("token")
        service.login = BROKEN
        for _ in range(5):
            with pytest.raises(Transient):
                await get(io, tokens)
        service.login = None
        with pytest.raises(Transient):
            await get(io, tokens)
    io.login = Credentials(USER, "wrong")
    with pytest.raises(Misconfigured, match="does not know"):
        await get(io, tokens)


async def test_a_machine_of_the_list_with_another_certificate_makes_the_list_doubtful(service, io):
    doubts = []
    io.http.answer = lambda asked: Untrusted("x", "its certificate is for another name") if asked.ca else BROKEN
    tokens = Tokens(AUTHORITY, lambda: doubts.append(1))
    with pytest.raises(Transient):
        await get(io, tokens)
    assert doubts
    # Control: of a name the list says nothing.
    doubts.clear()
    io.http.answer = lambda asked: BROKEN if asked.ca else Untrusted("x", "its certificate is for another name")
    with pytest.raises(Transient):
        await get(io, tokens)
    assert not doubts
