"""Small panels, one a file with its styles. They are shown a View and say nothing back but messages."""
