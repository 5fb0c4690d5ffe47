#!/bin/sh
# Make this clone ready: the programs that vpnpf and its tests use, and a virtual environment with pinned packages.
# Does nothing where everything is there already. Installs with apt where it is root or sudo asks for no password.
set -eu
cd "$(dirname "$0")/.."

DEBIAN="wireguard-tools wireguard-go openvpn nftables iproute2 iputils-ping procps python3-venv qbittorrent-nox transmission-daemon miniupnpd-nftables natpmpc tcpdump conntrack curl openssl dnsmasq-base udhcpc iperf3 strace systemd gnome-keyring dbus tmux"
FEDORA="wireguard-tools wireguard-go openvpn nftables iproute iputils procps-ng python3 qbittorrent-nox transmission-daemon miniupnpd libnatpmp tcpdump conntrack-tools curl openssl dnsmasq busybox iperf3 strace systemd gnome-keyring dbus-daemon tmux"
ARCH="wireguard-tools wireguard-go openvpn nftables iproute2 iputils procps-ng python qbittorrent-nox transmission-cli miniupnpd libnatpmp tcpdump conntrack-tools curl openssl dnsmasq busybox iperf3 strace systemd gnome-keyring dbus tmux"
PROGRAMS="wg wg-quick wireguard-go openvpn nft ip ping ps qbittorrent-nox transmission-daemon miniupnpd natpmpc tcpdump conntrack curl openssl dnsmasq iperf3 strace unshare setpriv systemd-analyze systemd-creds gnome-keyring-daemon dbus-run-session tmux"

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

missing=""
for program in $PROGRAMS; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
command -v udhcpc >/dev/null 2>&1 || busybox --list 2>/dev/null | grep -qx udhcpc || missing="$missing udhcpc"
python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"

if [ -n "$missing" ]; then
    root=""
    if [ "$(id -u)" != 0 ]; then
        if sudo -n true 2>/dev/null; then root="sudo -n"; else root="no"; fi
    fi
    if command -v apt-get >/dev/null 2>&1 && [ "$root" != no ]; then
        echo "installing what is missing:$missing" >&2
        $root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
        # shellcheck disable=SC2086 # a list of words
        $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $DEBIAN >&2
    else
        cat >&2 <<END
error: programs are missing:$missing
  hint: install them, then run the same again:
    Debian, Ubuntu:  sudo apt-get install --no-install-recommends $DEBIAN
    Fedora:          sudo dnf install $FEDORA
    Arch:            sudo pacman -S --needed $ARCH
END
        exit 69
    fi
fi

stamp=.venv/vpnpf-stamp
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ constraints.txt -nt "$stamp" ]; then
    echo "making the virtual environment .venv" >&2
    [ -x .venv/bin/python ] || python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
    touch "$stamp"
fi
