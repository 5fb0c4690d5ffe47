"""The directives of OpenVPN 2.6 by name: dropped, or refused with the reason.

What is in none of the tables, and has no reader (`openvpn_options`), is unknown and refused.
"""

from __future__ import annotations

from vpnpf.protocol import openvpn_material as material
from vpnpf.protocol.openvpn_options import READERS

_DROPPED_BECAUSE = {
    "taken as given, or chosen by vpnpf": """
        nobind pull tls-client persist-key persist-tun persist-local-ip persist-remote-ip auth-nocache auth-retry
        resolv-retry connect-retry connect-retry-max connect-timeout server-poll-timeout remote-random-hostname
        explicit-exit-notify float verb mute mute-replay-warnings suppress-timestamps down-pre up-delay up-restart
        echo parameter""",
    "ends or restarts the tunnel at a time of its own": "ping-exit ping-timer-rem inactive session-timeout",
    "tells the server about this machine": "push-peer-info",
    "speed and sizes, which OpenVPN and the kernel find better themselves": """
        sndbuf rcvbuf txqueuelen tcp-nodelay tcp-queue-limit socket-flags fast-io passtos mtu-disc mtu-test mtu-dynamic
        tun-mtu-extra tun-mtu-max link-mtu udp-mtu bcast-buffers hash-size max-routes disable-dco disable-occ
        allow-compression comp-noadapt keysize key-method tun-ipv6 preresolve reneg-bytes reneg-pkts""",
    "routes and resolvers: vpnpf makes its own": """
        redirect-gateway redirect-private route-delay route-metric route-method route-noexec route-nopull
        allow-pull-fqdn pull-filter dhcp-option dns block-ipv6 client-nat""",
    "Windows": """
        block-outside-dns register-dns ip-win32 tap-sleep windows-driver dhcp-renew dhcp-release dhcp-pre-release
        rdns-internal show-net-up pause-exit""",
}
_REFUSED_BECAUSE = {
    ("would run code as root", "remove the line: vpnpf runs no commands from a file"): """
        up down plugin providers engine script-security ipchange route-up route-pre-down tls-verify iproute askpass
        auth-user-pass-verify client-connect client-disconnect client-crresponse learn-address tls-crypt-v2-verify
        pkcs11-providers pkcs11-id pkcs11-id-management pkcs11-pin-cache pkcs11-private-mode pkcs11-cert-private
        pkcs11-protected-authentication tls-export-cert setcon dns-updown cryptoapicert""",
    ("would write or read files", "remove the line: no file may name files of this machine"): """
        log log-append status status-version writepid config cd chroot tmp-dir replay-persist capath dev-node
        ifconfig-pool-persist client-config-dir ccd-exclusive auth-gen-token-secret pkcs12 dh secret genkey syslog
        errors-to-stderr machine-readable-output""",
    ("is vpnpf's to choose", "remove the line"): """
        user group daemon nice mlock mark bind bind-dev local lport lladdr port-share management management-client
        management-client-auth management-client-group management-client-user management-external-cert
        management-external-key management-forget-disconnect management-hold management-log-cache
        management-query-passwords management-query-proxy management-query-remote management-signal
        management-up-down route route-ipv6 route-gateway route-ipv6-gateway route-table ifconfig ifconfig-ipv6
        ifconfig-noexec ifconfig-nowarn iroute iroute-ipv6 multihome setenv setenv-safe remap-usr1
        allow-recursive-routing shaper""",
    ("is for servers", "use a file for clients"): """
        server server-bridge server-ipv6 tls-server mode push push-reset push-remove ifconfig-pool ifconfig-push
        ifconfig-ipv6-pool ifconfig-ipv6-push ifconfig-push-constraint client-to-client duplicate-cn max-clients
        max-routes-per-client connect-freq connect-freq-initial username-as-common-name verify-client-cert
        client-cert-not-required auth-user-pass-optional opt-verify auth-gen-token stale-routes-check disable
        vlan-accept vlan-pvid vlan-tagging tls-crypt-v2-max-age""",
    ("is not supported", "remove the line, or get a file without it from your provider"): """
        http-proxy http-proxy-option http-proxy-override http-proxy-retry http-proxy-timeout http-proxy-user-pass
        socks-proxy socks-proxy-retry static-challenge auth-token auth-token-user override-username no-replay
        verify-hash x509-track x509-username-field ecdh-curve tls-exit gremlin mktun rmtun test-crypto show-ciphers
        show-digests show-tls show-engines show-curves show-groups show-gateway show-pkcs11-ids show-adapters
        show-valid-subnets show-net key-derivation allow-deprecated-insecure-static-crypto compat-names
        force-tls-key-material-export keying-material-exporter no-name-remapping prng win-sys service allow-nonadmin
        dhcp-internal msg-channel proto-force ip-remote-hint single-session protocol-flags help version""",
}

DROPPED = frozenset(name for names in _DROPPED_BECAUSE.values() for name in names.split())
REFUSED = {name: because for because, names in _REFUSED_BECAUSE.items() for name in names.split()}
"""By name: why, and what to do."""
ACCEPTED = frozenset({
    "client", "remote", "remote-random", "proto", "port", "rport", "keepalive", "auth-user-pass", "connection",
    "ignore-unknown-option", *material.NAMES, *READERS, *DROPPED,
})  # fmt: skip
KNOWN = ACCEPTED | REFUSED.keys()
