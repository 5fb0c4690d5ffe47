"""Tunnel back ends, one file each."""
