"""What opens over the dashboard: one sheet a file with its styles."""
