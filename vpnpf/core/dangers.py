"""Services that the internet must not reach, or only with care: how each is known, why it matters, what to do.

Ports are those of the IANA registry of service names and port numbers, where it has them, else those of the project's own
documentation. Programs are names of executables as Debian installs them. `source` names what the reason rests on;
"CISA TA14-017A" is its alert on amplification attacks by UDP.
"""

from __future__ import annotations

from msgspec import Struct

from vpnpf.model import Protocol

TCP, UDP = Protocol.TCP, Protocol.UDP


class Danger(Struct, frozen=True):
    """A service, or several that are dangerous for the same reason."""

    id: str
    name: str
    why: str
    """What a stranger can do, in plain words."""
    todo: str
    source: str
    tcp: tuple[tuple[int, int], ...] = ()
    """Inclusive ranges of its usual TCP ports."""
    udp: tuple[tuple[int, int], ...] = ()
    programs: tuple[str, ...] = ()
    """Executables; a trailing "*" stands for any rest."""
    both: bool = False
    """Whether port and program must both fit: the program also has ports that are meant for the internet, or the port
    is used by many others."""
    careful: bool = False
    """Whether it is made for the internet, and only has to be set up with care."""
    web: str = ""
    """The kind of web interface, if whether it wants a login can be asked."""

    def uses(self, protocol: Protocol, port: int) -> bool:
        """Whether this is one of its usual ports."""
        return any(first <= port <= last for first, last in (self.tcp if protocol is TCP else self.udp))

    def is_run_by(self, program: str) -> bool:
        """Whether an executable of this name is it."""
        return any(program.startswith(each[:-1]) if each.endswith("*") else program == each for each in self.programs)


def _at(*ports: int) -> tuple[tuple[int, int], ...]:
    return tuple((port, port) for port in ports)


_LOCAL = "let it listen on 127.0.0.1 only, or leave this port out of the policy"
_TUNNELLED = "reach it through ssh or a VPN of your own instead"
_WEB = "let its web interface listen on 127.0.0.1 only, and set a password"
_AMPLIFIES = (
    "small questions with a forged sender make it flood that sender: it becomes a weapon, and tells about your LAN"
)

