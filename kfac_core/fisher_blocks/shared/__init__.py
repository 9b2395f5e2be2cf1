"""Blocks of layers that every case uses several times."""
