"""The control socket of a profile that runs: HTTP over a Unix socket, version 1."""
