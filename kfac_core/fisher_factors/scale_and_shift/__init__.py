"""Factors of layers that scale and shift their inputs."""
