"""What the internet can reach through the tunnel: this machine looked at, and the finding in words."""
