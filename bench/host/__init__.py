"""host: what this machine is, and what else it was doing."""
