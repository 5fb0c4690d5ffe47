"""Verbs about the port policy: what is in force, and another one from now on.

    GET /v1/policy                                            what is in force and where it comes from
    PUT /v1/policy            {"policy": {...}, "before": DIGEST}   another one; refused if DIGEST names not the one in force
    PUT /v1/policy            {"mode": "block-all"}                 another mode, with the entries that there are
    DELETE /v1/policy                                         the configuration's own again
    POST /v1/policy/explain   {"protocol", "port", "source"}        which part decides about a new flow from the internet

A change is answered once the kernel has the rule set and it was read back. One that the kernel does not take is taken
back: what was in force stays so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from vpnpf.control.messages import Json, NotNow
from vpnpf.core.admission import HeldPort, address_of, decide
from vpnpf.core.overlaps import check_list
from vpnpf.core.policy_codec import PolicyError, digest, policy_from, policy_json, without_ended
from vpnpf.core.switch import words
from vpnpf.errors import Transient, Unavailable, UsageError
from vpnpf.events import Event, PolicyWanted
from vpnpf.hub import Hub
from vpnpf.interfaces import Clock
from vpnpf.model import BOTH, PolicyMode, PortPolicy, Protocol, State, Use
from vpnpf.policy_store import PolicyStore

SOON = 12.0
"""Seconds in which a rule set has to be in force."""
SAVED = 3.0
"""Seconds that a disk is waited for; the answer says if it was not enough."""
SAME_END = 1.0
"""Seconds by which two ends may differ and be the same."""
_SETTING = "setting the port policy"


Ruling = Callable[[Protocol, int, str], Mapping[str, object]]
"""What the rule set that was put up says of a flow (protocol, port, source): takes the place of what the policy says."""


class PolicyVerbs:
    """The verbs of one run."""

    def __init__(
        self, hub: Hub, clock: Clock, post: Callable[[Event], None], kept: PolicyStore, ruling: Ruling | None = None
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._post = post
        self._kept = kept
        self._ruling = ruling
        self._turn = asyncio.Lock()

    async def show(self, arguments: Json) -> Mapping[str, object]:
        """What is in force and where it comes from."""
        del arguments
        return await self._standing()

    async def set(self, arguments: Json) -> Mapping[str, object]:
        """Another one; answered once it is in force."""
        began, offset = self._clock.now(), self._offset()
        # In a thread: thousands of entries take a quarter of a second, and the engine shall not wait for them.
        given = "policy" in arguments or "mode" not in arguments
        wanted = await asyncio.to_thread(_wanted, arguments.get("policy"), offset) if given else PortPolicy()
        async with self._turn:
            before = self._state().policy
            expected = arguments.get("before")
            if expected is not None and expected != digest(before):
                raise NotNow(_SETTING, "it was changed by somebody else meanwhile", "look at it, and try again")
            wanted = _steady(before, wanted, began) if given else _in_mode(before, arguments["mode"], began)
            await self._put_in_force(before, wanted)
            took = self._clock.now() - began
            unsaved = await self._save(lambda: self._kept.keep(wanted, self._clock.wall(), offset))
        return {**await self._standing(), "took": took, "unsaved": unsaved}

    async def reset(self, arguments: Json) -> Mapping[str, object]:
        """The configuration's own again."""
        del arguments
        began = self._clock.now()
        async with self._turn:
            await self._put_in_force(self._state().policy, without_ended(self._kept.configured, began))
            took = self._clock.now() - began
            unsaved = await self._save(lambda: self._kept.forget(self._clock.wall(), self._offset()))
        return {**await self._standing(), "took": took, "unsaved": unsaved}

    async def explain(self, arguments: Json) -> Mapping[str, object]:
        """Which part decides about a new flow."""
        doing = "explaining the port policy"
        try:
            protocol, port = Protocol(str(arguments.get("protocol"))), arguments.get("port")
            source = arguments.get("source")
            address = None if source is None else address_of(str(source))
        except ValueError as error:
            raise UsageError(doing, str(error)) from error
        if type(port) is not int or not 0 < port < 65536:  # noqa: PLR2004 - what a port is
            raise UsageError(doing, "the port is not within 1-65535")
        state = self._state()
        decision = decide(state.policy, held_ports(state), protocol, port, address, self._clock.now())
        hits = dict(state.reading.openings).get(decision.opening) if state.reading else None
        forwards = state.reading.hits if state.reading else ()
        if hits is None and decision.forward:
            hits = next((h for name, p, h in forwards if name == decision.forward and p is protocol), None)
        said = {
            "admitted": decision.admitted,
            "rule": decision.rule,
            "why": decision.why,
            "packets": hits.packets if hits else None,
            "applied": state.policy_stands,
        }
        return said if self._ruling is None or source is None else {**said, **self._ruling(protocol, port, str(source))}

    # -- what they are made of ------------------------------------------------------------------

    async def _put_in_force(self, before: PortPolicy, wanted: PortPolicy) -> None:
        """Have it applied; if that does not work out, have the former one again, and say so."""
        trouble = await self._apply(wanted)
        if not trouble:
            return
        self._post(PolicyWanted(before))
        raise Unavailable(_SETTING, f"the kernel did not take it: {trouble}", "the policy until now stays")

    async def _apply(self, wanted: PortPolicy) -> str:
        """Returns once the rule set with the policy was read back; why not, if not."""
        state = self._state()
        if state.tunnel is not None and state.tunnel.plan.direct:
            raise UsageError(_SETTING, "without a tunnel nothing is blocked", "the machine's own firewall decides")
        trouble = f"not in force after {SOON:g} s"
        again = state.policy == wanted
        with self._hub.subscribe() as reader:
            self._post(PolicyWanted(wanted))
            try:
                async with asyncio.timeout(SOON):
                    async for update in reader.updates():
                        if update.state.policy != wanted:
                            continue
                        # Once more, it opens what was closed because nobody used it.
                        shut = again and any(use.closed for use in update.state.uses)
                        if update.state.policy_stands and not shut:
                            return ""
                        if update.state.unapplied:
                            return update.state.unapplied
                    trouble = "vpnpf is ending"
            except TimeoutError:
                pass
        return trouble

    async def _save(self, saving: Callable[[], None]) -> str:
        """Why it will not be there after a restart; empty: it will."""
        try:
            async with asyncio.timeout(SAVED):
                await asyncio.to_thread(saving)
        except TimeoutError:
            return f"the disk did not answer within {SAVED:g} s"
        except Unavailable as error:
            return str(error)
        return ""

    async def _standing(self) -> dict[str, object]:
        """The policy with all that is known of it; in a thread, for the sake of long ones."""
        return await asyncio.to_thread(self._told, self._state())

    def _told(self, state: State) -> dict[str, object]:
        offset, by_hand = self._offset(), self._kept.by_hand
        packets = {key: hits.packets for key, hits in state.reading.openings} if state.reading else {}
        return {
            "profile": state.profile,
            "phase": str(state.phase),
            "stage": str(state.firewall) if state.firewall else None,
            "policy": policy_json(state.policy, offset),
            "digest": digest(state.policy),
            "applied": state.policy_stands,
            "unapplied": state.unapplied,
            "set_at": by_hand.set_at if by_hand else None,
            "configured": policy_json(self._kept.configured, offset),
            "differs": digest(state.policy) != digest(self._kept.configured),
            "packets": {each.key: packets[each.key] for each in state.policy.openings if each.key in packets},
            "uses": {each.what: _use(each, offset) for each in state.uses},
            "provider": _provider(state, offset),
            "forwards": [_forward(each, state) for each in held_ports(state)],
        }

    def _state(self) -> State:
        if self._hub.state is None:
            raise Transient("asking vpnpf", "it is just starting", "ask again")
        return self._hub.state

    def _offset(self) -> float:
        return self._clock.wall() - self._clock.now()


