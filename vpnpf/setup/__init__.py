"""The first start: what is on this machine, what is asked, and what is written. Who asks and shows is somebody else."""