DANGERS = (
    Danger(
        "rdp", "remote desktop (RDP)",
        "it is tried with stolen and guessed passwords all day, and has had holes that needed no password at all",
        _TUNNELLED, "CVE-2019-0708", _at(3389), _at(3389), ("xrdp", "gnome-remote-de*", "krdpserver"),
    ),
    Danger(
        "smb", "Windows file sharing (SMB, NetBIOS)",
        "strangers can list and read shares, guess passwords, and worms have spread by it",
        _LOCAL, "CVE-2017-0144, CISA TA14-017A", _at(139, 445), _at(137, 138), ("smbd", "nmbd", "samba*", "wsdd*"),
    ),
    Danger(
        "telnet", "telnet",
        "passwords travel in the clear, and every scanner on the internet tries it first",
        "use ssh", "Shadowserver, Accessible Telnet Report", _at(23), (), ("telnetd", "in.telnetd", "utelnetd"),
    ),
    Danger(
        "ftp", "FTP",
        "passwords and files travel in the clear",
        "use sftp, which is part of ssh", "RFC 2577", _at(21), (), ("vsftpd", "proftpd", "pure-ftpd*"),
    ),
    Danger(
        "vnc", "remote desktop (VNC)",
        "whoever gets in sees and steers the screen; its password has eight characters at most and its traffic is not encrypted",
        _TUNNELLED, "RFC 6143 section 9", ((5900, 5909),), (),
        ("x11vnc", "Xvnc*", "Xtigervnc", "Xtightvnc", "wayvnc", "vino-server", "krfb"),
    ),
    Danger(
        "x11", "an X11 display",
        "whoever gets in reads every key that is pressed and sees every window",
        "start the X server with -nolisten tcp", "Xsecurity(7)", ((6000, 6009),), (), ("Xorg", "Xephyr"),
    ),
    Danger(
        "docker", "the Docker API without TLS",
        "whoever reaches it is root on this machine",
        "let it listen on its UNIX socket only", "Docker documentation, Protect the Docker daemon socket",
        _at(2375), (), (),
    ),
    Danger(
        "kubelet", "a Kubernetes API",
        "whoever gets in runs programs on this machine",
        _LOCAL, "Kubernetes documentation, Ports and Protocols", _at(6443, 10250, 10255), (), ("kubelet", "k3s*"),
    ),
    Danger(
        "mysql", "a database (MySQL, MariaDB)",
        "passwords can be guessed for as long as somebody likes, and all data are behind them",
        _LOCAL, "MySQL Reference Manual, General Security Issues", _at(3306, 33060), (), ("mysqld", "mariadbd"),
    ),
    Danger(
        "postgresql", "a database (PostgreSQL)",
        "passwords can be guessed for as long as somebody likes; a superuser of it runs programs here",
        _LOCAL, "PostgreSQL documentation, Client Authentication", _at(5432), (), ("postgres", "pgbouncer"),
    ),
    Danger(
        "redis", "a database (Redis)",
        "it is made for trusted clients: without a password anybody reads and erases everything, and may get a shell",
        _LOCAL, "Redis documentation, Redis security", _at(6379), (), ("redis-server", "valkey-server", "keydb-server"),
    ),
    Danger(
        "mongodb", "a database (MongoDB)",
        "without access control anybody reads and erases everything; that has been done for ransom many thousand times",
        _LOCAL, "MongoDB documentation, Security Checklist", ((27017, 27019),), (), ("mongod", "mongos"),
    ),
    Danger(
        "elasticsearch", "a database (Elasticsearch, OpenSearch, CouchDB)",
        "without a login anybody reads and erases everything by a web browser",
        _LOCAL, "Elasticsearch documentation, Secure your cluster", _at(9200, 9300, 5984), (), ("couchdb",),
    ),
    Danger(
        "memcached", "memcached",
        "it has no password; by UDP it makes an attack on others up to fifty thousand times larger",
        _LOCAL, "CISA TA14-017A", _at(11211), _at(11211), ("memcached",),
    ),
    Danger(
        "mssql", "a database (SQL Server, Oracle)",
        "passwords can be guessed for as long as somebody likes, and all data are behind them",
        _LOCAL, "Shadowserver, Accessible MS-SQL Report", _at(1433, 1521), _at(1434), ("sqlservr",),
    ),
    Danger(
        "rpcbind", "the port mapper (rpcbind)",
        f"it tells which services run here; {_AMPLIFIES}",
        "stop it, unless this machine serves NFS version 3", "CISA TA14-017A", _at(111), _at(111), ("rpcbind",),
    ),
    Danger(
        "nfs", "network file system (NFS)",
        "it believes the address and user that a client says it has: strangers may read and write shared directories",
        _LOCAL, "exports(5)", _at(2049), _at(2049), ("rpc.mountd", "rpc.nfsd", "nfsd"),
    ),
    Danger(
        "rsync", "an rsync daemon",
        "its traffic is not encrypted, and a module without users is open to anybody",
        "use rsync over ssh", "rsyncd.conf(5)", _at(873), (), (),
    ),
    Danger(
        "mdns", "a responder for names on the LAN (mDNS, LLMNR)",
        _AMPLIFIES, "it is for the LAN alone: leave this port out of the policy", "RFC 6762 section 11, CISA TA14-017A",
        (), _at(5353, 5355), ("avahi-daemon",),
    ),
    Danger(
        "ssdp", "UPnP discovery (SSDP)",
        _AMPLIFIES, "it is for the LAN alone: leave this port out of the policy", "CISA TA14-017A",
        (), _at(1900), ("minissdpd", "minidlnad", "gssdp-*", "rygel"),
    ),
    Danger(
        "dns", "a DNS server",
        f"if it answers anybody, {_AMPLIFIES}",
        "let it listen on 127.0.0.1 and the LAN only", "RFC 5358", _at(53), _at(53),
        ("dnsmasq", "named", "unbound", "systemd-resolve*", "pihole-FTL"),
    ),
    Danger(
        "ntp", "NTP or SNMP", _AMPLIFIES,
        "let it listen on 127.0.0.1 and the LAN only", "CISA TA14-017A", (), _at(123, 161), ("snmpd", "ntpd"),
    ),
    Danger(
        "tftp", "TFTP", f"it has no password; {_AMPLIFIES}", _LOCAL, "CISA TA14-017A", (), _at(69), ("in.tftpd", "atftpd"),
    ),
    Danger(
        "printer", "a printer service",
        "strangers print, read what was printed, and have run programs by it",
        _LOCAL, "CVE-2024-47176", _at(515, 631, 9100), _at(631), ("cupsd", "cups-browsed", "lpd"),
    ),
    Danger(
        "rtools", "remote shells without encryption (rsh, rlogin, rexec)",
        "they believe the address that a client says it has, and passwords travel in the clear",
        "use ssh", "CVE-1999-0651", ((512, 514),), (), ("in.rlogind", "in.rshd", "in.rexecd"),
    ),
    Danger(
        "proxy", "a proxy",
        "an open one is used by strangers for what they do not want to be caught at, and leads to your LAN",
        _LOCAL, "RFC 9110 section 9.3.6", _at(1080, 3128), (), ("squid", "tinyproxy", "danted", "privoxy"),
    ),
    Danger(
        "mail", "a mail server",
        "an open relay sends other people's spam; passwords are guessed all day",
        "let it listen on 127.0.0.1, unless this machine receives mail", "RFC 2505", _at(25, 110, 143), (),
        ("exim4", "master", "dovecot"),
    ),
    Danger(
        "mqtt", "an MQTT broker",
        "without a login anybody reads your sensors and switches what hangs on it",
        _LOCAL, "Mosquitto documentation, Authentication methods", _at(1883), (), ("mosquitto",),
    ),
    Danger(
        "homeassistant", "Home Assistant",
        "whoever gets in opens doors and sees cameras",
        "switch on two-factor login, or reach it through a VPN of your own", "Home Assistant documentation, Securing",
        _at(8123), (), ("hass",),
    ),
    Danger(
        "jupyter", "a notebook server (Jupyter)",
        "whoever gets in runs programs as you",
        _LOCAL, "Jupyter Server documentation, Security", ((8888, 8889),), (), ("jupyter-*",), both=True,
    ),
    Danger(
        "debugger", "a debugger",
        "whoever reaches it runs programs as you",
        _LOCAL, "Node.js documentation, Debugging", _at(9229, 5678), (), ("gdbserver",),
    ),
    Danger(
        "qbittorrent", "the web interface of qBittorrent",
        "whoever gets in can run a program of his choice when a download ends",
        _WEB, "qBittorrent Web API, autorun_program", _at(8080), (), ("qbittorrent*",), both=True, web="qbittorrent",
    ),
    Danger(
        "transmission", "the web interface of Transmission",
        "whoever gets in can run a program of his choice when a download ends",
        _WEB, "Transmission RPC specification, script-torrent-done-filename", _at(9091), (), ("transmission*",), both=True,
        web="transmission",
    ),
    Danger(
        "deluge", "the web interface of Deluge",
        "its first password is known to everybody (deluge), and whoever gets in can write files",
        _WEB, "Deluge documentation, Web UI", _at(8112, 58846), (), ("deluge*",), both=True,
    ),
    Danger(
        "ssh", "ssh",
        "it is made for the internet, but passwords are guessed all day, and the host key tells which machine this is",
        "allow keys only (PasswordAuthentication no)", "sshd_config(5)", _at(22), (), ("sshd", "dropbear"), careful=True,
    ),
)  # fmt: skip
"""The first that fits counts."""


def danger_of(protocol: Protocol, port: int, program: str = "", *, by_port: bool = True) -> Danger | None:
    """What a socket is, by its program or its port; None: nothing is known against it.

    Without `by_port` the number says nothing: a gateway chose it.
    """
    named = (each for each in DANGERS if not each.both and program and each.is_run_by(program))
    numbered = (
        each for each in DANGERS if by_port and each.uses(protocol, port) and (not each.both or each.is_run_by(program))
    )
    return next(named, None) or next(numbered, None)
