"""Torrent clients, one file each."""
