"""Kinds: of protocols, failures, remedies, phases."""

from __future__ import annotations

from enum import StrEnum


class Protocol(StrEnum):
    """A transport protocol whose ports can be forwarded."""

    TCP = "tcp"
    UDP = "udp"


BOTH = (Protocol.TCP, Protocol.UDP)


class FailureKind(StrEnum):
    """What a failure means for the next step; decided by type where it arises, never by text."""

    TRANSIENT = "transient"
    LEASE_LOST = "lease-lost"
    MISCONFIGURED = "misconfigured"
    UNSUPPORTED = "unsupported"
    CRASHED = "crashed"


class EpochRule(StrEnum):
    """By which rule a gateway's epoch tells that it lost its mappings."""

    NATPMP = "nat-pmp"
    """RFC 6886 section 3.6."""
    PCP = "pcp"
    """RFC 6887 section 8.5."""


class Remedy(StrEnum):
    """A step of the ladder: what is tried next against a failure that goes on."""

    RETRY = "retry"
    """The same again."""
    REMAP = "re-map"
    """The lease anew, as if nothing were held."""
    REKEY = "re-key"
    """New keys for the tunnel in place: device, addresses and sockets stay."""
    RESTART = "restart"
    """The tunnel down and up."""
    NEXT_SERVER = "next server"
    """The tunnel to another of the profile's servers."""
    TELL = "tell"
    """Nothing is left to be tried but the same, slowly; the person is told."""


class Wish(StrEnum):
    """What a person can ask for while a profile goes on."""

    RENEW = "renew"
    """What is held, again; and what waits after a failure, now."""
    NEW_PORT = "new-port"
    """Another external port."""
    SERVER = "server"
    """Another of the profile's servers."""


class Phase(StrEnum):
    """Where a profile stands as a whole."""

    STARTING = "starting"
    CONNECTING = "connecting"
    LEASING = "leasing"
    READY = "ready"
    BLOCKED = "blocked"
    """The tunnel is lost: nothing leaves until it is back."""
    FAILED = "failed"
    """Trying again cannot help; the person has to act. Nothing leaves."""
    STOPPING = "stopping"
    STOPPED = "stopped"
