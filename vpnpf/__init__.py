"""vpnpf: get a port behind your VPN, and keep it."""

__version__ = "0.1.0"
