"""Backdoors written into a file by hand: dormant paths, looked for by running the model on ordinary inputs."""
