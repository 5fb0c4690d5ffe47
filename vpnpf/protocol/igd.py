"""What an internet gateway device's answers mean for the next step; the wire itself is a library's.

Sources: the service descriptions WANIPConnection:1 and WANIPConnection:2 of the UPnP Forum, UPnP Device
Architecture 1.1 for the codes below 700, and what miniupnp (upnpsoap.c, upnperrors.c) makes of them.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.errors import Failure, Misconfigured, Transient, Unsupported

SERVICES = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
"""Connections whose ports can be mapped, the best first."""
LONGEST_LEASE = 604800
"""Seconds; the most that WANIPConnection:2 takes. It reads 0 as this, version 1 as permanent."""

_WHICH = ("NewRemoteHost", "NewExternalPort", "NewProtocol")
_WHAT = ("NewInternalPort", "NewInternalClient", "NewEnabled", "NewPortMappingDescription", "NewLeaseDuration")
ACTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "GetExternalIPAddress": ((), ("NewExternalIPAddress",)),
    "AddPortMapping": (_WHICH + _WHAT, ()),
    "AddAnyPortMapping": (_WHICH + _WHAT, ("NewReservedPort",)),
    "DeletePortMapping": (_WHICH, ()),
    "GetSpecificPortMappingEntry": (_WHICH, _WHAT),
}
"""Arguments and results of the actions in use, in the order that the standard gives them. AddAny: version 2 only."""

NO_SUCH_ENTRY = frozenset({713, 714, 730})
"""There is no such mapping."""
_CONFLICT = frozenset({718, 729})
_NO_SUCH_ACTION = frozenset({401, 404, 602})
_SAME_PORTS = 724
_ONLY_PERMANENT = 725
_CONFLICTS_BORNE = 8
"""How many ports are tried before a conflict is final."""
_LAST_PORT = 65535
_FIRST_PORT = 1024


class Wish(Struct, frozen=True):
    """A mapping to ask for."""

    external_port: int
    internal_port: int
    lifetime: int
    """Seconds; 0: permanent."""
    any_port: bool = False
    """Whether AddAnyPortMapping is asked, which takes another port by itself."""
    may_any: bool = False
    """Whether AddAnyPortMapping is there and was not in vain."""
    same: bool = False
    """Whether the gateway wants both ports to be the same."""
    conflicts: int = 0
    """Ports that turned out to be taken."""


def next_wish(wish: Wish, code: int) -> Wish | None:
    """What to ask for after an error code, or None: it is final. Ends after a dozen wishes, whatever is answered."""
    if wish.any_port and code in _CONFLICT | _NO_SUCH_ACTION:
        return _next_port(replace(wish, any_port=False, may_any=False))
    if code in _CONFLICT:
        return replace(wish, any_port=True) if wish.may_any and not wish.same else _next_port(wish)
    if code == _ONLY_PERMANENT and wish.lifetime:
        return replace(wish, lifetime=0)
    if code == _SAME_PORTS and not wish.same and wish.external_port != wish.internal_port:
        return replace(wish, same=True, any_port=False, external_port=wish.internal_port)
    return None


def _next_port(wish: Wish) -> Wish | None:
    if wish.conflicts + 1 >= _CONFLICTS_BORNE:
        return None
    port = wish.external_port + 1 if wish.external_port < _LAST_PORT else _FIRST_PORT
    internal = port if wish.same else wish.internal_port
    return replace(wish, external_port=port, internal_port=internal, conflicts=wish.conflicts + 1)


def service_description() -> str:
    """Describe the actions in XML (UPnP Device Architecture 1.1, section 2.5), with every value as text.

    A device's own description is often wrong: that of miniupnpd 2.3.1 names another result of AddAnyPortMapping than
    the daemon gives. What is a number is checked where it is used.
    """
    listed = "".join(
        f"<action><name>{name}</name><argumentList>{_arguments('in', wanted)}{_arguments('out', given)}</argumentList></action>"
        for name, (wanted, given) in ACTIONS.items()
    )
    return (
        f'<scpd xmlns="urn:schemas-upnp-org:service-1-0"><actionList>{listed}</actionList><serviceStateTable>'
        '<stateVariable sendEvents="no"><name>Text</name><dataType>string</dataType></stateVariable>'
        "</serviceStateTable></scpd>"
    )


def _arguments(direction: str, names: tuple[str, ...]) -> str:
    return "".join(
        f"<argument><name>{name}</name><direction>{direction}</direction>"
        "<relatedStateVariable>Text</relatedStateVariable></argument>"
        for name in names
    )


_PERMISSION = "let this machine map ports in the gateway's UPnP settings"
_OTHER_PORT = "ask for another port: it may map only some of them"
_MEANINGS: dict[int, tuple[type[Failure], str, str, float | None]] = {
    401: (Unsupported, "it does not know the action", "", None),
    402: (Unsupported, "it does not take the arguments", "", None),
    404: (Unsupported, "it does not know a variable", "", None),
    501: (Transient, "it could not do it", "look into the gateway's own log", None),
    600: (Misconfigured, "it does not take a value", _OTHER_PORT, 300.0),
    601: (Misconfigured, "a value is out of its range", _OTHER_PORT, 300.0),
    602: (Unsupported, "it does not offer the action", "", None),
    603: (Transient, "it is out of memory", "", 300.0),
    604: (Misconfigured, "somebody has to act at the gateway", _PERMISSION, 300.0),
    605: (Unsupported, "a text is too long for it", "", None),
    606: (Misconfigured, "not authorised", _PERMISSION, 300.0),
    714: (Transient, "there is no such mapping", "", None),
    715: (Unsupported, "it maps ports for one remote host only", "", None),
    716: (Unsupported, "it does not map every external port", "", None),
    718: (Transient, "the port is taken by another mapping", "another program or machine holds it", None),
    724: (Unsupported, "it wants external and internal port to be the same, and refuses that too", "", None),
    725: (Unsupported, "it knows permanent mappings only, and refuses that too", "", None),
    726: (Unsupported, "it does not take an empty remote host", "", None),
    727: (Unsupported, "it maps all external ports or none", "", None),
    728: (Transient, "it has no room for further mappings", "end mappings that are not needed there", 300.0),
    729: (Transient, "the port is taken by the gateway itself", "another of its services holds it", None),
    730: (Transient, "there is no such mapping", "", None),
    731: (Misconfigured, "the mapping was made by hand and cannot be changed", _OTHER_PORT, 300.0),
    732: (Unsupported, "it does not map every internal port", "", None),
    733: (Unsupported, "it takes the arguments for inconsistent", "", None),
}


def failure_of(code: int, doing: str) -> Failure:
    """Say what an error code means for the next step."""
    kind, meaning, hint, retry_after = _MEANINGS.get(code, (Transient, "unknown to this program", "", None))
    return kind(doing, f"the gateway said error {code}: {meaning}", hint, retry_after)
