"""asyncio adapters without decisions."""
