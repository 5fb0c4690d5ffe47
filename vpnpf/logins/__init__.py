"""Whom one can log in to, where a login is kept, and trying it."""
