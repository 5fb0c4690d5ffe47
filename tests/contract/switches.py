"""What every provider with a port switch must do (`vpnpf.interfaces.Switching`), as tests that a subclass adapts.

    class TestMine(SwitchContract):
        plugin = Mine
        options = {"token": "…"}
        secrets = ("…",)                       # in no message
        def answer(self, far, asked): ...      # the far side: gets an `Asked`, has `far.policy`, returns an HttpResponse
        def garbled(self): ...                 # bodies of status 200 that are no policy

The provider is driven over `vpnpf.testing.FakeIO` and `FakeHttp`: no sockets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import urlsplit

import pytest

from vpnpf.errors import Failure, Misconfigured, NoAnswer, Refused, Transient, Unsupported
from vpnpf.interfaces import HttpResponse, Switching
from vpnpf.model import Opening, PolicyMode, Protocol, ProviderPolicy
from vpnpf.testing import Asked, FakeHttp, FakeIO, a_tunnel, scripted

TCP, UDP = Protocol.TCP, Protocol.UDP
POLICIES = (
    ProviderPolicy(PolicyMode.OPEN_ALL),
    ProviderPolicy(PolicyMode.BLOCK_ALL),
    ProviderPolicy(PolicyMode.ALLOW_LIST, (Opening(6881, 6881, TCP),)),
    ProviderPolicy(PolicyMode.ALLOW_LIST, (Opening(1, 1, UDP), Opening(8000, 8010, TCP), Opening(65535, 65535, TCP))),
)
DEAF = (NoAnswer("GET", "no whole answer within 10 s"), Refused("GET", "connection refused"), Transient("GET", "reset"))
EVERYWHERE = ("get_switch", "set_switch")


@dataclass
class Far:
    """The provider's side."""

    policy: ProviderPolicy = POLICIES[1]
    instead: HttpResponse | Failure | None = None
    """Answered to everything as long as it is set."""
    asked: list[Asked] = field(default_factory=list)


class SwitchContract:
    """The tests. A subclass whose name begins with Test runs them."""

    plugin: ClassVar[type[Switching]]
    options: ClassVar[dict[str, object]] = {}
    secrets: ClassVar[tuple[str, ...]] = ()

    def answer(self, far: Far, asked: Asked) -> HttpResponse:
        raise NotImplementedError

    def garbled(self) -> Iterator[bytes]:
        raise NotImplementedError

    @pytest.fixture
    def far(self):
        return Far()

    @pytest.fixture
    def io(self, far):
        made = FakeIO(scripted({}))

        def talk(asked):
            far.asked.append(asked)
            return far.instead or self.answer(far, asked)

        made.http = FakeHttp(talk)
        return made

    async def ask(self, io, which, wanted=POLICIES[0]):
        provider = self.plugin(self.options)
        if which == "get_switch":
            return await provider.get_switch(io, a_tunnel())
        return await provider.set_switch(io, a_tunnel(), wanted)

    def test_it_says_that_it_has_one(self):
        assert self.plugin.manifest.port_switch

    @pytest.mark.parametrize("policy", POLICIES)
    async def test_what_is_in_force_is_read(self, far, io, policy):
        far.policy = policy
        assert await self.ask(io, "get_switch") == policy

    @pytest.mark.parametrize("policy", POLICIES)
    async def test_what_was_set_is_read_back(self, far, io, policy):
        await self.ask(io, "set_switch", policy)
        assert far.policy == policy
        assert await self.ask(io, "get_switch") == policy

    async def test_reading_changes_nothing(self, far, io):
        for _ in range(3):
            assert await self.ask(io, "get_switch") == POLICIES[1]
        assert far.policy == POLICIES[1]

    @pytest.mark.parametrize("which", EVERYWHERE)
    async def test_a_secret_goes_by_http_to_the_tunnels_gateway_alone(self, far, io, which):
        await self.ask(io, which)
        for asked in far.asked:
            url = urlsplit(asked.url)
            assert url.scheme == "https" or url.hostname == a_tunnel().gateway
            assert not [secret for secret in self.secrets if secret in asked.url], "addresses go to logs"

    @pytest.mark.parametrize("which", EVERYWHERE)
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (401, Misconfigured),
            (403, Misconfigured),
            (404, Unsupported),
            (429, Transient),
            (500, Transient),
            (503, Transient),
            (301, Failure),
            (302, Failure),
            (307, Failure),
            (304, Failure),
            (418, Failure),
        ],
    )
    async def test_an_error_status_is_a_failure_of_its_kind(self, far, io, which, status, kind):
        headers = {"location": "http://192.0.2.1/", "retry-after": "7"}
        far.instead = HttpResponse(status, headers, f"you sent {self.secrets}".encode())
        with pytest.raises(kind) as caught:
            await self.ask(io, which)
        assert len(far.asked) == 1, "a redirect is not followed, and nothing is tried again by itself"
        self._clean(caught.value)
        if kind is Misconfigured:
            assert caught.value.hint
        assert caught.value.retry_after in {None, 7.0}

    @pytest.mark.parametrize("after", ["", "soon", "-5", "1e9", "nan", "Wed, 21 Oct 2099 07:28:00 GMT", "9" * 5000])
    async def test_what_it_says_of_trying_again_is_a_time_or_nothing(self, far, io, after):
        far.instead = HttpResponse(429, {"retry-after": after}, b"")
        with pytest.raises(Transient) as caught:
            await self.ask(io, "get_switch")
        assert caught.value.retry_after is None or 0 <= caught.value.retry_after <= 3600

    @pytest.mark.parametrize("which", EVERYWHERE)
    @pytest.mark.parametrize("failure", DEAF, ids=lambda failure: type(failure).__name__)
    async def test_a_way_that_is_broken_stays_what_it_is(self, far, io, which, failure):
        far.instead = failure
        with pytest.raises(type(failure)):
            await self.ask(io, which)

    async def test_an_answer_that_is_no_policy_is_transient_and_not_repeated(self, far, io):
        for body in self.garbled():
            far.instead = HttpResponse(200, {}, body)
            with pytest.raises(Transient) as caught:
                await self.ask(io, "get_switch")
            self._clean(caught.value)
            assert len(str(caught.value)) < 200

    def _clean(self, failure: Failure) -> None:
        said = f"{failure} {failure.hint}"
        assert not [secret for secret in self.secrets if secret in said]
        assert said.isprintable()
