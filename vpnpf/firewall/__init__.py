"""Firewall back ends."""
