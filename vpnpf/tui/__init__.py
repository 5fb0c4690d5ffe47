"""The face: a terminal app over the control socket. It reads State and events, and sends commands; nothing else."""