def _wanted(value: object, offset: float) -> PortPolicy:
    """The policy that was asked for. Raises UsageError for one that cannot be."""
    try:
        wanted = policy_from(value, offset)
    except PolicyError as error:
        raise UsageError(_SETTING, str(error), "nothing was changed") from error
    for _, what, hint in check_list(wanted.openings):
        raise UsageError(_SETTING, what, hint)
    return wanted


def _in_mode(before: PortPolicy, mode: object, now: float) -> PortPolicy:
    """The policy with another mode, and the entries it has: nothing of them is looked at again, however many there are."""
    try:
        return replace(without_ended(before, now), mode=PolicyMode(str(mode)))
    except ValueError:
        raise UsageError(_SETTING, f'there is no mode "{str(mode)[:40]}"', "nothing was changed") from None


def _steady(before: PortPolicy, wanted: PortPolicy, now: float) -> PortPolicy:
    """The policy with the very ends that entries have that stay: those that came went through another clock.

    Raises UsageError for an end in the past, unless the entry was there, and is simply over.
    """
    ends = {each.key: each.ends_at for each in before.openings}
    openings = []
    for each in wanted.openings:
        end, known = each.ends_at, ends.get(each.key)
        if end is not None and known is not None and abs(end - known) < SAME_END:
            if known > now:
                openings.append(replace(each, ends_at=known))
        elif end is not None and end <= now:
            raise UsageError(_SETTING, f"the end of {each.key} is in the past", "write a later one, or leave it out")
        else:
            openings.append(each)
    return replace(wanted, openings=tuple(openings))


def held_ports(state: State) -> list[HeldPort]:
    """The ports of all leases."""
    return [
        HeldPort(
            each.spec, each.lease.external_port, each.lease.internal_port, each.listen_port or each.lease.external_port
        )
        for each in state.forwards
        if each.lease is not None
    ]


def _use(use: Use, offset: float) -> dict[str, object]:
    return {"last": None if use.last is None else use.last + offset, "closed": use.closed}


def _provider(state: State, offset: float) -> dict[str, object] | None:
    if state.provider_policy is None:
        return None
    at = None if state.provider_policy_at is None else state.provider_policy_at + offset
    return {"lets_in": words(state.provider_policy), "at": at, "disagree": state.disagree}


def _forward(held: HeldPort, state: State) -> dict[str, object]:
    hits = state.reading.hits if state.reading else ()
    counted = {str(protocol): each.packets for name, protocol, each in hits if name == held.spec.name}
    return {
        "name": held.spec.name,
        "external_port": held.external,
        "arrives": held.arrives,
        "listen_port": held.listen,
        "target": held.spec.target,
        "protocols": [str(each) for each in BOTH if each in held.spec.protocols],
        "sources": list(held.spec.sources),
        "shut": held.spec.shut,
        "packets": counted,
    }
