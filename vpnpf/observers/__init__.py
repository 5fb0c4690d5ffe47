"""Readers of the hub: they see state and events and can delay nothing."""
