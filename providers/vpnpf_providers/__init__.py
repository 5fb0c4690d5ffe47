"""Port-forwarding providers, one file each; they import `vpnpf.api` and nothing else of vpnpf."""
