"""The control socket of a profile that runs: one question, one answer."""
