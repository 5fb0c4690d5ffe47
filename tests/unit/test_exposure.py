"""What the internet can reach through the tunnel: what is found wrong with it, and in which words."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.core.dangers import DANGERS, danger_of
from vpnpf.core.exposure import Severity, WebInterface, findings, must_ask, warnings_for
from vpnpf.core.reach import ForwardPort, Listener, Owner, Place, answers_beside, exposed, forward_port, reaches
from vpnpf.model import ForwardSpec, LockMode, Opening, PolicyMode, PortPolicy, Protocol

TCP, UDP = Protocol.TCP, Protocol.UDP
ANY, ANY6, OWN, LAN = "0.0.0.0", "::", "10.2.0.2", "192.168.77.2"
PLACE = Place("wg0", (OWN,), (LAN,))
OPEN_ALL, BLOCK_ALL = PortPolicy(PolicyMode.OPEN_ALL), PortPolicy(PolicyMode.BLOCK_ALL)
FORWARDED = PortPolicy()


def sock(port, program="thing", address=ANY, protocol=TCP, **more):
    owner = Owner(7, program, 100.0) if program else None
    return Listener(protocol, address, port, user="root", owner=owner, **more)


def allowed(*entries, forwarded=True):
    return PortPolicy(PolicyMode.ALLOW_LIST, forwarded, tuple(entries))


def port(number, protocol=TCP, **more):
    return Opening(number, number, protocol, **more)


def found(policy, *listeners, forwards=(), place=PLACE, web=()):
    return findings(exposed(policy, forwards, listeners, place), listeners, place, web)


def kinds(them):
    return [(each.severity, each.kind) for each in them]


# -- which sockets the tunnel reaches -------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "device", "there"),
    [
        (ANY, "", True),
        (ANY6, "", True),
        (OWN, "", True),
        (ANY, "wg0", True),
        ("127.0.0.1", "", False),
        ("::1", "", False),
        (LAN, "", False),
        ("fe80::1", "", False),
        ("239.255.255.250", "", False),
        ("ff02::fb", "", False),
        ("203.0.113.1", "", False),
        (ANY, "eth0", False),
        (ANY, "lo", False),
        (OWN, "eth0", False),
    ],
)
def test_which_sockets_packets_from_the_tunnel_reach(address, device, there):
    assert reaches(sock(80, address=address, device=device), PLACE) is there


def test_before_the_tunnel_is_up_what_may_wait_for_it_counts():
    down = Place(elsewhere=(LAN,))
    assert reaches(sock(80, address=OWN), down)
    assert reaches(sock(80, device="wg0"), down)
    assert not reaches(sock(80, address=LAN), down)
    assert not reaches(sock(80, device="lo"), down)


@pytest.mark.parametrize("mode", PolicyMode)
def test_what_each_mode_opens(mode):
    policy = PortPolicy(mode, openings=(port(22),))
    forward = ForwardPort("torrent", (TCP, UDP), 6881)
    seen = exposed(policy, [forward], [sock(22), sock(23), sock(6881)], PLACE)
    told = [(str(each), [each.port for each in each.listeners]) for each in seen]
    torrent = [("6881/tcp", [6881]), ("6881/udp", [])]
    assert (
        told
        == {
            PolicyMode.BLOCK_ALL: [],
            PolicyMode.ALLOW_LIST: [("22/tcp", [22]), *torrent],
            PolicyMode.OPEN_ALL: [("1-65535/tcp", [22, 23, 6881]), ("1-65535/udp", []), *torrent],
        }[mode]
    )


def test_a_forward_that_is_shut_or_not_on_the_list_opens_nothing():
    forward = ForwardPort("game", (TCP,), 25565)
    assert exposed(allowed(forwarded=False), [forward], [], PLACE) == ()
    assert exposed(FORWARDED, [ForwardPort("game", (TCP,), 25565, shut=True)], [], PLACE) == ()
    assert len(exposed(OPEN_ALL, [ForwardPort("game", (TCP,), 25565, shut=True)], [], PLACE)) == 3


def test_what_is_rewritten_to_another_host_is_not_looked_for_here():
    (seen,) = exposed(FORWARDED, [ForwardPort("nas", (TCP,), 445, chosen=True, target=LAN)], [sock(445)], PLACE)
    assert (seen.target, seen.listeners) == (LAN, ())


def test_a_forward_by_its_port():
    spec = ForwardSpec("a", internal_port=80)
    assert forward_port(spec, 6881) == ForwardPort("a", spec.protocols, 80, chosen=True)
    assert forward_port(ForwardSpec("a"), 6881) == ForwardPort("a", spec.protocols, 6881)
    assert forward_port(ForwardSpec("a"), None) is None


# -- what is wrong with it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "protocol", "kind"),
    [
        (3389, TCP, "rdp"),
        (445, TCP, "smb"),
        (139, TCP, "smb"),
        (23, TCP, "telnet"),
        (21, TCP, "ftp"),
        (5900, TCP, "vnc"),
        (5903, TCP, "vnc"),
        (3306, TCP, "mysql"),
        (5432, TCP, "postgresql"),
        (6379, TCP, "redis"),
        (27017, TCP, "mongodb"),
        (9200, TCP, "elasticsearch"),
        (11211, UDP, "memcached"),
        (2375, TCP, "docker"),
        (6000, TCP, "x11"),
        (111, UDP, "rpcbind"),
        (2049, TCP, "nfs"),
        (5353, UDP, "mdns"),
        (1900, UDP, "ssdp"),
        (631, TCP, "printer"),
        (9100, TCP, "printer"),
        (8123, TCP, "homeassistant"),
    ],
)
def test_a_dangerous_port_is_named_with_what_to_do(number, protocol, kind):
    (first, *_) = found(allowed(port(number, protocol)), sock(number, "nobody-knows", protocol=protocol))
    assert (first.severity, first.kind) == (Severity.DANGER, kind)
    assert first.title.startswith("the port of ")
    assert first.what.endswith(f"is open to anybody on {number}/{protocol}: nobody-knows, pid 7, user root")
    assert first.why
    assert first.todo
    assert first.source
    # The same number of the other protocol says nothing, unless the table has that too.
    other = UDP if protocol is TCP else TCP
    seen = found(allowed(port(number, other)), sock(number, "nobody-knows", protocol=other))
    assert (kind in {each.kind for each in seen}) is (danger_of(other, number) is not None)


def test_a_dangerous_program_is_known_on_any_port():
    (first, *_) = found(allowed(port(7000)), sock(7000, "redis-server"))
    assert (first.severity, first.kind) == (Severity.DANGER, "redis")
    assert first.what == "a database (Redis) is open to anybody on 7000/tcp: redis-server, pid 7, user root"


def test_a_program_that_is_known_beats_the_number_of_its_port():
    assert found(allowed(port(3389)), sock(3389, "sshd"))[0].kind == "ssh"


def test_ssh_is_a_warning_with_a_hint():
    (first, *_) = found(allowed(port(22)), sock(22, "sshd"))
    assert (first.severity, first.kind) == (Severity.WARNING, "ssh")
    assert "keys only" in first.todo


def test_a_number_that_a_gateway_chose_says_nothing():
    chosen, given = (ForwardPort("f", (TCP,), 27017, chosen=each) for each in (True, False))
    client = sock(27017, "qbittorrent-nox", OWN)
    for policy in (FORWARDED, OPEN_ALL):
        assert "mongodb" not in {each.kind for each in found(policy, client, forwards=[given])}
        assert "mongodb" in {each.kind for each in found(policy, client, forwards=[chosen])}
        assert "mongodb" in {each.kind for each in found(policy, sock(27017, "mongod"), forwards=[given])}
    assert found(FORWARDED, forwards=[given]) == ()


def test_what_few_may_reach_counts_less():
    few = port(6379, sources=("203.0.113.9/32",))
    (first, *_) = found(allowed(few), sock(6379, "redis-server"))
    assert first.severity is Severity.WARNING
    assert "is open to 203.0.113.9/32 on" in first.what
    assert found(allowed(port(22, sources=("203.0.113.9/32",))), sock(22, "sshd"))[0].severity is Severity.NOTE


def test_a_dangerous_port_where_nothing_listens_is_a_note():
    assert kinds(found(allowed(port(3389)))) == [(Severity.NOTE, "rdp")]
    assert found(allowed(port(8000))) == ()
    assert found(allowed(Opening(1000, 9999, TCP))) == (), "a wide range would name half of the table"


def test_open_all_is_always_told_and_counts_programs():
    assert kinds(found(OPEN_ALL)) == [(Severity.WARNING, "open-all")]
    assert "no program listens behind them now" in found(OPEN_ALL)[0].what
    (told,) = found(OPEN_ALL, sock(8000, address=OWN))
    assert "1 program listens" in told.what
    (told,) = found(OPEN_ALL, sock(8000, address=OWN), sock(8001, address=OWN), sock(9000, "b", OWN))
    assert "2 programs listen" in told.what


def test_what_is_blocked_or_bound_elsewhere_is_no_matter():
    assert found(BLOCK_ALL, sock(6379, "redis-server")) == ()
    assert found(allowed(port(6379), forwarded=False), sock(6379, "redis-server", "127.0.0.1"))[0].severity == "note"
    assert found(allowed(port(80)), sock(6379, "redis-server")) == ()


def test_one_program_on_several_ports_is_one_finding():
    (first, *_) = found(allowed(port(139), port(445)), sock(139, "smbd"), sock(445, "smbd"))
    assert first.ports == ("139/tcp", "445/tcp")


def test_the_worst_comes_first():
    seen = found(OPEN_ALL, sock(22, "sshd"), sock(6379, "redis-server"), sock(8000))
    order = list(Severity)
    assert [order.index(each.severity) for each in seen] == sorted(order.index(each.severity) for each in seen)
    assert {each.severity for each in seen} == set(Severity)


# -- who sees both addresses ----------------------------------------------------------------------


def linkable(listener, *others, place=PLACE):
    seen = found(allowed(port(listener.port)), listener, *others, place=place)
    return [each for each in seen if each.kind == "linkable"]


def test_a_socket_on_any_address_can_be_tied_to_the_own_line():
    (told,) = linkable(sock(8000))
    assert told.severity is Severity.NOTE
    assert "the same machine" in told.why
    assert OWN in told.todo
    (told,) = linkable(sock(8000), place=Place("wg0", (OWN,), (LAN,), LockMode.OFF))
    assert told.severity is Severity.WARNING


def test_what_the_rules_close_on_the_own_line_is_told_as_such():
    assert linkable(sock(8000))[0].title.startswith("it also answers on the LAN")
    (told,) = linkable(sock(8000), place=Place("wg0", (OWN,), (LAN,), lan=False))
    assert told.title.startswith("without the lock it also answers at the address of your own line")
    (told,) = found(FORWARDED, sock(6881), forwards=[ForwardPort("f", (TCP,), 6881)])
    assert told.title.startswith("without the lock it also answers at the address of your own line")


@pytest.mark.parametrize(
    ("listener", "others"),
    [
        (sock(8000, address=OWN), ()),
        (sock(8000, device="wg0"), ()),
        (sock(8000, address=OWN), (sock(8000, "other", LAN),)),
        (sock(8000, address=OWN), (sock(8001, address=LAN),)),
        (sock(8000, address=OWN), (sock(8000, address="127.0.0.1"),)),
        (sock(8000, device="wg0"), (sock(8000, device="lo"),)),
    ],
)
def test_what_the_own_line_does_not_reach_cannot_be_tied_to_it(listener, others):
    assert linkable(listener, *others) == []


def test_what_answers_no_stranger_cannot_be_tied_to_the_own_line():
    assert linkable(sock(51820, "wireguard-go")) == []
    # A UDP socket with a port of the kernel's choice asks questions of its own; on the list it is there on purpose.
    asks, serves = (sock(number, "x", protocol=UDP) for number in (40000, 4000))
    assert {each.kind for each in found(OPEN_ALL, asks)} == {"open-all"}
    assert {each.kind for each in found(OPEN_ALL, serves)} == {"open-all", "linkable"}
    assert {each.kind for each in found(allowed(port(40000, UDP)), asks)} == {"linkable"}
    assert {each.kind for each in found(OPEN_ALL, sock(40000, "x"))} == {"open-all", "linkable"}


@pytest.mark.parametrize("other", [sock(8000, address=LAN), sock(8000, device="eth0")])
def test_a_second_socket_of_the_program_on_the_own_line_counts(other):
    assert linkable(sock(8000, address=OWN), other)


def test_in_a_namespace_of_its_own_there_is_no_other_line():
    assert not answers_beside(sock(80), (), Place(alone=True))


# -- the web interface of the torrent client ------------------------------------------------------


def interface(lets_in, *, number=8080, listener=None, policy=None):
    listener = listener or sock(number, "qbittorrent-nox")
    web = [WebInterface("qbittorrent", number, lets_in)]
    return found(policy or allowed(port(number)), listener, web=web)[0]


def test_a_web_interface_says_whether_it_wants_a_login():
    for number in (8080, 9999):
        seen = interface(True, number=number)
        assert (seen.severity, seen.kind) == (Severity.DANGER, "web-interface")
        assert "asks for no login" in seen.what
        assert "lets everybody in" in seen.why
        seen = interface(False, number=number)
        assert (seen.severity, seen.kind) == (Severity.WARNING, "web-interface")
        assert "asks for a login" in seen.what
        seen = interface(None, number=number)
        assert (seen.severity, seen.kind) == (Severity.DANGER, "web-interface")


def test_a_web_interface_is_known_by_program_and_port_without_the_configuration():
    assert found(allowed(port(8080)), sock(8080, "qbittorrent-nox"))[0].kind == "web-interface"
    assert found(allowed(port(9091)), sock(9091, "transmission-daemon"))[0].kind == "web-interface"
    assert [each.kind for each in found(allowed(port(8080)), sock(8080, "nginx"))] == ["linkable"]


def test_the_listen_port_of_a_torrent_client_is_no_web_interface():
    forwards = [ForwardPort("torrent", (TCP, UDP), 6881)]
    assert found(FORWARDED, sock(6881, "qbittorrent-nox", OWN), forwards=forwards) == ()


# -- before a change ------------------------------------------------------------------------------


def test_only_what_is_new_is_told_before_a_change():
    ssh, redis = sock(22, "sshd"), sock(6379, "redis-server")
    old, new = allowed(port(22)), allowed(port(22), port(6379))
    assert {each.kind for each in warnings_for(old, new, (), (ssh, redis), PLACE)} == {"redis", "linkable"}
    assert warnings_for(new, old, (), (ssh, redis), PLACE) == ()
    assert warnings_for(new, BLOCK_ALL, (), (ssh, redis), PLACE) == ()
    assert warnings_for(OPEN_ALL, new, (), (ssh, redis), PLACE) == ()
    told = {each.kind for each in warnings_for(old, OPEN_ALL, (), (ssh, redis), PLACE)}
    assert told == {"open-all", "redis", "linkable"}


def test_opening_to_more_is_told_again():
    few, all_of_them = allowed(port(22, sources=("203.0.113.9/32",))), allowed(port(22))
    told = warnings_for(few, all_of_them, (), (sock(22, "sshd"),), PLACE)
    assert kinds(told) == [(Severity.WARNING, "ssh")]


def test_a_note_alone_asks_nobody():
    assert not must_ask(warnings_for(BLOCK_ALL, allowed(port(8000)), (), (sock(8000),), PLACE))
    assert must_ask(warnings_for(BLOCK_ALL, allowed(port(22)), (), (sock(22, "sshd"),), PLACE))
    assert must_ask(warnings_for(BLOCK_ALL, OPEN_ALL, (), (), PLACE))


# -- the table ------------------------------------------------------------------------------------


def test_the_table_is_whole():
    assert len({each.id for each in DANGERS}) == len(DANGERS)
    for each in DANGERS:
        assert each.tcp or each.udp
        assert each.source
        assert each.why[0].islower() or each.why.split()[0].isupper()
        assert not each.why.endswith(".")
        assert not each.todo.endswith(".")
        assert all(0 < first <= last < 65536 for first, last in each.tcp + each.udp)
    for one, other in itertools.combinations((each for each in DANGERS if not each.both), 2):
        for ours, theirs in ((one.tcp, other.tcp), (one.udp, other.udp)):
            assert not any(a <= d and c <= b for (a, b), (c, d) in itertools.product(ours, theirs)), (one, other)
        assert not set(one.programs) & set(other.programs)


NAMES = {
    "ms-wbt-server": "rdp",
    "microsoft-ds": "smb",
    "netbios-ssn": "smb",
    "telnet": "telnet",
    "ftp": "ftp",
    "x11": "x11",
    "mysql": "mysql",
    "postgresql": "postgresql",
    "redis": "redis",
    "sunrpc": "rpcbind",
    "nfs": "nfs",
    "rsync": "rsync",
    "mdns": "mdns",
    "domain": "dns",
    "ntp": "ntp",
    "snmp": "ntp",
    "tftp": "tftp",
    "ipp": "printer",
    "printer": "printer",
    "ms-sql-s": "mssql",
    "shell": "rtools",
    "login": "rtools",
    "ssh": "ssh",
    "smtp": "mail",
    "imap2": "mail",
    "mqtt": "mqtt",
    "docker": "docker",
    "socks": "proxy",
}


def test_the_numbers_are_those_of_the_system():
    """As /etc/services has them; a machine without one of the names proves nothing about that."""
    entries = [line.split("#")[0].split() for line in Path("/etc/services").read_text(encoding="utf-8").splitlines()]
    checked = set()
    for name, place, *aliases in (each for each in entries if each):
        number, _, protocol = place.partition("/")
        for known in {name, *aliases} & set(NAMES):
            if protocol in {"tcp", "udp"} and (danger := danger_of(Protocol(protocol), int(number))):
                assert danger.id == NAMES[known]
                checked.add(known)
    assert len(checked) > 15, checked


@given(st.sampled_from(Protocol), st.integers(1, 65535), st.text(max_size=20), st.booleans())
def test_every_socket_is_judged(protocol, number, program, by_port):
    danger = danger_of(protocol, number, program, by_port=by_port)
    assert danger is None or danger.uses(protocol, number) or danger.is_run_by(program)


SOCKETS = st.lists(
    st.builds(
        sock,
        st.sampled_from([22, 80, 445, 6379, 6881]),
        st.sampled_from(["", "sshd", "redis-server", "x"]),
        st.sampled_from([ANY, ANY6, OWN, LAN, "127.0.0.1"]),
        st.sampled_from(Protocol),
        device=st.sampled_from(["", "wg0", "eth0"]),
    ),
    max_size=8,
)
POLICIES = st.builds(
    PortPolicy,
    st.sampled_from(PolicyMode),
    st.booleans(),
    st.lists(
        st.builds(port, st.sampled_from([22, 80, 445, 6379]), st.sampled_from(Protocol)), max_size=4, unique=True
    ).map(tuple),
)


@given(POLICIES, POLICIES, SOCKETS)
def test_no_policy_is_worse_than_open_all_nor_better_than_block_all(old, new, listeners):
    forwards = [ForwardPort("f", (TCP,), 6881)]
    for policy in (old, new):
        assert warnings_for(policy, policy, forwards, listeners, PLACE) == ()
        assert warnings_for(policy, BLOCK_ALL, forwards, listeners, PLACE) == ()
        behind = {each for span in exposed(policy, forwards, listeners, PLACE) for each in span.listeners}
        assert behind <= {each for span in exposed(OPEN_ALL, forwards, listeners, PLACE) for each in span.listeners}
    whole = {each.what for each in found(new, *listeners, forwards=forwards)}
    assert len(warnings_for(BLOCK_ALL, new, forwards, listeners, PLACE)) == len(whole)
